import Glibc
import Logging
import Reactor
import RESP

/// The replica's half: one master, connected to again and again until told otherwise.
final class MasterLink: ConnectionHandler {
    enum Phase {
        case resting
        case connecting
        case handshaking
        /// Waits for the header of the snapshot, then its payload.
        case transferring
        /// Reads the snapshot from the file that it has come into.
        case loading
        case online
    }

    unowned let replication: Replication
    var server: StoreServer { replication.server }
    private let host: String
    private let port: UInt16
    var phase = Phase.resting
    var connection: Connection?
    private var handshake: ReplicaHandshake
    private(set) var isClosed = false
    private var retry: TimerID?
    /// Attempts in a row that came as far as the handshake and failed there, and that did not come so far.
    var failures = 0
    private var connectFailures = 0
    /// Somebody has said something on this connection.
    private var hasAnswered = false
    private var attemptBegan: Int64 = 0
    private var lastConnectMilliseconds: Int64?
    private var address: SocketAddress?
    private var lastLine: Int64 = 0
    private var logsAttempt = true

    /// Milliseconds of the monotonic clock of the master's last sign of life.
    private(set) var lastInteraction: Int64 = 0
    /// Milliseconds of the monotonic clock; 0 when it was never up.
    var downSince: Int64 = 0
    var lastAcknowledgement: Int64 = 0
    /// Something of the stream has come since the link is up.
    var hasReceivedStream = false

    /// The snapshot under way.
    var reception: Reception?
    var history: (replicationID: String, offset: Int64)?
    /// Bytes of the snapshot as announced (0: only its end is marked; -1: not announced yet), and those that have come.
    var transferTotal: Int64 = -1
    var transferRead: Int64 = 0
    /// Milliseconds since 1970.
    var transferBegan: Int64 = 0

    /// Knocks at the master's door while nothing gets through on the link.
    private var probe: MasterProbe?
    private var rate = StreamRate()

    /// The client in whose name the master's commands are applied.
    var client: Client?
    /// The requests being applied: where they lie, and from where to where they are applied and not counted yet.
    var batch: (base: UnsafeRawPointer, begin: Int, end: Int)?
    /// The stream's bytes of a transaction that has not ended.
    var transactionBytes: [UInt8] = []

    init(replication: Replication, host: String, port: UInt16) {
        self.replication = replication
        self.host = host
        self.port = port
        handshake = ReplicaHandshake(credentials: nil, port: 0, announcedIP: nil, position: nil)
    }

    var isOnline: Bool { phase == .online }
    var isTransferring: Bool { phase == .transferring || phase == .loading }
    /// A snapshot is read into memory.
    var isLoading: Bool { phase == .loading || loadsBesideData }
    /// It goes into databases of its own, while ours are served.
    var loadsBesideData: Bool { if case .direct? = reception { true } else { false } }
    var stateName: String {
        switch phase {
        case .resting: "connect"
        case .connecting: "connecting"
        case .handshaking: "handshake"
        case .transferring, .loading: "sync"
        case .online: "connected"
        }
    }

    // MARK: connecting

    func connect() {
        guard !isClosed else { return }
        retry = nil
        decideOnLines()
        if logsAttempt { server.logger.notice("Connecting to MASTER \(host):\(port)") }
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
        self.address = address
        phase = .connecting
        let now = server.loop.now.milliseconds
        lastInteraction = now
        attemptBegan = now
        let connection = server.loop.connect(to: address, from: source(for: address), timeout: connectTimeout, handler: self)
        connection.role = "link to the master"
        connection.traffic = server.traffic.master
        self.connection = connection
    }

    /// `bind-source-addr`; a source of the other family cannot reach the master.
    private func source(for address: SocketAddress) -> SocketAddress? {
        SocketAddress(numeric: server.configuration.bindSource, port: 0).flatMap { $0.host.contains(":") == address.host.contains(":") ? $0 : nil }
    }

    /// How long one attempt may take. The kernel repeats what a cut network has swallowed after one second, then two, then four: a master
    /// that was quick to answer before is asked anew long before that, so that the network's return is noticed at once.
    private var connectTimeout: Duration {
        let whole = Duration.seconds(server.configuration.replicationTimeout)
        guard let lastConnectMilliseconds, (connectFailures + 1) % MasterLink.patientEvery != 0 else { return whole }
        return min(whole, .milliseconds(max(MasterLink.connectLeast, 10 * lastConnectMilliseconds)))
    }
    private static let connectLeast: Int64 = 40
    /// The way to the master may have become longer: every so many attempts wait as long as it takes.
    private static let patientEvery = 64

    /// Attempts come in quick succession: the log hears of the first one, and of one a second.
    private func decideOnLines() {
        let now = server.loop.now.milliseconds
        logsAttempt = connectFailures == 0 || now - lastLine >= 1000
        if logsAttempt { lastLine = now }
    }

    func connectionOpened(_ connection: Connection) {
        lastConnectMilliseconds = server.loop.now.milliseconds - attemptBegan
        hasAnswered = false
        server.logger.notice("MASTER <-> REPLICA sync started")
        connection.setNoDelay(true)
        phase = .handshaking
        let configuration = server.configuration
        let position = replication.hasMasterHistory ? (replication.replicationID, replication.stream.end + 1) : nil
        handshake = ReplicaHandshake(
            credentials: configuration.masterPassword.isEmpty ? nil : .init(user: configuration.masterUser, password: configuration.masterPassword),
            port: configuration.replicaAnnouncePort != 0 ? configuration.replicaAnnouncePort : configuration.port,
            announcedIP: configuration.replicaAnnounceIP, position: position, asksToTakeOver: replication.failover.state == .inProgress)
        perform(handshake.start())
    }

    /// Gives the link up for good.
    func close() {
        isClosed = true
        if let retry { server.loop.cancel(retry) }
        endProbe()
        connection?.close()
        dropTransfer()
    }

    func connectionClosed(_ connection: Connection, _ reason: CloseReason) {
        guard self.connection === connection else { return }
        self.connection = nil
        endProbe()
        if phase == .online {
            downSince = server.loop.now.milliseconds
            server.logger.warning("Connection with master lost.")
        } else if phase == .connecting || phase == .handshaking && !hasAnswered {
            connectFailures += 1
            if case .connectFailed(let code) = reason, logsAttempt {
                server.logger.warning("Error condition on socket for SYNC: \(String(cString: strerror(code)))")
            }
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

    /// Tries again soon: at once after a link that worked, every `connectLeast` milliseconds while nobody answers, and ever more slowly, once
    /// a second at the least, where somebody answers and the handshake fails.
    private func rest() {
        guard !isClosed, retry == nil else { return }
        phase = .resting
        let pause = max(MasterLink.connectPause, MasterLink.connectLeast - (server.loop.now.milliseconds - attemptBegan))
        let delay = connectFailures > 0 ? pause : failures == 0 ? 1 : min(1000, 20 << min(failures - 1, 6))
        if connectFailures == 0 { failures += 1 }
        retry = server.loop.schedule(after: .milliseconds(delay), label: "connect to the master") { [unowned self] in connect() }
    }
    private static let connectPause: Int64 = 5

    func cron() {
        let now = server.loop.now.milliseconds
        guard connection != nil else { return }
        if phase == .online {
            // A Redis sends nothing before an acknowledgement that comes after it has reaped its snapshot's child: until something
            // comes, say it every time. Where nothing comes any more it is also what shows whether the way is still there.
            if !hasReceivedStream || now - lastInteraction >= MasterLink.silence || now - lastAcknowledgement >= 1000 { acknowledge() }
            watchTheWay()
        }
        // While a snapshot is loaded the master must see that we live.
        if isTransferring, now - lastAcknowledgement >= 1000 {
            lastAcknowledgement = now
            connection?.output.append("\n")
        }
        if phase == .loading { lastInteraction = now }
        if now - lastInteraction > Int64(server.configuration.replicationTimeout) * 1000 {
            server.logger.warning("MASTER timeout: no data nor PING received...")
            connection?.close()
        }
    }

    private static let silence: Int64 = 100

    // MARK: a way that swallows everything

    /// While what we send is repeated and repeated, tries whether a new connection gets through: the kernel, which waits as long again before
    /// each repetition, may notice the network's return as late as the network was away.
    private func watchTheWay() {
        guard let connection, let address else { return }
        guard connection.isRepeating else {
            rate.add(server.replication.stream.end)
            return endProbe()
        }
        guard probe == nil else { return }
        let timeout = max(MasterLink.connectLeast, 10 * (lastConnectMilliseconds ?? 0))
        probe = MasterProbe(loop: server.loop, address: address, source: source(for: address), timeout: timeout) { [unowned self] in wayIsBack() }
    }

    /// The master can be reached. A link that still gets nothing through is replaced, unless more may have been missed than a master
    /// remembers: then what stands in its output would be lost by that, and the whole data set would be sent for it.
    private func wayIsBack() {
        guard let connection, connection.isRepeating else { return endProbe() }
        let silent = server.loop.now.milliseconds - lastInteraction
        // The master's backlog is taken to be as large as our own would be, and half of it to be on the safe side.
        guard rate.bytes(in: silent) < Int64(server.configuration.backlogSize / 2) else { return }
        server.logger.notice("The network to the MASTER is back after \(silent) ms of silence: reconnecting, for the old connection has not noticed")
        connection.close(reset: true)
    }

    private func endProbe() {
        probe?.end()
        probe = nil
    }

    // MARK: receiving

    func connectionReceived(_ connection: Connection) {
        lastInteraction = server.loop.now.milliseconds
        while connection.isOpen, !connection.input.isEmpty || phase == .online {
            switch phase {
            case .handshaking:
                guard let line = takeLine(connection) else { return }
                hasAnswered = true
                connectFailures = 0
                perform(handshake.receive(line))
            case .transferring:
                if reception == nil {
                    guard let line = takeLine(connection) else { return }
                    if !line.isEmpty { beginPayload(line) }
                } else if !receivePayload(connection) {
                    return
                }
            case .online:
                apply(connection)
                return
            case .resting, .connecting, .loading:
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
            case .refused(let text):
                fail(text)
                if replication.failover.state == .inProgress { replication.abortFailover("Failover target rejected psync request") }
            case .resume(let id):
                replication.failoverAccepted()
                server.logger.notice("Successful partial resynchronization with master.")
                if let id { replication.changeID(id) }
                replication.hasMasterHistory = true
                server.confirmation.endDoubt()
                becomeOnline()
            case .synchronise(let id, let offset):
                replication.failoverAccepted()
                server.logger.notice("Full resync from master: \(id):\(offset)")
                history = (id, offset)
                rate = StreamRate()
                transferTotal = -1
                transferRead = 0
                phase = .transferring
            }
        }
    }

    func fail(_ text: String) {
        server.logger.warning("\(text)")
        connection?.close()
    }
}
