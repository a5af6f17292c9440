import Glibc
import RESP

/// Active expiry: keys whose time is over go although nobody looks for them.
///
/// The keys that expire are gone through a few buckets at a time, for at most `slice` nanoseconds. How soon the next turn comes follows from
/// how many of those seen were over: at once while there are many, ten milliseconds later while there are some, and else with the next
/// beat of the cron. So a million keys that end in the same second are gone in little more than the time that freeing them takes, and
/// between any two turns everybody else is served.
struct ActiveExpiry {
    /// How long one turn may take.
    static let slice: UInt64 = 800_000
    /// Buckets that are gone through before the clock is looked at.
    static let buckets = 16
    /// Turns ended early because nearly nothing was over look at no more buckets than this.
    static let bucketsIdle = 64

    /// The database that comes next.
    var nextDatabase = 0
    var isScheduled = false
    /// INFO: nanoseconds spent, turns that ran out of time, and the running share of keys seen that were over.
    var nanoseconds: UInt64 = 0
    var timesExhausted: UInt64 = 0
    var staleShare = 0.0

    /// Keys seen, and of these those that were over.
    struct Count {
        var seen = 0
        var dead = 0
    }
}

extension StoreServer {
    /// One turn, and the next when there is more to be had.
    func expireActively() {
        guard !replication.isReplica, !gate.contains(.loading), configuration.isActiveExpiryOn, !activeExpiry.isScheduled else { return }
        // While writes are paused, the data set does not change.
        if gate.contains(.paused), isPaused(for: .write) { return }
        let start = StoreServer.nanoseconds()
        var count = ActiveExpiry.Count()
        for _ in 0..<databases.count {
            let db = databases[activeExpiry.nextDatabase]
            if db.expiring.count > 0, !expireActively(db, until: start + ActiveExpiry.slice, &count) { break }
            activeExpiry.nextDatabase = (activeExpiry.nextDatabase + 1) % databases.count
        }
        activeExpiry.nanoseconds += StoreServer.nanoseconds() - start
        guard count.seen > 0 else { return }
        activeExpiry.staleShare = activeExpiry.staleShare * 0.95 + Double(count.dead) / Double(count.seen) * 0.05
        // At the least effort, at once from one in twenty on, and soon from one in a hundred on.
        let effort = configuration.expiryEffort
        if count.dead * 20 * effort >= count.seen {
            scheduleExpiry(after: .zero)
        } else if count.dead * 100 * effort >= count.seen {
            scheduleExpiry(after: .milliseconds(10))
        }
    }

    private func scheduleExpiry(after delay: Duration) {
        activeExpiry.isScheduled = true
        loop.schedule(after: delay, label: "active expiry") { [unowned self] in
            activeExpiry.isScheduled = false
            expireActively()
        }
    }

    /// Goes through a database's expiring keys from where the last turn ended.
    /// - Returns: false when the time is over.
    private func expireActively(_ db: Database, until deadline: UInt64, _ total: inout ActiveExpiry.Count) -> Bool {
        let now = loop.wallMilliseconds
        var buckets = 0
        var here = ActiveExpiry.Count()
        defer {
            total.seen += here.seen
            total.dead += here.dead
        }
        return withUnsafeTemporaryAllocation(of: UnsafeMutableRawPointer.self, capacity: 256) { dead in
            repeat {
                var count = 0
                for _ in 0..<ActiveExpiry.buckets {
                    db.state.pointee.expiryCursor = db.expiring.scan(db.state.pointee.expiryCursor) { element in
                        here.seen += 1
                        if Entry(element).expiry <= now, count < dead.count {
                            dead.initializeElement(at: count, to: element)
                            count += 1
                        }
                    }
                    buckets += 1
                    // A pass is over, or there is no room for another bucket's keys.
                    if db.state.pointee.expiryCursor == 0 || count > dead.count / 2 { break }
                }
                here.dead += count
                for i in 0..<count {
                    if let position = db.find(Entry(dead[i]).key) { expire(db, position) }
                }
                if StoreServer.nanoseconds() > deadline {
                    activeExpiry.timesExhausted += 1
                    return false
                }
                // Where little is over, it is not worth the time; nor is a small database gone through twice.
                let isWorthIt = here.dead * 20 * configuration.expiryEffort >= here.seen
                if !isWorthIt, buckets >= ActiveExpiry.bucketsIdle || db.state.pointee.expiryCursor == 0 { return true }
            } while db.expiring.count > 0
            return true
        }
    }

    /// Removes an entry whose time is over and says so.
    func expire(_ db: Database, _ position: Database.Position) {
        let entry = db.take(at: position)
        expired(db, entry.key)
        entry.freeValue()
        entry.free()
    }

    /// Says that a key is gone whose time was over.
    @inline(never)
    func expired(_ db: Database, _ key: Argument) {
        statistics.expiredKeys += 1
        // Nothing is to be confirmed: a replica knows the time too.
        if db.state.pointee.watchedKeys != 0 { touchWatchers(db, key) }
        if !configuration.notifiedEvents.isEmpty { notify(.expired, "expired", key, db) }
        feedDeletion(db, key, isLazy: configuration.unlinksExpired)
    }
}
