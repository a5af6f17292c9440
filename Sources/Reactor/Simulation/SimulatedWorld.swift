import Glibc

/// A virtual clock and a virtual network of hosts, on which the roles run unmodified: each simulated process has a
/// `SimulatedLoop`, and everything that happens follows from the seed.
///
///     let world = SimulatedWorld(seed: 1)
///     let redis = world.host("redis-01", address: "192.168.0.4")
///     let store = Store(loop: redis.start("store"), ...)
///     world.run(for: .seconds(10))
///     redis.cutCable()
///     world.run(until: { sentinel.isFailingOver }, limit: .seconds(10))
///
/// The same seed and the same calls give the same trace (`traceHash`), as long as the roles themselves draw their random
/// numbers from `loop.random`, read time from the loop only, and do not depend on the order of hashed collections.
///
/// All hosts are on one Ethernet. Each remembers who has an address (ARP) until somebody announces it anew or its owner can
/// not be reached. Streams behave like TCP where it matters to a role: connections are made by the listening host's kernel
/// even while the process is frozen, segments are never lost but late (retransmission with doubling delay), a silent link is
/// silence, a dead process sends FIN, or RST when it had not read everything, and what reaches a host that does not know
/// the connection is answered by RST.
public final class SimulatedWorld {
    /// How the network behaves where nothing else is said.
    public struct Network: Sendable {
        /// One way, between two hosts.
        public var latency: Duration = .microseconds(100)
        /// Added at random, from 0 to this.
        public var jitter: Duration = .microseconds(20)
        /// One way, within a host.
        public var loopbackLatency: Duration = .microseconds(10)
        /// Bytes per second of each direction of a stream; nil is unlimited.
        public var bandwidth: Int?
        /// How often a segment of a stream is lost, and so arrives late.
        public var segmentLoss = 0.0
        public var datagramLoss = 0.0
        public var datagramDuplication = 0.0
        /// Added to each datagram at random, from 0 to this: what makes them overtake one another.
        public var datagramDelay: Duration = .zero
        public init() {}
    }

    public var network = Network()
    public private(set) var now = Instant(nanoseconds: 1_000_000_000)
    /// Milliseconds since 1970 when the world began.
    public let wallStart: Int64 = 1_700_000_000_000
    public let seed: UInt64
    /// The world's own random numbers; drawing from it from outside changes what follows.
    public var random: LoopRandom
    public private(set) var hosts: [SimulatedHost] = []
    /// A number that stands for everything that has happened so far.
    public private(set) var traceHash: UInt64 = 0xCBF2_9CE4_8422_2325
    /// Keeps each event in `trace` as text, for people.
    public var keepsTrace = false
    public private(set) var trace: [String] = []

    private var events = TimerHeap()
    private(set) var processes: [SimulatedLoop] = []
    private var severed: Set<Severed> = []
    private var latencies: [Severed: Duration] = [:]
    private var lastNumber = 0

    private struct Severed: Hashable {
        var from: Int
        var to: Int
    }

    public init(seed: UInt64) {
        self.seed = seed
        random = LoopRandom(seed: seed)
    }

    /// A new host with one address on the Ethernet, numeric IPv4.
    public func host(_ name: String, address: String) -> SimulatedHost {
        guard case .ipv4(let number, _)? = SocketAddress(numeric: address, port: 0) else {
            preconditionFailure("'\(address)' is no IPv4 address")
        }
        let host = SimulatedHost(world: self, index: hosts.count, name: name, address: number)
        hosts.append(host)
        return host
    }

    // MARK: time

    /// Lets `duration` pass.
    public func run(for duration: Duration) { run(to: now + duration) { false } }

    /// Lets time pass until the condition holds.
    /// - Returns: whether it does; false when `limit` has passed.
    @discardableResult
    public func run(until condition: () -> Bool, limit: Duration) -> Bool {
        if condition() { return true }
        return run(to: now + limit, until: condition)
    }

    @discardableResult
    private func run(to limit: Instant, until condition: () -> Bool) -> Bool {
        defer { for process in processes { process.updateClock() } }
        while true {
            while let (_, body) = events.popDue(at: now) { body() }
            for process in processes where process.isRunnable {
                process.turn()
                if condition() { return true }
            }
            processes.removeAll { $0.state == .dead }
            // What outside code or a signal has changed may count without any process having run.
            if condition() { return true }
            var next = events.next ?? .distantFuture
            for process in processes { next = min(next, process.nextTurn) }
            if next > limit {
                now = limit
                return false
            }
            now = max(now, next)
        }
    }

    /// Calls `body` at that moment: for faults that a test plans ahead.
    public func at(_ moment: Instant, _ body: @escaping () -> Void) {
        _ = events.insert(at: max(moment, now), interval: nil, label: "world", body)
    }
    public func after(_ delay: Duration, _ body: @escaping () -> Void) { at(now + delay, body) }

    var wallMicroseconds: Int64 { wallStart * 1000 + Int64(now.nanoseconds / 1000) - 1_000_000 }

    func start(_ process: SimulatedLoop) { processes.append(process) }

    func nextNumber() -> Int {
        lastNumber += 1
        return lastNumber
    }

    // MARK: the network's faults

    /// Nothing passes between the two groups, in either direction.
    public func partition(_ a: [SimulatedHost], from b: [SimulatedHost]) {
        for x in a {
            for y in b where x !== y {
                sever(from: x, to: y)
                sever(from: y, to: x)
            }
        }
    }

    /// Nothing passes from one host to the other; the way back stays.
    public func sever(from: SimulatedHost, to: SimulatedHost) {
        severed.insert(Severed(from: from.index, to: to.index))
        record("sever", from.index, to.index)
    }

    /// Ends all partitions; cables that were cut stay cut.
    public func heal() {
        severed.removeAll()
        record("heal")
    }

    /// One way latency between two hosts, both ways.
    public func setLatency(_ latency: Duration, between a: SimulatedHost, and b: SimulatedHost) {
        latencies[Severed(from: a.index, to: b.index)] = latency
        latencies[Severed(from: b.index, to: a.index)] = latency
    }

    func isReachable(_ from: SimulatedHost, _ to: SimulatedHost) -> Bool {
        from === to
            || (from.isLinkUp && to.isLinkUp && from.isOn && to.isOn && !severed.contains(Severed(from: from.index, to: to.index)))
    }

    /// How long one packet takes now.
    func travel(_ from: SimulatedHost, _ to: SimulatedHost?) -> Duration {
        if from === to { return network.loopbackLatency }
        let base = to.flatMap { latencies[Severed(from: from.index, to: $0.index)] } ?? network.latency
        let jitter = network.jitter.wholeNanoseconds
        return jitter > 0 ? base + .nanoseconds(Int64.random(in: 0...jitter, using: &random)) : base
    }

    func chance(_ probability: Double) -> Bool { probability > 0 && Double.random(in: 0..<1, using: &random) < probability }

    enum Route {
        case host(SimulatedHost)
        /// Somebody has the address and packets get lost on the way.
        case silent
        /// Nobody answers for the address.
        case nobody
    }

    /// Where a packet to the address ends up.
    func route(from: SimulatedHost, to address: SocketAddress) -> Route {
        guard case .ipv4(let number, _) = address else { return .host(from) }
        if number >> 24 == 127 || number == 0 || from.owns(number) { return .host(from) }
        if let known = from.neighbours[number], known.owns(number), isReachable(from, known) { return .host(known) }
        var exists = false
        for host in hosts where host.owns(number) {
            if isReachable(from, host) {
                from.neighbours[number] = host
                return .host(host)
            }
            exists = true
        }
        return exists ? .silent : .nobody
    }

    // MARK: the trace

    func record(_ kind: StaticString, _ a: Int = 0, _ b: Int = 0, _ c: Int = 0) {
        func mix(_ value: UInt64) { traceHash = (traceHash ^ value) &* 0x0000_0100_0000_01B3 }
        mix(now.nanoseconds)
        for index in 0..<kind.utf8CodeUnitCount { mix(UInt64(kind.utf8Start[index])) }
        mix(UInt64(bitPattern: Int64(a)))
        mix(UInt64(bitPattern: Int64(b)))
        mix(UInt64(bitPattern: Int64(c)))
        if keepsTrace { trace.append("\(now.nanoseconds / 1000) µs: \(kind) \(a) \(b) \(c)") }
    }
}
