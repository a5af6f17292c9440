import Logging
import Reactor

/// Tells the world about changes of state: programs and mail.
final class Notifier {
    /// Who has changed: the words that Keepalived uses for it.
    enum Subject: String {
        case instance = "Instance"
        case group = "Group"
    }

    private let starter: ProgramStarter
    private let mailer: Mailer?
    private let configuration: VRRPConfiguration
    private let logger: Logger

    init(loop: Loop, configuration: VRRPConfiguration, logger: Logger) {
        starter = ProgramStarter(loop: loop)
        mailer = Mailer(loop: loop, settings: configuration.mail, logger: logger)
        self.configuration = configuration
        self.logger = logger
    }

    /// - Parameter priority: the effective one; 0 for a group.
    func entered(_ state: VirtualRouter.State, _ subject: Subject, _ name: String, priority: UInt8, scripts: NotifyScripts, smtpAlert: Bool?) {
        let own: ScriptCommand? = switch state {
        case .master: scripts.master
        case .backup: scripts.backup
        case .fault: scripts.fault
        case .initialize: scripts.stop
        }
        let word = state == .initialize ? "STOP" : state.rawValue
        if let own { run(own, []) }
        // The four words behind the configured ones: keepalived.conf(5), "notify".
        if let any = scripts.any { run(any, ["\(subject)".uppercased(), name, word, "\(priority)"]) }
        if state != .initialize, smtpAlert ?? configuration.mail.isDefault { mail(state, subject, name) }
    }

    private func run(_ command: ScriptCommand, _ extra: [String]) {
        _ = starter.start(command, extra: extra, timeout: nil) { [logger] outcome in
            if case .notRun(let reason) = outcome { logger.warning("notify script: \(reason)") }
        }
    }

    private func mail(_ state: VirtualRouter.State, _ subject: Subject, _ name: String) {
        if state == .fault, !configuration.mail.includesFaults { return }
        let body = switch subject {
        case .instance: state == .master ? "=> VRRP Instance is now owning VRRP VIPs <=" : "=> VRRP Instance is no longer owning VRRP VIPs <="
        case .group: "=> All VRRP group instances are now in \(state.rawValue) state <="
        }
        mailer?.send(subject: "[\(configuration.routerID)] VRRP \(subject.rawValue) \(name) - Entering \(state.rawValue) state", body: body)
    }

    func close() { mailer?.close() }
}
