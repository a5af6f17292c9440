import CLinux
import Glibc
import Synchronization

/// Threads for what blocks; they wake the loop by an eventfd(2).
final class BackgroundWorkers: EventSource {
    /// What the threads share with the loop. Sendable because every field is behind the mutex or immutable.
    private final class Shared: @unchecked Sendable {
        struct State {
            var waiting: [(id: UInt64, work: @Sendable () -> Void)] = []
            var finished: [UInt64] = []
            var isStopped = false
        }
        let state = Mutex(State())
        let wake: Int32
        let available = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

        init(wake: Int32) {
            self.wake = wake
            available.initialize(to: sem_t())
            sem_init(available, 0, 0)
        }

        deinit {
            sem_destroy(available)
            available.deallocate()
            close(wake)
        }

        func work() {
            while true {
                guard sem_wait(available) == 0 else { continue }
                if state.withLock({ $0.isStopped }) { return }
                guard let job = state.withLock({ $0.waiting.isEmpty ? nil : $0.waiting.removeFirst() }) else { continue }
                job.work()
                state.withLock { $0.finished.append(job.id) }
                var one: UInt64 = 1
                write(wake, &one, 8)
            }
        }
    }

    private static let threads = 2
    private let shared: Shared
    private var completions: [UInt64: () -> Void] = [:]
    private var nextID: UInt64 = 0

    var descriptor: Int32 { shared.wake }

    override init() {
        shared = Shared(wake: eventfd(0, Int32(EFD_NONBLOCK | EFD_CLOEXEC)))
        super.init()
        for _ in 0..<BackgroundWorkers.threads { startThread() }
    }

    private func startThread() {
        // The threads take no signals: those belong to the loop's signalfd.
        var all = sigset_t()
        var before = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_SETMASK, &all, &before)
        var thread = pthread_t()
        let context = Unmanaged.passRetained(shared).toOpaque()
        let failure = pthread_create(&thread, nil, { context in
            Unmanaged<Shared>.fromOpaque(context!).takeRetainedValue().work()
            return nil
        }, context)
        pthread_sigmask(SIG_SETMASK, &before, nil)
        precondition(failure == 0, "pthread_create failed with errno \(failure)")
        pthread_detach(thread)
    }

    func submit(_ work: @escaping @Sendable () -> Void, _ completion: @escaping () -> Void) {
        nextID += 1
        let id = nextID
        completions[id] = completion
        shared.state.withLock { $0.waiting.append((id, work)) }
        sem_post(shared.available)
    }

    override var label: StaticString { "background completion" }

    /// The threads finish what they are at and end; the last one closes the eventfd.
    override func abandon() {
        shared.state.withLock { $0.isStopped = true }
        for _ in 0..<BackgroundWorkers.threads { sem_post(shared.available) }
    }

    override func ready(_ events: Readiness) {
        var count: UInt64 = 0
        _ = read(descriptor, &count, 8)
        let finished = shared.state.withLock { state in
            defer { state.finished.removeAll() }
            return state.finished
        }
        for id in finished { completions.removeValue(forKey: id)?() }
    }
}
