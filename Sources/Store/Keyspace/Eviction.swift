import Glibc
import Logging
import Reactor
import RESP

/// Keeping the store within `maxmemory`.
struct Eviction {
    var pool = EvictionPool()
    /// The database that the random policies look at next.
    var nextDatabase = 0
    /// More is to be evicted than the last call had time for.
    var isScheduled = false
    /// The iteration of the loop in which eviction has used up its time.
    var exhaustedIn: UInt64 = .max
    /// Since when there has been more memory in use than allowed, in nanoseconds; 0 while there is not.
    var exceededSince: UInt64 = 0
    /// For so long there was before, in nanoseconds.
    var exceededTotal: UInt64 = 0

    enum Outcome {
        /// There is room, or there is nothing to be done about it here.
        case enough
        /// Keys go, and more have to: it is gone on with in the next iteration.
        case running
        /// Nothing that may go is left.
        case impossible
    }

    /// Keys that go before the clock is looked at, and that each command makes go though the time is over.
    static let step = 16

    /// How long one call may take (`maxmemory-eviction-tenacity`): half a millisecond at the default of 10, from there on 15 % more with
    /// each, without end at 100.
    static func nanosecondsMax(tenacity: Int) -> UInt64 {
        if tenacity <= 10 { return UInt64(tenacity) * 50_000 }
        if tenacity >= 100 { return .max }
        return UInt64(500_000 * pow(1.15, Double(tenacity - 10)))
    }
}

extension StoreServer {
    private static let outOfMemory = "OOM command not allowed when used memory > 'maxmemory'."
    static let outOfSystemMemory = "OOM command not allowed when the system gives no more memory."

    /// Why a command that needs memory is refused.
    var memoryRefusal: String { memory.systemLimit == nil ? StoreServer.outOfMemory : StoreServer.outOfSystemMemory }

    /// Bytes that count against `maxmemory`: all but what waits to be sent to replicas, lest eviction feed itself.
    private var countedMemory: Int { usedMemory - uncountedMemory }

    /// What waits to be sent to replicas.
    var uncountedMemory: Int { replication.excessMemory }

    /// Evicts keys while there are too many, in bounded time.
    func makeRoom() -> Eviction.Outcome {
        let limit = min(memory.systemLimit ?? .max, configuration.maxMemory > 0 ? configuration.maxMemory : .max)
        guard countedMemory > limit else {
            leaveExcess()
            return .enough
        }
        // While writes are paused, the data set does not change.
        if gate.contains(.paused), isPaused(for: .write) { return .enough }
        if eviction.exceededSince == 0 { eviction.exceededSince = StoreServer.nanoseconds() }
        if configuration.evictionPolicy == .noEviction { return .impossible }
        return evict(downTo: limit)
    }

    private func leaveExcess() {
        guard eviction.exceededSince != 0 else { return }
        eviction.exceededTotal += StoreServer.nanoseconds() - eviction.exceededSince
        eviction.exceededSince = 0
    }

    private func evict(downTo limit: Int) -> Eviction.Outcome {
        let iteration = loop.statistics.iterations
        let isExhausted = eviction.exhaustedIn == iteration
        let start = StoreServer.nanoseconds()
        let most = Eviction.nanosecondsMax(tenacity: configuration.evictionTenacity)
        var evicted = 0
        while countedMemory > limit {
            if heap.isReclaiming {
                // A large value has gone, but not its memory: that first, or more would go than has to.
                heap.reclaim(64)
                if isExhausted || StoreServer.nanoseconds() - start > most {
                    eviction.exhaustedIn = iteration
                    continueEvicting()
                    return .running
                }
                continue
            }
            guard let (db, position) = chooseVictim() else { return .impossible }
            evict(db, position)
            evicted += 1
            guard evicted % Eviction.step == 0 else { continue }
            if isExhausted || StoreServer.nanoseconds() - start > most {
                eviction.exhaustedIn = iteration
                continueEvicting()
                return .running
            }
        }
        leaveExcess()
        return .enough
    }

    /// Goes on in the next iteration, whether or not a command comes.
    func continueEvicting() {
        guard !eviction.isScheduled else { return }
        eviction.isScheduled = true
        loop.schedule(after: .zero, label: "eviction") { [unowned self] in
            eviction.isScheduled = false
            if gate.contains(.memoryLimited), !gate.contains(.loading) { _ = makeRoom() }
        }
    }

    private func evict(_ db: Database, _ position: Database.Position) {
        let entry = db.take(at: position)
        statistics.evictedKeys += 1
        keyChanged(db, entry.key)
        if !configuration.notifiedEvents.isEmpty { notify(.evicted, "evicted", entry.key, db) }
        feedDeletion(db, entry.key, isLazy: configuration.unlinksEvicted)
        entry.freeValue()
        entry.free()
    }

    // MARK: choosing

    private func chooseVictim() -> (Database, Database.Position)? {
        let policy = configuration.evictionPolicy
        switch policy {
        case .allKeysRandom, .volatileRandom: return chooseAtRandom(policy)
        case .noEviction: return nil
        case .allKeysLRU, .allKeysLFU, .volatileLRU, .volatileLFU, .volatileTTL: return chooseBest(policy)
        }
    }

    private func chooseAtRandom(_ policy: EvictionPolicy) -> (Database, Database.Position)? {
        for _ in 0..<databases.count {
            let db = databases[eviction.nextDatabase]
            eviction.nextDatabase = (eviction.nextDatabase + 1) % databases.count
            let table = policy.isVolatile ? db.expiring : db.entries
            guard let element = table.random(using: &random), let position = db.find(Entry(element).key) else { continue }
            return (db, position)
        }
        return nil
    }

    private func chooseBest(_ policy: EvictionPolicy) -> (Database, Database.Position)? {
        // Candidates of an earlier policy are worth nothing under another: each is looked at again when its turn comes.
        for _ in 0..<64 {
            var hasKeys = false
            for db in databases {
                let table = policy.isVolatile ? db.expiring : db.entries
                guard table.count > 0 else { continue }
                hasKeys = true
                sample(db, table, policy)
            }
            guard hasKeys else { return nil }
            while let candidate = eviction.pool.takeBest() {
                let db = databases[candidate.db]
                guard let position = db.find(candidate.key) else { continue }
                let entry = Entry(position.element)
                // Used, or given another expiry, since it was drawn.
                guard entry.hasExpiry || !policy.isVolatile, score(entry, policy) >= candidate.score >> 8 else { continue }
                return (db, position)
            }
        }
        // Nothing but keys too long for the pool, or a table that is nearly empty for its size.
        return chooseAtRandom(policy)
    }

    /// Offers at least `maxmemory-samples` keys to the pool: whole buckets of them from a random one on. What shares a bucket has nothing
    /// else in common, so these are as good as independent draws, for the price of a cache line or two.
    private func sample(_ db: Database, _ table: Table<EntryElement>, _ policy: EvictionPolicy) {
        var seen = 0
        var bits = random.next()
        var cursor = bits & 0xFFFF_FFFF
        for _ in 0..<configuration.evictionSamples * 8 {
            cursor = table.scan(cursor) { element in
                seen += 1
                let entry = Entry(element)
                // Of those that are alike, chance chooses: the first in a bucket is often the one that came last.
                bits = bits &* 0x5851_F42D_4C95_7F2D &+ 1
                let score = score(entry, policy) << 8 | bits >> 56
                if eviction.pool.wants(score) { eviction.pool.offer(entry.key, db: db.id, score: score) }
            }
            if seen >= configuration.evictionSamples { return }
        }
    }

    /// How much an entry deserves to go: the more, the sooner. Less than 2^56.
    @inline(__always)
    private func score(_ entry: Entry, _ policy: EvictionPolicy) -> UInt64 {
        switch policy {
        case .allKeysLFU, .volatileLFU: 255 - UInt64(clock.frequency(entry.clock))
        case .volatileTTL: 1 << 55 - UInt64(min(max(0, entry.expiry), 1 << 54))
        // Not for how long it has been idle but since when: that stays comparable while candidates wait.
        default: 1 << 55 - UInt64(clock.milliseconds / 1000) + UInt64(clock.idle(entry.clock))
        }
    }

    // MARK: the rest

    /// What follows from the directives about memory.
    func memoryLimitsChanged() {
        let use = clock.use
        use.pointee.decayMinutes = configuration.frequencyDecayMinutes
        use.pointee.logFactor = configuration.frequencyLogFactor
        if use.pointee.countsFrequency != configuration.evictionPolicy.countsFrequency {
            use.pointee.countsFrequency = configuration.evictionPolicy.countsFrequency
        }
        eviction.pool.removeAll()
        updateGate()
        if gate.contains(.memoryLimited) { continueEvicting() }
    }

    /// Says that a new limit is below what is in use.
    func warnOfExcess() {
        let limit = configuration.maxMemory
        guard limit > 0, usedMemory > limit else { return }
        logger.warning("""
            WARNING: the new maxmemory value set via CONFIG SET (\(limit)) is smaller than the current memory usage (\(usedMemory)). \
            This will result in key eviction and/or the inability to accept new write commands depending on the maxmemory-policy.
            """)
    }
}
