import CLinux
import Glibc

/// The process's signals, by signalfd(2).
final class SignalSource: EventSource {
    private(set) var descriptor: Int32
    private var mask = sigset_t()
    private var bodies: [Int32: [() -> Void]] = [:]

    override init() {
        sigemptyset(&mask)
        descriptor = signalfd(-1, &mask, Int32(SFD_NONBLOCK | SFD_CLOEXEC))
    }

    func add(_ signal: Int32, _ body: @escaping () -> Void) {
        sigaddset(&mask, signal)
        pthread_sigmask(SIG_BLOCK, &mask, nil)
        _ = signalfd(descriptor, &mask, 0)
        bodies[signal, default: []].append(body)
    }

    override var label: StaticString { "signal" }

    override func abandon() { close(descriptor) }

    override func ready(_ events: Readiness) {
        var info = signalfd_siginfo()
        while read(descriptor, &info, MemoryLayout<signalfd_siginfo>.size) == MemoryLayout<signalfd_siginfo>.size {
            for body in bodies[Int32(info.ssi_signo)] ?? [] { body() }
        }
    }
}
