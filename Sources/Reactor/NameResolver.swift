import CLinux
import Glibc
import Synchronization

/// Host names to addresses, on a helper thread (getaddrinfo(3) blocks).
public enum NameResolver {
    /// Looks a name up and answers in the loop: the first address, nil when there is none.
    public static func resolve(_ host: String, port: UInt16, on loop: Loop, completion: @escaping (SocketAddress?) -> Void) {
        if let numeric = SocketAddress(numeric: host, port: port) {
            loop.deferWork(label: "name resolution") { completion(numeric) }
            return
        }
        let found = Answer()
        loop.runInBackground {
            let address = lookUp(host, port: port)
            found.address.withLock { $0 = address }
        } completion: {
            completion(found.address.withLock { $0 })
        }
    }

    /// Carries the answer from the helper thread to the loop.
    private final class Answer: Sendable {
        let address = Mutex<SocketAddress?>(nil)
    }

    /// Blocks.
    private static func lookUp(_ host: String, port: UInt16) -> SocketAddress? {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, nil, &hints, &list) == 0, let first = list else { return nil }
        defer { freeaddrinfo(list) }
        var raw = RawAddress()
        withUnsafeMutableBytes(of: &raw.storage) {
            $0.copyMemory(from: UnsafeRawBufferPointer(start: first.pointee.ai_addr, count: Int(first.pointee.ai_addrlen)))
        }
        raw.length = first.pointee.ai_addrlen
        return raw.socketAddress?.with(port: port)
    }
}
