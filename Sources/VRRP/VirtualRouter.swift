import Reactor

/// What a virtual router is told once, at the beginning.
struct VirtualRouterParameters: Sendable {
    var name: String
    var version = Advert.Version.v2
    var virtualRouterID: UInt8
    /// The priority before tracking adds to it or takes from it; 255 for the owner of the addresses.
    var priority: UInt8 = 100
    var intervalCentiseconds = 100
    var addresses: [UInt32] = []
    var password: [UInt8]?
    /// Whether a better backup takes over from a working master.
    var preempts = true
    /// ... and how long after it became backup.
    var preemptDelay = Duration.zero
    /// `state MASTER` with priority 255: it starts as master.
    var startsAsMaster = false
    /// Adverts that may be missing before the master is taken for dead.
    var downTimerAdverts = 3
    /// Repeats of a gratuitous ARP burst.
    var garpRepeat = 5
    /// A second burst this long after becoming master; zero for none.
    var garpDelay = Duration.seconds(5)
    /// A burst this often while master; zero for never.
    var garpRefresh = Duration.zero
    var garpRefreshRepeat = 1
    /// The burst after a lower priority's advert, which may have confused the switches.
    var garpLowerPriorityRepeat = 5
    var answersLowerPriority = true
    var answersHigherPriority = false
    /// In a sync group of several: becomes master only when the whole group can.
    var waitsForGroup = false

    var interval: Duration { .milliseconds(intervalCentiseconds * 10) }
}

/// One virtual router: the state machine of RFC 3768 §6.4 and RFC 5798 §6.4, with Keepalived's FAULT state.
///
/// A value: events and time go in, actions come out. It reads no clock and sends nothing; the owner calls `tick` at
/// `nextDeadline`.
///
/// Beyond the RFCs it knows a *degraded* master: one that advertises less than it did before, because a check of its own
/// failed. Once that is less than ours, we take over within the skew time, `nopreempt` or not: `nopreempt` keeps a router
/// that comes back from disturbing a master that works, and must not keep the addresses where the service is dead.
struct VirtualRouter {
    enum State: String, Sendable { case initialize = "INIT", backup = "BACKUP", master = "MASTER", fault = "FAULT" }

    enum Severity: Sendable { case info, warning }

    enum Action: Equatable {
        case sendAdvert(priority: UInt8)
        case addAddresses
        case removeAddresses
        case announceAddresses(repeats: Int)
        /// The state has changed: mail, scripts, the sync group.
        case entered(State)
        /// In a sync group: the master is silent, and the router would take over if the group could.
        case waitsForGroup
        case log(Severity, String)
    }

    let parameters: VirtualRouterParameters
    private(set) var state = State.initialize
    /// What it advertises: the priority with all tracking applied.
    private(set) var priority: UInt8
    /// The master is silent, and only the sync group is waited for.
    private(set) var isReadyForMaster = false

    /// When the master is given up (backup), or the next advert is due (master).
    private var deadline = Instant.distantFuture
    private var nextAnnouncement: (at: Instant, repeats: Int)?
    private var preemptsFrom = Instant.zero
    /// The master's interval; version 3 learns it from the adverts (RFC 5798 §6.1).
    private var masterIntervalCentiseconds: Int
    /// Who was heard last as master, and the most that it has advertised.
    private var master: (address: UInt32, highestPriority: UInt8)?

    init(_ parameters: VirtualRouterParameters) {
        self.parameters = parameters
        priority = parameters.priority
        masterIntervalCentiseconds = parameters.intervalCentiseconds
    }

    private var name: String { parameters.name }

    var nextDeadline: Instant { min(deadline, nextAnnouncement?.at ?? .distantFuture) }

    /// RFC 3768 §6.1: (256 - priority) / 256 seconds; RFC 5798 §6.1: the same share of the master's interval.
    var skewTime: Duration {
        let base = parameters.version == .v2 ? 1_000_000 : masterIntervalCentiseconds * 10_000
        return .microseconds(base * (256 - Int(priority)) / 256)
    }

    /// Silence for so long means that the master is dead.
    var masterDownInterval: Duration {
        .milliseconds(masterIntervalCentiseconds * 10 * parameters.downTimerAdverts) + skewTime
    }

    // MARK: events

    /// The interface is usable and nothing that is tracked forbids to serve.
    mutating func start(at now: Instant) -> [Action] {
        precondition(state == .initialize)
        guard parameters.startsAsMaster, parameters.priority == 255, !parameters.waitsForGroup else {
            state = .backup
            waitForMaster(at: now)
            preemptsFrom = now + parameters.preemptDelay
            return [.log(.info, "(\(name)) Entering BACKUP STATE (init)"), .entered(.backup)]
        }
        return becomeMaster(at: now)
    }

    mutating func tick(at now: Instant) -> [Action] {
        var actions: [Action] = []
        if let announcement = nextAnnouncement, announcement.at <= now {
            actions.append(.announceAddresses(repeats: announcement.repeats))
            scheduleRefresh(at: now)
        }
        guard deadline <= now else { return actions }
        switch state {
        case .master:
            // From the deadline, not from now: the rhythm does not drift. After a long pause, from now.
            deadline += parameters.interval
            if deadline <= now { deadline = now + parameters.interval }
            actions.append(.sendAdvert(priority: priority))
        case .backup:
            actions.append(.log(.info, "(\(name)) Receive advertisement timeout"))
            if parameters.waitsForGroup {
                isReadyForMaster = true
                deadline = now + masterDownInterval
                actions.append(.waitsForGroup)
            } else {
                actions += becomeMaster(at: now)
            }
        case .initialize, .fault:
            deadline = .distantFuture
        }
        return actions
    }

    /// - Parameters:
    ///   - advert: one for this virtual router, its version, password and addresses found right by `refusal(of:)`.
    ///   - sender: its source address.
    ///   - ourAddress: the source address of our own adverts; the higher one wins among equal priorities.
    mutating func receive(_ advert: Advert, from sender: UInt32, ourAddress: UInt32, at now: Instant) -> [Action] {
        switch state {
        case .initialize, .fault: []
        case .backup: receiveAsBackup(advert, from: sender, at: now)
        case .master: receiveAsMaster(advert, from: sender, ourAddress: ourAddress, at: now)
        }
    }

    private mutating func receiveAsBackup(_ advert: Advert, from sender: UInt32, at now: Instant) -> [Action] {
        if advert.priority == 0 {
            deadline = min(deadline, now + skewTime)
            master = nil
            return [.log(.info, "(\(name)) Backup received priority 0 advertisement")]
        }
        if parameters.version == .v3 { masterIntervalCentiseconds = advert.intervalCentiseconds }
        let before = master?.address == sender ? master!.highestPriority : 0
        master = (sender, max(before, advert.priority))
        if advert.priority >= priority {
            waitForMaster(at: now)
            return []
        }
        if advert.priority < before {
            let isNews = deadline > now + skewTime
            deadline = min(deadline, now + skewTime)
            guard isNews else { return [] }
            return [.log(.info, "(\(name)) Master \(text(sender)) lowered its priority from \(before) to \(advert.priority), ours \(priority), taking over")]
        }
        if !parameters.preempts || now < preemptsFrom {
            waitForMaster(at: now)
            return []
        }
        return [.log(.info, "(\(name)) received lower priority (\(advert.priority)) advert from \(text(sender)) - discarding")]
    }

    private mutating func receiveAsMaster(_ advert: Advert, from sender: UInt32, ourAddress: UInt32, at now: Instant) -> [Action] {
        if advert.priority == 0 {
            deadline = now + parameters.interval
            return [.sendAdvert(priority: priority)]
        }
        let isBetter = advert.priority > priority || advert.priority == priority && sender > ourAddress
        guard isBetter else {
            if advert.priority == priority { return [] }
            var actions = [Action.log(.info, "(\(name)) Received advert from \(text(sender)) with lower priority \(advert.priority), ours \(priority), forcing new election")]
            if parameters.answersLowerPriority {
                deadline = now + parameters.interval
                actions.append(.sendAdvert(priority: priority))
            }
            if parameters.garpLowerPriorityRepeat > 0 { actions.append(.announceAddresses(repeats: parameters.garpLowerPriorityRepeat)) }
            return actions
        }
        let reason = advert.priority > priority
            ? "higher priority \(advert.priority), ours \(priority)" : "same priority \(priority) but higher IP address than ours"
        var actions = [Action.log(.info, "(\(name)) Master received advert from \(text(sender)) with \(reason)")]
        if parameters.answersHigherPriority { actions.append(.sendAdvert(priority: priority)) }
        if parameters.version == .v3 { masterIntervalCentiseconds = advert.intervalCentiseconds }
        actions += leave(to: .backup, saying: false, at: now)
        master = (sender, advert.priority)
        return actions
    }

    /// What tracking adds to or takes from the configured priority has changed.
    mutating func track(adjustment: Int, at now: Instant) -> [Action] {
        // The owner's 255 is not to be touched, and nobody else may reach it (RFC 5798 §5.2.4).
        let wanted = parameters.priority == 255 ? 255 : UInt8(min(max(Int(parameters.priority) + adjustment, 1), 254))
        guard wanted != priority else { return [] }
        var actions = [Action.log(.info, "(\(name)) Changing effective priority from \(priority) to \(wanted)")]
        priority = wanted
        if state == .master {
            // At once, and not at the next interval: a backup that is better now need not wait for it.
            deadline = now + parameters.interval
            actions.append(.sendAdvert(priority: priority))
        }
        return actions
    }

    /// The interface is gone or something that is tracked without weight has failed.
    mutating func fail(at now: Instant) -> [Action] {
        guard state != .fault else { return [] }
        return leave(to: .fault, saying: true, at: now)
    }

    /// What made it fail is over.
    mutating func recover(at now: Instant) -> [Action] {
        guard state == .fault else { return [] }
        state = .backup
        master = nil
        waitForMaster(at: now)
        preemptsFrom = now + parameters.preemptDelay
        return [.log(.info, "(\(name)) Entering BACKUP STATE"), .entered(.backup)]
    }

    /// The process ends: the others need not wait for the master-down interval.
    mutating func stop() -> [Action] {
        let wasMaster = state == .master
        state = .initialize
        deadline = .distantFuture
        nextAnnouncement = nil
        isReadyForMaster = false
        return wasMaster ? farewell() : []
    }

    // MARK: the sync group's orders

    mutating func becomeMaster(at now: Instant) -> [Action] {
        state = .master
        master = nil
        isReadyForMaster = false
        deadline = now + parameters.interval
        nextAnnouncement = nil
        if parameters.garpDelay > .zero, parameters.garpRepeat > 0 {
            nextAnnouncement = (now + parameters.garpDelay, parameters.garpRepeat)
        } else {
            scheduleRefresh(at: now)
        }
        return [
            .log(.info, "(\(name)) Entering MASTER STATE"),
            .log(.info, "(\(name)) setting VIPs."),
            .sendAdvert(priority: priority), .addAddresses, .announceAddresses(repeats: parameters.garpRepeat), .entered(.master),
        ]
    }

    mutating func becomeBackup(at now: Instant) -> [Action] {
        guard state == .master else { return [] }
        return leave(to: .backup, saying: true, at: now)
    }

    // MARK: parts

    private mutating func leave(to next: State, saying: Bool, at now: Instant) -> [Action] {
        let wasMaster = state == .master
        state = next
        isReadyForMaster = false
        nextAnnouncement = nil
        if next == .backup {
            waitForMaster(at: now)
            preemptsFrom = now + parameters.preemptDelay
        } else {
            deadline = .distantFuture
        }
        var actions = [Action.log(.info, "(\(name)) Entering \(next.rawValue) STATE")]
        if wasMaster {
            actions += saying ? farewell() : [.log(.info, "(\(name)) removing VIPs."), .removeAddresses]
        }
        return actions + [.entered(next)]
    }

    private func farewell() -> [Action] {
        [
            .sendAdvert(priority: 0), .log(.info, "(\(name)) sent 0 priority"),
            .log(.info, "(\(name)) removing VIPs."), .removeAddresses,
        ]
    }

    private mutating func waitForMaster(at now: Instant) {
        isReadyForMaster = false
        deadline = now + masterDownInterval
    }

    private mutating func scheduleRefresh(at now: Instant) {
        nextAnnouncement = parameters.garpRefresh > .zero ? (now + parameters.garpRefresh, parameters.garpRefreshRepeat) : nil
    }

    private func text(_ address: UInt32) -> String { SocketAddress.ipv4(address, port: 0).host }
}

extension VirtualRouter {
    /// Why an advert for this virtual router id is dropped; nil when it counts. As Keepalived 2.2.7 checks it.
    ///
    /// - Parameter timeToLive: of the packet; nil when it need not be 255 (unicast).
    func refusal(of advert: Advert, timeToLive: UInt8?) -> String? {
        if let timeToLive, timeToLive != Advert.timeToLive { return "invalid TTL \(timeToLive), expected 255" }
        if advert.version != parameters.version {
            return "VRRP version \(advert.version.rawValue), expected \(parameters.version.rawValue)"
        }
        if advert.version == .v2 {
            switch (parameters.password, advert.password) {
            case (nil, .some): return "a password, where none is configured"
            case (.some, nil): return "no password, where one is configured"
            case let (ours?, theirs?) where Advert.padded(ours) != theirs: return "a wrong password"
            default: break
            }
            if advert.intervalCentiseconds != parameters.intervalCentiseconds {
                return "advertisement interval mismatch: mine \(parameters.intervalCentiseconds / 100) s, received \(advert.intervalCentiseconds / 100) s"
            }
        }
        if let strange = advert.addresses.first(where: { !parameters.addresses.contains($0) }) {
            return "address \(text(strange)), which is not ours"
        }
        if let missing = parameters.addresses.first(where: { !advert.addresses.contains($0) }) {
            return "no address \(text(missing)), which is ours"
        }
        return nil
    }
}
