import Logging
import Reactor

/// All virtual routers of a keepalived.conf on one loop: the VRRP role.
public final class VRRPNode {
    private let loop: Loop
    private let configuration: VRRPConfiguration
    private let logger: Logger
    private var netlink: RouteNetlink?
    private var arp: ARPSocket?
    private var network = NetworkView()
    private var instances: [VRRPInstance] = []
    private var groups: [String: SyncGroup] = [:]
    private var groupOf: [String: String] = [:]
    private var scripts: [String: ScriptRunner] = [:]
    private var notifier: Notifier?
    /// The tables of the kernel have been read.
    private var hasNetwork = false
    private var isStopping = false

    /// The kernel answers at once; this is only for the case that it never does.
    private static let stopTimeMax = Duration.seconds(1)

    /// - Parameter logger: gets Keepalived's own messages, so that whoever watches its log finds them.
    public init(loop: Loop, configuration: VRRPConfiguration, logger: Logger) {
        self.loop = loop
        self.configuration = configuration
        self.logger = logger
    }

    /// What each virtual router is now: `INIT`, `BACKUP`, `MASTER` or `FAULT`, and the priority that it advertises.
    public var states: [(name: String, state: String, priority: UInt8)] {
        instances.map { ($0.name, $0.router.state.rawValue, $0.router.priority) }
    }

    // MARK: start and stop

    /// Opens the sockets; the rest follows once the kernel has told its interfaces.
    /// - Throws: `SystemError`: EPERM without CAP_NET_RAW.
    public func start() throws(SystemError) {
        let arp = try ARPSocket(loop: loop)
        let netlink = try RouteNetlink(loop: loop)
        self.arp = arp
        self.netlink = netlink
        notifier = Notifier(loop: loop, configuration: configuration, logger: logger)
        makeGroups()
        makeInstances(netlink, arp)
        makeScripts()
        netlink.onChange = { [weak self] in self?.networkChanged($0) }
        netlink.dump { [weak self] problem in self?.networkKnown(problem) }
    }

    /// Lets the other routers take over at once, takes the addresses away, and then calls `completion`.
    public func stop(completion: @escaping () -> Void) {
        guard !isStopping, let netlink, let arp else { return completion() }
        isStopping = true
        for script in scripts.values { script.stop() }
        for instance in instances { stop(instance) }
        var isDone = false
        let finish = { [self] in
            guard !isDone else { return }
            isDone = true
            notifier?.close()
            netlink.close()
            arp.close()
            completion()
        }
        // The kernel answers in order: behind this answer lie those to the removals.
        netlink.dump { _ in finish() }
        loop.schedule(after: VRRPNode.stopTimeMax, label: "VRRP stop") { finish() }
    }

    private func stop(_ instance: VRRPInstance) {
        let isRunning = instance.router.state != .initialize
        instance.stop()
        guard isRunning else { return }
        notify(instance, .initialize)
    }

    private func makeGroups() {
        for group in configuration.groups {
            groups[group.name] = SyncGroup(name: group.name, members: group.members)
            for member in group.members { groupOf[member] = group.name }
        }
    }

    private func makeInstances(_ netlink: RouteNetlink, _ arp: ARPSocket) {
        let around = VRRPInstance.Surroundings(
            loop: loop, netlink: netlink, arp: arp, logger: logger, network: { [unowned self] in network },
            onChange: { [weak self] in self?.instanceChanged($0, $1) })
        instances = configuration.instances.map { each in
            let members = groupOf[each.name].flatMap { groups[$0]?.members.count } ?? 1
            return VRRPInstance(each, waitsForGroup: members > 1, around: around)
        }
    }

    private func makeScripts() {
        for each in configuration.scripts {
            let isUsed = instances.contains { trackedScripts(of: $0).contains { $0.name == each.name } }
            guard isUsed else {
                logger.warning("Warning - script \(each.name) is not used")
                continue
            }
            scripts[each.name] = ScriptRunner(loop: loop, configuration: each, logger: logger) { [weak self] _ in self?.reviewAll() }
        }
    }

    // MARK: the network

    private func networkKnown(_ problem: Int32) {
        guard !isStopping, !hasNetwork else { return }
        guard problem == 0 else {
            logger.error("cannot read the interfaces: \(SystemError("netlink", code: problem))")
            return
        }
        hasNetwork = true
        for instance in instances { instance.removeLeftovers() }
        for script in scripts.values { script.start() }
        reviewAll()
    }

    private func networkChanged(_ change: RouteNetlink.Change) {
        let before = network
        network.apply(change)
        guard hasNetwork, !isStopping else { return }
        switch change {
        case .link(let link):
            let wasRunning = before.isRunning(link.name)
            let isRunning = network.isRunning(link.name)
            if wasRunning != isRunning, isWatched(link.name) { logger.info("Netlink reports \(link.name) \(isRunning ? "up" : "down")") }
        case .addressRemoved(let address):
            for instance in instances { instance.addressVanished(address) }
        case .addressAdded: break
        }
        reviewAll()
    }

    private func isWatched(_ interface: String) -> Bool {
        instances.contains { instance in
            instance.configuration.interface == interface || trackedInterfaces(of: instance).contains { $0.name == interface }
        }
    }

    // MARK: health and priority

    private func group(of instance: VRRPInstance) -> GroupConfiguration? {
        groupOf[instance.name].flatMap { name in configuration.groups.first { $0.name == name } }
    }

    /// Weights of members of one group would make their priorities differ; a group of one has nobody to differ from.
    /// Keepalived 2.2.7 ignores them there too, so that a host whose service is dead keeps the addresses for ever.
    private func keepsWeights(_ group: GroupConfiguration?) -> Bool {
        group.map { $0.members.count == 1 || $0.keepsWeights } ?? true
    }

    private func trackedScripts(of instance: VRRPInstance) -> [(name: String, weight: TrackingWeight)] {
        let group = group(of: instance)
        return (instance.configuration.trackedScripts + (group?.trackedScripts ?? [])).compactMap { tracked in
            let standard = configuration.scripts.first { $0.name == tracked.name }?.weight
            let weight = tracked.weight ?? standard ?? TrackingWeight(weight: 0)
            return weight.weight == 0 || keepsWeights(group) ? (tracked.name, weight) : nil
        }
    }

    private func trackedInterfaces(of instance: VRRPInstance) -> [(name: String, weight: TrackingWeight)] {
        let group = group(of: instance)
        return (instance.configuration.trackedInterfaces + (group?.trackedInterfaces ?? [])).compactMap { tracked in
            let weight = tracked.weight ?? TrackingWeight(weight: 0)
            return weight.weight == 0 || keepsWeights(group) ? (tracked.name, weight) : nil
        }
    }

    /// Everything that an instance tracks, with its state now.
    private func tracked(by instance: VRRPInstance) -> [(weight: TrackingWeight, state: TrackedScript.State)] {
        trackedScripts(of: instance).map { ($0.weight, scripts[$0.name]?.script.state ?? .unknown) }
            + trackedInterfaces(of: instance).map { ($0.weight, network.isRunning($0.name) ? .up : .down) }
    }

    private func health(of instance: VRRPInstance) -> VRRPInstance.Health {
        guard instance.hasUsableInterface else { return .bad }
        let forbidding = tracked(by: instance).filter { $0.weight.forbids(in: $0.state) }
        if forbidding.contains(where: { $0.state != .unknown }) { return .bad }
        return forbidding.isEmpty ? .good : .unknown
    }

    /// Looks at everything again after a change: there are few instances, and changes are rare.
    private func reviewAll() {
        guard hasNetwork, !isStopping else { return }
        for instance in instances {
            instance.track(adjustment: tracked(by: instance).reduce(0) { $0 + $1.weight.adjustment(for: $1.state) })
        }
        for instance in instances { review(instance) }
    }

    private func review(_ instance: VRRPInstance) {
        let health = health(of: instance)
        if let name = groupOf[instance.name], health != .unknown {
            obey(groups[name]!.health(of: instance.name, isGood: health == .good))
        }
        let isPermitted = groupOf[instance.name].map { groups[$0]!.permits(instance.name) } ?? true
        switch (health, instance.router.state) {
        case (.bad, _): instance.fail()
        case (.good, .fault) where isPermitted: instance.recover()
        case (.good, .initialize):
            if !isPermitted { return instance.fail() }
            // A group begins together: a member whose checks have not answered yet holds the others back.
            let members = instances.filter { groupOf[$0.name] == groupOf[instance.name] && groupOf[$0.name] != nil }
            if members.contains(where: { self.health(of: $0) == .unknown }) { return }
            instance.start()
        default: break
        }
    }

    // MARK: changes of state

    private func instanceChanged(_ instance: VRRPInstance, _ action: VirtualRouter.Action) {
        if case .entered(let state) = action, state != .initialize { notify(instance, state) }
        guard let name = groupOf[instance.name] else { return }
        switch action {
        case .waitsForGroup:
            for member in instances where groupOf[member.name] == name && !member.router.isReadyForMaster {
                groups[name]!.isNotReady(member.name)
            }
            obey(groups[name]!.isReady(instance.name))
        case .entered(let state):
            let (orders, changed) = groups[name]!.entered(state, instance.name)
            if let changed { groupChanged(name, changed) }
            obey(orders)
        default: break
        }
    }

    private func obey(_ orders: [SyncGroup.Order]) {
        for order in orders {
            switch order {
            case .becomeMaster(let name): instance(name)?.becomeMaster()
            case .becomeBackup(let name): instance(name)?.becomeBackup()
            case .fail(let name): instance(name)?.fail()
            case .recover(let name):
                guard let instance = instance(name), health(of: instance) == .good else { continue }
                instance.recover()
            }
        }
    }

    private func instance(_ name: String) -> VRRPInstance? { instances.first { $0.name == name } }

    private func groupChanged(_ name: String, _ state: VirtualRouter.State) {
        guard let group = configuration.groups.first(where: { $0.name == name }) else { return }
        logger.info("VRRP_Group(\(name)) Syncing instances to \(state.rawValue) state")
        notifier?.entered(state, .group, name, priority: 0, scripts: group.notify, smtpAlert: group.smtpAlert)
    }

    private func notify(_ instance: VRRPInstance, _ state: VirtualRouter.State) {
        notifier?.entered(
            state, .instance, instance.name, priority: instance.router.priority, scripts: instance.configuration.notify,
            smtpAlert: instance.configuration.smtpAlert)
    }
}
