import Reactor

/// The connections to one watched process, and what they say of its being alive.
///
/// A Sentinel that shares several masters with us has one link for all of them.
final class Link {
    enum State: Equatable {
        case closed
        case opening
        case open(since: Instant)
    }

    /// What the next reply on the command connection answers.
    enum Expected {
        case nothing
        case login
        case ping
        case info(Instance)
        case hello(Instance)
        case vote(Instance, forEpoch: UInt64?)
        case reconfiguration(Instance, target: String)
    }

    let id: LinkID
    let endpoint: Endpoint
    /// Instances that use the link.
    var users = 0
    var command = State.closed
    var subscription = State.closed
    let hasSubscription: Bool
    /// Our address on this link, which tells others where we are.
    var localHost: String?
    var expected: [Expected] = []

    var lastCommandAttempt: Instant?
    var lastSubscriptionAttempt: Instant?
    /// When the last acceptable answer to a PING came; at first the moment of creation.
    var lastAvailable: Instant
    /// When the oldest PING that is not answered acceptably was sent; nil for none. At first the moment of creation, so that
    /// a process never reached is down in the end.
    var activePing: Instant?
    var lastPing: Instant?
    /// When any answer to a PING came.
    var lastPong: Instant
    var lastSubscriptionActivity: Instant
    var closedSince: Instant

    init(id: LinkID, endpoint: Endpoint, hasSubscription: Bool, now: Instant) {
        self.id = id
        self.endpoint = endpoint
        self.hasSubscription = hasSubscription
        lastAvailable = now
        activePing = now
        lastPong = now
        lastSubscriptionActivity = now
        closedSince = now
    }

    var isConnected: Bool { if case .open = command { true } else { false } }
}

/// A process that is watched: a master, one of its replicas, or another Sentinel that watches the master too.
final class Instance {
    enum Role { case master, replica, sentinel }

    struct Flags: OptionSet {
        let rawValue: UInt32
        static let subjectivelyDown = Flags(rawValue: 1 << 0)
        static let objectivelyDown = Flags(rawValue: 1 << 1)
        /// Of a Sentinel: it says that the master is down.
        static let saysMasterDown = Flags(rawValue: 1 << 2)
        static let failoverInProgress = Flags(rawValue: 1 << 3)
        static let promoted = Flags(rawValue: 1 << 4)
        static let reconfigurationSent = Flags(rawValue: 1 << 5)
        static let reconfigurationInProgress = Flags(rawValue: 1 << 6)
        static let reconfigurationDone = Flags(rawValue: 1 << 7)
        static let forcedFailover = Flags(rawValue: 1 << 8)
        static let scriptKillSent = Flags(rawValue: 1 << 9)
        static let rebooted = Flags(rawValue: 1 << 10)
    }

    let role: Role
    /// The master's name; `host:port` of a replica; the run id of a Sentinel.
    let name: String
    let endpoint: Endpoint
    unowned let group: MasterGroup
    var link: Link
    var runID: String?
    var flags: Flags = []
    var isReleased = false

    var downSince: Instant?
    var objectivelyDownSince: Instant?
    var lastHelloSent: Instant?

    // Stores: what INFO says.
    var infoRefreshed: Instant?
    var infoAsked: Instant?
    var infoText = ""
    var reportsMaster: Bool
    var roleReportedSince: Instant
    var masterConfigurationChanged: Instant
    var masterLinkDown: Int64 = 0
    var masterLinkIsUp = false
    var masterHost: String?
    var masterPort: UInt16 = 0
    var priority = 100
    var replicationOffset: UInt64 = 0
    var isAnnounced = true
    var reconfigurationSentAt: Instant?
    var rebootedSince: Instant?
    /// Sentinels that said hello since this replica came back as a master, and the epoch at that moment: the evidence that
    /// nobody promoted it.
    var returnedAsMaster: ReturnedMaster?

    // Sentinels.
    var lastHelloReceived: Instant
    var lastDownReply: Instant?
    var lastAsked: Instant?
    var leader: String?
    var leaderEpoch: UInt64 = 0
    /// The newest epoch for which this Sentinel answered our request for its vote.
    var answeredEpoch: UInt64 = 0

    struct ReturnedMaster {
        let epoch: UInt64
        var witnesses: Set<String> = []
    }

    init(role: Role, name: String, endpoint: Endpoint, group: MasterGroup, link: Link, now: Instant) {
        self.role = role
        self.name = name
        self.endpoint = endpoint
        self.group = group
        self.link = link
        reportsMaster = role == .master
        roleReportedSince = now
        masterConfigurationChanged = now
        lastHelloReceived = now
        link.users += 1
    }

    var isDown: Bool { flags.contains(.subjectivelyDown) }
    /// Connected, and not down.
    var isUsable: Bool { link.isConnected && !isDown }

    var typeName: String {
        switch role {
        case .master: "master"
        case .replica: "slave"
        case .sentinel: "sentinel"
        }
    }
}

/// A master with all who belong to it: its replicas, its Sentinels, and the failover under way.
final class MasterGroup {
    enum FailoverState: String {
        case none
        case waitStart = "wait_start"
        case selectReplica = "select_slave"
        case sendSlaveofNoOne = "send_slaveof_noone"
        case waitPromotion = "wait_promotion"
        case reconfigureReplicas = "reconf_slaves"
        case updateConfiguration = "update_config"
    }

    var settings: MasterConfiguration
    private(set) var master: Instance!
    var replicas: [Instance] = []
    var sentinels: [Instance] = []

    /// For whom we voted, and in which epoch.
    var leader: String?
    var leaderEpoch: UInt64

    var state = FailoverState.none
    var stateChanged: Instant
    var failoverStarted: Instant
    var failoverEpoch: UInt64 = 0
    var promoted: Instance?
    /// No election of our own before this moment.
    var nextFailover: Instant = .zero
    /// The delay was logged for this moment.
    var delayLoggedFor: Instant?
    /// When the master was found objectively down, our own turn comes at this moment.
    var electionTurn: Instant?
    /// Elections in a row that ended with the votes split.
    var splitElections = 0

    /// When something is next due here without anything happening first.
    var nextWake: Instant = .zero

    init(settings: MasterConfiguration, now: Instant) {
        self.settings = settings
        leaderEpoch = settings.leaderEpoch
        stateChanged = now
        failoverStarted = now
    }

    func place(_ instance: Instance) { master = instance }

    var name: String { settings.name }
    /// Every instance: the master first.
    var instances: [Instance] { [master] + replicas + sentinels }
    var downAfter: Duration { .milliseconds(settings.downAfter) }
    var failoverTimeout: Duration { .milliseconds(settings.failoverTimeout) }

    /// Where clients find the master: during a failover the promoted replica as soon as it is a master.
    var currentEndpoint: Endpoint {
        if let promoted, state == .reconfigureReplicas || state == .updateConfiguration { return promoted.endpoint }
        return master.endpoint
    }

    /// Silence is known to this accuracy: a twentieth of the limit, at most Redis's second.
    ///
    /// Redis pings each second, so that a limit of 5 s is noticed 5 to 6 s after a freeze; here at 4.75 to 5.
    var pingPeriod: Duration { .milliseconds(max(10, min(1000, settings.downAfter / 20))) }
}
