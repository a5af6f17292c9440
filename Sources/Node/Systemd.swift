import CLinux
import Glibc
import Reactor

/// Telling systemd that the service is up: sd_notify(3)'s datagram.
enum Systemd {
    static var isPresent: Bool { getenv("NOTIFY_SOCKET") != nil }

    /// - Throws: `SystemError` when the datagram cannot be sent; ENOENT without systemd.
    static func notifyReady(_ loop: Loop) throws(SystemError) {
        try notify(loop, "STATUS=Ready to accept connections\nREADY=1\n")
    }

    /// - Parameter state: lines of sd_notify(3).
    static func notify(_ loop: Loop, _ state: String) throws(SystemError) {
        guard let path = getenv("NOTIFY_SOCKET").map({ String(cString: $0) }) else {
            throw SystemError("NOTIFY_SOCKET not found", code: ENOENT)
        }
        let socket = try loop.openDatagram(domain: AF_UNIX, type: Int32(SOCK_DGRAM.rawValue), protocol: 0) { _, _ in }
        defer { socket.close() }
        var address = try RawAddress(SocketAddress.unix(path))
        if path.hasPrefix("@") { address.makeAbstract(length: path.utf8.count) }
        let problem = Array(state.utf8).withUnsafeBytes { socket.send($0, to: address) }
        if problem != 0 { throw SystemError("send to NOTIFY_SOCKET '\(path)'", code: problem) }
    }
}

extension RawAddress {
    /// Turns the Unix path `@name` into a name of the abstract namespace (unix(7)): a zero byte for the `@`, no end mark.
    fileprivate mutating func makeAbstract(length count: Int) {
        let start = MemoryLayout<sockaddr_un>.offset(of: \.sun_path)!
        withUnsafeMutableBytes(of: &storage) { $0[start] = 0 }
        length = socklen_t(start + count)
    }
}
