import CLinux
import Glibc

/// Processes that `vigie demo` starts end when it ends, even by kill -9.
enum ParentWatch {
    /// Holds the process id of the demo that started us.
    static let variable = "VIGIE_DEMO_PARENT"

    static func begin() {
        guard let text = getenv(variable).map({ String(cString: $0) }), let parent = Int32(text), parent == getppid() else { return }
        _ = prctl(PR_SET_PDEATHSIG, UInt(SIGTERM))
    }
}
