import Glibc
import Logging
import Observability
import Reactor

/// The proxy's log lines: to the syslog servers that the file names, each with its facility and limits, and what the
/// operator at the terminal should see to the program's own log.
final class ProxyLog {
    /// What one `Syslog` is for.
    private struct Key: Hashable {
        let target: String
        let tag: String
        let lengthMax: Int
    }

    private let loop: Loop
    private let tag: String
    private let console: Logger
    private var senders: [Key: Syslog] = [:]
    /// Lines for which no socket could be had.
    private var unsent: UInt64 = 0

    init(loop: Loop, global: ProxyConfiguration.Global, console: Logger) {
        self.loop = loop
        self.console = console
        tag = global.logTag
        // Reads the time zone's file now: after chroot(2) it is out of reach.
        tzset()
    }

    /// `DroppedLogs` of `show info`.
    var dropped: UInt64 { senders.values.reduce(unsent) { $0 + $1.messagesDropped } }

    /// A line about a session (`info`) or the proxy itself, to `targets`.
    func send(_ severity: SyslogSeverity, _ message: String, to targets: [ProxyConfiguration.LogTarget], tag: String? = nil) {
        for target in targets where severity <= target.level {
            guard let sender = sender(for: target, tag: tag ?? self.tag) else {
                unsent += 1
                continue
            }
            sender.send(max(severity, target.minimumLevel), target.facility, message)
        }
    }

    /// A line that HAProxy would also print at the terminal (`[WARNING]`, `[NOTICE]`).
    func announce(_ level: Logger.Level, _ message: String) { console.log(level: level, "\(message)") }

    private func sender(for target: ProxyConfiguration.LogTarget, tag: String) -> Syslog? {
        let key = Key(target: "\(target.target)", tag: tag, lengthMax: target.lengthMax)
        if let known = senders[key] { return known }
        guard let made = try? Syslog(loop: loop, target: target.target, tag: tag) else { return nil }
        made.lengthMax = target.lengthMax
        senders[key] = made
        return made
    }
}
