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
    private let isAlone: Bool

    /// - Parameter isAlone: there is no other role in the process: its title is the store's.
    /// - Throws: `SystemError` when the log cannot be written.
    public init(loop: Loop, configuration: StoreConfiguration, warnings: [ConfigurationError], isAlone: Bool) throws(SystemError) {
        self.isAlone = isAlone
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

    /// Called when the data set turns out not to be loadable after `start`.
    public var onFailure: (SystemError) -> Void = { _ in }

    public func whenServing(_ body: @escaping () -> Void) { node.whenLoaded(body) }

    public func start() throws(SystemError) {
        logger.warning("vigie \(StoreVersion.vigie) is starting, as Redis \(StoreVersion.redis), pid=\(getpid())")
        if configuration.file == nil {
            logger.warning("no config file specified, using the default config. In order to specify a config file use vigie store /path/to/redis.conf")
        } else {
            logger.notice("Configuration loaded")
        }
        for warning in warnings { logger.warning("\(warning)") }
        for warning in StartChecks.apply(configuration) { logger.warning("\(warning)") }
        node.adoptProcess(name: StoreRole.processName, title: isAlone && configuration.setsProcessTitle ? ProcessTitle() : nil)
        // The address first: a second process on the same files gets no further than this.
        do throws(SystemError) {
            try node.bind()
        } catch {
            logger.warning("Failed listening on port \(configuration.port) (tcp), aborting: \(error)")
            throw error
        }
        try node.load { [unowned self] in onFailure($0) }
    }

    /// How it was started: the program, and `store` behind it unless the program has a name of its own.
    private static var processName: String {
        let program = CommandLine.arguments.first ?? "vigie"
        return program.hasSuffix("redis-server") ? program : "\(program) store"
    }

    public func stop(_ manner: StopManner, completion: @escaping (Bool) -> Void) {
        if configuration.supervisor == .systemd { try? Systemd.notify(loop, "STOPPING=1\nSTATUS=Saving the final RDB snapshot\n") }
        let signal: Int32? = switch manner {
        case .prompt, .graceful: SIGTERM
        case .interrupt: SIGINT
        case .request: nil
        }
        node.stop(signal: signal, completion: completion)
    }

    public func hangUp() { logger.notice("SIGHUP: nothing to do; log files are opened for each line, CONFIG SET changes the configuration") }

    public func ready() { node.whenLoaded { [unowned self] in tellSupervisor() } }

    private func tellSupervisor() {
        switch configuration.supervisor {
        case .no:
            if configuration.supervision != "no", configuration.supervision != "auto" {
                logger.warning("\(configuration.supervision) supervision requested, but \(configuration.supervision == "systemd" ? "NOTIFY_SOCKET" : "UPSTART_JOB") not found!")
            }
        case .upstart:
            logger.notice("supervised by upstart, will stop to signal readiness.")
            raise(SIGSTOP)
            unsetenv("UPSTART_JOB")
        case .systemd:
            do throws(SystemError) {
                try configuration.isReplica
                    ? Systemd.notify(loop, "STATUS=Ready to accept connections in read-only mode. Waiting for MASTER <-> REPLICA sync\nREADY=1\n")
                    : Systemd.notifyReady(loop)
            } catch {
                logger.warning("systemd could not be told that the store is ready: \(error)")
            }
        }
    }
}
