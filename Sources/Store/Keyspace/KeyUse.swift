import Reactor

/// How the databases of a server keep track of when and how often keys are used.
struct KeyUse {
    /// Each use sets the second of it, and nothing else is to be considered: what all but LFU and CLIENT NO-TOUCH want.
    private(set) var isPlain = true
    /// Entries count how often they are used (LFU).
    var countsFrequency = false { didSet { update() } }
    /// The client under way leaves no traces (CLIENT NO-TOUCH).
    var isHeld = false { didSet { update() } }
    /// `lfu-decay-time` and `lfu-log-factor`.
    var decayMinutes = 1
    var logFactor = 10
    var random = FastRandom()

    private mutating func update() { isPlain = !countsFrequency && !isHeld }
}

/// The moment, and how uses of keys are kept track of: what all databases of a server share.
struct KeyspaceClock {
    let loop: UnsafeMutablePointer<Loop.Clock>
    let use: UnsafeMutablePointer<KeyUse>

    init(_ loop: UnsafeMutablePointer<Loop.Clock>) {
        self.loop = loop
        use = .allocate(capacity: 1)
        use.initialize(to: KeyUse())
    }

    /// Gives back what it allocated; the loop's clock is the loop's.
    func deallocate() { use.deallocate() }

    @inline(__always) var milliseconds: Int64 { loop.pointee.wallMilliseconds }

    /// What a new entry begins with.
    @inline(__always)
    var initial: UInt32 {
        if use.pointee.countsFrequency {
            return AccessClock.clock(frequency: AccessClock.initialFrequency, minutes: AccessClock.minutes(milliseconds))
        }
        return AccessClock.seconds(milliseconds)
    }

    /// What an entry has after one more use.
    @inline(__always)
    func used(_ clock: UInt32) -> UInt32 { use.pointee.isPlain ? AccessClock.seconds(milliseconds) : usedOtherwise(clock) }

    @inline(never)
    private func usedOtherwise(_ clock: UInt32) -> UInt32 {
        if use.pointee.isHeld { return clock }
        return AccessClock.used(
            clock, minutes: AccessClock.minutes(milliseconds), decay: use.pointee.decayMinutes, logFactor: use.pointee.logFactor,
            random: use.pointee.random.next())
    }

    /// What an entry's counter of uses is worth now; only under LFU.
    func frequency(_ clock: UInt32) -> UInt32 {
        AccessClock.frequency(clock, minutes: AccessClock.minutes(milliseconds), decay: use.pointee.decayMinutes)
    }

    /// Seconds since an entry was used; not under LFU.
    func idle(_ clock: UInt32) -> UInt32 { AccessClock.idle(clock, now: AccessClock.seconds(milliseconds)) }

    /// The clock that says so much of an entry's past, as far as the present way of counting can say it; else that of a new entry.
    /// - Parameters:
    ///   - idle: seconds since its last use.
    ///   - frequency: its counter.
    func clock(idle: Int64?, frequency: UInt8?) -> UInt32 {
        if use.pointee.countsFrequency {
            guard let frequency else { return initial }
            return AccessClock.clock(frequency: UInt32(frequency), minutes: AccessClock.minutes(milliseconds))
        }
        return idle.map { AccessClock.clock(idle: $0, now: AccessClock.seconds(milliseconds)) } ?? initial
    }
}
