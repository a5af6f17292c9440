import CLinux
import Glibc

func setOption(_ descriptor: Int32, _ level: Int32, _ name: Int32, _ value: Int32) {
    var value = value
    setsockopt(descriptor, level, name, &value, socklen_t(MemoryLayout<Int32>.size))
}

/// A listening socket of the kernel.
final class SocketListener: Listener {
    /// Connections accepted before the others have their turn.
    static let batch = 256
    private(set) var descriptor: Int32
    var isRetryScheduled = false
    /// Which file a Unix listener made: a successor may have put its own in the same place.
    var file: FileIdentity?
    var sendBufferSize: Int32?
    /// Nil once the loop goes away. Not weak: a weak reference would make every retain of the loop slow.
    private unowned(unsafe) var loop: EpollLoop?

    init(loop: EpollLoop, descriptor: Int32, address: SocketAddress, handler: any ListenerHandler) {
        self.loop = loop
        self.descriptor = descriptor
        super.init(address: address, handler: handler)
    }

    override func ready(_ events: Readiness) { loop?.accept(from: self) }

    override func abandon() {
        loop = nil
        close()
    }

    override func close() {
        guard descriptor >= 0 else { return }
        loop?.unregister(self, descriptor: descriptor)
        Glibc.close(descriptor)
        descriptor = -1
        if case .unix(let path) = address, let file, SocketListener.identity(of: path) == file { unlink(path) }
    }

    struct FileIdentity: Equatable {
        let device: dev_t
        let inode: ino_t
    }

    static func identity(of path: String) -> FileIdentity? {
        var information = stat()
        guard lstat(path, &information) == 0 else { return nil }
        return FileIdentity(device: information.st_dev, inode: information.st_ino)
    }
}
