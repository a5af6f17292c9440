import CLinux
import Glibc

/// What `vigie demo` starts ends when it ends, even by `kill -9`.
public enum ParentWatch {
    /// In the environment: the process id of the demo that started us.
    static let variable = "VIGIE_DEMO_PARENT"

    /// To be called first: asks the kernel for SIGTERM when the demo has gone.
    public static func begin() {
        guard let text = getenv(variable), let parent = Int32(String(cString: text)) else { return }
        vigie_prctl(PR_SET_PDEATHSIG, UInt(SIGTERM))
        // It may have gone before we asked.
        if getppid() != parent { _exit(1) }
    }
}
