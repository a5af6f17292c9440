import CLinux
import Glibc
import Logging
import Observability
import Reactor

/// The roles of one process on one loop, from the first bind to the last reply.
public final class Node {
    public let loop: EpollLoop
    private let logger: Logger
    private var roles: [any Role] = []
    private var started: [any Role] = []
    private var exitStatus: Int32 = 0
    private var stopping: StopManner?
    /// Files to remove at the end.
    private var pidFiles: [String] = []

    /// - Parameter logger: for what concerns the process and no role of its own.
    public init(loop: EpollLoop = EpollLoop(), logger: Logger = .standardError()) {
        self.loop = loop
        self.logger = logger
        loop.onSlowCallback = { [logger] label, took in
            logger.warning("slow callback: \(label) took \(took.wholeMilliseconds) ms")
        }
    }

    public func add(_ role: any Role) { roles.append(role) }

    /// Starts every role in the order in which they were added.
    /// - Throws: what a role could not have; those started before it are stopped by the process's end.
    public func start() throws(SystemError) {
        loop.onSignal(SIGTERM) { [unowned self] in stop(.prompt, because: "SIGTERM") }
        loop.onSignal(SIGINT) { [unowned self] in stop(.interrupt, because: "SIGINT") }
        // HAProxy's way of asking for a soft stop. Keepalived's users send it to have its state written.
        loop.onSignal(SIGUSR1) { [unowned self] in
            if roles.contains(where: { $0.name == "proxy" }) { stop(.graceful, because: "SIGUSR1") } else { logger.notice("SIGUSR1: nothing to do") }
        }
        // Left alone it would end the process.
        loop.onSignal(SIGUSR2) { [logger] in logger.notice("SIGUSR2: nothing to do; files are read at start only") }
        loop.onSignal(SIGHUP) { [unowned self] in for role in started { role.hangUp() } }
        for role in roles {
            try role.start()
            started.append(role)
        }
    }

    /// Calls `body` once: when every role serves, or after `limit`.
    public func whenServing(within limit: Duration, _ body: @escaping () -> Void) {
        var missing = started.count
        var isDone = false
        func end() {
            if !isDone { body() }
            isDone = true
        }
        for role in started {
            role.whenServing {
                missing -= 1
                if missing == 0 { end() }
            }
        }
        if missing > 0 { loop.schedule(after: limit, label: "readiness") { end() } }
    }

    /// A role has turned out not to be able to do its work: the others are ended, and the exit status says so.
    public func fail(_ role: any Role) {
        exitStatus = 1
        started.removeAll { $0 === role }
        // Whoever is ending goes on with that.
        guard stopping == nil else { return }
        stopping = .request
        stopNext()
    }

    /// Serves until a signal or SHUTDOWN ends it.
    /// - Returns: the exit status.
    public func run() -> Int32 {
        for role in started { role.ready() }
        loop.run()
        for path in pidFiles where Node.isOurs(path) { unlink(path) }
        return exitStatus
    }

    /// Whether a pid file still has our number: a successor may have written its own into it.
    private static func isOurs(_ path: String) -> Bool {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        var text = [UInt8](repeating: 0, count: 32)
        let count = read(descriptor, &text, text.count)
        return count > 0 && text[..<count].elementsEqual("\(getpid())\n".utf8)
    }

    /// Writes the process id to a file that goes with the process.
    /// - Throws: `SystemError`; Redis goes on without it, and so may the caller.
    public func writePIDFile(_ path: String) throws(SystemError) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw SystemError("write pidfile '\(path)'") }
        defer { close(descriptor) }
        let text = Array("\(getpid())\n".utf8)
        guard write(descriptor, text, text.count) == text.count else { throw SystemError("write pidfile '\(path)'") }
        pidFiles.append(path)
    }

    /// Stops the roles one after the other, the last started first: the address goes before the proxy, the proxy before the store.
    /// A second demand ends the process at once, save that a prompt one after a graceful one is heeded first.
    public func stop(_ manner: StopManner = .request, because reason: String) {
        if let earlier = stopping {
            if earlier == .graceful, manner != .graceful {
                stopping = manner
                stopNext()
                return
            }
            logger.warning("\(reason) again: ending at once")
            loop.stop()
            exitStatus = 1
            return
        }
        stopping = manner
        stopNext()
    }

    private func stopNext() {
        guard let manner = stopping, let role = started.last else { return loop.stop() }
        role.stop(manner) { [self] isDone in
            guard started.contains(where: { $0 === role }) else { return }
            guard isDone else {
                // A role that would lose data keeps the process alive; the next signal asks again.
                stopping = nil
                logger.warning("\(role.name) could not be ended; see its log")
                return
            }
            started.removeAll { $0 === role }
            stopNext()
        }
    }
}
