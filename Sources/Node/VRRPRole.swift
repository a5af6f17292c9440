import Glibc
import Logging
import Observability
import Reactor
import VRRP

/// Where Keepalived's messages go.
struct VRRPLogging: Equatable {
    var console = true
    var isSyslogUsed = true
    var facility = SyslogFacility.daemon

    func logger(on loop: Loop) throws(SystemError) -> Logger {
        var handlers: [any LogHandler] = []
        if console { handlers.append(StandardErrorHandler(logLevel: .info)) }
        if isSyslogUsed {
            let syslog = try Syslog(loop: loop, target: .unix("/dev/log"), tag: "Keepalived_vrrp")
            handlers.append(SyslogHandler(syslog: syslog, facility: facility, least: .info))
        }
        let all = handlers
        return Logger(label: "vrrp") { _ in all.count == 1 ? all[0] : MultiplexLogHandler(all) }
    }
}

/// VRRP as a role of a node.
final class VRRPRole: Role {
    let name = "vrrp"
    private let loop: Loop
    private let node: VRRPNode
    private let logger: Logger
    private let warnings: [String]

    /// - Throws: `SystemError` when no socket for syslog can be had.
    init(loop: Loop, configuration: VRRPConfiguration, logging: VRRPLogging) throws(SystemError) {
        self.loop = loop
        logger = try logging.logger(on: loop)
        warnings = configuration.warnings.map(\.description)
        node = VRRPNode(loop: loop, configuration: configuration, logger: logger)
    }

    func start() throws(SystemError) {
        for warning in warnings { logger.warning("\(warning)") }
        try node.start()
    }

    func stop(completion: @escaping (Bool) -> Void) { node.stop { completion(true) } }

    func hangUp() { logger.warning("SIGHUP: reloading is not supported; restart to read the configuration again") }

    func ready() {
        do throws(SystemError) {
            try Systemd.notifyReady("Ready.", on: loop)
        } catch {
            logger.warning("\(error)")
        }
    }
}
