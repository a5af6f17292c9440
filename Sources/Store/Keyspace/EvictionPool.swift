/// The best candidates for eviction that sampling has come across, best last.
///
/// A few keys drawn at random say little about which one is the oldest of all; the best of many draws say a lot, and a key that was not
/// taken today is a good candidate tomorrow (the idea is Salvatore Sanfilippo's, from Redis 3.0). Keys are remembered by their hashes,
/// so that nothing is copied and nothing dangles: what has gone, moved or been used since is noticed when its turn comes.
struct EvictionPool {
    struct Candidate {
        /// How much it deserves to go: how long ago it was used, how rarely it is, or how early it expires.
        var score: UInt64
        let hash: UInt64
        let db: Int32
    }

    static let capacity = 16
    private let candidates = UnsafeMutablePointer<Candidate>.allocate(capacity: EvictionPool.capacity)
    private(set) var count = 0

    func deallocate() { candidates.deallocate() }

    /// Whether one of this score would be kept.
    @inline(__always)
    func wants(_ score: UInt64) -> Bool { count < EvictionPool.capacity || score > candidates[0].score }

    /// Keeps a candidate if it is better than the worst, which goes when there is no room. O(capacity).
    mutating func offer(_ candidate: Candidate) {
        guard wants(candidate.score) else { return }
        for i in 0..<count where candidates[i].hash == candidate.hash && candidates[i].db == candidate.db {
            remove(at: i)
            break
        }
        if count == EvictionPool.capacity { remove(at: 0) }
        var place = count
        while place > 0, candidates[place - 1].score > candidate.score {
            candidates[place] = candidates[place - 1]
            place -= 1
        }
        candidates[place] = candidate
        count += 1
    }

    /// Takes out the best.
    mutating func takeBest() -> Candidate? {
        guard count > 0 else { return nil }
        count -= 1
        return candidates[count]
    }

    mutating func removeAll() { count = 0 }

    private mutating func remove(at index: Int) {
        for i in index..<count - 1 { candidates[i] = candidates[i + 1] }
        count -= 1
    }
}
