import Glibc
import RESP

/// The best candidates for eviction that sampling has come across, best last.
///
/// A few keys drawn at random say little about which one is the oldest of all; the best of many draws say a lot, and a key that was not
/// taken today is a good candidate tomorrow (the idea is Salvatore Sanfilippo's, from Redis 3.0). Names are copied, so that nothing
/// dangles: what has gone or been used since is noticed when its turn comes.
struct EvictionPool {
    struct Candidate {
        /// How much it deserves to go: how long ago it was used, how rarely it is, or how early it expires.
        fileprivate(set) var score: UInt64 = 0
        fileprivate(set) var db = 0
        /// Memory of the candidate's own, which is used again for the next one.
        fileprivate var name: UnsafeMutablePointer<UInt8>
        fileprivate var nameCount = 0

        /// Valid until something is offered.
        var key: Argument { Argument(base: UnsafePointer(name), count: nameCount) }
    }

    static let capacity = 16
    /// Longer keys are not candidates; where there is nothing else, keys go at random.
    static let keyMax = 1024
    private let candidates = UnsafeMutablePointer<Candidate>.allocate(capacity: EvictionPool.capacity)
    private(set) var count = 0

    init() {
        for i in 0..<EvictionPool.capacity {
            (candidates + i).initialize(to: Candidate(name: .allocate(capacity: EvictionPool.keyMax)))
        }
    }

    func deallocate() {
        for i in 0..<EvictionPool.capacity { candidates[i].name.deallocate() }
        candidates.deallocate()
    }

    /// Whether one of this score would be kept.
    @inline(__always)
    func wants(_ score: UInt64) -> Bool { count < EvictionPool.capacity || score > candidates[0].score }

    /// Keeps a candidate if it is better than the worst, which goes when there is no room. O(capacity).
    mutating func offer(_ key: Argument, db: Int, score: UInt64) {
        guard wants(score), key.count <= EvictionPool.keyMax else { return }
        for i in 0..<count where candidates[i].db == db && candidates[i].key == key {
            remove(at: i)
            break
        }
        if count == EvictionPool.capacity { remove(at: 0) }
        var made = candidates[count]
        made.score = score
        made.db = db
        made.nameCount = key.count
        memcpy(made.name, key.base, key.count)
        var place = count
        while place > 0, candidates[place - 1].score > score {
            candidates[place] = candidates[place - 1]
            place -= 1
        }
        candidates[place] = made
        count += 1
    }

    /// Takes out the best; it is valid until the next is offered.
    mutating func takeBest() -> Candidate? {
        guard count > 0 else { return nil }
        count -= 1
        return candidates[count]
    }

    mutating func removeAll() { count = 0 }

    /// Closes the gap; the memory of the one removed goes to the first free place.
    private mutating func remove(at index: Int) {
        let removed = candidates[index]
        for i in index..<count - 1 { candidates[i] = candidates[i + 1] }
        count -= 1
        candidates[count] = removed
    }
}
