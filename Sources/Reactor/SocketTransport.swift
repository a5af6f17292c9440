import CLinux
import Glibc

/// A plain stream socket.
final class SocketTransport: Transport {
    private(set) var descriptor: Int32

    init(descriptor: Int32) { self.descriptor = descriptor }

    func receive(into destination: UnsafeMutableRawPointer, count: Int) -> Int {
        let result = recv(descriptor, destination, count, 0)
        return result >= 0 ? result : -Int(errno)
    }

    func send(_ vectors: UnsafeMutablePointer<iovec>, count: Int) -> Int {
        let result: Int
        if count == 1 {
            result = Glibc.send(descriptor, vectors[0].iov_base, vectors[0].iov_len, Int32(MSG_NOSIGNAL))
        } else {
            var message = msghdr()
            message.msg_iov = vectors
            message.msg_iovlen = count
            result = sendmsg(descriptor, &message, Int32(MSG_NOSIGNAL))
        }
        return result >= 0 ? result : -Int(errno)
    }

    func connectResult() -> Int32 {
        var problem: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        return getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &problem, &length) == 0 ? problem : errno
    }

    func shutdownSending() { shutdown(descriptor, Int32(SHUT_WR)) }

    func close(reset: Bool) {
        guard descriptor >= 0 else { return }
        if reset {
            var value = linger(l_onoff: 1, l_linger: 0)
            setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &value, socklen_t(MemoryLayout<linger>.size))
        }
        Glibc.close(descriptor)
        descriptor = -1
    }

    func setNoDelay(_ on: Bool) { setOption(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, on ? 1 : 0) }

    var isRepeating: Bool {
        // The head of struct tcp_info (linux/tcp.h): state, ca_state, retransmits, probes, ...; the kernel gives as much as is asked for.
        var head: (state: UInt8, congestion: UInt8, retransmits: UInt8, probes: UInt8) = (0, 0, 0, 0)
        var length = socklen_t(MemoryLayout.size(ofValue: head))
        return getsockopt(descriptor, Int32(IPPROTO_TCP), TCP_INFO, &head, &length) == 0 && head.retransmits > 0
    }

    func setKeepAlive(idleSeconds: Int) {
        setOption(descriptor, SOL_SOCKET, SO_KEEPALIVE, idleSeconds > 0 ? 1 : 0)
        guard idleSeconds > 0 else { return }
        let tcp = Int32(IPPROTO_TCP)
        setOption(descriptor, tcp, TCP_KEEPIDLE, Int32(clamping: idleSeconds))
        setOption(descriptor, tcp, TCP_KEEPINTVL, Int32(clamping: max(1, idleSeconds / 3)))
        setOption(descriptor, tcp, TCP_KEEPCNT, 3)
    }
}
