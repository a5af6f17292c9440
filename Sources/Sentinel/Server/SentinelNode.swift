import Glibc
import Logging
import RESP
import Reactor

/// Sentinel as a role on a loop: binds `SentinelMachine` to connections, timers and its file.
///
/// The machine's actions are carried out in order by one queue. A `persist` holds up the queue while a helper thread
/// writes and syncs the file; replies to clients go through the same queue. So neither a vote nor a command that depends
/// on a change leaves before the change is on disk, and the loop is never held up by the disk.
public final class SentinelNode {
    private enum Step {
        case action(SentinelAction)
        case reply(SentinelClient, Reply)
        case close(SentinelClient)
        case stop(SentinelClient?)
    }

    static let connectTimeout = Duration.seconds(2)

    public let configuration: SentinelConfiguration
    let loop: Loop
    let logger: Logger
    let machine: SentinelMachine
    private let file: any SentinelStateFile
    private let scripts: SentinelScripts
    private var listeners: [Listener] = []
    private var links: [LinkID: [Channel: SentinelLink]] = [:]
    private(set) var clients: [Int64: SentinelClient] = [:]
    private var nextClient: Int64 = 1
    private var steps: [Step] = []
    private var isSaving = false
    private var isRunning = false
    private var timer: (id: TimerID, at: Instant)?
    let startedAt: Instant
    /// Where the arguments of the request at hand lie; one for all clients, since they are copied at once.
    let argumentArea = ArgumentArea()
    private(set) var connectionsReceived = 0
    var commandsProcessed = 0

    /// Called when a client has asked for SHUTDOWN and the state is saved.
    public var onShutdown: (() -> Void)?

    /// - Parameters:
    ///   - configuration: as `SentinelConfiguration.load` gives it. A missing id is made here.
    ///   - file: where state goes; nil for the configuration's own file.
    /// - Throws: `SystemError` when the file can't be written.
    public init(
        loop: Loop, configuration: SentinelConfiguration, logger: Logger, file: (any SentinelStateFile)? = nil
    ) throws(SystemError) {
        var configuration = configuration
        if configuration.myID == nil { configuration.myID = SentinelNode.makeRunID(&loop.random) }
        self.configuration = configuration
        self.loop = loop
        self.logger = logger
        self.file = file ?? ConfigurationStateFile(loop: loop, path: configuration.path)
        if let problem = self.file.problem { throw problem }
        loop.updateClock()
        startedAt = loop.now
        machine = SentinelMachine(configuration: configuration, seed: loop.random.next(), now: loop.now)
        scripts = SentinelScripts(loop: loop, logger: logger)
    }

    deinit { argumentArea.deallocate() }

    static func makeRunID(_ random: inout some RandomNumberGenerator) -> String {
        let digits = Array("0123456789abcdef")
        return String((0..<40).map { _ in digits[Int.random(in: 0..<16, using: &random)] })
    }

    /// Listens, and starts to watch.
    /// - Throws: `SystemError` naming the address that can't be bound.
    public func start() throws(SystemError) {
        var options = ListenOptions()
        options.backlog = configuration.tcpBacklog
        for address in addresses {
            do throws(SystemError) {
                listeners.append(try loop.listen(on: address, options: options, handler: self))
            } catch {
                // As with Redis's default `bind * -::*`: a host without IPv6 is served on IPv4 alone.
                if configuration.bind.isEmpty, case .ipv6 = address { continue }
                stop()
                throw error
            }
        }
        for warning in configuration.warnings { logger.warning("\(warning)") }
        logger.notice("Running mode=sentinel, port=\(configuration.port).")
        isRunning = true
        loop.updateClock()
        machine.start(at: loop.now)
        settle()
    }

    /// Lets go of every connection, timer and address. What is being saved is still saved.
    public func stop() {
        isRunning = false
        for listener in listeners { listener.close() }
        listeners.removeAll()
        if let timer { loop.cancel(timer.id) }
        timer = nil
        for client in clients.values { client.abandon() }
        clients.removeAll()
        for link in links.values.flatMap({ $0.values }) { link.abandon() }
        links.removeAll()
        scripts.stop()
        steps.removeAll()
    }

    private var addresses: [SocketAddress] {
        let port = configuration.port
        if configuration.bind.isEmpty { return [.anyIPv4(port: port), .ipv6(high: 0, low: 0, port: port, scope: 0)] }
        return configuration.bind.compactMap { SocketAddress(numeric: $0, port: port) }
    }

    // MARK: carrying out

    /// Takes over what the machine wants, and sets the clock for its next turn.
    func settle() {
        absorb()
        work()
        schedule()
    }

    /// What the machine wants comes before what is queued after it.
    private func absorb() { steps += machine.takeActions().map { .action($0) } }

    private func schedule() {
        guard isRunning else { return }
        let due = machine.nextWake
        if let timer, timer.at <= due { return }
        if let timer { loop.cancel(timer.id) }
        let id = loop.schedule(at: due, label: "sentinel") { [weak self] in
            guard let self else { return }
            timer = nil
            machine.tick(at: loop.now)
            settle()
        }
        timer = (id, due)
    }

    private func work() {
        guard !isWorking else { return }
        isWorking = true
        defer { isWorking = false }
        var index = 0
        while index < steps.count, !isSaving {
            let step = steps[index]
            index += 1
            switch step {
            case .action(.persist): save(droppingFrom: index)
            case .action(let action): carryOut(action)
            case .reply(let client, let reply): client.write(reply)
            case .close(let client): client.connection.closeAfterFlush()
            case .stop(let client):
                client?.connection.close()
                onShutdown?()
            }
        }
        steps.removeFirst(min(index, steps.count))
    }
    private var isWorking = false

    private func carryOut(_ action: SentinelAction) {
        switch action {
        case .open(let id, let channel, let endpoint):
            guard let address = SocketAddress(numeric: endpoint.host, port: endpoint.port) else { return }
            let link = SentinelLink(node: self, id: id, channel: channel)
            links[id, default: [:]][channel] = link
            let connection = loop.connect(to: address, timeout: SentinelNode.connectTimeout, handler: link)
            connection.role = "sentinel link"
            link.connection = connection
        case .close(let id, let channel):
            links[id]?.removeValue(forKey: channel)?.abandon()
            if links[id]?.isEmpty == true { links[id] = nil }
        case .send(let id, let channel, let words):
            links[id]?[channel]?.connection?.output.appendRequest(words)
        case .publish(let event, let message):
            for client in clientsByAge where client.isSubscriber { client.deliver(event, message) }
        case .log(let level, let text):
            switch level {
            case .debug: logger.debug("\(text)")
            case .verbose: logger.info("\(text)")
            case .notice: logger.notice("\(text)")
            case .warning: logger.warning("\(text)")
            }
        case .persist:
            preconditionFailure("saving is a step of its own")
        case .run(let script, let arguments):
            scripts.run(script, arguments)
        }
    }

    /// Saves the state of this moment, which is newer than what later steps of the queue ask to be saved.
    private func save(droppingFrom index: Int) {
        isSaving = true
        let kept = steps[index...].filter { if case .action(.persist) = $0 { false } else { true } }
        steps.replaceSubrange(index..., with: kept)
        file.save(machine.snapshot) { [weak self] problem in
            guard let self else { return }
            isSaving = false
            if let problem {
                logger.warning("WARNING: Sentinel was not able to save the new configuration on disk!!!: \(problem)")
            } else {
                logger.notice("Sentinel new configuration saved on disk")
            }
            loop.updateClock()
            settle()
        }
    }

    // MARK: links

    func linkOpened(_ link: SentinelLink, localHost: String) {
        machine.channelOpened(link.id, link.channel, localHost: localHost, at: loop.now)
        settle()
    }

    func linkClosed(_ link: SentinelLink) {
        links[link.id]?[link.channel] = nil
        if links[link.id]?.isEmpty == true { links[link.id] = nil }
        machine.channelClosed(link.id, link.channel, at: loop.now)
        settle()
    }

    func linkReceived(_ reply: Reply, _ link: SentinelLink) {
        machine.received(reply, on: link.id, link.channel, at: loop.now)
        settle()
    }

    /// A watched process sent what can't be read.
    func linkRefused(_ text: String) {
        machine.logRefusal(text)
        settle()
    }

    // MARK: clients

    /// Replies after what the command has set in motion: a vote is on disk before it is told.
    func reply(_ reply: Reply, to client: SentinelClient) {
        absorb()
        steps.append(.reply(client, reply))
        settle()
    }

    func closeAfterReplies(_ client: SentinelClient) {
        steps.append(.close(client))
        settle()
    }

    var clientsByAge: [SentinelClient] { clients.values.sorted { $0.id < $1.id } }

    func clientClosed(_ client: SentinelClient) { clients[client.id] = nil }

    /// SHUTDOWN: the state is saved, then the owner of the loop ends it.
    func shutdown(_ client: SentinelClient) {
        logger.warning("User requested shutdown...")
        absorb()
        steps.append(.action(.persist))
        steps.append(.stop(client))
        settle()
    }

    /// The whole answer to INFO, or a section of it.
    func info(_ sections: [String]) -> String {
        let wanted = sections.isEmpty || sections.contains { ["all", "everything", "default"].contains($0) }
        func wants(_ name: String) -> Bool { wanted || sections.contains(name) }
        let uptime = (loop.now - startedAt).wholeMilliseconds / 1000
        var parts: [String] = []
        if wants("server") {
            parts.append(
                """
                # Server\r
                redis_version:\(SentinelNode.redisVersion)\r
                redis_mode:sentinel\r
                server_name:vigie\r
                arch_bits:64\r
                multiplexing_api:epoll\r
                process_id:\(getpid())\r
                run_id:\(machine.myID)\r
                tcp_port:\(configuration.port)\r
                uptime_in_seconds:\(uptime)\r
                uptime_in_days:\(uptime / 86_400)\r
                config_file:\(configuration.path)\r

                """)
        }
        if wants("clients") {
            parts.append("# Clients\r\nconnected_clients:\(clients.count)\r\nmaxclients:\(configuration.maxClients)\r\nblocked_clients:0\r\n")
        }
        if wants("stats") {
            parts.append(
                "# Stats\r\ntotal_connections_received:\(connectionsReceived)\r\ntotal_commands_processed:\(commandsProcessed)\r\n")
        }
        if wants("sentinel") {
            parts.append(machine.infoSection(runningScripts: scripts.running, queuedScripts: scripts.queued))
        }
        return parts.joined(separator: "\r\n")
    }

    /// The Redis whose answers ours are.
    static let redisVersion = "7.2.4"

    var pendingScripts: Reply { scripts.report }
}

extension SentinelNode: ListenerHandler {
    public func listener(_ listener: Listener, accepted connection: Connection) {
        connectionsReceived += 1
        guard clients.count < configuration.maxClients else {
            connection.output.append("-ERR max number of clients reached\r\n" as StaticString)
            connection.handler = ClosingHandler.shared
            connection.closeAfterFlush()
            return
        }
        let client = SentinelClient(node: self, id: nextClient, connection: connection)
        nextClient += 1
        clients[client.id] = client
        connection.role = "sentinel client"
        connection.inputLimit = SentinelClient.inputMax
        connection.outputLimit = SentinelClient.outputMax
        connection.setNoDelay(true)
        if configuration.tcpKeepAlive > 0 { connection.setKeepAlive(idleSeconds: configuration.tcpKeepAlive) }
        connection.handler = client
    }
}

/// Keeps a connection that is only to be flushed and closed.
private final class ClosingHandler: ConnectionHandler, Sendable {
    static let shared = ClosingHandler()
    func connectionReceived(_ connection: Connection) {}
    func connectionClosed(_ connection: Connection, _ reason: CloseReason) {}
}
