import Glibc
import Logging
import Reactor
import RESP

/// Executes the files of an append-only file, one after the other, in as many turns as it is given.
///
/// A transaction is executed when its EXEC has been read: one that is cut off leaves nothing behind.
final class AOFLoader {
    private unowned let server: StoreServer
    private let client: Client
    private let folder: String
    private let manifestPath: String
    private let manifest: AOFManifest
    private let files: [AOFManifest.File]
    /// Bytes of all files.
    let size: Int

    /// The file under way, and how far it is. Taken out of here for as long as it is worked on.
    private var window: AOFWindow?
    private var fileBegan = ContinuousClock.now
    private let began = ContinuousClock.now
    /// The snapshot at its front, until it is over.
    private(set) var reader: RDBReader?
    /// Behind this byte of the file there is nothing that counts.
    private var valid = 0
    /// How long the files are that have been loaded.
    private(set) var lengths: [Int] = []

    private var request = AOFRequest()
    /// The commands of a transaction under way, and where it began.
    private var transaction: (commands: Transaction, offset: Int)?
    /// Commands that were answered with errors, and where the first stands.
    private var failures: (count: Int, offset: Int) = (0, 0)

    /// So many commands are executed between two looks at the clock.
    private static let commandsAtOnce = 64

    init(server: StoreServer, folder: String, manifestPath: String, _ manifest: AOFManifest) {
        self.server = server
        self.folder = folder
        self.manifestPath = manifestPath
        self.manifest = manifest
        files = manifest.loadOrder
        size = files.reduce(0) { $0 + (DurableFile.size(of: "\(folder)/\($1.name)") ?? 0) }
        client = Client(id: 0, server: server, connection: .detached(on: server.loop))
        client.output = server.discardedOutput
    }

    deinit {
        request.deallocate()
        window?.close()
    }

    private var isLast: Bool { lengths.count == files.count - 1 }
    var position: Int { lengths.reduce(window?.offset ?? 0, +) }
    var path: String { "\(folder)/\(files[min(lengths.count, files.count - 1)].name)" }

    // MARK: files

    /// Goes on until the monotonic clock, in nanoseconds, has reached `deadline`.
    ///
    /// To be called while the server's gate says that it is loading. The files' commands count nowhere as changes or errors.
    /// - Returns: whether all files have been loaded.
    func advance(until deadline: UInt64) throws(AOFError) -> Bool {
        let (dirty, errors) = (server.dirty, server.errors.pointee)
        server.executionDepth += 1
        defer {
            server.executionDepth -= 1
            server.dirty = dirty
            server.errors.pointee = errors
            server.discardedOutput.discardAll()
        }
        while lengths.count < files.count {
            if window == nil { try open() }
            guard try readOn(until: deadline) else { return false }
            finishFile()
        }
        return true
    }

    private func open() throws(AOFError) {
        var next = try AOFWindow(path: path)
        var isSnapshot = false
        do throws(AOFError) {
            // The first file may begin with a snapshot.
            if lengths.isEmpty, try next.fill(5), next.bytes.prefix(5).elementsEqual("REDIS".utf8) { isSnapshot = true }
            // An increment may be empty, and a base of commands; a snapshot of nothing still has its header.
            if lengths.isEmpty, next.size == 0, path.hasSuffix(".rdb") {
                throw AOFError(path: path, offset: 0, reason: "Unexpected end of file: it is empty, and its name is a snapshot's",
                    remedy: "Bring back a backup; to go on without what it held, remove its line from the manifest \(manifestPath)")
            }
        } catch {
            next.close()
            throw error
        }
        window = next
        fileBegan = .now
        failures = (0, 0)
        transaction = nil
        valid = 0
        client.db = server.databases[0]
        reader = isSnapshot ? makeReader() : nil
        reader?.size = next.size
    }

    private func finishFile() {
        let name = files[lengths.count].name
        if failures.count > 0 {
            server.logger.warning("\(path): \(failures.count) commands were answered with errors, the first one at byte \(failures.offset): what they changed once is not there")
        }
        server.logger.notice("DB loaded from \(manifest.base?.name == name ? "base" : "incr") file \(name): \(AOFLoader.seconds(since: fileBegan)) seconds")
        // Cut off, the file is shorter than it was when it was opened.
        lengths.append(valid)
        window!.close()
        window = nil
        if lengths.count == files.count { server.logger.notice("DB loaded from append only file: \(AOFLoader.seconds(since: began)) seconds") }
    }

    private static func seconds(since start: ContinuousClock.Instant) -> String {
        let took = ContinuousClock.now - start
        return InfoSection.fixed(Double(took.components.seconds) + Double(took.components.attoseconds) / 1e18, places: 3)
    }

    /// - Returns: whether the file is over.
    private func readOn(until deadline: UInt64) throws(AOFError) -> Bool {
        var window = window!
        self.window = nil
        defer { self.window = window }
        if let reader {
            guard try loadSnapshot(reader, &window, deadline) else { return false }
            self.reader = nil
            valid = window.offset
        }
        return try loadCommands(&window, deadline)
    }

    // MARK: the snapshot at the front

    private func makeReader() -> RDBReader {
        var options = RDBReader.Options()
        options.verifiesChecksum = server.configuration.checksumsSnapshots
        options.now = server.loop.wallMilliseconds
        return server.makeReader(options)
    }

    private func loadSnapshot(_ reader: RDBReader, _ window: inout AOFWindow, _ deadline: UInt64) throws(AOFError) -> Bool {
        do throws(RDBError) {
            repeat {
                let bytes = window.bytes
                switch try reader.feed(bytes) {
                case .done(let used):
                    window.consume(used)
                    server.persistence.logLoaded(reader)
                    server.adopt(reader)
                    return true
                case .needsMore: window.consume(bytes.count)
                }
                guard try read(&window) else {
                    try reader.finish()
                    return true
                }
            } while StoreServer.nanoseconds() < deadline
            return false
        } catch {
            throw AOFError(path: window.path, reason: "\(error)", remedy: "The base is a snapshot, which cannot be mended: bring back a backup")
        }
    }

    /// Reads the next piece of a snapshot.
    private func read(_ window: inout AOFWindow) throws(RDBError) -> Bool {
        do throws(AOFError) {
            return try window.fill(min(1 << 18, max(1, window.size - window.offset)))
        } catch {
            throw RDBError(offset: error.offset ?? 0, reason: error.reason)
        }
    }

    // MARK: the commands

    private func loadCommands(_ window: inout AOFWindow, _ deadline: UInt64) throws(AOFError) -> Bool {
        var left = AOFLoader.commandsAtOnce
        while true {
            switch request.parse(window.bytes) {
            case .annotation(let length):
                window.consume(length)
            case .command(let count, let length):
                try execute(count, window)
                window.consume(length)
                left -= 1
            case .short(let needed):
                if try window.fill(needed) { continue }
                if window.offset < window.size || transaction != nil { try cutOff(window) }
                return true
            case .bad(let at, let reason):
                throw AOFError(path: window.path, offset: window.offset + at, reason: "Bad file format: \(reason)", remedy: remedy(window.path))
            }
            if transaction == nil { valid = window.offset }
            if left == 0 {
                if StoreServer.nanoseconds() >= deadline { return false }
                left = AOFLoader.commandsAtOnce
            }
        }
    }

    private func remedy(_ path: String) -> String {
        "Make a backup of the folder, then cut the file off before that byte with: redis-check-aof --fix \(manifestPath)"
    }

    /// The file ends in the middle of a command, or of a transaction. The last one is cut off behind what is whole
    /// (`aof-load-truncated`).
    private func cutOff(_ window: AOFWindow) throws(AOFError) {
        let what = transaction.map { "the transaction that begins at byte \($0.offset) has no EXEC" } ?? "the file ends in the middle of a command"
        let lost = window.size - valid
        func refuse(_ reason: String) -> AOFError {
            AOFError(path: window.path, offset: valid, reason: reason, remedy: remedy(window.path))
        }
        if window.offset < window.size, window.hasCommandsBehind({ self.slot($0) != nil || self.isTransaction($0) }) {
            throw refuse("Bad file format: a length in the command at byte \(window.offset) is wrong, for whole commands follow up to the end of the file")
        }
        guard isLast else { throw refuse("\(what), and it is not the last of the files") }
        guard server.configuration.loadsTruncated else {
            throw refuse("Unexpected end of file: \(what); \(lost) bytes would be dropped (aof-load-truncated yes does so at start)")
        }
        server.logger.warning("!!! Warning: short read while loading the AOF file \(window.path)!!!")
        server.logger.warning("\(window.path): \(what). Truncating the AOF at offset \(valid): \(lost) bytes are dropped (aof-load-truncated is enabled)")
        guard truncate(window.path, off_t(valid)) == 0 else { throw refuse("\(what), and it cannot be truncated: \(String(cString: strerror(errno)))") }
    }

    // MARK: executing

    private func isTransaction(_ name: Argument) -> Bool { name.isWord("multi") || name.isWord("exec") }

    /// What a file may hold: commands that change data, and SELECT. They go by their own names, whatever `rename-command` says.
    private func slot(_ name: Argument, _ second: Argument? = nil) -> UnsafeMutablePointer<CommandTable.Slot>? {
        guard var slot = server.commands.find(name) ?? server.commands.all.first(where: { CommandTable.same($0.pointee.name, name) }) else {
            return nil
        }
        if let second, !slot.pointee.subcommands.isEmpty {
            guard let found = slot.pointee.subcommand(second) else { return nil }
            slot = found
        }
        // Of a command by itself it is enough that it may be one.
        if second == nil, slot.pointee.subcommands.contains(where: { $0.pointee.command.flags.contains(.write) }) { return slot }
        return slot.pointee.command.flags.contains(.write) || slot.pointee.name.isWord("select") ? slot : nil
    }

    private func execute(_ count: Int, _ window: AOFWindow) throws(AOFError) {
        let arguments = request.arguments
        func bad(_ reason: String) -> AOFError {
            AOFError(path: window.path, offset: window.offset, reason: reason, remedy: remedy(window.path))
        }
        if isTransaction(arguments[0]) {
            let begins = arguments[0].isWord("multi")
            guard begins == (transaction == nil) else { throw bad(begins ? "MULTI within a transaction" : "EXEC without MULTI") }
            if begins {
                transaction = (Transaction(), window.offset)
            } else {
                for queued in transaction!.commands.queued {
                    server.withArguments(queued.arguments) { run(queued.slot, $0, $1, transaction!.offset) }
                }
                transaction = nil
            }
            return
        }
        guard let slot = slot(arguments[0], count > 1 ? arguments[1] : nil) else {
            let name = Quoting.quoted(UnsafeBufferPointer(rebasing: arguments[0].buffer.prefix(128)))
            throw bad("the command \(name) is unknown, or none that an append-only file holds")
        }
        let arity = slot.pointee.arity
        guard arity >= 0 ? count == arity : count >= -arity else {
            throw bad("the command '\(slot.pointee.fullName)' has \(count) words")
        }
        // What follows would be put into another database than it belongs to.
        if slot.pointee.name.isWord("select"), let id = arguments[1].integer, id < 0 || id >= server.databases.count {
            throw AOFError(path: window.path, offset: window.offset, reason: "it holds database \(id), and this server has \(server.databases.count)",
                remedy: "See databases in the configuration")
        }
        if let transaction {
            transaction.commands.append(slot, arguments, count)
        } else {
            run(slot, arguments, count, window.offset)
        }
    }

    private func run(_ slot: UnsafeMutablePointer<CommandTable.Slot>, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int, _ offset: Int) {
        let errors = server.errors.pointee.total
        slot.pointee.command.run(Call(
            server: server, client: client, db: client.db, arguments: arguments, count: count, slot: slot, reply: client.reply))
        // Nobody is told: what is loaded has been told before.
        if server.propagation.isForced { server.propagation = Propagation() }
        if server.errors.pointee.total != errors {
            if failures.count == 0 { failures.offset = offset }
            failures.count += 1
        }
        if client.output.count > 1 << 20 { client.output.discardAll() }
    }
}

/// The append-only file as what is loaded at start.
final class AppendOnlySource: LoadingSource {
    private unowned let file: AppendOnlyFile
    private let loader: AOFLoader

    init(_ loader: AOFLoader, _ file: AppendOnlyFile) {
        self.loader = loader
        self.file = file
    }

    var size: Int { loader.size }
    var position: Int { loader.position }
    var path: String { loader.path }
    var reader: RDBReader? { loader.reader }

    func advance(until deadline: UInt64) throws(LoadingError) -> Bool {
        do throws(AOFError) { return try loader.advance(until: deadline) } catch { throw LoadingError(error) }
    }

    func finish() throws(LoadingError) {
        do throws(AOFError) { try file.goOn(behind: loader) } catch { throw LoadingError(error) }
    }
}
