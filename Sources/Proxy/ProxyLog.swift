import CLinux
import Glibc
import Logging
import Reactor

/// The proxy's log lines: to the syslog sockets that the file names, each with its facility and limits, and what the
/// operator at the terminal should see to the program's own log.
final class ProxyLog {
    private let loop: Loop
    private let tag: String
    private let hostName: String
    private let console: Logger
    private var sockets: [SocketAddress: DatagramSocket] = [:]
    private var cachedSecond: Int64 = -1
    private var cachedStamp = ""
    /// Lines that no syslog socket took (`DroppedLogs` of `show info`).
    private(set) var dropped = 0

    init(loop: Loop, global: ProxyConfiguration.Global, console: Logger) {
        self.loop = loop
        self.console = console
        tag = global.logTag
        var name = [CChar](repeating: 0, count: 256)
        gethostname(&name, name.count - 1)
        hostName = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        // Reads the time zone's file now: after chroot(2) it is out of reach.
        tzset()
    }

    /// Opens a socket for each target; connecting to Unix sockets happens now, before a chroot puts them out of reach.
    func open(_ targets: [ProxyConfiguration.LogTarget]) {
        for target in targets where sockets[target.address] == nil {
            do throws(SystemError) {
                let raw = try RawAddress(target.address)
                let socket = try loop.openDatagram(
                    domain: Int32(raw.storage.ss_family), type: Int32(SOCK_DGRAM.rawValue), protocol: 0, onReceive: { _, _ in })
                sockets[target.address] = socket
                try socket.connect(raw)
            } catch {
                console.warning("log \(target.address.host): \(error.reason); sent to once it is there")
            }
        }
    }

    /// A line about a session (`level` info) or the proxy itself, to `targets`.
    func send(_ level: SyslogLevel, _ message: String, to targets: [ProxyConfiguration.LogTarget], tag: String? = nil) {
        for target in targets where level <= target.level {
            let severity = max(level, target.minimumLevel)
            var line = header(target, severity, tag ?? self.tag)
            line += message
            var bytes = Array(line.utf8.prefix(target.lengthMax - 1))
            bytes.append(UInt8(ascii: "\n"))
            if !deliver(bytes, to: target.address) { dropped += 1 }
        }
    }

    /// A line that HAProxy would also print at the terminal (`[WARNING]`, `[NOTICE]`).
    func announce(_ level: Logger.Level, _ message: String) { console.log(level: level, "\(message)") }

    private func deliver(_ bytes: [UInt8], to address: SocketAddress) -> Bool {
        guard let socket = sockets[address] else { return false }
        return bytes.withUnsafeBytes { bytes in
            let failure = socket.send(bytes)
            if failure == 0 { return true }
            // The daemon behind a Unix socket was restarted, or was not there at start.
            guard failure == ECONNREFUSED || failure == ENOTCONN || failure == EDESTADDRREQ || failure == ECONNRESET,
                let raw = try? RawAddress(address), (try? socket.connect(raw)) != nil
            else { return false }
            return socket.send(bytes) == 0
        }
    }

    private func header(_ target: ProxyConfiguration.LogTarget, _ level: SyslogLevel, _ tag: String) -> String {
        let priority = "<\(target.facility << 3 | level.rawValue)>"
        var isUnix = false
        if case .unix = target.address { isUnix = true }
        switch target.format ?? (isUnix ? .local : .rfc3164) {
        case .local: return "\(priority)\(stamp()) \(tag)[\(getpid())]: "
        case .rfc3164: return "\(priority)\(stamp()) \(hostName) \(tag)[\(getpid())]: "
        case .rfc5424:
            return "\(priority)1 \(DateText.rfc3339(microseconds: loop.clock.pointee.wallMicroseconds)) \(hostName) \(tag) \(getpid()) - - "
        case .short: return "<\(level.rawValue)>"
        case .priority: return priority
        case .raw: return ""
        }
    }

    /// `Nov 22 15:35:41`, made once a second.
    private func stamp() -> String {
        let second = loop.wallMilliseconds / 1000
        if second != cachedSecond {
            cachedSecond = second
            cachedStamp = DateText.rfc3164(seconds: second)
        }
        return cachedStamp
    }
}

/// Dates in local time, as HAProxy writes them.
enum DateText {
    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

    private static func local(_ seconds: Int64) -> tm {
        var time = time_t(seconds)
        var parts = tm()
        localtime_r(&time, &parts)
        return parts
    }

    static func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
    static func three(_ value: Int64) -> String { value < 10 ? "00\(value)" : value < 100 ? "0\(value)" : "\(value)" }

    /// `Nov 22 15:35:41` (RFC 3164 §4.1.2: a day below 10 is padded with a blank).
    static func rfc3164(seconds: Int64) -> String {
        let t = local(seconds)
        return "\(months[Int(t.tm_mon)]) \(t.tm_mday < 10 ? " " : "")\(t.tm_mday) \(two(t.tm_hour)):\(two(t.tm_min)):\(two(t.tm_sec))"
    }

    /// `22/Nov/2026:15:36:46.823`.
    static func accept(milliseconds: Int64) -> String {
        let t = local(milliseconds / 1000)
        return "\(two(t.tm_mday))/\(months[Int(t.tm_mon)])/\(t.tm_year + 1900):\(two(t.tm_hour)):\(two(t.tm_min)):\(two(t.tm_sec)).\(three(milliseconds % 1000))"
    }

    /// `2026-11-22T15:36:46.823456+01:00`.
    static func rfc3339(microseconds: Int64) -> String {
        let t = local(microseconds / 1_000_000)
        let offset = t.tm_gmtoff / 60
        let sign = offset < 0 ? "-" : "+"
        let fraction = String(1_000_000 + microseconds % 1_000_000).dropFirst()
        return "\(t.tm_year + 1900)-\(two(t.tm_mon + 1))-\(two(t.tm_mday))T\(two(t.tm_hour)):\(two(t.tm_min)):\(two(t.tm_sec)).\(fraction)"
            + "\(sign)\(two(Int32(abs(offset) / 60))):\(two(Int32(abs(offset) % 60)))"
    }
}
