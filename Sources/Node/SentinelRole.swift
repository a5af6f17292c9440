import Glibc
import Logging
import Observability
import Reactor
import Sentinel

/// Sentinel with its log, as a role of a node.
final class SentinelRole: Role {
    let name = "sentinel"
    private let loop: Loop
    private let node: SentinelNode
    private let logger: Logger

    /// - Throws: `SystemError` when the log or the configuration file cannot be written.
    init(loop: Loop, configuration: SentinelConfiguration) throws(SystemError) {
        self.loop = loop
        let log = RedisLog(path: configuration.logFile, role: .sentinel, verbosity: .init(name: configuration.logLevel) ?? .notice)
        let problem = log.check()
        guard problem == 0 else { throw SystemError("Can't open the log file '\(log.path)'", code: problem) }
        if configuration.syslogEnabled {
            let syslog = try Syslog(loop: loop, target: .unix("/dev/log"), tag: configuration.syslogIdent)
            let facility = SyslogFacility(name: configuration.syslogFacility) ?? .local0
            logger = Logger(label: "sentinel") { _ in
                MultiplexLogHandler([RedisLogHandler(log: log), SyslogHandler(syslog: syslog, facility: facility, least: .debug)])
            }
        } else {
            logger = log.logger()
        }
        node = try SentinelNode(loop: loop, configuration: configuration, logger: logger)
    }

    /// What SHUTDOWN ends.
    var onShutdown: (() -> Void)? {
        get { node.onShutdown }
        set { node.onShutdown = newValue }
    }

    func start() throws(SystemError) { try node.start() }

    func stop(completion: @escaping (Bool) -> Void) {
        node.stop()
        completion(true)
    }

    func hangUp() { logger.notice("SIGHUP: nothing to do; log files are opened for each line, SENTINEL SET changes the configuration") }

    func ready() {
        do throws(SystemError) {
            try Systemd.notifyReady("Ready to accept connections", on: loop)
        } catch {
            logger.warning("\(error)")
        }
    }
}
