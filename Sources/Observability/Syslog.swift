import CLinux
import Glibc
import Logging
import Reactor

/// How grave a syslog message is (RFC 3164 §4.1.1).
public enum SyslogSeverity: UInt8, Sendable, CaseIterable, Comparable {
    case emergency, alert, critical, error, warning, notice, info, debug

    /// Reads the word that HAProxy, Keepalived and syslog.conf use (`emerg`, `alert`, `crit`, `err`, `warning`, `notice`,
    /// `info`, `debug`); nil for any other.
    public init?(name: String) {
        guard let found = SyslogSeverity.allCases.first(where: { $0.name == name }) else { return nil }
        self = found
    }

    public var name: String {
        switch self {
        case .emergency: "emerg"
        case .alert: "alert"
        case .critical: "crit"
        case .error: "err"
        case .warning: "warning"
        case .notice: "notice"
        case .info: "info"
        case .debug: "debug"
        }
    }

    public init(_ level: Logger.Level) {
        switch level {
        case .trace, .debug: self = .debug
        case .info: self = .info
        case .notice: self = .notice
        case .warning: self = .warning
        case .error: self = .error
        case .critical: self = .critical
        }
    }

    /// Graver is smaller, as in the protocol.
    public static func < (a: SyslogSeverity, b: SyslogSeverity) -> Bool { a.rawValue < b.rawValue }
}

/// Which part of a system a syslog message is from (RFC 3164 §4.1.1). The raw value is the protocol's number.
public enum SyslogFacility: UInt8, Sendable, CaseIterable {
    case kern, user, mail, daemon, auth, syslog, lpr, news, uucp, cron, auth2, ftp, ntp, audit, alert, cron2
    case local0, local1, local2, local3, local4, local5, local6, local7

    /// Reads the word that HAProxy and syslog.conf use; nil for any other.
    public init?(name: String) {
        guard let found = SyslogFacility.allCases.first(where: { $0.name == name }) else { return nil }
        self = found
    }

    public var name: String { "\(self)" }
}

/// Sends syslog messages as HAProxy and Keepalived do: one datagram each, no waiting, what finds no room is dropped and
/// counted.
///
///     <PRI>Mon dd hh:mm:ss tag[pid]: message          PRI = facility * 8 + severity, dd padded by a space
///
/// Each datagram carries its address, so that a syslog server that is restarted is reached again without doing anything.
/// Serves any number of facilities; `handler` makes a swift-log front with one of them.
public final class Syslog {
    /// Where the messages go.
    public enum Target: Sendable, Equatable {
        /// A Unix datagram socket, `/dev/log` mostly.
        case unix(String)
        /// A server's UDP address.
        case udp(SocketAddress)

        /// Reads what HAProxy's `log` takes: a path, `host`, `host:port` or `[v6]:port`, numeric; the port is 514 if missing.
        public init?(_ text: String) {
            if text.hasPrefix("/") {
                self = .unix(text)
                return
            }
            var host = Substring(text)
            var port: UInt16 = 514
            if text.hasPrefix("["), let end = text.firstIndex(of: "]") {
                host = text[text.index(after: text.startIndex)..<end]
                let rest = text[text.index(after: end)...]
                if rest.hasPrefix(":") {
                    guard let number = UInt16(rest.dropFirst()) else { return nil }
                    port = number
                } else if !rest.isEmpty {
                    return nil
                }
            } else if let colon = text.lastIndex(of: ":"), text.firstIndex(of: ":") == colon {
                host = text[..<colon]
                guard let number = UInt16(text[text.index(after: colon)...]) else { return nil }
                port = number
            }
            guard let address = SocketAddress(numeric: String(host), port: port) else { return nil }
            self = .udp(address)
        }
    }

    public let target: Target
    /// The program's name in each message.
    public let tag: String
    /// Longest datagram, as HAProxy's default (`len 1024`); the rest of a longer message is cut off.
    public var lengthMax = 1024
    /// Messages for which there was no room or no server.
    public private(set) var messagesDropped: UInt64 = 0
    public private(set) var messagesSent: UInt64 = 0

    private let loop: Loop
    private let socket: DatagramSocket
    private let address: RawAddress
    private let pid: Int32
    private var line: [UInt8] = []
    private var stampSecond: Int64 = -1
    private var stamp: [UInt8] = []

    /// - Throws: `SystemError` when no socket can be had or the path is too long. A server that is not there is no error:
    ///   messages to it are counted as dropped.
    public init(loop: Loop, target: Target, tag: String, pid: Int32 = getpid()) throws(SystemError) {
        self.loop = loop
        self.target = target
        self.tag = tag
        self.pid = pid
        switch target {
        case .unix(let path):
            address = try RawAddress(.unix(path))
            socket = try loop.openDatagram(domain: AF_UNIX, type: Int32(SOCK_DGRAM.rawValue), protocol: 0) { _, _ in }
        case .udp(let server):
            address = try RawAddress(server)
            let family = Int32(address.storage.ss_family)
            socket = try loop.openDatagram(domain: family, type: Int32(SOCK_DGRAM.rawValue), protocol: 0) { _, _ in }
        }
    }

    public func close() { socket.close() }

    /// Sends one message now.
    public func send(_ severity: SyslogSeverity, _ facility: SyslogFacility, _ message: String) {
        begin(severity, facility)
        line.append(message)
        finish()
    }

    /// Sends one message that is bytes already, as the traffic log builds them.
    public func send(_ severity: SyslogSeverity, _ facility: SyslogFacility, _ message: UnsafeRawBufferPointer) {
        begin(severity, facility)
        line.append(contentsOf: message)
        finish()
    }

    func send(_ facility: SyslogFacility, _ event: LogEvent, metadata: Logger.Metadata?) {
        begin(SyslogSeverity(event.level), facility)
        line.append(message: event.message, metadata: metadata)
        finish()
    }

    /// A logger that sends with one facility; what is less grave than `least` is not sent.
    public func logger(facility: SyslogFacility, least: SyslogSeverity = .debug) -> Logger {
        Logger(label: tag) { _ in SyslogHandler(syslog: self, facility: facility, least: least) }
    }

    private func begin(_ severity: SyslogSeverity, _ facility: SyslogFacility) {
        line.removeAll(keepingCapacity: true)
        line.append(UInt8(ascii: "<"))
        line.append(decimal: Int(facility.rawValue) * 8 + Int(severity.rawValue))
        line.append(UInt8(ascii: ">"))
        let second = loop.wallMilliseconds / 1000
        if second != stampSecond { makeStamp(second) }
        line.append(contentsOf: stamp)
    }

    /// Everything between the priority and the message is the same for a whole second.
    private func makeStamp(_ second: Int64) {
        stampSecond = second
        let time = LocalTime(wallMilliseconds: second * 1000)
        stamp.removeAll(keepingCapacity: true)
        stamp.append(LocalTime.month(time.fields.tm_mon))
        stamp.append(UInt8(ascii: " "))
        stamp.append(decimal: Int(time.fields.tm_mday), width: 2, pad: UInt8(ascii: " "))
        stamp.append(UInt8(ascii: " "))
        time.appendTime(to: &stamp)
        stamp.append(UInt8(ascii: " "))
        stamp.append(tag)
        stamp.append(UInt8(ascii: "["))
        stamp.append(decimal: Int(pid))
        stamp.append("]: " as StaticString)
    }

    private func finish() {
        if line.count > lengthMax { line.removeLast(line.count - lengthMax) }
        let failure = line.withUnsafeBytes { socket.send($0, to: address) }
        if failure == 0 { messagesSent += 1 } else { messagesDropped += 1 }
    }
}

/// swift-log's way into a `Syslog`.
///
/// Unchecked because `LogHandler` demands Sendable and the socket belongs to the loop: only code on the loop's thread holds
/// such a logger. What runs in helper threads is handed none.
public struct SyslogHandler: LogHandler, @unchecked Sendable {
    let syslog: Syslog
    let facility: SyslogFacility
    public var metadata: Logger.Metadata = [:]
    public var logLevel: Logger.Level

    public init(syslog: Syslog, facility: SyslogFacility, least: SyslogSeverity) {
        self.syslog = syslog
        self.facility = facility
        logLevel =
            switch least {
            case .emergency, .alert, .critical: .critical
            case .error: .error
            case .warning: .warning
            case .notice: .notice
            case .info: .info
            case .debug: .trace
            }
    }

    public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    public func log(event: LogEvent) { syslog.send(facility, event, metadata: merged(metadata, event.metadata)) }
}
