import CLinux
import Configuration
import Glibc
import Observability
import Reactor

/// How HAProxy writes durations, sizes, addresses, users and facilities.
extension ProxyConfigurationReader {
    /// A number with `us`, `ms` (the default), `s`, `m`, `h` or `d` (configuration manual §2.5).
    func duration(_ text: String, for what: String, defaultUnit: Int64 = 1_000_000) throws(Rejection) -> Duration {
        try Self.duration(text, for: what, defaultUnit: defaultUnit)
    }

    static func duration(_ text: String, for what: String, defaultUnit: Int64 = 1_000_000) throws(Rejection) -> Duration {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        let unit = text.dropFirst(digits.count)
        guard let number = Int64(digits) else {
            throw Rejection("unexpected character '\(text.first.map(String.init) ?? "")' in '\(what)' (a duration is a number with us, ms, s, m, h or d; got '\(text)')")
        }
        let nanoseconds: Int64
        switch unit {
        case "": nanoseconds = defaultUnit
        case "us": nanoseconds = 1000
        case "ms": nanoseconds = 1_000_000
        case "s": nanoseconds = 1_000_000_000
        case "m": nanoseconds = 60_000_000_000
        case "h": nanoseconds = 3_600_000_000_000
        case "d": nanoseconds = 86_400_000_000_000
        default:
            throw Rejection("unexpected character '\(unit.first!)' in '\(what)' (a duration is a number with us, ms, s, m, h or d; got '\(text)')")
        }
        let (product, overflow) = number.multipliedReportingOverflow(by: nanoseconds)
        // HAProxy's own bound: 2^31 ms.
        guard !overflow, product <= 2_147_483_647_000_000 else {
            throw Rejection("timer overflow in argument '\(text)' to '\(what)' (maximum value is 2147483647 ms or ~24.8 days)")
        }
        return .nanoseconds(product)
    }

    func integer(_ text: String, for what: String, in range: ClosedRange<Int>) throws(Rejection) -> Int {
        guard let value = Int(text), range.contains(value) else {
            throw Rejection("'\(what)' expects an integer from \(range.lowerBound) to \(range.upperBound) (got '\(text)')")
        }
        return value
    }

    /// `addr:port`, `[v6]:port`, `v6:port`, `:port`, `*:port`, `/path`, `unix@path`, `ipv4@addr:port`, `ipv6@addr:port`; host names
    /// are looked up once, as HAProxy does at start.
    ///
    /// - Parameter defaultPort: taken where the text has none; nil makes that an error.
    func address(_ text: String, for what: String, defaultPort: UInt16?) throws(Rejection) -> SocketAddress {
        var rest = Substring(text)
        if rest.hasPrefix("unix@") || rest.hasPrefix("uxst@") { return .unix(String(rest.dropFirst(5))) }
        if rest.hasPrefix("/") { return .unix(text) }
        for family in ["abns@", "fd@", "sockpair@", "udp4@", "udp6@", "udp@", "quic4@", "quic6@"] where rest.hasPrefix(family) {
            throw Rejection("\(what) : address family '\(family)' in '\(text)' is not supported (an IPv4 or IPv6 address, a host name, or a path)")
        }
        for family in ["ipv4@", "ipv6@", "tcp4@", "tcp6@", "tcp@"] where rest.hasPrefix(family) { rest = rest.dropFirst(family.count) }
        var host = rest
        var portText: Substring?
        if rest.hasPrefix("["), let end = rest.firstIndex(of: "]") {
            host = rest[rest.index(after: rest.startIndex)..<end]
            let tail = rest[rest.index(after: end)...]
            guard tail.isEmpty || tail.hasPrefix(":") else { throw Rejection("\(what) : invalid address: '\(host)' in '\(text)'") }
            portText = tail.isEmpty ? nil : tail.dropFirst()
        } else if let colon = rest.lastIndex(of: ":") {
            host = rest[..<colon]
            portText = rest[rest.index(after: colon)...]
        }
        let port: UInt16
        if let portText, !portText.isEmpty {
            guard let value = UInt16(portText), value > 0 else { throw Rejection("\(what) : invalid port '\(portText)'") }
            port = value
        } else {
            guard let defaultPort else { throw Rejection("\(what) : missing port specification in '\(text)'") }
            port = defaultPort
        }
        if host.isEmpty || host == "*" { return .anyIPv4(port: port) }
        if let numeric = SocketAddress(numeric: String(host), port: port) { return numeric }
        guard let found = lookUp(String(host), port: port) else {
            throw Rejection("\(what) : invalid address: '\(host)' in '\(text)'")
        }
        return found
    }

    private func lookUp(_ host: String, port: UInt16) -> SocketAddress? {
        // Digits and dots only is a mistyped address, not a name.
        if host.allSatisfy({ $0.isNumber || $0 == "." }) { return nil }
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, nil, &hints, &list) == 0, let first = list else { return nil }
        defer { freeaddrinfo(list) }
        let info = first.pointee
        if info.ai_family == AF_INET {
            return info.ai_addr.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
                .ipv4(UInt32(bigEndian: $0.pointee.sin_addr.s_addr), port: port)
            }
        }
        guard info.ai_family == AF_INET6 else { return nil }
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        info.ai_addr.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) {
            _ = inet_ntop(AF_INET6, &$0.pointee.sin6_addr, &text, socklen_t(INET6_ADDRSTRLEN))
        }
        return SocketAddress(numeric: String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self), port: port)
    }

    func userID(_ name: String) throws(Rejection) -> UInt32 {
        guard let entry = getpwnam(name) else { throw Rejection("cannot find user id for '\(name)'") }
        return entry.pointee.pw_uid
    }

    func groupID(_ name: String) throws(Rejection) -> UInt32 {
        guard let entry = getgrnam(name) else { throw Rejection("cannot find group id for '\(name)'") }
        return entry.pointee.gr_gid
    }

    /// An octal file mode.
    func fileMode(_ text: String, for what: String) throws(Rejection) -> UInt32 {
        guard let mode = UInt32(text, radix: 8), mode <= 0o7777 else {
            throw Rejection("\(what) : 'mode' expects an octal file mode (got '\(text)')")
        }
        return mode
    }

    /// The arguments of `log`, behind the keyword.
    func logTarget(_ arguments: [String]) throws(Rejection) -> ProxyConfiguration.LogTarget {
        var words = arguments[...]
        guard words.count >= 2 else { throw Rejection("log : expects <address> and <facility> or global as arguments") }
        let target = try syslogTarget(words.removeFirst())
        var lengthMax = 1024
        options: while let word = words.first {
            let value = words.dropFirst().first
            switch word {
            case "len":
                guard let value else { throw Rejection("log : 'len' expects a size") }
                lengthMax = try integer(value, for: "log len", in: 80...65_535)
            case "format":
                guard value == "local" else {
                    throw Rejection("log : log format '\(value ?? "")' is not supported (supported: local, which is the default)")
                }
            case "sample": throw Rejection("log : 'sample' is not supported; every line is sent")
            default: break options
            }
            words = words.dropFirst(2)
        }
        guard let facility = words.popFirst() else { throw Rejection("log : expects <address> and <facility> or global as arguments") }
        guard let known = SyslogFacility(name: facility) else {
            throw Rejection("log : unknown log facility '\(facility)' (known: \(SyslogFacility.allCases.map(\.name).joined(separator: ", ")))")
        }
        var result = ProxyConfiguration.LogTarget(target: target, facility: known)
        result.lengthMax = lengthMax
        if let level = words.popFirst() { result.level = try logLevel(level) }
        if let level = words.popFirst() { result.minimumLevel = try logLevel(level) }
        if let extra = words.first { throw Rejection("log : cannot handle unexpected argument '\(extra)'.") }
        return result
    }

    private func syslogTarget(_ text: String) throws(Rejection) -> Syslog.Target {
        if ["stdout", "stderr"].contains(text) || text.hasPrefix("ring@") || text.hasPrefix("fd@") {
            throw Rejection("log : target '\(text)' is not supported (a path such as /dev/log, or an address with an optional port)")
        }
        switch try address(text.hasPrefix("udp@") ? String(text.dropFirst(4)) : text, for: "log", defaultPort: 514) {
        case .unix(let path): return .unix(path)
        case let address: return .udp(address)
        }
    }

    private func logLevel(_ text: String) throws(Rejection) -> SyslogSeverity {
        guard let level = SyslogSeverity(name: text) else {
            throw Rejection("log : unknown optional log level '\(text)' (known: \(SyslogSeverity.allCases.map(\.name).joined(separator: ", ")))")
        }
        return level
    }
}
