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
    private var isStopping = false
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
        for signal in [SIGTERM, SIGINT] {
            loop.onSignal(signal) { [unowned self] in stop(because: signal == SIGTERM ? "SIGTERM" : "SIGINT") }
        }
        // HAProxy's way of asking for a soft stop; to Keepalived it means something else, and to Redis nothing.
        loop.onSignal(SIGUSR1) { [unowned self] in
            if roles.contains(where: { $0.name == "proxy" }) { stop(because: "SIGUSR1") } else { logger.notice("SIGUSR1: nothing to do") }
        }
        // Left alone it would end the process.
        loop.onSignal(SIGUSR2) { [logger] in logger.notice("SIGUSR2: nothing to do; configurations are read at start only") }
        loop.onSignal(SIGHUP) { [unowned self] in for role in started { role.hangUp() } }
        for role in roles {
            try role.start()
            started.append(role)
        }
    }

    /// Serves until a signal or SHUTDOWN ends it.
    /// - Returns: the exit status.
    public func run() -> Int32 {
        for role in started { role.ready() }
        loop.run()
        for path in pidFiles { unlink(path) }
        return exitStatus
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
    public func stop(because reason: String) {
        if isStopping {
            logger.warning("\(reason) again: ending at once")
            loop.stop()
            exitStatus = 1
            return
        }
        isStopping = true
        stopNext()
    }

    private func stopNext() {
        guard let role = started.last else { return loop.stop() }
        role.stop { [self] isDone in
            guard isDone else {
                // A role that would lose data keeps the process alive; the next signal asks again.
                isStopping = false
                logger.warning("\(role.name) could not be ended; see its log")
                return
            }
            started.removeAll { $0 === role }
            stopNext()
        }
    }
}
