import Glibc
import Logging
import Reactor
import Testing

@testable import Sentinel

/// What a Sentinel has on its disk: it survives the process, and a save that the process did not live to see is lost.
private final class SimulatedDisk: SentinelStateFile {
    var saved: SentinelConfiguration
    var loop: SimulatedLoop!
    let problem: SystemError? = nil

    init(_ initial: SentinelConfiguration) { saved = initial }

    func save(_ configuration: SentinelConfiguration, completion: @escaping (String?) -> Void) {
        let delay = Duration.microseconds(Int.random(in: 200..<15_000, using: &loop.random))
        loop.schedule(after: delay, label: "disk") { [self] in
            saved = configuration
            completion(nil)
        }
    }
}

private struct LineHandler: LogHandler {
    let onLine: @Sendable (String) -> Void
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.info
    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }
    func log(event: LogEvent) { onLine(event.message.description) }
}

/// Three stores and three Sentinels on six hosts, and what must hold of them at all times.
private final class SimulatedPlatform {
    let world: SimulatedWorld
    let storeHosts: [SimulatedHost]
    let sentinelHosts: [SimulatedHost]
    var stores: [ScriptedStore?] = [nil, nil, nil]
    var sentinels: [SentinelNode?] = [nil, nil, nil]
    private var disks: [SimulatedDisk] = []
    private var rewritten: [SocketAddress??] = [nil, nil, nil]
    /// Hosts of different numbers don't reach each other.
    private var side: [ObjectIdentifier: Int] = [:]
    private var leaders: [UInt64: String] = [:]
    private var masters: [UInt64: Endpoint] = [:]
    private(set) var violations: [String] = []
    private(set) var log: [String] = []
    let downAfter: Int64

    init(seed: UInt64, downAfter: Int64 = 1000, failoverTimeout: Int64 = 3000) throws {
        let world = SimulatedWorld(seed: seed)
        self.world = world
        self.downAfter = downAfter
        storeHosts = (0..<3).map { world.host("redis-\($0)", address: "10.0.0.\($0 + 1)") }
        sentinelHosts = (0..<3).map { world.host("sentinel-\($0)", address: "10.0.0.\($0 + 11)") }
        for index in 0..<3 { try startStore(index) }
        for index in 0..<3 {
            var master = MasterConfiguration(name: "m", endpoint: Endpoint(host: "10.0.0.1", port: 6379), quorum: 2)
            master.downAfter = downAfter
            master.failoverTimeout = failoverTimeout
            var configuration = SentinelConfiguration(path: "sentinel.conf")
            configuration.bind = ["0.0.0.0"]
            configuration.myID = String((0..<40).map { _ in "0123456789abcdef".randomElement(using: &world.random)! })
            configuration.masters = [master]
            disks.append(SimulatedDisk(configuration))
            try startSentinel(index)
        }
        check()
    }

    func startStore(_ index: Int, remembers: Bool = true) throws {
        guard stores[index] == nil else { return }
        let original = index == 0 ? nil : storeHosts[0].socketAddress(port: 6379)
        stores[index] = try ScriptedStore(
            loop: storeHosts[index].start("store"), master: remembers ? rewritten[index] ?? original : original,
            canReach: { [unowned self] from, address in
                guard let to = storeHosts.firstIndex(where: { $0.socketAddress(port: 6379) == address }), let store = stores[to] else { return false }
                return reaches(from, storeHosts[to]) && store.loop.state == .running
            },
            replicas: { [unowned self] master in
                let host = storeHosts.first { $0.socketAddress(port: 6379) == master }!
                return stores.compactMap { $0 }.filter { $0.master == master && reaches($0.host, host) }.map(\.host)
            },
            onRewrite: { [unowned self] in rewritten[index] = .some($0) })
    }

    func startSentinel(_ index: Int) throws {
        guard sentinels[index] == nil else { return }
        let loop = sentinelHosts[index].start("sentinel")
        disks[index].loop = loop
        let heard = Heard()
        let logger = Logger(label: "s") { _ in LineHandler(onLine: { heard.lines.append($0) }) }
        let node = try SentinelNode(loop: loop, configuration: disks[index].saved, logger: logger, file: disks[index])
        sentinels[index] = node
        heard.onLine = { [unowned self, unowned node] in hear($0, from: node, index) }
        heard.isLive = true
        try node.start()
        hearings[index] = heard
    }
    private var hearings: [Int: Heard] = [:]

    /// What one process has logged. All on the test's thread.
    private final class Heard: @unchecked Sendable {
        var onLine: ((String) -> Void)?
        var isLive = false
        var lines: [String] = [] {
            didSet { if isLive, let line = lines.last { onLine?(line) } }
        }
    }

    private func hear(_ line: String, from node: SentinelNode, _ index: Int) {
        log.append("\(world.now.nanoseconds / 1_000_000) s\(index) \(line)")
        guard line.hasPrefix("+elected-leader"), let epoch = node.machine.groups.first?.failoverEpoch else { return }
        if let other = leaders[epoch], other != node.machine.myID {
            violations.append("two leaders in epoch \(epoch)")
        }
        leaders[epoch] = node.machine.myID
    }

    /// In no configuration epoch are there two masters, whoever is asked and whenever.
    func check() {
        for node in sentinels.compactMap({ $0 }) where (node.loop as! SimulatedLoop).state == .running {
            guard let group = node.machine.groups.first else { continue }
            let epoch = group.settings.configEpoch
            guard epoch > 0 else { continue }
            if let other = masters[epoch], other != group.currentEndpoint {
                violations.append("two masters in epoch \(epoch): \(other) and \(group.currentEndpoint)")
            }
            masters[epoch] = group.currentEndpoint
        }
        world.after(.milliseconds(20)) { [unowned self] in check() }
    }

    func killStore(_ index: Int) {
        stores[index]?.loop.kill()
        stores[index] = nil
    }

    func killSentinel(_ index: Int) {
        (sentinels[index]?.loop as? SimulatedLoop)?.kill()
        sentinels[index] = nil
    }

    private func reaches(_ a: SimulatedHost, _ b: SimulatedHost) -> Bool { side[ObjectIdentifier(a), default: 0] == side[ObjectIdentifier(b), default: 0] }

    func partition(_ isApart: [Bool]) {
        heal()
        let hosts = storeHosts + sentinelHosts
        for (host, apart) in zip(hosts, isApart) { side[ObjectIdentifier(host)] = apart ? 1 : 0 }
        world.partition(hosts.filter { side[ObjectIdentifier($0)] == 1 }, from: hosts.filter { side[ObjectIdentifier($0)] == 0 })
    }

    func heal() {
        world.heal()
        side.removeAll()
    }

    /// Every Sentinel names the same master, that store is one, and the others follow it.
    var isSettled: Bool {
        let named = Set(sentinels.map { $0?.machine.groups.first?.currentEndpoint })
        guard named.count == 1, let master = named.first ?? nil, sentinels.allSatisfy({ $0?.machine.groups.first?.state == .some(.none) }) else { return false }
        return stores.allSatisfy { store in
            guard let store else { return false }
            let address = store.host.socketAddress(port: 6379)
            return address.host == master.host ? store.master == nil : store.master?.host == master.host
        }
    }

    var state: String {
        let views = sentinels.map { node in node.map { "\($0.machine.groups[0].currentEndpoint) \($0.machine.groups[0].state) \($0.machine.isTilted ? "tilt" : "")" } ?? "dead" }
        let roles = stores.map { store in store.map { $0.master?.host ?? "master" } ?? "dead" }
        return "sentinels \(views), stores \(roles), log:\n" + log.suffix(60).joined(separator: "\n")
    }
}

@Suite("Sentinels in a simulated network")
struct SentinelSimulationTests {
    /// `VIGIE_SEEDS=200 swift test --filter SentinelSimulation` looks further.
    static let seeds = UInt64(1)...(getenv("VIGIE_SEEDS").flatMap { UInt64(String(cString: $0)) } ?? 8)

    @Test("a killed master is replaced within the limit and 0.3 s, whatever the phase of the timers", arguments: seeds)
    func failover(seed: UInt64) throws {
        let platform = try SimulatedPlatform(seed: seed, downAfter: 5000, failoverTimeout: 10_000)
        platform.world.run(for: .seconds(15))
        platform.world.run(for: .milliseconds(Int.random(in: 0..<1000, using: &platform.world.random)))
        platform.killStore(0)
        let killed = platform.world.now
        let isReplaced = platform.world.run(until: { platform.stores.contains { $0 != nil && $0!.master == nil } }, limit: .seconds(10))
        #expect(isReplaced, "\(platform.state)")
        let outage = platform.world.now - killed
        #expect(outage >= .milliseconds(4700) && outage <= .milliseconds(5300), "\(outage) with seed \(seed)")
        try platform.startStore(0, remembers: false)
        #expect(platform.world.run(until: { platform.isSettled }, limit: .seconds(6)), "seed \(seed): \(platform.state)")
        #expect(platform.violations.isEmpty)
    }

    @Test("the master's host dies with its Sentinel: the other two elect one of them", arguments: seeds)
    func twoAreLeft(seed: UInt64) throws {
        let platform = try SimulatedPlatform(seed: seed)
        platform.world.run(for: .seconds(15))
        platform.killSentinel(0)
        platform.killStore(0)
        let isReplaced = platform.world.run(until: { platform.stores.contains { $0 != nil && $0!.master == nil } }, limit: .seconds(3))
        #expect(isReplaced, "seed \(seed): \(platform.state)")
    }

    @Test("kills, freezes and partitions: never two leaders or two masters in an epoch, and peace in the end", arguments: seeds)
    func storm(seed: UInt64) throws {
        let platform = try SimulatedPlatform(seed: seed)
        let world = platform.world
        world.network.segmentLoss = Double.random(in: 0..<0.02, using: &world.random)
        world.run(for: .seconds(8))
        for _ in 0..<20 {
            let index = Int.random(in: 0..<3, using: &world.random)
            switch Int.random(in: 0..<9, using: &world.random) {
            case 0, 1: platform.killStore(index)
            case 2: platform.stores[index]?.loop.freeze()
            case 3: platform.stores[index]?.loop.thaw()
            case 4: platform.killSentinel(index)
            case 5: try platform.startSentinel(index)
            case 6: platform.partition((0..<6).map { _ in Bool.random(using: &world.random) })
            case 7: platform.heal()
            default: try platform.startStore(index, remembers: Bool.random(using: &world.random))
            }
            world.run(for: .milliseconds(Int.random(in: 100..<5000, using: &world.random)))
        }
        platform.heal()
        for index in 0..<3 {
            platform.stores[index]?.loop.thaw()
            try platform.startStore(index)
            try platform.startSentinel(index)
        }
        let isSettled = world.run(until: { platform.isSettled }, limit: .seconds(120))
        #expect(isSettled, "seed \(seed): \(platform.state)")
        #expect(platform.violations.isEmpty, "seed \(seed): \(platform.violations)")
    }

    @Test("the same seed gives the same run")
    func deterministic() throws {
        func trace() throws -> UInt64 {
            let platform = try SimulatedPlatform(seed: 77)
            platform.world.run(for: .seconds(10))
            platform.killStore(0)
            platform.world.run(for: .seconds(10))
            return platform.world.traceHash
        }
        #expect(try trace() == trace())
    }
}
