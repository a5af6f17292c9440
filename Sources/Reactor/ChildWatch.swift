import CLinux
import Glibc

/// One child process, by pidfd_open(2).
final class ChildWatch: EventSource {
    private unowned(unsafe) var loop: EpollLoop?
    private let descriptor: Int32
    private let pid: Int32
    private let onExit: (ChildStatus) -> Void

    init(loop: EpollLoop, descriptor: Int32, pid: Int32, onExit: @escaping (ChildStatus) -> Void) {
        self.loop = loop
        self.descriptor = descriptor
        self.pid = pid
        self.onExit = onExit
    }

    override var label: StaticString { "child" }

    override func ready(_ events: Readiness) { _ = reap() }

    /// - Returns: whether the child had ended.
    private func reap() -> Bool {
        var status: Int32 = 0
        guard waitpid(pid, &status, WNOHANG) == pid else { return false }
        if descriptor >= 0 {
            loop?.unregister(self, descriptor: descriptor)
            Glibc.close(descriptor)
        }
        // wait(2): the low seven bits are the signal, the second byte the exit status.
        onExit(status & 0x7f == 0 ? .exited(status >> 8 & 0xff) : .signalled(status & 0x7f))
        return true
    }

    func poll() {
        if !reap() { loop?.schedule(after: .milliseconds(50), label: label) { self.poll() } }
    }

    override func abandon() {
        loop = nil
        if descriptor >= 0 { Glibc.close(descriptor) }
    }
}
