import CLinux
import Glibc
import Reactor

/// Putting the process into the background. The process that was started waits until the daemon serves or has failed, so
/// that its exit status and its terminal tell which; but for a data set that takes long to load it does not wait to the end.
public final class Daemon {
    private let readiness: Int32

    private init(readiness: Int32) { self.readiness = readiness }

    /// So long the loading of a data set is waited for: less than systemd and init scripts wait for a start.
    public static let loadingMax: Duration = .seconds(30)

    /// Forks before anything else exists; returns in the daemon only.
    /// - Throws: `SystemError`
    public static func detach() throws(SystemError) -> Daemon {
        var ends: [Int32] = [-1, -1]
        guard pipe2(&ends, O_CLOEXEC) == 0 else { throw SystemError("pipe") }
        let child = vigie_fork()
        guard child >= 0 else { throw SystemError("fork") }
        if child > 0 {
            close(ends[1])
            var byte: UInt8 = 1
            var count = read(ends[0], &byte, 1)
            while count < 0, errno == EINTR { count = read(ends[0], &byte, 1) }
            // Nothing to read: the daemon ended, and has said why.
            _exit(count == 1 ? 0 : 1)
        }
        close(ends[0])
        setsid()
        return Daemon(readiness: ends[1])
    }

    /// Lets the waiting process go, and the terminal with it. To be called once.
    public func ready() {
        let null = open("/dev/null", O_RDWR)
        if null >= 0 {
            for descriptor in Int32(0)...2 { dup2(null, descriptor) }
            if null > 2 { close(null) }
        }
        var byte: UInt8 = 0
        _ = write(readiness, &byte, 1)
        close(readiness)
    }
}
