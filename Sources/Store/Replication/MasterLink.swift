import Glibc
import Logging
import Reactor
import RESP

/// The replica's half: one master, connected to again and again until told otherwise.
final class MasterLink: ConnectionHandler {
    private enum Phase {
        case resting
        case connecting
        case handshaking
        /// Waits for the header of the snapshot, then its payload.
        case transferring
        case online
    }

    private unowned let replication: Replication
    var server: StoreServer { replication.server }
    private let host: String
    private let port: UInt16
    private var phase = Phase.resting
    private var connection: Connection?
    private var handshake: ReplicaHandshake
    private var isClosed = false
    private var retry: TimerID?
    private var failures = 0

    /// Milliseconds since 1970 of the master's last sign of life.
    private(set) var lastInteraction: Int64 = 0
    /// Milliseconds since 1970; 0 when it was never up.
    private(set) var downSince: Int64 = 0
    private var lastAcknowledgement: Int64 = 0
    /// Something of the stream has come since the link is up.
    private var hasReceivedStream = false

    // The snapshot under way.
    private var reader: RDBReader?
    private var history: (replicationID: String, offset: Int64)?
    private(set) var transferTotal: Int64 = -1
    private(set) var transferRead: Int64 = 0
    /// Milliseconds since 1970.
    private(set) var transferBegan: Int64 = 0
    private var mark: [UInt8]?
    private var isPayloadDone = false

    /// The client in whose name the master's commands are applied.
    private(set) var client: Client?

    init(replication: Replication, host: String, port: UInt16) {
        self.replication = replication
        self.host = host
        self.port = port
        handshake = ReplicaHandshake(credentials: nil, port: 0, announcedIP: nil, position: nil)
    }

    var isOnline: Bool { phase == .online }
    var isTransferring: Bool { phase == .transferring }
    /// The snapshot has begun to come.
    var isLoading: Bool { reader != nil }
    var stateName: String {
        switch phase {
        case .resting: "connect"
        case .connecting: "connecting"
        case .handshaking: "handshake"
        case .transferring: "sync"
        case .online: "connected"
        }
    }

    // MARK: connecting

    func connect() {
        guard !isClosed else { return }
        retry = nil
        server.logger.notice("Connecting to MASTER \(host):\(port)")
        NameResolver.resolve(host, port: port, on: server.loop) { [weak self] address in
            guard let self, !isClosed else { return }
            guard let address else {
                server.logger.warning("Unable to connect to MASTER: \(host): Name or service not known")
                rest()
                return
            }
            connect(to: address)
        }
    }

    private func connect(to address: SocketAddress) {
        phase = .connecting
        lastInteraction = server.loop.wallMilliseconds
        // A source of the other family cannot reach the master.
        let source = SocketAddress(numeric: server.configuration.bindSource, port: 0).flatMap { $0.host.contains(":") == address.host.contains(":") ? $0 : nil }
        let connection = server.loop.connect(to: address, from: source, timeout: .seconds(server.configuration.replicationTimeout), handler: self)
        connection.role = "link to the master"
        connection.traffic = server.traffic.master
        self.connection = connection
    }

    func connectionOpened(_ connection: Connection) {
        server.logger.notice("MASTER <-> REPLICA sync started")
        connection.setNoDelay(true)
        phase = .handshaking
        let configuration = server.configuration
        let position = replication.hasMasterHistory ? (replication.replicationID, replication.stream.end + 1) : nil
        handshake = ReplicaHandshake(
            credentials: configuration.masterPassword.isEmpty ? nil : .init(user: configuration.masterUser, password: configuration.masterPassword),
            port: configuration.replicaAnnouncePort != 0 ? configuration.replicaAnnouncePort : configuration.port,
            announcedIP: configuration.replicaAnnounceIP, position: position)
        perform(handshake.start())
    }

    /// Gives the link up for good.
    func close() {
        isClosed = true
        if let retry { server.loop.cancel(retry) }
        connection?.close()
        dropTransfer()
    }

    func connectionClosed(_ connection: Connection, _ reason: CloseReason) {
        guard self.connection === connection else { return }
        self.connection = nil
        if phase == .online {
            downSince = server.loop.wallMilliseconds
            server.logger.warning("Connection with master lost.")
        } else if case .connectFailed(let code) = reason {
            server.logger.warning("Error condition on socket for SYNC: \(String(cString: strerror(code)))")
        }
        if let client {
            self.client = nil
            replication.streamDatabase = client.db.id
            server.forget(client, reason)
        }
        dropTransfer()
        phase = .resting
        if !isClosed { rest() }
    }

    private func dropTransfer() {
        reader = nil
        history = nil
        mark = nil
    }

    /// Tries again soon: at once after a link that worked, then ever more slowly, once a second at the least.
    private func rest() {
        guard !isClosed, retry == nil else { return }
        phase = .resting
        let delay = min(1000, 20 << min(failures, 6))
        failures += 1
        retry = server.loop.schedule(after: .milliseconds(delay), label: "connect to the master") { [unowned self] in connect() }
    }

    func cron() {
        let now = server.loop.wallMilliseconds
        guard connection != nil else { return }
        // A Redis sends nothing before an acknowledgement that comes after it has reaped its snapshot's child: until something
        // comes, say it every time.
        if phase == .online, !hasReceivedStream || now - lastAcknowledgement >= 1000 { acknowledge() }
        // While a snapshot is loaded the master must see that we live.
        if phase == .transferring, isPayloadDone == false, now - lastAcknowledgement >= 1000 {
            lastAcknowledgement = now
            connection?.output.append("\n")
        }
        if now - lastInteraction > Int64(server.configuration.replicationTimeout) * 1000 {
            server.logger.warning("MASTER timeout: no data nor PING received...")
            connection?.close()
        }
    }

    // MARK: receiving

    func connectionReceived(_ connection: Connection) {
        lastInteraction = server.loop.wallMilliseconds
        while connection.isOpen, !connection.input.isEmpty || phase == .online {
            switch phase {
            case .handshaking:
                guard let line = takeLine(connection) else { return }
                perform(handshake.receive(line))
            case .transferring:
                if reader == nil {
                    guard let line = takeLine(connection) else { return }
                    if !line.isEmpty { beginPayload(line) }
                } else if !receivePayload(connection) {
                    return
                }
            case .online:
                apply(connection)
                return
            case .resting, .connecting:
                return
            }
        }
    }

    func connectionReachedEnd(_ connection: Connection) { connection.close() }

    /// A line without its end; nil when it has not come whole.
    private func takeLine(_ connection: Connection) -> String? {
        let bytes = connection.input.bytes
        guard let end = bytes.firstIndex(of: 10) else {
            if bytes.count > 4096 { fail("a line of more than 4096 bytes during the handshake") }
            return nil
        }
        var line = bytes[..<end]
        if line.last == 13 { line = line.dropLast() }
        let text = String(decoding: line, as: UTF8.self)
        connection.input.consume(end + 1)
        return text
    }

    private func perform(_ actions: [ReplicaHandshake.Action]) {
        for action in actions {
            guard let connection, connection.isOpen else { return }
            switch action {
            case .send(let command):
                let writer = ReplyWriter(connection.output, isRESP3: false)
                writer.array(command.count)
                for word in command { writer.bulk(word) }
            case .note(let text):
                server.logger.notice("\(text)")
            case .fail(let text):
                fail(text)
            case .resume(let id):
                server.logger.notice("Successful partial resynchronization with master.")
                if let id { replication.changeID(id) }
                replication.hasMasterHistory = true
                server.confirmation.endDoubt()
                becomeOnline()
            case .synchronise(let id, let offset):
                server.logger.notice("Full resync from master: \(id):\(offset)")
                history = (id, offset)
                phase = .transferring
                isPayloadDone = false
            }
        }
    }

    private func fail(_ text: String) {
        server.logger.warning("\(text)")
        connection?.close()
    }

    // MARK: the snapshot

    /// `$length`, or `$EOF:` and the mark that ends the payload.
    private func beginPayload(_ line: String) {
        if line.hasPrefix("-") { return fail("MASTER aborted replication with an error: \(line)") }
        if line.hasPrefix("$EOF:") {
            let text = Array(line.dropFirst(5).utf8)
            guard text.count == 40 else { return fail("Bad protocol from MASTER, the end mark '\(line)' has not 40 bytes") }
            mark = text
            transferTotal = -1
        } else if line.hasPrefix("$"), let length = Int64(line.dropFirst()), length >= 0 {
            mark = nil
            transferTotal = length
        } else {
            return fail("Bad protocol from MASTER, the first byte is not '$' (we received '\(line.prefix(64))'), are you sure the host and port are right?")
        }
        server.logger.notice("MASTER <-> REPLICA sync: receiving \(mark == nil ? "\(transferTotal) bytes" : "streamed RDB") from master")
        transferRead = 0
        transferBegan = lastInteraction
        reader = server.makeReader(dropsExpired: false)
    }

    /// - Returns: whether to go on with what is left in the buffer.
    private func receivePayload(_ connection: Connection) -> Bool {
        let input = connection.input
        if isPayloadDone { return receiveMark(input) }
        var bytes = input.bytes
        if transferTotal >= 0, Int64(bytes.count) > transferTotal - transferRead {
            bytes = UnsafeRawBufferPointer(rebasing: bytes[..<Int(transferTotal - transferRead)])
        }
        do throws(RDBError) {
            switch try reader!.feed(bytes) {
            case .needsMore:
                transferRead += Int64(bytes.count)
                input.consume(bytes.count)
                if transferTotal >= 0, transferRead >= transferTotal {
                    fail("Failed trying to load the MASTER synchronization DB: it ends after \(transferRead) bytes in the middle of a record")
                }
                return false
            case .done(let used):
                transferRead += Int64(used)
                input.consume(used)
                isPayloadDone = true
                return mark == nil ? finishTransfer() : receiveMark(input)
            }
        } catch {
            fail("Failed trying to load the MASTER synchronization DB: \(error)")
            return false
        }
    }

    private func receiveMark(_ input: InputBuffer) -> Bool {
        guard let mark else { return false }
        guard input.count >= mark.count else { return false }
        guard input.bytes.prefix(mark.count).elementsEqual(mark) else {
            fail("Replica received a snapshot whose end mark differs from the one that was announced")
            return false
        }
        input.consume(mark.count)
        return finishTransfer()
    }

    private func finishTransfer() -> Bool {
        guard let reader, let history else { return false }
        let keys = reader.keysLoaded
        let selected = reader.info.replicationDatabase ?? 0
        server.adopt(functions: reader.info.functions)
        replication.adopt(reader.takeDatabases(), replicationID: history.replicationID, offset: history.offset)
        replication.streamDatabase = selected
        dropTransfer()
        server.logger.notice("MASTER <-> REPLICA sync: Finished with success: \(keys) keys")
        becomeOnline()
        return true
    }

    private func becomeOnline() {
        guard let connection else { return }
        phase = .online
        hasReceivedStream = false
        failures = 0
        downSince = 0
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

    // MARK: the stream

    /// Tells the master how far we are.
    func acknowledge() {
        guard let connection, phase == .online else { return }
        lastAcknowledgement = server.loop.wallMilliseconds
        let writer = ReplyWriter(connection.output, isRESP3: false)
        writer.array(3)
        writer.bulk("REPLCONF")
        writer.bulk("ACK")
        writer.bulk(String(replication.stream.end))
    }

    /// Applies what has come of the stream. A transaction counts as applied when its EXEC has been.
    private func apply(_ connection: Connection) {
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
                if client.parser.pointee.count > 0 { server.execute(client, client.parser.pointee.arguments, client.parser.pointee.count) }
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

    private func applyBatch(_ client: Client, _ input: InputBuffer, _ found: Int) {
        let spans = server.argumentArea.spans
        let arguments = server.argumentArea.base
        if found > 1 { server.warmUp(client.db, found) }
        var begin = 0
        for i in 0..<found {
            server.execute(client, arguments + spans[i].first, spans[i].count)
            guard connection?.isOpen == true else { return }
            count(UnsafeRawBufferPointer(rebasing: input.bytes[begin..<spans[i].end]), client)
            begin = spans[i].end
        }
        input.consume(begin)
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
    private var transactionBytes: [UInt8] = []
}
