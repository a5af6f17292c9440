import Glibc

// Going along the elements, and drawing one.
extension Table {
    /// Visits each element once; the table must not change meanwhile, but the element just visited may be freed. O(n).
    func forEach(_ visit: (Pointer) -> Void) {
        let main = state.pointee.main
        for i in state.pointee.moved..<main.count { Table.forEach(inChain: main.buckets! + Int(i) * 64, visit) }
        let next = state.pointee.next
        for i in 0..<filledOfNext { Table.forEach(inChain: next.buckets! + Int(i) * 64, visit) }
    }

    static func forEach(inChain first: Pointer, _ visit: (Pointer) -> Void) {
        forEachPosition(inChain: first) { visit($0.element) }
    }

    @inline(__always)
    private static func forEachPosition(inChain first: Pointer, _ visit: (Position) -> Void) {
        var bucket = first
        while true {
            let presence = bucket.load(as: UInt8.self)
            var held = presence & (presence & 0x80 != 0 ? 0x3F : 0x7F)
            while held != 0 {
                visit(Position(bucket: bucket, index: held.trailingZeroBitCount))
                held &= held &- 1
            }
            if presence & 0x80 == 0 { return }
            bucket = Slot(bucket, 6).pointer
        }
    }

    /// Visits the elements of one bucket and answers with the cursor of the next; 0 begins and ends.
    ///
    /// What is in the table from the first call to the last is visited once, however the table is resized between calls: the cursor is a
    /// place in the row that the hashes make, and elements keep theirs.
    func scan(_ cursor: UInt64, _ visit: (Pointer) -> Void) -> UInt64 { scanPositions(cursor) { visit($0.element) } }

    /// The same with the elements' positions: another element with the same key may be put there.
    func scanPositions(_ cursor: UInt64, _ visit: (Position) -> Void) -> UInt64 {
        guard count > 0, cursor < 1 << 32 else { return 0 }
        let main = state.pointee.main
        var index = Table.index(cursor, main.count)
        var end: UInt64
        if index >= state.pointee.moved {
            visitChain(main, index, from: cursor, visit)
            end = Table.firstPlace(index + 1, main.count)
        } else {
            let next = state.pointee.next
            index = Table.index(cursor, next.count)
            visitChain(next, index, from: cursor, visit)
            // What a bucket of the next array will get from buckets that have not been moved is visited there.
            end = min(Table.firstPlace(index + 1, next.count), Table.firstPlace(state.pointee.moved, main.count))
        }
        return end < 1 << 32 ? end : 0
    }

    /// Visits the elements of a bucket from a place on: those before it were visited when the table had other buckets.
    private func visitChain(_ array: Array, _ index: UInt64, from cursor: UInt64, _ visit: (Position) -> Void) {
        let bucket = array.buckets! + Int(index) * 64
        let firstPlace = Table.firstPlace(index, array.count)
        if firstPlace == cursor { return Table.forEachPosition(inChain: bucket, visit) }
        Table.forEachPosition(inChain: bucket) { position in
            let slot = Slot(position.bucket, position.index)
            let tag = position.bucket.load(fromByteOffset: 1 &+ position.index, as: UInt8.self)
            if place(of: slot, tag, firstPlace, array.count) >= cursor { visit(position) }
        }
    }

    // MARK: random elements

    /// An element, each with the same chance. Expected O(1).
    func random<Generator: RandomNumberGenerator>(using generator: inout Generator) -> Pointer? {
        randomPosition(using: &generator)?.element
    }

    /// The position of an element, each with the same chance. Expected O(1).
    func randomPosition<Generator: RandomNumberGenerator>(using generator: inout Generator) -> Position? {
        randomPosition(generator.next())
    }

    /// The position that these random bits lead to: the same as long as the table does not change.
    ///
    /// A bucket is drawn, and a number below what hardly any bucket holds: when the bucket holds as many, that element is it, and else
    /// both are drawn again. So an element's chance does not depend on how many others lie in its bucket.
    @inline(__always)
    func randomPosition(_ bits: UInt64) -> Position? {
        guard count > 0 else { return nil }
        let range = DrawRange(self)
        var draw = RandomDraw(bits)
        while true {
            let bucket = range.bucket(draw.below(range.total))
            let wanted = draw.low(below: range.crowding)
            let presence = bucket.load(as: UInt8.self)
            if presence & 0x80 == 0, wanted < range.crowding - 1 {
                if wanted < presence.nonzeroBitCount { return Position(bucket: bucket, index: Table.bit(wanted, of: presence)) }
            } else {
                let held = Table.count(inChain: bucket)
                if wanted < held {
                    // The last number stands for all elements from there on.
                    let chosen = wanted < range.crowding - 1 ? wanted : wanted + draw.spare(below: held - wanted)
                    return Table.position(inChain: bucket, chosen)
                }
            }
            draw.again()
        }
    }

    /// What buckets are drawn from: those of `main` that have not been moved, then those of the next array that hold something.
    private struct DrawRange {
        let main: Pointer
        let next: Pointer
        let left: Int
        let total: Int
        /// One more than nearly every bucket holds: all but one in some ten thousand.
        let crowding: Int

        @inline(__always)
        init(_ table: Table) {
            let state = table.state
            left = Int(truncatingIfNeeded: state.pointee.main.count &- state.pointee.moved)
            main = state.pointee.main.buckets.unsafelyUnwrapped + Int(truncatingIfNeeded: state.pointee.moved) &* 64
            if state.pointee.next.count == 0 {
                next = main
                total = left
                crowding = 5 &+ 2 &* state.pointee.used / total
            } else {
                next = state.pointee.next.buckets.unsafelyUnwrapped
                total = left &+ Int(table.filledOfNext)
                // The array with fewer buckets has the fuller ones.
                let fewer = Swift.min(state.pointee.main.count, state.pointee.next.count)
                crowding = 6 &+ 2 &* state.pointee.used / Int(fewer)
            }
        }

        @inline(__always)
        func bucket(_ number: Int) -> Pointer { number < left ? main + number &* 64 : next + (number &- left) &* 64 }
    }

    /// Loads the buckets that random bits are likely to choose from into the cache.
    @inline(__always)
    func touchBuckets(random bits: UInt64) -> UInt64 {
        guard count > 0 else { return 0 }
        let range = DrawRange(self)
        var draw = RandomDraw(bits)
        var sum: UInt64 = 0
        for _ in 0..<4 {
            sum &+= range.bucket(draw.below(range.total)).load(as: UInt64.self)
            draw.again()
        }
        return sum
    }

    /// Loads the beginning of the element that random bits lead to into the cache.
    @inline(__always)
    func touchElement(random bits: UInt64) -> UInt64 { randomPosition(bits).map { Table.touch($0.element) } ?? 0 }

    private static func count(inChain first: Pointer) -> Int {
        var bucket = first
        var count = 0
        while true {
            let head = bucket.load(as: UInt8.self)
            if head & 0x80 == 0 { return count + head.nonzeroBitCount }
            count += (head & 0x3F).nonzeroBitCount
            bucket = Slot(bucket, 6).pointer
        }
    }

    /// The element of that number, which is there, in a chain of buckets.
    private static func position(inChain first: Pointer, _ number: Int) -> Position {
        var bucket = first
        var rest = number
        while true {
            let head = bucket.load(as: UInt8.self)
            let presence = head & (head & 0x80 != 0 ? 0x3F : 0x7F)
            let here = presence.nonzeroBitCount
            if rest < here { return Position(bucket: bucket, index: Table.bit(rest, of: presence)) }
            rest -= here
            bucket = Slot(bucket, 6).pointer
        }
    }

    /// The number of the bit that has `rank` others below it.
    @inline(__always)
    private static func bit(_ rank: Int, of presence: UInt8) -> Int {
        var presence = presence
        for _ in 0..<rank { presence &= presence &- 1 }
        return presence.trailingZeroBitCount
    }
}

/// Draws that follow from one random number, as many as are needed (SplitMix64).
private struct RandomDraw {
    private var state: UInt64
    private var bits: UInt64

    @inline(__always)
    init(_ bits: UInt64) {
        state = bits
        self.bits = bits
    }

    @inline(__always)
    mutating func again() {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        bits = z ^ z >> 31
    }

    /// From the upper bits.
    @inline(__always)
    func below(_ limit: Int) -> Int { Int(truncatingIfNeeded: UInt64(limit).multipliedFullWidth(by: bits).high) }

    /// From the lower 32 bits.
    @inline(__always)
    func low(below limit: Int) -> Int { Int(truncatingIfNeeded: ((bits & 0xFFFF_FFFF) &* UInt64(limit)) >> 32) }

    /// From bits in the middle, for what is hardly ever needed.
    func spare(below limit: Int) -> Int { Int(truncatingIfNeeded: bits >> 11 & 0xFFFF) % limit }
}
