import CLinux
import Glibc

/// Where a stream socket listens or connects to.
public enum SocketAddress: Hashable, Sendable, CustomStringConvertible {
    /// Address in host byte order (192.168.0.1 is 0xC0A80001) and port.
    case ipv4(UInt32, port: UInt16)
    /// The 16 bytes of the address in network order as two big-endian halves, the port, and the scope (interface index, 0 for none).
    case ipv6(high: UInt64, low: UInt64, port: UInt16, scope: UInt32)
    /// A path in the file system.
    case unix(String)

    /// Reads a numeric IPv4 or IPv6 address (`192.168.0.4`, `::1`, `fe80::1%eth0`); nil for anything else, host names included.
    public init?(numeric host: String, port: UInt16) {
        var v4 = in_addr()
        if inet_pton(AF_INET, host, &v4) == 1 {
            self = .ipv4(UInt32(bigEndian: v4.s_addr), port: port)
            return
        }
        var name = Substring(host)
        var scope: UInt32 = 0
        if let percent = host.firstIndex(of: "%") {
            name = host[..<percent]
            let zone = String(host[host.index(after: percent)...])
            scope = UInt32(zone) ?? if_nametoindex(zone)
            if scope == 0 { return nil }
        }
        var v6 = in6_addr()
        guard inet_pton(AF_INET6, String(name), &v6) == 1 else { return nil }
        let halves = withUnsafeBytes(of: &v6) {
            ($0.loadUnaligned(as: UInt64.self), $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        }
        self = .ipv6(high: UInt64(bigEndian: halves.0), low: UInt64(bigEndian: halves.1), port: port, scope: scope)
    }

    /// The address without its port, as people write it; the path of a Unix socket.
    public var host: String {
        switch self {
        case .ipv4(let a, _):
            return "\(a >> 24).\(a >> 16 & 255).\(a >> 8 & 255).\(a & 255)"
        case .ipv6(let high, let low, _, let scope):
            var address = in6_addr()
            withUnsafeMutableBytes(of: &address) {
                $0.storeBytes(of: high.bigEndian, as: UInt64.self)
                $0.storeBytes(of: low.bigEndian, toByteOffset: 8, as: UInt64.self)
            }
            let text = withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(INET6_ADDRSTRLEN)) { buffer in
                inet_ntop(AF_INET6, &address, buffer.baseAddress, socklen_t(buffer.count))
                return String(cString: buffer.baseAddress!)
            }
            return scope == 0 ? text : "\(text)%\(scope)"
        case .unix(let path):
            return path
        }
    }

    /// The port; 0 for a Unix socket.
    public var port: UInt16 {
        switch self {
        case .ipv4(_, let port): port
        case .ipv6(_, _, let port, _): port
        case .unix: 0
        }
    }

    /// `host:port`, `[host]:port` for IPv6 and `path:0` for Unix sockets, as Redis prints peers.
    public var description: String {
        switch self {
        case .ipv6: "[\(host)]:\(port)"
        default: "\(host):\(port)"
        }
    }

    /// The same host with another port.
    public func with(port: UInt16) -> SocketAddress {
        switch self {
        case .ipv4(let a, _): .ipv4(a, port: port)
        case .ipv6(let high, let low, _, let scope): .ipv6(high: high, low: low, port: port, scope: scope)
        case .unix: self
        }
    }

    /// 0.0.0.0 or ::, which stand for every address of the host.
    public var isWildcard: Bool {
        switch self {
        case .ipv4(let a, _): a == 0
        case .ipv6(let high, let low, _, _): high == 0 && low == 0
        case .unix: false
        }
    }

    /// 0.0.0.0 with a port.
    public static func anyIPv4(port: UInt16) -> SocketAddress { .ipv4(0, port: port) }
    /// 127.0.0.1 with a port.
    public static func loopback(port: UInt16) -> SocketAddress { .ipv4(0x7F00_0001, port: port) }
}

/// The kernel's form of any socket address (`sockaddr_storage` and its length): what datagram, packet and netlink sockets use.
public struct RawAddress {
    public var storage = sockaddr_storage()
    public var length = socklen_t(MemoryLayout<sockaddr_storage>.size)

    public init() {}

    /// Copies a concrete sockaddr (`sockaddr_in`, `sockaddr_ll`, `sockaddr_nl`, ...).
    public init<T>(_ address: T) {
        precondition(MemoryLayout<T>.size <= MemoryLayout<sockaddr_storage>.size)
        withUnsafeMutableBytes(of: &storage) { to in withUnsafeBytes(of: address) { to.copyMemory(from: $0) } }
        length = socklen_t(MemoryLayout<T>.size)
    }

    /// - Throws: `SystemError` (ENAMETOOLONG) when a Unix path has more than 107 bytes.
    public init(_ address: SocketAddress) throws(SystemError) {
        switch address {
        case .ipv4(let host, let port):
            var a = sockaddr_in()
            a.sin_family = sa_family_t(AF_INET)
            a.sin_port = port.bigEndian
            a.sin_addr.s_addr = host.bigEndian
            self.init(a)
        case .ipv6(let high, let low, let port, let scope):
            var a = sockaddr_in6()
            a.sin6_family = sa_family_t(AF_INET6)
            a.sin6_port = port.bigEndian
            a.sin6_scope_id = scope
            withUnsafeMutableBytes(of: &a.sin6_addr) {
                $0.storeBytes(of: high.bigEndian, as: UInt64.self)
                $0.storeBytes(of: low.bigEndian, toByteOffset: 8, as: UInt64.self)
            }
            self.init(a)
        case .unix(let path):
            var a = sockaddr_un()
            a.sun_family = sa_family_t(AF_UNIX)
            let bytes = Array(path.utf8)
            guard bytes.count < MemoryLayout.size(ofValue: a.sun_path) else {
                throw SystemError("unix socket path '\(path)' of \(bytes.count) bytes (at most 107)", code: ENAMETOOLONG)
            }
            withUnsafeMutableBytes(of: &a.sun_path) { $0.copyBytes(from: bytes) }
            self.init(a)
        }
    }

    /// The address as a stream address; nil for families that have none.
    public var socketAddress: SocketAddress? {
        switch Int32(storage.ss_family) {
        case AF_INET:
            let a = load(sockaddr_in.self)
            return .ipv4(UInt32(bigEndian: a.sin_addr.s_addr), port: UInt16(bigEndian: a.sin_port))
        case AF_INET6:
            var a = load(sockaddr_in6.self)
            let (high, low) = withUnsafeBytes(of: &a.sin6_addr) {
                ($0.loadUnaligned(as: UInt64.self), $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
            }
            return .ipv6(
                high: UInt64(bigEndian: high), low: UInt64(bigEndian: low), port: UInt16(bigEndian: a.sin6_port),
                scope: a.sin6_scope_id)
        case AF_UNIX:
            let start = MemoryLayout<sockaddr_un>.offset(of: \.sun_path)!
            let bytes = withUnsafeBytes(of: storage) { Array($0[start..<max(start, Int(length))].prefix { $0 != 0 }) }
            return .unix(String(decoding: bytes, as: UTF8.self))
        default:
            return nil
        }
    }

    /// Reads the storage as a concrete sockaddr.
    public func load<T>(_ type: T.Type) -> T { withUnsafeBytes(of: storage) { $0.load(as: type) } }

    func withSockaddr<R>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
        withUnsafePointer(to: storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
        }
    }

    mutating func withMutableSockaddr<R>(_ body: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> R) -> R {
        withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { p in
                withUnsafeMutablePointer(to: &length) { body(p, $0) }
            }
        }
    }
}
