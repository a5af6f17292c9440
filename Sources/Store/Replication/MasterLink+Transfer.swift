import Glibc
import Logging
import Reactor
import RESP

/// Where a snapshot goes while it comes.
enum Reception {
    /// Into databases of its own as it comes, which take the place of ours when it is whole (`repl-diskless-load`): ours are there until
    /// then, and the memory for both.
    case direct(RDBReader, mark: EndMark?)
    /// Into a file; ours go when it has come whole ...
    case file(ReceivedSnapshot, mark: EndMark?)
    /// ... and the file is read then.
    case loading(SnapshotLoad)
}

/// The replica's half of a full synchronisation.
extension MasterLink {
    /// `$length`, or `$EOF:` and the mark that ends the payload.
    func beginPayload(_ line: String) {
        if line.hasPrefix("-") { return fail("MASTER aborted replication with an error: \(line)") }
        var mark: EndMark?
        if line.hasPrefix("$EOF:") {
            let text = Array(line.dropFirst(5).utf8)
            guard text.count == 40 else { return fail("Bad protocol from MASTER, the end mark '\(line)' has not 40 bytes") }
            mark = EndMark(text)
            transferTotal = 0
        } else if line.hasPrefix("$"), let length = Int64(line.dropFirst()), length >= 0 {
            transferTotal = length
        } else {
            return fail("Bad protocol from MASTER, the first byte is not '$' (we received '\(line.prefix(64))'), are you sure the host and port are right?")
        }
        transferBegan = server.loop.wallMilliseconds
        let toDisk = !loadsDirectly
        server.logger.notice("MASTER <-> REPLICA sync: receiving \(mark == nil ? "\(transferTotal) bytes" : "streamed RDB") from master to \(toDisk ? "disk" : "parser")")
        guard toDisk else {
            reception = .direct(server.makeReader(dropsExpired: false), mark: mark)
            return
        }
        let path = server.configuration.inDirectory("temp-\(server.loop.wallMilliseconds / 1000).\(getpid()).rdb")
        do throws(SystemError) {
            reception = .file(try ReceivedSnapshot(temporary: path), mark: mark)
        } catch {
            fail("Opening the temp file needed for MASTER <-> REPLICA synchronization: \(error)")
        }
    }

    private var loadsDirectly: Bool {
        switch server.configuration.disklessLoad {
        case .swapdb: true
        case .onEmptyDB: server.databases.allSatisfy { $0.count == 0 }
        case .disabled: false
        }
    }

    /// - Returns: whether to go on with what is left in the buffer.
    func receivePayload(_ connection: Connection) -> Bool {
        let input = connection.input
        var bytes = input.bytes
        if transferTotal > 0, Int64(bytes.count) > transferTotal - transferRead {
            bytes = UnsafeRawBufferPointer(rebasing: bytes[..<Int(transferTotal - transferRead)])
        }
        transferRead += Int64(bytes.count)
        switch reception {
        case .direct(let reader, let mark): return feed(reader, mark, bytes, input)
        case .file(let file, let mark): return store(file, mark, bytes, input)
        case .loading, nil: return false
        }
    }

    // MARK: straight into memory

    private func feed(_ reader: RDBReader, _ mark: EndMark?, _ bytes: UnsafeRawBufferPointer, _ input: InputBuffer) -> Bool {
        // The payload's own end says where the mark begins.
        if let mark, reader.isDone {
            transferRead -= Int64(bytes.count)
            guard bytes.count >= mark.mark.count else { return false }
            guard bytes.prefix(mark.mark.count).elementsEqual(mark.mark) else {
                fail("Replica received a snapshot whose end mark differs from the one that was announced")
                return false
            }
            input.consume(mark.mark.count)
            adopt(reader)
            return true
        }
        do throws(RDBError) {
            switch try reader.feed(bytes) {
            case .needsMore:
                input.consume(bytes.count)
                if mark == nil, transferRead >= transferTotal {
                    fail("Failed trying to load the MASTER synchronization DB: it ends after \(transferRead) bytes in the middle of a record")
                }
                return false
            case .done(let used):
                transferRead -= Int64(bytes.count - used)
                input.consume(used)
                if mark == nil { adopt(reader) }
                return true
            }
        } catch {
            fail("Failed trying to load the MASTER synchronization DB: \(error)")
            return false
        }
    }

    private func adopt(_ reader: RDBReader) {
        guard let history else { return }
        let keys = reader.keysLoaded
        let selected = reader.info.replicationDatabase ?? 0
        server.adopt(functions: reader.info.functions)
        replication.adopt(reader.takeDatabases(), replicationID: history.replicationID, offset: history.offset)
        replication.streamDatabase = min(selected, server.databases.count - 1)
        dropTransfer()
        server.logger.notice("MASTER <-> REPLICA sync: Finished with success: \(keys) keys")
        becomeOnline()
    }

    // MARK: through a file

    private func store(_ file: ReceivedSnapshot, _ mark: EndMark?, _ bytes: UnsafeRawBufferPointer, _ input: InputBuffer) -> Bool {
        do throws(SystemError) {
            if var mark {
                reception = nil
                let certain = mark.take(bytes)
                try file.append(certain.held)
                try file.append(certain.rest)
                input.consume(bytes.count)
                reception = .file(file, mark: mark)
                if mark.isReached { beginLoading(file) }
            } else {
                try file.append(bytes)
                input.consume(bytes.count)
                if transferRead >= transferTotal { beginLoading(file) }
            }
        } catch {
            fail("Write error or short write writing to the DB dump file needed for MASTER <-> REPLICA synchronization: \(error)")
        }
        return false
    }

    /// The file has come whole: the data set makes room for it.
    private func beginLoading(_ file: ReceivedSnapshot) {
        let configuration = server.configuration
        guard !configuration.checksumsSnapshots || file.isIntact else {
            return fail("Failed trying to load the MASTER synchronization DB: its checksum is wrong, \(file.count) bytes were damaged on the way. What we have stays.")
        }
        let path = configuration.inDirectory(configuration.dbFilename)
        do throws(SystemError) {
            try file.settle(as: path)
        } catch {
            return fail("Failed trying to rename the temp DB into \(configuration.dbFilename) in MASTER <-> REPLICA synchronization: \(error)")
        }
        let load: SnapshotLoad
        do throws(RDBReader.FileError) {
            load = try SnapshotLoad(path: path, reader: server.makeReader(dropsExpired: false, verifiesChecksum: false))
        } catch {
            return fail("Failed trying to load the MASTER synchronization DB from disk: \(error)")
        }
        // Of no use to anybody who wants nothing on the disk.
        if configuration.removesSyncFiles, !configuration.appendsOnly, configuration.savePoints.isEmpty { unlink(path) }
        server.logger.notice("MASTER <-> REPLICA sync: Flushing old data")
        replication.giveUpData()
        server.gate.insert(.loading)
        server.updatePropagation()
        phase = .loading
        reception = .loading(load)
        connection?.pauseReading()
        server.logger.notice("MASTER <-> REPLICA sync: Loading DB in memory")
        goOn(load)
    }

    /// How long one turn may take, in nanoseconds.
    private static let loadTurn: UInt64 = 2_000_000

    /// Reads a part of the file, and goes on in the next iteration.
    private func goOn(_ load: SnapshotLoad) {
        do throws(RDBReader.FileError) {
            if try load.read(until: StoreServer.nanoseconds() + MasterLink.loadTurn) { return finishLoading(load.snapshot) }
        } catch {
            return fail("Failed trying to load the MASTER synchronization DB from disk: \(error)")
        }
        server.loop.continueNextIteration(label: "load the master's snapshot") { [weak self] in
            guard let self, phase == .loading, case .loading(let current)? = reception, current === load else { return }
            goOn(load)
        }
    }

    private func finishLoading(_ reader: RDBReader) {
        endLoading()
        adopt(reader)
        connection?.resumeReading()
    }

    private func endLoading() {
        guard phase == .loading else { return }
        phase = .transferring
        server.gate.remove(.loading)
        server.updatePropagation()
    }

    func dropTransfer() {
        endLoading()
        reception = nil
        history = nil
    }
}
