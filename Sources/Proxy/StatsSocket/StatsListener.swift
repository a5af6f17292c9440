import Reactor

/// A stats socket: accepts operators and their tools.
final class StatsListener: ListenerHandler {
    private let settings: ProxyConfiguration.StatsSocket
    private unowned let node: ProxyNode
    private var listener: Listener?
    private var connections: [ObjectIdentifier: StatsConnection] = [:]

    init(_ settings: ProxyConfiguration.StatsSocket, node: ProxyNode) throws(SystemError) {
        self.settings = settings
        self.node = node
        var options = ListenOptions()
        options.freeBind = true
        options.unixMode = settings.mode
        options.unixUser = settings.user
        options.unixGroup = settings.group
        listener = try node.loop.listen(on: settings.address, options: options, handler: self)
    }

    func close() {
        listener?.close()
        listener = nil
        for connection in connections.values { connection.close() }
    }

    func listener(_ listener: Listener, accepted connection: Connection) {
        node.countStatsConnection()
        guard connections.count < node.configuration.global.statsConnectionsMax else { return }
        connection.role = "stats socket"
        connection.inputLimit = StatsConnection.lineMax
        let handler = StatsConnection(connection, node: node, level: settings.level) { [weak self] in self?.connections[$0] = nil }
        connections[ObjectIdentifier(connection)] = handler
        connection.handler = handler
    }
}

/// One operator's connection: a line of commands and its answers, or with `prompt` as many lines as wanted.
final class StatsConnection: ConnectionHandler {
    /// A command line is no longer than this (HAProxy's: a buffer).
    static let lineMax = 16_384
    /// More unread answers than this and further commands wait.
    private static let answersMax = 1 << 20

    private let connection: Connection
    private var session: StatsSession
    private let onClosed: (ObjectIdentifier) -> Void
    private var timer: TimerID?
    private var lastActivity: Instant

    init(_ connection: Connection, node: ProxyNode, level: StatsCommand.Level, onClosed: @escaping (ObjectIdentifier) -> Void) {
        self.connection = connection
        self.onClosed = onClosed
        session = StatsSession(node: node, level: level, timeout: node.configuration.global.statsTimeout)
        lastActivity = connection.loop.now
        scheduleTimeout()
    }

    func close() { connection.closeAfterFlush() }

    private func scheduleTimeout() {
        timer = connection.loop.schedule(at: lastActivity + session.timeout, label: "stats time-out") { [weak self] in
            guard let self else { return }
            timer = nil
            if connection.loop.now >= lastActivity + session.timeout { connection.close() } else { scheduleTimeout() }
        }
    }

    func connectionReceived(_ connection: Connection) {
        lastActivity = connection.loop.now
        while !connection.isClosing, let end = connection.input.bytes.firstIndex(of: UInt8(ascii: "\n")) {
            if connection.output.count > StatsConnection.answersMax {
                connection.pauseReading()
                connection.notifyDrained(below: StatsConnection.answersMax / 2)
                return
            }
            let line = String(decoding: connection.input.bytes[..<end], as: UTF8.self)
            connection.input.consume(end + 1)
            run(line)
        }
    }

    func connectionDrained(_ connection: Connection) { connection.resumeReading() }

    /// The last line may lack its newline: `printf 'show stat' | socat ...`.
    func connectionReachedEnd(_ connection: Connection) {
        if !connection.input.isEmpty, !connection.isClosing {
            let line = String(decoding: connection.input.bytes, as: UTF8.self)
            connection.input.consume(connection.input.count)
            run(line)
        }
        connection.closeAfterFlush()
    }

    private func run(_ line: String) {
        let before = session.timeout
        for command in StatsSession.commands(of: line) {
            let answer = session.run(command)
            if session.wantsEnd { break }
            connection.output.append(answer)
            connection.output.append(session.hasPrompt ? "\n> " : "\n")
        }
        if session.timeout != before {
            if let timer { connection.loop.cancel(timer) }
            scheduleTimeout()
        }
        if session.wantsEnd || !session.hasPrompt { connection.closeAfterFlush() }
    }

    func connectionClosed(_ connection: Connection, _ reason: CloseReason) {
        if let timer { connection.loop.cancel(timer) }
        timer = nil
        onClosed(ObjectIdentifier(connection))
    }
}
