import Glibc

/// Who supervises the process and wants to be told when it serves (`supervised`).
public enum Supervision: String, Sendable {
    case no, upstart, systemd

    /// What the directive means here: `auto` looks at the environment.
    static func resolve(_ word: String) -> Supervision {
        switch word {
        case "upstart": getenv("UPSTART_JOB") != nil ? .upstart : .no
        case "systemd": getenv("NOTIFY_SOCKET") != nil ? .systemd : .no
        case "auto": getenv("UPSTART_JOB") != nil ? .upstart : getenv("NOTIFY_SOCKET") != nil ? .systemd : .no
        default: .no
        }
    }
}

/// What SIGINT or SIGTERM does (`shutdown-on-sigint`, `shutdown-on-sigterm`): SHUTDOWN's words; nothing for the usual.
struct SignalShutdown: OptionSet, Sendable {
    let rawValue: UInt8
    static let save = SignalShutdown(rawValue: 1 << 0)
    static let noSave = SignalShutdown(rawValue: 1 << 1)
    static let now = SignalShutdown(rawValue: 1 << 2)
    static let force = SignalShutdown(rawValue: 1 << 3)
    static let names: [(SignalShutdown, String)] = [(.save, "save"), (.noSave, "nosave"), (.now, "now"), (.force, "force")]

    var text: String { isEmpty ? "default" : SignalShutdown.names.filter { contains($0.0) }.map(\.1).joined(separator: " ") }
}
