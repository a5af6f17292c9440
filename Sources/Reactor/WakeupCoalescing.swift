/// Decides when the loop, with nothing to do, pauses for a moment before it asks for events.
///
/// A loop that is faster than those who ask is woken for every single request: each costs a sleep, a wake-up and an `epoll_wait`
/// of its own, and the askers, answered one by one, are woken as often. A short pause lets several requests gather, as a network
/// card coalesces its interrupts. Measured with redis-benchmark, 50 connections, no pipeline: a fifth less CPU per request and a
/// sixth more requests per second; with five connections it would halve them, since all of them wait out every pause.
///
/// So it is tried. After a run of waits that were shorter than a pause, some pauses are made, and the events per second of both
/// are compared. When pauses gather too little or slow things down, the next trial comes after twice as many short waits; when
/// they help they go on, and are put to the test again now and then. One client that waits for every answer loses a few
/// thousandths of its time to the trials.
///
/// What gathers must keep the loop busy for longer than it paused. Clients that ask at a pace of their own leave it idle in between,
/// and a pause is only latency to them: at 70 % of redis-server's most their median was four times Redis's, and is Redis's now.
struct WakeupCoalescing {
    /// In nanoseconds.
    static let pause: UInt64 = 50_000
    /// Events that a pause must gather on average to be worth its own wake-up.
    private static let gatheredMin = 4
    /// ... and nanoseconds for which they must keep the loop busy. Chosen from trials that asked for 8, 10 and 12 events instead, of 7 µs each,
    /// with 50 clients: 12 kept an open load of 70 % free of pauses, and a saturating one nearly always paused.
    private static let busyMin = pause / 10 * 16
    private static let trialPauses = 32
    private static let provenPauses = 512
    private static let shortWaitsMin = 128
    private static let shortWaitsMax = 16_384

    /// Whether the next wait is to begin with a pause.
    private(set) var isOn = false
    private var isProven = false
    private var shortWaitsNeeded = WakeupCoalescing.shortWaitsMin
    /// Waits of the run or trial under way, their events, and when it began.
    private var waits = 0
    private var events = 0
    private var began: UInt64 = 0
    /// Nanoseconds of it spent waiting.
    private var idle: UInt64 = 0
    /// Nanoseconds per event of the run before the trial.
    private var usualPace: Double = 0

    /// Tells what came of a wait that would have blocked.
    /// - Parameters:
    ///   - start: when it began, in nanoseconds of the monotonic clock.
    ///   - end: when it was over.
    mutating func waited(from start: UInt64, to end: UInt64, events count: Int, paused: Bool) {
        if isOn {
            // Waits too short for a pause (a timer is due) say nothing.
            if paused { endPause(from: start, to: end, events: count) }
            return
        }
        guard count > 0, end - start < WakeupCoalescing.pause else {
            waits = 0
            return
        }
        if waits == 0 { restart(at: start) }
        waits += 1
        events += count
        guard waits == shortWaitsNeeded else { return }
        usualPace = Double(end - began) / Double(events)
        isOn = true
        isProven = false
        restart(at: end)
    }

    private mutating func endPause(from start: UInt64, to end: UInt64, events count: Int) {
        waits += 1
        events += count
        idle += end - start
        guard waits == (isProven ? WakeupCoalescing.provenPauses : WakeupCoalescing.trialPauses) else { return }
        let helps = events >= waits * WakeupCoalescing.gatheredMin && end - began - idle >= UInt64(waits) * WakeupCoalescing.busyMin
            && Double(end - began) / Double(events) < usualPace * 1.2
        if helps, !isProven {
            isProven = true
            shortWaitsNeeded = WakeupCoalescing.shortWaitsMin
        } else {
            // Proven ones too: what is usual without pauses has to be seen again.
            isOn = false
            if !helps { shortWaitsNeeded = min(shortWaitsNeeded * 2, WakeupCoalescing.shortWaitsMax) }
        }
        restart(at: end)
    }

    private mutating func restart(at time: UInt64) {
        waits = 0
        events = 0
        idle = 0
        began = time
    }
}
