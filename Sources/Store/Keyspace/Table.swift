import CLinux
import Glibc
import RESP

/// Says where an element keeps its key.
protocol TableElement {
    static func key(of element: UnsafeMutableRawPointer) -> Argument
}

/// A hash table of pointers that grows and shrinks in bounded steps.
///
/// Promise: an operation touches one cache line for each bucket it looks at, and moves at most a few buckets to the new
/// array while the table is being resized; no operation does work proportional to the table. Elements never move.
///
/// The idea of a bucket that is one cache line with seven elements and one byte of each hash beside them is that of
/// Valkey's hashtable (and of Swiss tables before it).
///
///     bucket (64 bytes):
///     0          1 ........ 7   8 ........... 63
///     | presence | 7 tags   |   7 pointers     |
///
/// `presence` has a bit for each position; bit 7 says that the seventh pointer leads to a further bucket instead of an
/// element. A tag is the top byte of the hash. The bucket's number is the low bits of the hash.
struct Table<Element: TableElement> {
    typealias Pointer = UnsafeMutableRawPointer

    struct Array {
        var buckets: Pointer?
        /// Number of buckets, a power of two; 0 for none.
        var count = 0
        /// Elements in it.
        var used = 0
    }

    struct State {
        var main = Array()
        /// The array being filled while resizing.
        var next = Array()
        /// The first bucket of `main` not moved yet; -1 while not resizing.
        var moved = -1
        /// Resizing steps wait while somebody iterates.
        var pauses = 0
        let hash: KeyHash
    }

    /// Where an element is: valid until the table changes.
    struct Position {
        let bucket: Pointer
        let index: Int
        let isInNext: Bool

        @inline(__always)
        var element: Pointer {
            get { bucket.load(fromByteOffset: 8 &+ index &* 8, as: Pointer.self) }
            nonmutating set { bucket.storeBytes(of: newValue, toByteOffset: 8 &+ index &* 8, as: Pointer.self) }
        }
    }

    let state: UnsafeMutablePointer<State>

    init(hash: KeyHash) {
        state = .allocate(capacity: 1)
        state.initialize(to: State(hash: hash))
    }

    /// Frees the table's own memory, not the elements.
    func deallocate() {
        Table.release(state.pointee.main)
        Table.release(state.pointee.next)
        state.deallocate()
    }

    @inline(__always) var count: Int { state.pointee.main.used &+ state.pointee.next.used }
    var isResizing: Bool { state.pointee.moved >= 0 }
    /// Bytes of the bucket arrays (chained buckets not counted).
    var memory: Int { (state.pointee.main.count + state.pointee.next.count) * 64 + MemoryLayout<State>.size }
    var bucketCount: Int { state.pointee.main.count + state.pointee.next.count }

    @inline(__always) func hash(_ key: Argument) -> UInt64 { state.pointee.hash(key) }

    // MARK: find

    /// Finds the element with the key. O(1).
    @inline(__always)
    func find(_ key: Argument, _ hash: UInt64) -> Position? {
        if state.pointee.moved >= 0 { return findWhileResizing(key, hash) }
        return find(key, hash, in: state.pointee.main, isNext: false)
    }

    @inline(__always) func find(_ key: Argument) -> Position? { find(key, hash(key)) }

    @inline(never)
    private func findWhileResizing(_ key: Argument, _ hash: UInt64) -> Position? {
        step()
        if let found = find(key, hash, in: state.pointee.main, isNext: false) { return found }
        guard state.pointee.moved >= 0 else { return nil }
        return find(key, hash, in: state.pointee.next, isNext: true)
    }

    @inline(__always)
    private func find(_ key: Argument, _ hash: UInt64, in array: Array, isNext: Bool) -> Position? {
        if array.used == 0 { return nil }
        var bucket = Table.bucket(array, Int(truncatingIfNeeded: hash))
        let pattern = (hash >> 56) &* 0x0001_0101_0101_0101
        while true {
            let head = bucket.load(as: UInt64.self)
            // A byte of `difference` is zero where a tag is equal (and, rarely, above one that is: the key decides).
            let difference = (head >> 8) ^ pattern
            var candidates = (difference &- 0x0001_0101_0101_0101) & ~difference & 0x0080_8080_8080_8080
            let presence = head & (head & 0x80 != 0 ? 0x3F : 0x7F)
            while candidates != 0 {
                let index = candidates.trailingZeroBitCount >> 3
                candidates &= candidates &- 1
                if presence >> UInt64(index) & 1 != 0 {
                    let position = Position(bucket: bucket, index: index, isInNext: isNext)
                    let found = Element.key(of: position.element)
                    if found.count == key.count, Table.same(found.raw, key.raw, key.count) { return position }
                }
            }
            if head & 0x80 == 0 { return nil }
            bucket = bucket.load(fromByteOffset: 56, as: Pointer.self)
        }
    }

    /// Loads the first bucket of a hash into the cache.
    @inline(__always)
    func touchBucket(_ hash: UInt64) -> UInt64 {
        Table.bucket(state.pointee.main, Int(truncatingIfNeeded: hash)).load(as: UInt64.self)
    }

    /// The element that the hash most likely means, its key not looked at; not while resizing.
    @inline(__always)
    func likelyElement(_ hash: UInt64) -> Pointer? {
        let bucket = Table.bucket(state.pointee.main, Int(truncatingIfNeeded: hash))
        let head = bucket.load(as: UInt64.self)
        let difference = (head >> 8) ^ ((hash >> 56) &* 0x0001_0101_0101_0101)
        let candidates = (difference &- 0x0001_0101_0101_0101) & ~difference & 0x0080_8080_8080_8080
        let index = candidates.trailingZeroBitCount >> 3
        guard candidates != 0, (head & (head & 0x80 != 0 ? 0x3F : 0x7F)) >> UInt64(index) & 1 != 0 else { return nil }
        return bucket.load(fromByteOffset: 8 &+ index &* 8, as: Pointer.self)
    }

    /// Loads the beginning of the element that the hash most likely means into the cache.
    @inline(__always)
    func touchElement(_ hash: UInt64) -> UInt64 { likelyElement(hash).map { Table.touch($0) } ?? 0 }

    /// Loads the buckets that random bits are likely to choose from into the cache.
    @inline(__always)
    func touchBuckets(random bits: UInt64) -> UInt64 {
        var draw = RandomDraw(bits)
        var sum: UInt64 = 0
        for _ in 0..<4 {
            sum &+= Table.bucket(state.pointee.main, draw.below(state.pointee.main.count)).load(as: UInt64.self)
            draw.again()
        }
        return sum
    }

    /// Loads the beginning of the element that random bits lead to into the cache.
    @inline(__always)
    func touchElement(random bits: UInt64) -> UInt64 { randomPosition(bits).map { Table.touch($0.element) } ?? 0 }

    /// Short elements often lie across two cache lines. The allocator's smallest block has room for what is read here.
    @inline(__always)
    private static func touch(_ element: Pointer) -> UInt64 {
        element.load(as: UInt64.self) &+ element.load(fromByteOffset: 16, as: UInt64.self)
    }

    /// Short keys are compared in line: the call to memcmp costs more than they do.
    @inline(__always)
    private static func same(_ a: UnsafeRawPointer, _ b: UnsafeRawPointer, _ n: Int) -> Bool {
        if n >= 8, n <= 16 {
            return a.loadUnaligned(as: UInt64.self) == b.loadUnaligned(as: UInt64.self)
                && a.loadUnaligned(fromByteOffset: n &- 8, as: UInt64.self) == b.loadUnaligned(fromByteOffset: n &- 8, as: UInt64.self)
        }
        if n > 16, n <= 32 {
            return a.loadUnaligned(as: SIMD2<UInt64>.self) == b.loadUnaligned(as: SIMD2<UInt64>.self)
                && a.loadUnaligned(fromByteOffset: n &- 16, as: SIMD2<UInt64>.self)
                    == b.loadUnaligned(fromByteOffset: n &- 16, as: SIMD2<UInt64>.self)
        }
        return memcmp(a, b, n) == 0
    }

    @inline(__always)
    static func bucket(_ array: Array, _ index: Int) -> Pointer {
        array.buckets.unsafelyUnwrapped + (index & (array.count &- 1)) &* 64
    }

    // MARK: insert and remove

    /// Adds an element whose key is not in the table. Amortised O(1).
    func insert(_ element: Pointer, _ hash: UInt64) {
        if state.pointee.moved >= 0 { step() }
        growIfFull()
        if state.pointee.moved >= 0 {
            Table.place(element, hash, &state.pointee.next)
        } else {
            Table.place(element, hash, &state.pointee.main)
        }
    }

    func insert(_ element: Pointer) { insert(element, hash(Element.key(of: element))) }

    private static func place(_ element: Pointer, _ hash: UInt64, _ array: inout Array) {
        var bucket = Table.bucket(array, Int(truncatingIfNeeded: hash))
        let tag = UInt8(truncatingIfNeeded: hash >> 56)
        array.used &+= 1
        while true {
            let presence = bucket.load(as: UInt8.self)
            let free = ~presence & (presence & 0x80 != 0 ? 0x3F : 0x7F)
            if free != 0 {
                put(element, tag, in: bucket, at: free.trailingZeroBitCount)
                return
            }
            if presence & 0x80 == 0 {
                // The seventh element makes room for the way to a further bucket.
                let child = Table.allocateBuckets(1)
                let last: Pointer = bucket.load(fromByteOffset: 56, as: Pointer.self)
                put(last, bucket.load(fromByteOffset: 7, as: UInt8.self), in: child, at: 0)
                put(element, tag, in: child, at: 1)
                bucket.storeBytes(of: child, toByteOffset: 56, as: Pointer.self)
                bucket.storeBytes(of: (presence | 0x80) & ~0x40, as: UInt8.self)
                return
            }
            bucket = bucket.load(fromByteOffset: 56, as: Pointer.self)
        }
    }

    @inline(__always)
    private static func put(_ element: Pointer, _ tag: UInt8, in bucket: Pointer, at index: Int) {
        bucket.storeBytes(of: bucket.load(as: UInt8.self) | 1 << UInt8(index), as: UInt8.self)
        bucket.storeBytes(of: tag, toByteOffset: 1 &+ index, as: UInt8.self)
        bucket.storeBytes(of: element, toByteOffset: 8 &+ index &* 8, as: Pointer.self)
    }

    /// Takes the element out; it is the caller's to free. O(1).
    @discardableResult
    func remove(at position: Position) -> Pointer {
        let element = position.element
        let presence = position.bucket.load(as: UInt8.self)
        position.bucket.storeBytes(of: presence & ~(1 << UInt8(position.index)), as: UInt8.self)
        if position.isInNext { state.pointee.next.used &-= 1 } else { state.pointee.main.used &-= 1 }
        if state.pointee.moved >= 0 { step() } else { shrinkIfSparse() }
        return element
    }

    @discardableResult
    func remove(_ key: Argument) -> Pointer? {
        guard let position = find(key) else { return nil }
        return remove(at: position)
    }

    // MARK: memory

    fileprivate static func allocateBuckets(_ count: Int) -> Pointer {
        let size = count * 64
        if size >= 1 << 20 {
            // Fresh pages are zero already and are touched only when used.
            let memory = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
            precondition(memory != MAP_FAILED, "out of memory for a table of \(count) buckets")
            return memory
        }
        let memory = aligned_alloc(64, size)!
        memset(memory, 0, size)
        return memory
    }

    fileprivate static func freeBuckets(_ memory: Pointer, _ count: Int) {
        if count * 64 >= 1 << 20 { munmap(memory, count * 64) } else { free(memory) }
    }

    private static func release(_ array: Array) {
        guard let buckets = array.buckets else { return }
        for i in 0..<array.count { releaseChain(buckets + i * 64) }
        freeBuckets(buckets, array.count)
    }

    private static func releaseChain(_ first: Pointer) {
        var bucket = first
        var child: Pointer?
        while bucket.load(as: UInt8.self) & 0x80 != 0 {
            let next: Pointer = bucket.load(fromByteOffset: 56, as: Pointer.self)
            if let child { free(child) }
            child = next
            bucket = next
        }
        if let child { free(child) }
    }
}

// MARK: - resizing

extension Table {
    /// Grows when more than this share of the positions would be taken, in 1/64.
    private static var fullest: Int { 50 }
    /// Shrinks when fewer than this share are.
    private static var sparsest: Int { 6 }

    private func growIfFull() {
        if state.pointee.moved >= 0 {
            // A table that grows faster than it is moved finishes moving first.
            if state.pointee.next.used * 64 >= state.pointee.next.count * 7 * 60 { finishResizing() }
            return
        }
        let array = state.pointee.main
        if array.used * 64 < array.count * 7 * Table.fullest { return }
        resize(to: max(1, array.count * 2))
    }

    private func shrinkIfSparse() {
        let array = state.pointee.main
        guard array.count > 4, array.used * 64 < array.count * 7 * Table.sparsest, state.pointee.pauses == 0 else { return }
        var count = 4
        while array.used * 64 >= count * 7 * Table.fullest / 2 { count *= 2 }
        if count < array.count { resize(to: count) }
    }

    /// Makes room for `expected` elements at once, for loading.
    func reserve(_ expected: Int) {
        guard state.pointee.moved < 0, count == 0 else { return }
        var buckets = 1
        while expected * 64 >= buckets * 7 * Table.fullest { buckets *= 2 }
        if buckets > state.pointee.main.count { resize(to: buckets) }
    }

    private func resize(to count: Int) {
        let array = Array(buckets: Table.allocateBuckets(count), count: count, used: 0)
        if state.pointee.main.used == 0 {
            Table.release(state.pointee.main)
            state.pointee.main = array
            return
        }
        state.pointee.next = array
        state.pointee.moved = 0
    }

    /// Moves a bounded number of buckets to the new array.
    @inline(never)
    func step(_ buckets: Int = 1) {
        guard state.pointee.pauses == 0 else { return }
        var left = buckets
        var empty = buckets &* 16
        while left > 0, empty > 0, state.pointee.moved >= 0 {
            let wasEmpty = moveBucket()
            if wasEmpty { empty &-= 1 } else { left &-= 1 }
        }
    }

    func finishResizing() {
        while state.pointee.moved >= 0, state.pointee.pauses == 0 { _ = moveBucket() }
    }

    /// - Returns: whether the bucket held nothing.
    private func moveBucket() -> Bool {
        let first = state.pointee.main.buckets! + state.pointee.moved * 64
        var bucket = first
        var wasEmpty = true
        while true {
            let presence = bucket.load(as: UInt8.self)
            let isChained = presence & 0x80 != 0
            for index in 0..<(isChained ? 6 : 7) where presence >> UInt8(index) & 1 != 0 {
                let element: Pointer = bucket.load(fromByteOffset: 8 + index * 8, as: Pointer.self)
                Table.place(element, hash(Element.key(of: element)), &state.pointee.next)
                state.pointee.main.used -= 1
                wasEmpty = false
            }
            if !isChained { break }
            bucket = bucket.load(fromByteOffset: 56, as: Pointer.self)
        }
        Table.releaseChain(first)
        first.storeBytes(of: 0, as: UInt8.self)
        state.pointee.moved += 1
        if state.pointee.moved == state.pointee.main.count {
            Table.freeBuckets(state.pointee.main.buckets!, state.pointee.main.count)
            state.pointee.main = state.pointee.next
            state.pointee.next = Array()
            state.pointee.moved = -1
        }
        return wasEmpty
    }
}

// MARK: - iteration

extension Table {
    /// Visits each element once; the table must not change meanwhile, but the element just visited may be freed. O(n).
    /// Elements may be looked up meanwhile: that moves no bucket.
    func forEach(_ visit: (Pointer) -> Void) {
        state.pointee.pauses += 1
        defer { state.pointee.pauses -= 1 }
        for array in [state.pointee.main, state.pointee.next] where array.used > 0 {
            for i in 0..<array.count { Table.forEach(inChain: array.buckets! + i * 64, visit) }
        }
    }

    private static func forEach(inChain first: Pointer, _ visit: (Pointer) -> Void) {
        var bucket = first
        while true {
            let presence = bucket.load(as: UInt8.self)
            let isChained = presence & 0x80 != 0
            for index in 0..<(isChained ? 6 : 7) where presence >> UInt8(index) & 1 != 0 {
                visit(bucket.load(fromByteOffset: 8 + index * 8, as: Pointer.self))
            }
            if !isChained { return }
            bucket = bucket.load(fromByteOffset: 56, as: Pointer.self)
        }
    }

    /// Visits the elements of one bucket and answers with the cursor of the next; 0 begins and ends.
    ///
    /// What is in the table from the first call to the last is visited at least once, however the table is resized
    /// between calls: the cursor counts in reversed bits (the idea is Pieter Noordhuis's, from Redis).
    func scan(_ cursor: UInt64, _ visit: (Pointer) -> Void) -> UInt64 {
        guard count > 0 else { return 0 }
        state.pointee.pauses += 1
        defer { state.pointee.pauses -= 1 }
        var v = cursor
        func next(_ mask: UInt64) -> UInt64 { ((v | ~mask).bitReversed &+ 1).bitReversed }
        if state.pointee.moved < 0 {
            let mask = UInt64(state.pointee.main.count - 1)
            Table.forEach(inChain: Table.bucket(state.pointee.main, Int(v & mask)), visit)
            return next(mask)
        }
        var small = state.pointee.main
        var large = state.pointee.next
        if small.count > large.count { swap(&small, &large) }
        let smallMask = UInt64(small.count - 1)
        let largeMask = UInt64(large.count - 1)
        Table.forEach(inChain: Table.bucket(small, Int(v & smallMask)), visit)
        repeat {
            Table.forEach(inChain: Table.bucket(large, Int(v & largeMask)), visit)
            v = next(largeMask)
        } while v & (smallMask ^ largeMask) != 0
        return v
    }

    /// An element, each with the same chance. Expected O(1).
    func random<Generator: RandomNumberGenerator>(using generator: inout Generator) -> Pointer? {
        randomPosition(using: &generator)?.element
    }

    /// The position of an element, each with the same chance. Expected O(1).
    func randomPosition<Generator: RandomNumberGenerator>(using generator: inout Generator) -> Position? {
        if state.pointee.moved >= 0 { step() }
        return randomPosition(generator.next())
    }

    /// The position that these random bits lead to: the same as long as the table does not change.
    ///
    /// A bucket is drawn, and a number below what hardly any bucket holds: when the bucket holds as many, that element is it, and else
    /// both are drawn again. So an element's chance does not depend on how many others lie in its bucket.
    @inline(__always)
    func randomPosition(_ bits: UInt64) -> Position? {
        guard count > 0 else { return nil }
        let main = state.pointee.main
        let next = state.pointee.next
        // While resizing, nothing is left in the buckets that have been moved.
        let moved = Swift.max(0, state.pointee.moved)
        let left = main.count &- moved
        let total = left &+ next.count
        let bound = crowding
        var draw = RandomDraw(bits)
        while true {
            let index = draw.below(total)
            let bucket = index >= left
                ? next.buckets.unsafelyUnwrapped + (index &- left) &* 64 : main.buckets.unsafelyUnwrapped + (moved &+ index) &* 64
            let wanted = draw.low(below: bound)
            let presence = bucket.load(as: UInt8.self)
            if presence & 0x80 == 0, wanted < bound - 1 {
                if wanted < presence.nonzeroBitCount {
                    return Position(bucket: bucket, index: Table.bit(wanted, of: presence), isInNext: index >= left)
                }
            } else {
                let held = Table.count(inChain: bucket)
                if wanted < held {
                    // The last number stands for all elements from there on.
                    let chosen = wanted < bound - 1 ? wanted : wanted + draw.spare(below: held - wanted)
                    return Table.position(inChain: bucket, chosen, isInNext: index >= left)
                }
            }
            draw.again()
        }
    }

    /// One more than nearly every bucket holds (all but one in some ten thousand), from the mean of the fuller array.
    private var crowding: Int {
        let main = state.pointee.main
        guard state.pointee.moved >= 0 else { return 5 &+ 2 &* main.used / main.count }
        let next = state.pointee.next
        let filled = Swift.max(1, Swift.min(next.count, state.pointee.moved * Swift.max(1, next.count / main.count)))
        return 5 &+ 2 &* Swift.max(main.used / Swift.max(1, main.count - state.pointee.moved), next.used / filled + 1)
    }

    private static func count(inChain first: Pointer) -> Int {
        var bucket = first
        var count = 0
        while true {
            let head = bucket.load(as: UInt8.self)
            if head & 0x80 == 0 { return count + head.nonzeroBitCount }
            count += (head & 0x3F).nonzeroBitCount
            bucket = bucket.load(fromByteOffset: 56, as: Pointer.self)
        }
    }

    /// The element of that number, which is there, in a chain of buckets.
    private static func position(inChain first: Pointer, _ number: Int, isInNext: Bool) -> Position {
        var bucket = first
        var rest = number
        while true {
            let head = bucket.load(as: UInt8.self)
            let presence = head & (head & 0x80 != 0 ? 0x3F : 0x7F)
            let here = presence.nonzeroBitCount
            if rest < here { return Position(bucket: bucket, index: Table.bit(rest, of: presence), isInNext: isInNext) }
            rest -= here
            bucket = bucket.load(fromByteOffset: 56, as: Pointer.self)
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

extension UInt64 {
    fileprivate var bitReversed: UInt64 {
        var x = self.byteSwapped
        x = (x >> 4 & 0x0F0F_0F0F_0F0F_0F0F) | (x & 0x0F0F_0F0F_0F0F_0F0F) << 4
        x = (x >> 2 & 0x3333_3333_3333_3333) | (x & 0x3333_3333_3333_3333) << 2
        return (x >> 1 & 0x5555_5555_5555_5555) | (x & 0x5555_5555_5555_5555) << 1
    }
}
