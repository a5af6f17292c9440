import Configuration
import Glibc
import Logging
import Observability
import Proxy
import Reactor
import Sentinel
import Store
import VRRP

/// A Sentinel with its log.
final class SentinelRole: Role {
    let name = "sentinel"
    private let node: SentinelNode
    private let logger: Logger
    private let loop: Loop

    /// - Throws: `SystemError` when the log or the Sentinel's own file cannot be written.
    init(loop: Loop, configuration: SentinelConfiguration) throws(SystemError) {
        self.loop = loop
        var path = configuration.logFile
        if !path.isEmpty, !path.hasPrefix("/"), let directory = configuration.directory { path = "\(directory)/\(path)" }
        let verbosity = RedisLog.Verbosity(name: configuration.logLevel) ?? .warning
        let log = RedisLog(path: path, role: .sentinel, verbosity: verbosity)
        let problem = log.check()
        guard problem == 0 else { throw SystemError("Can't open the log file '\(log.path)'", code: problem) }
        if configuration.syslogEnabled {
            let syslog = try Syslog(loop: loop, target: .unix("/dev/log"), tag: configuration.syslogIdent)
            let facility = SyslogFacility(name: configuration.syslogFacility) ?? .local0
            logger = Logger(label: "sentinel") { _ in
                MultiplexLogHandler([RedisLogHandler(log: log), SyslogHandler(syslog: syslog, facility: facility, least: .debug)])
            }
        } else {
            logger = log.logger(label: "sentinel")
        }
        node = try SentinelNode(loop: loop, configuration: configuration, logger: logger)
    }

    var onShutdown: (() -> Void)? {
        get { node.onShutdown }
        set { node.onShutdown = newValue }
    }

    func start() throws(SystemError) {
        logger.warning("vigie \(StoreVersion.vigie) is starting a Sentinel, as Redis \(StoreVersion.redis), pid=\(getpid())")
        for warning in node.configuration.warnings { logger.warning("\(warning)") }
        do throws(SystemError) {
            try node.start()
        } catch {
            logger.warning("Failed listening on port \(node.configuration.port) (tcp), aborting: \(error)")
            throw error
        }
    }

    func stop(_ manner: StopManner, completion: @escaping (Bool) -> Void) {
        logger.warning("Sentinel is now ready to exit, bye bye...")
        node.stop()
        loop.deferWork(label: "sentinel stop") { completion(true) }
    }
}

/// A proxy with the terminal as its console.
final class ProxyRole: Role {
    let name = "proxy"
    let configuration: ProxyConfiguration
    private let node: ProxyNode
    private let predecessors: Predecessors
    private let logger: Logger

    init(loop: Loop, configuration: ProxyConfiguration, logger: Logger, predecessors: Predecessors = Predecessors()) {
        self.predecessors = predecessors
        self.configuration = configuration
        self.logger = logger
        node = ProxyNode(loop: loop, configuration: configuration, console: logger)
    }

    func start() throws(SystemError) {
        for warning in configuration.warnings { logger.log(level: warning.severity == .notice ? .notice : .warning, "\(warning)") }
        try predecessors.handOver { () throws(SystemError) in try node.start() }
    }

    func stop(_ manner: StopManner, completion: @escaping (Bool) -> Void) {
        node.stop(gracefully: manner == .graceful) { completion(true) }
    }
}

/// The virtual routers; they log as Keepalived does, to syslog's `daemon`, and to the terminal.
final class VRRPRole: Role {
    let name = "vrrp"
    private let node: VRRPNode
    private let logger: Logger
    private let warnings: [ConfigurationError]

    /// - Parameters:
    ///   - facility: where in syslog; nil for the terminal only.
    ///   - console: the terminal; nil for syslog only.
    init(loop: Loop, configuration: VRRPConfiguration, facility: SyslogFacility?, console: Logger?) throws(SystemError) {
        warnings = configuration.warnings
        var handlers: [any LogHandler] = console.map { [$0.handler] } ?? []
        if let facility {
            let syslog = try Syslog(loop: loop, target: .unix("/dev/log"), tag: "Keepalived_vrrp")
            handlers.append(SyslogHandler(syslog: syslog, facility: facility, least: .info))
        }
        let all = handlers
        logger = Logger(label: "vrrp") { _ in MultiplexLogHandler(all) }
        node = VRRPNode(loop: loop, configuration: configuration, logger: logger)
    }

    func start() throws(SystemError) {
        for warning in warnings { logger.warning("\(warning)") }
        try node.start()
    }

    func stop(_ manner: StopManner, completion: @escaping (Bool) -> Void) { node.stop { completion(true) } }
}
