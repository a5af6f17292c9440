import Reactor

/// A reply that must not leave before replicas have acknowledged an offset of the stream.
struct ReplyBarrier {
    /// Where the reply is in its connection's output; see `Connection.outputPosition`.
    var start: Int
    var end: Int
    let offset: Int64
    let since: Instant
    /// The reply is that of a write; else it shows what somebody wrote.
    let isWrite: Bool
}

/// One connection's replies that wait, in the order in which they leave: a ring in raw memory.
struct ReplyBarriers {
    private var base: UnsafeMutablePointer<ReplyBarrier>?
    private var head = 0
    private var capacity = 0
    private(set) var count = 0

    private static let capacityLeast = 16
    /// More room than this is given back when the ring has become empty.
    private static let capacityKept = 1024

    var isEmpty: Bool { count == 0 }
    /// Bytes that the ring takes.
    var memory: Int { capacity * MemoryLayout<ReplyBarrier>.stride }

    func deallocate() { base?.deallocate() }

    /// The barrier at `index`, 0 for the one that leaves first.
    subscript(_ index: Int) -> ReplyBarrier { base![(head &+ index) & (capacity &- 1)] }

    var first: ReplyBarrier? { count == 0 ? nil : self[0] }

    /// O(1) amortised.
    mutating func append(_ barrier: ReplyBarrier) {
        if count == capacity { grow() }
        (base! + ((head &+ count) & (capacity &- 1))).initialize(to: barrier)
        count &+= 1
    }

    private mutating func grow() {
        let larger = max(ReplyBarriers.capacityLeast, capacity * 2)
        let moved = UnsafeMutablePointer<ReplyBarrier>.allocate(capacity: larger)
        for i in 0..<count { (moved + i).initialize(to: self[i]) }
        base?.deallocate()
        (base, head, capacity) = (moved, 0, larger)
    }

    mutating func removeFirst(_ number: Int = 1) {
        head = (head &+ number) & (capacity &- 1)
        count &-= number
        guard count == 0, capacity > ReplyBarriers.capacityKept else { return }
        base?.deallocate()
        (base, head, capacity) = (nil, 0, 0)
    }

    /// All of them lie so much further back: what is before them has grown. O(count).
    mutating func shift(by growth: Int) {
        guard growth != 0 else { return }
        for i in 0..<count {
            let barrier = base! + ((head &+ i) & (capacity &- 1))
            barrier.pointee.start += growth
            barrier.pointee.end += growth
        }
    }
}
