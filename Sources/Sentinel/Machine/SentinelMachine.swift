import RESP
import Reactor

/// Sentinel without sockets, files or a clock: it is told what happened and when, and says what is to be done.
///
/// Told: `start`, `channelOpened`, `channelClosed`, `received`, `heard`, `command`, `tick`. After each call `takeActions`
/// gives what to do, in order, and `nextWake` when `tick` is due. The same calls with the same seed give the same actions.
///
/// The protocol is Redis Sentinel's (redis.io/docs, "Sentinel"); periods are Redis 7.0's unless a comment says why not.
/// It never waits for the next round of a timer where an event already says what must happen: votes are asked for in the
/// moment in which the master is down, a replica is promoted in the moment of the last vote, INFO follows SLAVEOF at once.
public final class SentinelMachine {
    enum Period {
        static let info = Duration.milliseconds(10_000)
        static let infoInTrouble = Duration.milliseconds(1000)
        static let hello = Duration.milliseconds(2000)
        static let ask = Duration.milliseconds(1000)
        /// Between asking the others while only we think that the master is down; Redis asks each second.
        static let askUrgently = Duration.milliseconds(100)
        /// An answer about the master's being down counts for so long.
        static let downReplyValid = Duration.milliseconds(5000)
        static let reconnectLeast = Duration.milliseconds(15_000)
        static let reconfigurationTimeout = Duration.milliseconds(10_000)
        static let electionTimeout = Duration.milliseconds(10_000)
        static let tiltTrigger = Duration.milliseconds(2000)
        static let tilt = Duration.milliseconds(30_000)
        /// The machine looks at the clock at least so often, which is how it notices having stood still.
        static let idle = Duration.milliseconds(500)
    }
    static let pendingMax = 100
    /// Instances of one kind that one master may have: what strangers announce has a bound.
    static let instancesMax = 1000

    var configuration: SentinelConfiguration
    let myID: String
    var currentEpoch: UInt64
    var groups: [MasterGroup] = []
    var links: [LinkID: Link] = [:]
    private var nextLink = 1
    var random: LoopRandom
    var actions: [SentinelAction] = []
    var now: Instant
    private var lastRun: Instant
    private(set) var isTilted = false
    private(set) var tiltSince: Instant = .zero
    private var lastRefusalLogged: Instant?

    /// - Parameters:
    ///   - configuration: with `myID` set.
    ///   - seed: of the moments at which elections start.
    public init(configuration: SentinelConfiguration, seed: UInt64, now: Instant) {
        guard let id = configuration.myID else { preconditionFailure("a Sentinel needs its id before it starts") }
        self.configuration = configuration
        myID = id
        currentEpoch = configuration.currentEpoch
        random = LoopRandom(seed: seed)
        self.now = now
        lastRun = now
    }

    public func takeActions() -> [SentinelAction] {
        let taken = actions
        actions.removeAll(keepingCapacity: true)
        return taken
    }

    /// When `tick` is due.
    public var nextWake: Instant {
        groups.reduce(lastRun + Period.idle) { min($0, $1.nextWake) }
    }

    /// The configuration with the state of this moment: what the file is to hold.
    public var snapshot: SentinelConfiguration {
        var snapshot = configuration
        snapshot.myID = myID
        snapshot.currentEpoch = currentEpoch
        snapshot.masters = groups.map { group in
            var master = group.settings
            // As soon as the replica is promoted it is the master to start from again.
            let current = group.currentEndpoint
            master.endpoint = current
            master.leaderEpoch = group.leaderEpoch
            master.knownReplicas = group.replicas.map { $0.endpoint == current ? group.master.endpoint : $0.endpoint }
            master.knownSentinels = group.sentinels.compactMap { sentinel in
                sentinel.runID.map { .init(endpoint: sentinel.endpoint, runID: $0) }
            }
            return master
        }
        return snapshot
    }

    // MARK: what it is told

    /// Starts watching what the configuration names.
    public func start(at now: Instant) {
        self.now = now
        lastRun = now
        log(.notice, "Sentinel ID is \(myID)")
        for settings in configuration.masters {
            let group = addGroup(settings)
            event(.warning, "+monitor", group.master, "%@ quorum \(settings.quorum)")
        }
        persist()
        for group in groups { pass(group) }
    }

    /// Time has come. Cheap when nothing is due.
    public func tick(at now: Instant) {
        enter(now)
        for group in groups where group.nextWake <= now { pass(group) }
    }

    /// A connection is up.
    /// - Parameter localHost: our address on it.
    public func channelOpened(_ id: LinkID, _ channel: Channel, localHost: String, at now: Instant) {
        enter(now)
        guard let link = links[id], let instance = user(of: link) else { return }
        switch channel {
        case .command:
            link.command = .open(since: now)
            link.localHost = localHost
            link.expected.removeAll()
            login(link, instance, channel)
            ping(link)
        case .subscription:
            link.subscription = .open(since: now)
            link.lastSubscriptionActivity = now
            login(link, instance, channel)
            actions.append(.send(id, .subscription, ["SUBSCRIBE", HelloMessage.channel]))
        }
        passUsers(of: link)
    }

    /// A connection has ended, or could not be made.
    public func channelClosed(_ id: LinkID, _ channel: Channel, at now: Instant) {
        enter(now)
        guard let link = links[id] else { return }
        markClosed(link, channel)
        passUsers(of: link)
    }

    /// A reply, or a published message, has come.
    public func received(_ reply: Reply, on id: LinkID, _ channel: Channel, at now: Instant) {
        enter(now)
        guard let link = links[id] else { return }
        switch channel {
        case .command: receiveReply(reply, link)
        case .subscription: receivePublished(reply, link)
        }
        passUsers(of: link)
    }

    // MARK: time

    /// Every call begins here. Having stood still for long means that what we believe about others is old: for a while
    /// we only watch (TILT).
    func enter(_ now: Instant) {
        self.now = now
        if now - lastRun > Period.tiltTrigger {
            isTilted = true
            tiltSince = now
            event(.warning, "+tilt", nil, "#tilt mode entered")
        } else if isTilted, now - tiltSince > Period.tilt {
            isTilted = false
            event(.warning, "-tilt", nil, "#tilt mode exited")
            for group in groups { group.nextWake = now }
        }
        lastRun = now
    }

    /// Does what is due in a group, and works out when something is due next.
    func pass(_ group: MasterGroup) {
        group.nextWake = .distantFuture
        for instance in group.instances {
            reconnect(instance)
            sendPeriodically(instance)
            if !isTilted { checkSubjectivelyDown(instance) }
        }
        guard !isTilted else { return }
        checkObjectivelyDown(group)
        startFailoverIfNeeded(group)
        advanceFailover(group)
        askOthers(group, forced: false)
    }

    /// Asks for a turn at that moment; one that is past, and for which something else is waited for, does not spin.
    func wake(_ group: MasterGroup, at moment: Instant) {
        group.nextWake = min(group.nextWake, max(moment, now + .milliseconds(1)))
    }

    private func passUsers(of link: Link) {
        for group in groups where group.instances.contains(where: { $0.link === link }) { pass(group) }
    }

    private func user(of link: Link) -> Instance? {
        for group in groups {
            if let instance = group.instances.first(where: { $0.link === link }) { return instance }
        }
        return nil
    }

    // MARK: groups and instances

    func addGroup(_ settings: MasterConfiguration) -> MasterGroup {
        let group = MasterGroup(settings: settings, now: now)
        group.place(makeInstance(.master, name: settings.name, settings.endpoint, group))
        groups.append(group)
        for endpoint in settings.knownReplicas { addReplica(endpoint, to: group) }
        for known in settings.knownSentinels where known.runID != myID {
            addSentinel(known.endpoint, runID: known.runID, to: group)
        }
        return group
    }

    func makeInstance(_ role: Instance.Role, name: String, _ endpoint: Endpoint, _ group: MasterGroup) -> Instance {
        Instance(role: role, name: name, endpoint: endpoint, group: group, link: makeLink(role, name, endpoint), now: now)
    }

    private func makeLink(_ role: Instance.Role, _ name: String, _ endpoint: Endpoint) -> Link {
        if role == .sentinel, let shared = sharedLink(runID: name, endpoint) { return shared }
        let link = Link(id: LinkID(number: nextLink), endpoint: endpoint, hasSubscription: role != .sentinel, now: now)
        nextLink += 1
        links[link.id] = link
        return link
    }

    private func sharedLink(runID: String, _ endpoint: Endpoint) -> Link? {
        for group in groups {
            if let other = group.sentinels.first(where: { $0.runID == runID && $0.endpoint == endpoint }) { return other.link }
        }
        return nil
    }

    @discardableResult
    func addReplica(_ endpoint: Endpoint, to group: MasterGroup) -> Instance? {
        guard group.replicas.count < SentinelMachine.instancesMax, !group.replicas.contains(where: { $0.endpoint == endpoint }),
            endpoint != group.master.endpoint, SocketAddress(numeric: endpoint.host, port: endpoint.port) != nil
        else { return nil }
        let replica = makeInstance(.replica, name: endpoint.description, endpoint, group)
        group.replicas.append(replica)
        return replica
    }

    @discardableResult
    func addSentinel(_ endpoint: Endpoint, runID: String, to group: MasterGroup) -> Instance? {
        guard group.sentinels.count < SentinelMachine.instancesMax, !group.sentinels.contains(where: { $0.runID == runID })
        else { return nil }
        let sentinel = makeInstance(.sentinel, name: runID, endpoint, group)
        sentinel.runID = runID
        group.sentinels.append(sentinel)
        return sentinel
    }

    func release(_ instance: Instance) {
        guard !instance.isReleased else { return }
        instance.isReleased = true
        let link = instance.link
        link.users -= 1
        guard link.users == 0 else { return }
        links[link.id] = nil
        if link.command != .closed { actions.append(.close(link.id, .command)) }
        if link.subscription != .closed { actions.append(.close(link.id, .subscription)) }
    }

    /// Forgets everything about the master but its Sentinels, and starts watching at `endpoint`.
    func reset(_ group: MasterGroup, to endpoint: Endpoint, replicas: [Endpoint], announce: Bool) {
        for instance in [group.master!] + group.replicas { release(instance) }
        group.replicas.removeAll()
        group.settings.endpoint = endpoint
        group.place(makeInstance(.master, name: group.name, endpoint, group))
        group.state = .none
        group.stateChanged = now
        group.promoted = nil
        group.leader = nil
        group.nextFailover = .zero
        group.delayLoggedFor = nil
        group.electionTurn = nil
        group.splitElections = 0
        for sentinel in group.sentinels { sentinel.flags.remove(.saysMasterDown) }
        for address in replicas {
            if let replica = addReplica(address, to: group), announce { event(.notice, "+slave", replica, "%@") }
        }
        group.nextWake = now
    }

    func resetToNewAddress(_ group: MasterGroup, _ endpoint: Endpoint) {
        var replicas = group.replicas.map(\.endpoint).filter { $0 != endpoint }
        if group.master.endpoint != endpoint { replicas.append(group.master.endpoint) }
        reset(group, to: endpoint, replicas: replicas, announce: true)
        persist()
    }

    // MARK: saying things

    /// Publishes and logs an event. `%@` at the start of `text` stands for `type name ip port [@ master ip port]`.
    func event(_ level: EventLevel, _ type: String, _ instance: Instance?, _ text: String) {
        var message = text
        if let instance, text.hasPrefix("%@") {
            var subject = "\(instance.typeName) \(instance.name) \(instance.endpoint.host) \(instance.endpoint.port)"
            if instance.role != .master {
                let master = instance.group.master!
                subject += " @ \(master.name) \(master.endpoint.host) \(master.endpoint.port)"
            }
            message = subject + text.dropFirst(2)
        }
        log(level, "\(type) \(message)")
        guard level != .debug else { return }
        actions.append(.publish(event: type, message: message))
        if level == .warning, let script = instance?.group.settings.notificationScript {
            actions.append(.run(script: script, arguments: [type, message]))
        }
    }

    func log(_ level: EventLevel, _ text: String) { actions.append(.log(level, text)) }

    /// Something unreadable came: said once a second at most.
    func logRefusal(_ text: String) {
        if let last = lastRefusalLogged, now - last < .seconds(1) { return }
        lastRefusalLogged = now
        log(.warning, text)
    }

    func persist() {
        if actions.last != .persist { actions.append(.persist) }
    }

    /// Tells the clients' script of a new address.
    func runReconfigurationScript(_ group: MasterGroup, role: String, from: Endpoint, to: Endpoint) {
        guard let script = group.settings.clientReconfigScript else { return }
        actions.append(.run(script: script, arguments: [group.name, role, "start", from.host, "\(from.port)", to.host, "\(to.port)"]))
    }
}
