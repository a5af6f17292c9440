import Reactor

/// Events per second as HAProxy counts them: this second's, and what is left of the last one's.
struct Rate {
    private var second: Int64 = 0
    private var current = 0
    private var previous = 0
    private(set) var highest = 0

    mutating func count(at milliseconds: Int64) {
        turn(to: milliseconds / 1000)
        current += 1
        highest = max(highest, current)
    }

    mutating func value(at milliseconds: Int64) -> Int {
        turn(to: milliseconds / 1000)
        // The last second counts for the part of it that lies within one second from now.
        return current + previous * Int(999 - milliseconds % 1000) / 1000
    }

    mutating func resetHighest() { highest = 0 }

    private mutating func turn(to now: Int64) {
        guard now != second else { return }
        previous = now == second + 1 ? current : 0
        current = 0
        second = now
    }
}

/// The counters that `show stat` shows of a frontend, a backend or a server.
struct Counters {
    var current = 0
    var currentMax = 0
    var total = 0
    var bytesIn: UInt64 = 0
    var bytesOut: UInt64 = 0
    var rate = Rate()
    /// Of backends and servers: sessions waiting now and at most.
    var queueMax = 0
    var connectErrors = 0
    var responseErrors = 0
    var retries = 0
    var redispatches = 0
    var clientAborts = 0
    var serverAborts = 0
    var chosen = 0
    /// Of frontends and backends: connections closed because there was nowhere to send them.
    var denied = 0
    var connects = 0
    /// Wall clock in milliseconds when the last session was assigned; nil for never.
    var lastSession: Int64?
    var queueTime = TimeAverage()
    var connectTime = TimeAverage()
    var totalTime = TimeAverage()

    mutating func begin(at milliseconds: Int64) {
        current += 1
        currentMax = max(currentMax, current)
        total += 1
        rate.count(at: milliseconds)
    }

    /// `clear counters`: the maxima; with `all` everything but what is going on now.
    mutating func clear(all: Bool) {
        if all {
            let going = current
            self = Counters()
            current = going
        }
        currentMax = current
        queueMax = 0
        rate.resetHighest()
        queueTime.highest = 0
        connectTime.highest = 0
        totalTime.highest = 0
    }
}

/// The mean of a duration over the last 512 sessions, sliding, in milliseconds.
struct TimeAverage {
    private static let window = 512
    private var sum = 0
    private var count = 0
    var highest = 0

    var value: Int { count == 0 ? 0 : sum / count }

    mutating func add(_ milliseconds: Int) {
        highest = max(highest, milliseconds)
        if count < TimeAverage.window {
            count += 1
            sum += milliseconds
        } else {
            sum += milliseconds - sum / TimeAverage.window
        }
    }
}
