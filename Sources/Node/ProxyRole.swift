import Glibc
import Logging
import Observability
import Proxy
import Reactor

/// The proxy as a role of a node.
final class ProxyRole: Role {
    let name = "proxy"
    private let loop: Loop
    private let node: ProxyNode
    private let logger: Logger
    /// Processes that served the same addresses before: they stop once we are there.
    private let predecessors: Predecessors

    /// - Throws: `SystemError` when `ulimit-n` is refused.
    init(loop: Loop, configuration: ProxyConfiguration, predecessors: Predecessors = Predecessors()) throws(SystemError) {
        self.loop = loop
        self.predecessors = predecessors
        logger = .standardError()
        // Before the node: the sessions that it admits follow from the limit.
        try DescriptorLimit.raise(to: configuration.global.descriptorsMax)
        node = ProxyNode(loop: loop, configuration: configuration, console: logger)
    }

    func start() throws(SystemError) {
        try predecessors.handOver { () throws(SystemError) in try node.start() }
    }

    func stop(completion: @escaping (Bool) -> Void) { node.stop { completion(true) } }

    func hangUp() { logger.notice("SIGHUP: nothing to do; start a new process with -sf to change the configuration") }

    func ready() {
        do throws(SystemError) {
            try Systemd.notifyReady("Ready.", on: loop)
        } catch {
            logger.warning("\(error)")
        }
    }
}

/// The processes that `haproxy -sf` and `-st` name: asked to go when the new one takes over.
struct Predecessors: Equatable {
    var processes: [Int32] = []
    /// SIGUSR1 lets them finish what they serve (-sf), SIGTERM does not wait for it (-st).
    var signal = SIGUSR1

    /// Tries again so often, so many times, while the old process lets go of the addresses.
    private static let pause: useconds_t = 20_000
    private static let attemptsMax = 100

    /// Binds, if need be after the old processes have been told to let go.
    func handOver(_ bind: () throws(SystemError) -> Void) throws(SystemError) {
        guard !processes.isEmpty else { return try bind() }
        do throws(SystemError) {
            try bind()
            tellThem()
            return
        } catch {
            guard error.code == EADDRINUSE else { throw error }
        }
        tellThem()
        for attempt in 1...Predecessors.attemptsMax {
            usleep(Predecessors.pause)
            do throws(SystemError) {
                return try bind()
            } catch {
                if error.code != EADDRINUSE || attempt == Predecessors.attemptsMax { throw error }
            }
        }
    }

    private func tellThem() {
        for process in processes where process > 1 { kill(process, signal) }
    }
}
