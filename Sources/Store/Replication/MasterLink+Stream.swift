import Glibc
import Logging
import Reactor
import RESP

/// The replica's half once it is online: applying the master's commands and saying how far it is.
extension MasterLink {
    func becomeOnline() {
        guard let connection else { return }
        phase = .online
        hasReceivedStream = false
        failures = 0
        downSince = 0
        transactionBytes.removeAll()
        let client = server.addClient(connection)
        connection.traffic = server.traffic.master
        connection.handler = self
        client.gate.insert(.master)
        client.db = server.databases[replication.streamDatabase]
        client.output = server.discardedOutput
        connection.inputLimit = .max
        self.client = client
        acknowledge()
        connection.scheduleRead()
    }

    /// Bytes that have come and are not applied yet.
    var unapplied: Int { phase == .online ? transactionBytes.count + (connection?.input.count ?? 0) : 0 }

    /// Tells the master how far we are.
    func acknowledge() {
        guard let connection, phase == .online else { return }
        countBatch()
        lastAcknowledgement = server.loop.now.milliseconds
        let writer = ReplyWriter(connection.output, isRESP3: false)
        let synced = server.appendOnlyFile.syncedOffset
        writer.array(synced == nil ? 3 : 5)
        writer.bulk("REPLCONF")
        writer.bulk("ACK")
        writer.bulk(String(replication.stream.end))
        if let synced {
            writer.bulk("FACK")
            writer.bulk(String(synced))
        }
    }

    /// Applies what has come of the stream. A transaction counts as applied when its EXEC has been.
    func apply(_ connection: Connection) {
        guard let client else { return }
        replication.isApplyingStream = true
        defer {
            replication.isApplyingStream = false
            server.discardedOutput.discardAll()
        }
        let input = connection.input
        if !input.isEmpty { hasReceivedStream = true }
        while connection.isOpen {
            let found = client.parser.pointee.lookAhead(input)
            if found > 0 {
                applyBatch(client, input, found)
                continue
            }
            switch client.parser.pointee.next(input, bulkMax: .max, argumentsMax: .max, isAuthenticated: true) {
            case .request:
                if client.parser.pointee.count > 0 { execute(client, nil, client.parser.pointee.arguments, client.parser.pointee.count) }
                guard connection.isOpen else { return }
                if let size = client.parser.pointee.sizeInBuffer {
                    count(UnsafeRawBufferPointer(rebasing: input.bytes[..<size]), client)
                } else {
                    // A long value was received elsewhere: the stream's form of the command is the only one it can have had.
                    var encoded = CommandBuffer()
                    encoded.append(client.parser.pointee.arguments, client.parser.pointee.count)
                    count(encoded.bytes, client)
                    encoded.deallocate()
                }
                client.parser.pointee.finish(input)
            case .incomplete:
                return
            case .failure(let message):
                fail("Protocol error in the master's stream: \(String(decoding: message, as: UTF8.self))")
                return
            }
        }
    }

    /// Applies requests that lie whole in the buffer. Their bytes are counted together, as far as that can be.
    private func applyBatch(_ client: Client, _ input: InputBuffer, _ found: Int) {
        let spans = server.argumentArea.spans
        let arguments = server.argumentArea.base
        server.warmUp(client.db, found)
        batch = (input.bytes.baseAddress!, 0, 0)
        for i in 0..<found {
            let slot = UnsafeMutablePointer<CommandTable.Slot>(bitPattern: spans[i].tag)
            execute(client, slot, arguments + spans[i].first, spans[i].count)
            guard connection?.isOpen == true else { return batch = nil }
            batch!.end = spans[i].end
            if client.transaction != nil || !transactionBytes.isEmpty { countBatch() }
        }
        let end = batch!.end
        countBatch()
        batch = nil
        input.consume(end)
    }

    /// Counts what has been applied of the requests at hand.
    private func countBatch() {
        guard let current = batch, let client, current.end > current.begin else { return }
        batch!.begin = current.end
        count(UnsafeRawBufferPointer(start: current.base + current.begin, count: current.end - current.begin), client)
    }

    private func execute(
        _ client: Client, _ slot: UnsafeMutablePointer<CommandTable.Slot>?, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int
    ) {
        let errors = server.errors.pointee.total
        if let slot { server.execute(client, slot, arguments, count) } else { server.execute(client, arguments, count) }
        if server.errors.pointee.total != errors { commandFailed(arguments[0].text) }
    }

    /// A command that the master has executed fails here: the data sets are not the same any more.
    private func commandFailed(_ name: String) {
        replication.failedStreamCommands += 1
        server.logger.critical("== CRITICAL == This replica is sending an error to its master after processing the command '\(name.prefix(64))'")
        guard server.configuration.propagationErrors != .ignore else { return }
        server.logger.critical("This instance exits, as propagation-error-behavior asks for (\(server.configuration.propagationErrors.rawValue)).")
        exit(1)
    }

    /// Counts applied bytes; those of an open transaction are kept back until it ends.
    private func count(_ bytes: UnsafeRawBufferPointer, _ client: Client) {
        if client.transaction != nil {
            transactionBytes.append(contentsOf: bytes)
            return
        }
        if !transactionBytes.isEmpty {
            transactionBytes.withUnsafeBytes { replication.applied($0) }
            transactionBytes.removeAll()
        }
        replication.applied(bytes)
    }
}
