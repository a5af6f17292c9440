import Configuration
import Glibc
import Logging
import Observability
import Reactor

/// The proxy of one haproxy.cfg on one loop: frontends, backends with their checks, sessions, and the stats sockets.
///
/// Life: `init` builds everything from a checked configuration, `start` binds and begins to check, `stop` stops accepting
/// and lets what is served run out. What only the process can do (chroot, user, daemon) stands in
/// `configuration.global`; the node does it after `start`, when every privileged socket is bound.
public final class ProxyNode {
    public let configuration: ProxyConfiguration
    let loop: Loop
    let log: ProxyLog
    private(set) var frontends: [Frontend] = []
    private(set) var backends: [Backend] = []
    private var statsSockets: [StatsListener] = []
    private(set) var sessions: [UInt64: Session] = [:]
    private var lastSessionID: UInt64 = 0
    let startedAt: Instant
    let startedWall: Int64

    /// Sessions of all frontends at a time.
    var connectionsMax: Int
    private(set) var totalSessions = 0
    private(set) var totalConnections = 0
    var sessionRate = Rate()
    var bytesOut: UInt64 = 0
    private(set) var isStopping = false
    private var onStopped: (() -> Void)?

    /// - Parameter console: the program's own log; gets what HAProxy prints at its terminal (`Server ... is DOWN`, ...).
    public init(loop: Loop, configuration: ProxyConfiguration, console: Logger) {
        self.loop = loop
        self.configuration = configuration
        log = ProxyLog(loop: loop, global: configuration.global, console: console)
        startedAt = loop.now
        startedWall = loop.wallMilliseconds
        connectionsMax = configuration.global.connectionsMax ?? ProxyNode.descriptorsAllow(sockets: configuration)
        for section in configuration.sections where section.isBackend && !section.settings.isDisabled {
            backends.append(Backend(section, node: self))
        }
        for section in configuration.sections where section.isFrontend && !section.settings.isDisabled {
            let target = section.settings.defaultBackend ?? section.name
            let limit = section.settings.connectionsMax ?? connectionsMax
            frontends.append(Frontend(section, backend: backends.first { $0.name == target }, connectionsMax: limit, node: self))
        }
    }

    /// Two descriptors a session, one a check, and some to spare.
    private static func descriptorsAllow(sockets configuration: ProxyConfiguration) -> Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 500 }
        let checks = configuration.sections.reduce(0) { $0 + $1.servers.count } * HealthCheckSchedule.overlapMax
        return max(1, (Int(clamping: limit.rlim_cur) - checks - 64) / 2)
    }

    // MARK: life

    /// Binds every address and the stats sockets, and begins to check.
    /// - Throws: `SystemError` naming the address that cannot be bound; nothing is left bound.
    public func start() throws(SystemError) {
        do throws(SystemError) {
            for frontend in frontends { try frontend.listen() }
            for socket in configuration.global.statsSockets { statsSockets.append(try StatsListener(socket, node: self)) }
        } catch {
            for frontend in frontends { frontend.close(.stopped) }
            for socket in statsSockets { socket.close() }
            statsSockets.removeAll()
            throw error
        }
        for backend in backends {
            backend.updateState()
            backend.startChecks()
        }
    }

    /// Accepts nothing more. Gracefully (HAProxy's SIGUSR1) what is served goes on until its end, or until
    /// `hard-stop-after`, and the stats sockets stay open so long; otherwise (SIGTERM) every session is closed.
    /// - Parameter completion: called once, when nothing is left.
    public func stop(gracefully: Bool, completion: @escaping () -> Void) {
        onStopped = completion
        if !isStopping {
            isStopping = true
            for frontend in frontends where frontend.state != .stopped {
                logEvent(.warning, "Stopping frontend \(frontend.name) in 0 ms.", to: frontend.logs)
                stop(frontend)
            }
            for backend in backends {
                backend.stopChecks()
                logEvent(.warning, "Stopping backend \(backend.name) in 0 ms.", to: backend.logs)
            }
            if gracefully, let limit = configuration.global.hardStopAfter {
                loop.schedule(after: limit, label: "hard stop") { [weak self] in self?.shutAllSessions() }
            }
        }
        if !gracefully { shutAllSessions() }
        loop.deferWork(label: "proxy stop") { [weak self] in self?.finishStopping() }
    }

    private func shutAllSessions() {
        for session in Array(sessions.values) { session.abort() }
    }

    func stop(_ frontend: Frontend) {
        frontend.close(.stopped)
        logEvent(
            .warning, "Proxy \(frontend.name) stopped (cumulated conns: FE: \(frontend.counters.total), BE: 0).", to: frontend.logs)
    }

    private func finishStopping() {
        guard isStopping, sessions.isEmpty, let last = onStopped else { return }
        onStopped = nil
        for socket in statsSockets { socket.close() }
        statsSockets.removeAll()
        last()
    }

    // MARK: sessions

    var currentSessions: Int { sessions.count }
    var isFull: Bool { sessions.count >= connectionsMax }

    func nextSessionID() -> UInt64 {
        lastSessionID += 1
        return lastSessionID
    }

    func sessionBegan(_ session: Session) {
        sessions[session.id] = session
        totalSessions += 1
        totalConnections += 1
        sessionRate.count(at: loop.wallMilliseconds)
    }

    func sessionEnded(_ session: Session) {
        sessions[session.id] = nil
        if isStopping, sessions.isEmpty { loop.deferWork(label: "proxy stop") { [weak self] in self?.finishStopping() } }
    }

    /// Connections to the stats sockets count as HAProxy counts them.
    func countStatsConnection() { totalConnections += 1 }

    func shutSessions(on server: Server, cause: Termination.Cause) {
        for session in Array(sessions.values) where session.server === server { session.shut(cause) }
    }

    func countBytes() { for session in sessions.values { session.countBytes() } }

    // MARK: the log

    /// A section that says nothing of `log` and nothing of `no log` uses the lines of `global` for what happens to its
    /// servers and for `option tcplog`; HAProxy would drop them. The article's file names its log sockets in `global` only, and
    /// an operator who named them wants to read there that a master is gone.
    func logTargets(of section: ProxyConfiguration.Section) -> [ProxyConfiguration.LogTarget] {
        section.settings.logs ?? configuration.global.logs
    }

    func logEvent(_ level: SyslogSeverity, _ message: String, to targets: [ProxyConfiguration.LogTarget], tag: String? = nil) {
        log.send(level, message, to: targets, tag: tag)
        log.announce(level <= .alert ? .warning : .notice, message)
    }

    /// `option tcplog` of the frontend, or of the backend that served the session.
    func log(_ session: Session) {
        let frontend = session.frontend
        let options = frontend.section.settings.options
        guard options.contains(.tcpLog) || session.backend.options.contains(.tcpLog) else { return }
        if options.contains(.dontLogNull), session.isNull { return }
        if options.contains(.dontLogNormal), session.termination.isNormal { return }
        let level: SyslogSeverity = options.contains(.logSeparateErrors) && !session.termination.isNormal ? .error : .info
        log.send(level, session.logLine, to: frontend.logs, tag: frontend.section.settings.logTag)
    }

    // MARK: looking things up

    func frontend(named name: String) -> Frontend? { frontends.first { $0.name == name } }
    func backend(named name: String) -> Backend? { backends.first { $0.name == name } }
}
