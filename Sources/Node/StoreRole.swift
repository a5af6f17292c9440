import Configuration
import Glibc
import Logging
import Observability
import Reactor
import Store

/// The store with its log, as a role of a node.
public final class StoreRole: Role {
    public let name = "store"
    public let configuration: StoreConfiguration
    private let loop: Loop
    private let node: StoreNode
    private let logger: Logger
    private let warnings: [ConfigurationError]

    /// - Throws: `SystemError` when the log cannot be written.
    public init(loop: Loop, configuration: StoreConfiguration, warnings: [ConfigurationError]) throws(SystemError) {
        self.loop = loop
        self.configuration = configuration
        self.warnings = warnings
        let log = RedisLog(path: configuration.logPath, role: .master, verbosity: configuration.verbosity)
        let problem = log.check()
        guard problem == 0 else { throw SystemError("Can't open the log file '\(log.path)'", code: problem) }
        if configuration.isSyslogEnabled {
            let syslog = try Syslog(loop: loop, target: .unix("/dev/log"), tag: configuration.syslogIdent)
            let facility = configuration.syslogFacility
            logger = Logger(label: "redis") { _ in
                MultiplexLogHandler([RedisLogHandler(log: log), SyslogHandler(syslog: syslog, facility: facility, least: .debug)])
            }
        } else {
            logger = log.logger()
        }
        node = StoreNode(loop: loop, configuration: configuration, logger: logger, log: log)
    }

    /// What SHUTDOWN ends.
    public var onShutdown: () -> Void {
        get { node.onShutdown }
        set { node.onShutdown = newValue }
    }

    public func start() throws(SystemError) {
        logger.warning("vigie \(StoreVersion.vigie) is starting, as Redis \(StoreVersion.redis), pid=\(getpid())")
        if configuration.file == nil {
            logger.warning("no config file specified, using the default config. In order to specify a config file use vigie store /path/to/redis.conf")
        } else {
            logger.notice("Configuration loaded")
        }
        for warning in warnings { logger.warning("\(warning)") }
        try node.load()
        do throws(SystemError) {
            try node.start()
        } catch {
            logger.warning("Failed listening on port \(configuration.port) (tcp), aborting: \(error)")
            throw error
        }
    }

    public func stop(_ manner: StopManner, completion: @escaping (Bool) -> Void) { node.stop(completion: completion) }

    public func hangUp() { logger.notice("SIGHUP: nothing to do; log files are opened for each line, CONFIG SET changes the configuration") }

    public func ready() {
        guard configuration.supervision == "systemd" || (configuration.supervision == "auto" && Systemd.isPresent) else { return }
        do throws(SystemError) {
            try Systemd.notifyReady(loop)
        } catch {
            logger.warning("systemd could not be told that the store is ready: \(error)")
        }
    }
}
