import CLinux
import Glibc

/// A datagram socket of the kernel.
final class KernelDatagramSocket: DatagramSocket {
    private var fd: Int32
    private unowned(unsafe) var loop: EpollLoop?
    private static let datagramMax = 65_536
    private static let batch = 64

    init(loop: EpollLoop, descriptor: Int32, onReceive: @escaping (UnsafeRawBufferPointer, RawAddress) -> Void) {
        self.loop = loop
        fd = descriptor
        super.init(onReceive: onReceive)
    }

    override var descriptor: Int32 { fd }

    override func ready(_ events: Readiness) {
        guard let loop else { return }
        for _ in 0..<KernelDatagramSocket.batch {
            guard fd >= 0 else { return }
            var raw = RawAddress()
            let count = raw.withMutableSockaddr { recvfrom(fd, loop.receiveArea, KernelDatagramSocket.datagramMax, 0, $0, $1) }
            if count < 0 {
                // A pending error (ENOBUFS on netlink, ECONNREFUSED on UDP) is reported once and is not the end.
                if errno == EAGAIN { return }
                continue
            }
            onReceive(UnsafeRawBufferPointer(start: loop.receiveArea, count: count), raw)
        }
        loop.continueNextIteration(label: label) { [weak self] in self?.ready(.readable) }
    }

    override func abandon() {
        loop = nil
        close()
    }

    override func bind(_ address: RawAddress) throws(SystemError) {
        guard address.withSockaddr({ Glibc.bind(fd, $0, $1) }) == 0 else {
            throw SystemError("bind \(address.socketAddress.map { "\($0)" } ?? "datagram socket")")
        }
    }

    override func connect(_ address: RawAddress) throws(SystemError) {
        guard address.withSockaddr({ Glibc.connect(fd, $0, $1) }) == 0 else {
            throw SystemError("connect \(address.socketAddress.map { "\($0)" } ?? "datagram socket")")
        }
    }

    @discardableResult
    override func send(_ bytes: UnsafeRawBufferPointer, to address: RawAddress?) -> Int32 {
        let flags = Int32(MSG_NOSIGNAL | MSG_DONTWAIT)
        let result = if let address {
            address.withSockaddr { sendto(fd, bytes.baseAddress, bytes.count, flags, $0, $1) }
        } else {
            Glibc.send(fd, bytes.baseAddress, bytes.count, flags)
        }
        return result >= 0 ? 0 : errno
    }

    override func setOption<T>(_ level: Int32, _ name: Int32, _ value: T) throws(SystemError) {
        let result = withUnsafeBytes(of: value) { setsockopt(fd, level, name, $0.baseAddress, socklen_t($0.count)) }
        guard result == 0 else { throw SystemError("setsockopt(level \(level), option \(name))") }
    }

    override func close() {
        guard fd >= 0 else { return }
        loop?.unregister(self, descriptor: fd)
        Glibc.close(fd)
        fd = -1
    }
}
