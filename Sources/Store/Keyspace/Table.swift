import CLinux
import Glibc
import RESP

/// Says where an element keeps its key.
protocol TableElement {
    static func key(of element: UnsafeMutableRawPointer) -> Argument
}

/// A hash table of pointers that grows and shrinks in bounded steps.
///
/// Promise: an operation touches one cache line for each bucket it looks at, while the table is being resized too, and moves at most a
/// few buckets to the new array then; no operation does work proportional to the table. Elements never move by it.
///
/// The idea of a bucket that is one cache line with seven elements and one byte of each hash beside them is that of
/// Valkey's hashtable (and of Swiss tables before it).
///
///     bucket (64 bytes):
///     0          1 ........ 7   8 ................................ 63
///     | presence | 7 tags   |   7 times | 48 bits pointer | 16 bits |
///
/// `presence` has a bit for each position; bit 7 says that the seventh pointer leads to a further bucket instead of an element.
///
/// The order is what is new: the upper half of the hash, 32 bits, is a place in a row, and of `count` buckets, number i holds what lies
/// from i/count of the row on. So any count will do, and the table grows by a quarter: at most a fifth of it is spare. Buckets are moved
/// from the first to the last, and where the row has been moved up to says in which array an element is. The lower 24 bits of the place
/// are kept beside each pointer (8 in the tag, 16 above the address), the upper ones follow from the bucket: resizing reads no element.
struct Table<Element: TableElement> {
    typealias Pointer = UnsafeMutableRawPointer

    struct Array {
        var buckets: Pointer?
        /// Number of buckets; 0 for none.
        var count: UInt64 = 0
    }

    struct State {
        var main = Array()
        /// The array being filled while resizing.
        var next = Array()
        /// The first bucket of `main` not moved yet; 0 while not resizing.
        var moved: UInt64 = 0
        /// Elements.
        var used = 0
        /// Buckets behind full ones.
        var further = 0
        /// Grows from this number of elements on, shrinks below that one.
        var most = 0
        var least = 0
        let hash: KeyHash
        let heap: Heap
    }

    /// Where an element is: valid until the table changes.
    struct Position {
        let bucket: Pointer
        let index: Int

        @inline(__always)
        var element: Pointer {
            get { Slot(bucket, index).pointer }
            nonmutating set {
                let old = Slot(bucket, index)
                bucket.storeBytes(of: old.bits & ~Slot.pointerMask | UInt64(UInt(bitPattern: newValue)), toByteOffset: 8 &+ index &* 8, as: UInt64.self)
            }
        }
    }

    let state: UnsafeMutablePointer<State>

    init(_ heap: Heap) {
        state = heap.allocate(MemoryLayout<State>.size).bindMemory(to: State.self, capacity: 1)
        state.initialize(to: State(hash: heap.hash, heap: heap))
    }

    /// Frees the table's own memory, not the elements. O(n).
    func deallocate() { freeAll { _ in } }

    /// Frees the table after each element has been visited. O(n).
    func freeAll(_ visit: (Pointer) -> Void) {
        beginRelease()
        var all = Int.max
        _ = release(&all, visit)
    }

    @inline(__always) var count: Int { state.pointee.used }
    @inline(__always) var heap: Heap { state.pointee.heap }
    var isResizing: Bool { state.pointee.next.count != 0 }
    /// Bytes of the table without its elements.
    var memory: Int { (arrayBuckets + state.pointee.further) * 64 + MemoryLayout<State>.size }
    /// Of an array that is being left, only what has not been moved; of the next one, what has been filled.
    var bucketCount: Int { Int(state.pointee.main.count - state.pointee.moved + filledOfNext) }

    @inline(__always) func hash(_ key: Argument) -> UInt64 { state.pointee.hash(key) }

    // MARK: places

    /// The bucket of a row's place.
    @inline(__always)
    static func index(_ place: UInt64, _ count: UInt64) -> UInt64 { (place &* count) >> 32 }

    /// The first place of a bucket.
    @inline(__always)
    static func firstPlace(_ index: UInt64, _ count: UInt64) -> UInt64 { (index << 32 &+ count &- 1) / count }

    /// The first bucket of a chain in which the hash is, or would be. There must be buckets.
    @inline(__always)
    func bucket(_ hash: UInt64) -> Pointer {
        let place = hash >> 32
        let index = Table.index(place, state.pointee.main.count)
        if index < state.pointee.moved {
            return state.pointee.next.buckets.unsafelyUnwrapped + Int(truncatingIfNeeded: Table.index(place, state.pointee.next.count)) &* 64
        }
        return state.pointee.main.buckets.unsafelyUnwrapped + Int(truncatingIfNeeded: index) &* 64
    }

    // MARK: find

    /// Finds the element with the key. O(1).
    @inline(__always)
    func find(_ key: Argument, _ hash: UInt64) -> Position? {
        if state.pointee.used == 0 { return nil }
        var bucket = bucket(hash)
        let pattern = Slot.pattern(hash)
        while true {
            let head = bucket.load(as: UInt64.self)
            var candidates = Slot.candidates(head, pattern)
            let presence = Slot.presence(head)
            while candidates != 0 {
                let index = candidates.trailingZeroBitCount >> 3
                candidates &= candidates &- 1
                let slot = Slot(bucket, index)
                if presence >> UInt64(index) & 1 != 0, slot.matches(hash) {
                    let found = Element.key(of: slot.pointer)
                    if found.count == key.count, Table.same(found.raw, key.raw, key.count) { return Position(bucket: bucket, index: index) }
                }
            }
            if head & 0x80 == 0 { return nil }
            bucket = Slot(bucket, 6).pointer
        }
    }

    @inline(__always) func find(_ key: Argument) -> Position? { find(key, hash(key)) }

    /// Loads the first bucket of a hash into the cache.
    @inline(__always)
    func touchBucket(_ hash: UInt64) -> UInt64 { bucket(hash).load(as: UInt64.self) }

    /// The element that the hash most likely means, its key not looked at.
    @inline(__always)
    func likelyElement(_ hash: UInt64) -> Pointer? {
        let bucket = bucket(hash)
        let head = bucket.load(as: UInt64.self)
        let candidates = Slot.candidates(head, Slot.pattern(hash))
        let index = candidates.trailingZeroBitCount >> 3
        guard candidates != 0, Slot.presence(head) >> UInt64(index) & 1 != 0 else { return nil }
        return Slot(bucket, index).pointer
    }

    /// Loads the beginning of the element that the hash most likely means into the cache.
    @inline(__always)
    func touchElement(_ hash: UInt64) -> UInt64 { likelyElement(hash).map { Table.touch($0) } ?? 0 }

    /// Short elements often lie across two cache lines. Memory goes on behind the last block for what is read here.
    @inline(__always)
    static func touch(_ element: Pointer) -> UInt64 {
        element.loadUnaligned(as: UInt64.self) &+ element.loadUnaligned(fromByteOffset: 16, as: UInt64.self)
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

    // MARK: insert and remove

    /// Adds an element whose key is not in the table. Amortised O(1).
    func insert(_ element: Pointer, _ hash: UInt64) {
        // A table that was shrinking has fewer elements to go until it must grow than one that was growing.
        if state.pointee.next.count != 0 { step(state.pointee.next.count < state.pointee.main.count ? 2 : 1) }
        if state.pointee.used >= state.pointee.most { grow() }
        state.pointee.used &+= 1
        place(Slot(element, hash), Slot.tag(hash), from: bucket(hash))
    }

    func insert(_ element: Pointer) { insert(element, hash(Element.key(of: element))) }

    /// Puts a slot into the first free position of a chain.
    @inline(__always)
    func place(_ slot: Slot, _ tag: UInt8, from first: Pointer) {
        var bucket = first
        while true {
            let presence = bucket.load(as: UInt8.self)
            let free = ~presence & (presence & 0x80 != 0 ? 0x3F : 0x7F)
            if free != 0 { return slot.put(tag, in: bucket, at: free.trailingZeroBitCount) }
            if presence & 0x80 == 0 { return extend(bucket, slot, tag) }
            bucket = Slot(bucket, 6).pointer
        }
    }

    /// The seventh element of a full bucket makes room for the way to a further one.
    @inline(never)
    private func extend(_ bucket: Pointer, _ slot: Slot, _ tag: UInt8) {
        let child = heap.allocate(64)
        state.pointee.further &+= 1
        child.storeBytes(of: 0, as: UInt64.self)
        Slot(bucket, 6).put(bucket.load(fromByteOffset: 7, as: UInt8.self), in: child, at: 0)
        slot.put(tag, in: child, at: 1)
        bucket.storeBytes(of: child, toByteOffset: 56, as: Pointer.self)
        bucket.storeBytes(of: bucket.load(as: UInt8.self) & 0x3F | 0x80, as: UInt8.self)
    }

    /// Takes the element out; it is the caller's to free. O(1).
    @discardableResult
    func remove(at position: Position) -> Pointer {
        let element = position.element
        let presence = position.bucket.load(as: UInt8.self) & ~(1 << UInt8(position.index))
        position.bucket.storeBytes(of: presence, as: UInt8.self)
        state.pointee.used &-= 1
        // The bucket is chained, or is itself a further one that has become nearly empty.
        if presence & 0x80 != 0 || presence.nonzeroBitCount <= 1 { tidy(bucket(hash(Element.key(of: element)))) }
        if state.pointee.next.count != 0 { step(2) } else if state.pointee.used < state.pointee.least { shrink() }
        return element
    }

    @discardableResult
    func remove(_ key: Argument) -> Pointer? {
        guard let position = find(key) else { return nil }
        return remove(at: position)
    }

    /// Fills what is free in a chain from behind, and frees a last bucket that is not needed any more.
    @inline(never)
    private func tidy(_ first: Pointer) {
        var bucket = first
        while true {
            var presence = bucket.load(as: UInt8.self)
            guard presence & 0x80 != 0 else { return }
            let child = Slot(bucket, 6).pointer
            var held = child.load(as: UInt8.self)
            while presence & 0x3F != 0x3F, held & 0x7F != 0, held & 0x80 == 0 || held & 0x3F != 0 {
                let from = (held & (held & 0x80 != 0 ? 0x3F : 0x7F)).trailingZeroBitCount
                Slot(child, from).put(child.load(fromByteOffset: 1 + from, as: UInt8.self), in: bucket, at: (~presence).trailingZeroBitCount)
                held &= ~(1 << UInt8(from))
                child.storeBytes(of: held, as: UInt8.self)
                presence = bucket.load(as: UInt8.self)
            }
            if held & 0x80 == 0, held.nonzeroBitCount <= 1 {
                bucket.storeBytes(of: presence & 0x3F, as: UInt8.self)
                if held != 0 {
                    let last = held.trailingZeroBitCount
                    Slot(child, last).put(child.load(fromByteOffset: 1 + last, as: UInt8.self), in: bucket, at: 6)
                }
                Heap.free(child, 64)
                state.pointee.further &-= 1
                return
            }
            bucket = child
        }
    }
}

/// What a bucket holds of an element: where it is, and the middle 16 bits of its place in the row.
struct Slot {
    let bits: UInt64

    static let pointerMask: UInt64 = 0xFFFF_FFFF_FFFF

    @inline(__always)
    init(_ bucket: UnsafeMutableRawPointer, _ index: Int) { bits = bucket.load(fromByteOffset: 8 &+ index &* 8, as: UInt64.self) }

    @inline(__always)
    init(_ element: UnsafeMutableRawPointer, _ hash: UInt64) { bits = UInt64(UInt(bitPattern: element)) | (hash >> 40) << 48 }

    @inline(__always)
    var pointer: UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(bitPattern: UInt(bits & Slot.pointerMask)).unsafelyUnwrapped
    }

    @inline(__always) func matches(_ hash: UInt64) -> Bool { bits >> 48 == hash >> 40 & 0xFFFF }

    /// The lower 24 bits of the place.
    @inline(__always) func place(_ tag: UInt8) -> UInt64 { (bits >> 48) << 8 | UInt64(tag) }

    @inline(__always)
    func put(_ tag: UInt8, in bucket: UnsafeMutableRawPointer, at index: Int) {
        bucket.storeBytes(of: bucket.load(as: UInt8.self) | 1 << UInt8(index), as: UInt8.self)
        bucket.storeBytes(of: tag, toByteOffset: 1 &+ index, as: UInt8.self)
        bucket.storeBytes(of: bits, toByteOffset: 8 &+ index &* 8, as: UInt64.self)
    }

    // MARK: the first 8 bytes of a bucket

    @inline(__always) static func tag(_ hash: UInt64) -> UInt8 { UInt8(truncatingIfNeeded: hash >> 32) }
    @inline(__always) static func pattern(_ hash: UInt64) -> UInt64 { (hash >> 32 & 0xFF) &* 0x0001_0101_0101_0101 }

    /// The upper bit of the byte of each position whose tag is equal (and, rarely, above one that is: the key decides).
    @inline(__always)
    static func candidates(_ head: UInt64, _ pattern: UInt64) -> UInt64 {
        let difference = (head >> 8) ^ pattern
        return (difference &- 0x0001_0101_0101_0101) & ~difference & 0x0080_8080_8080_8080
    }

    /// A bit for each position that holds an element.
    @inline(__always)
    static func presence(_ head: UInt64) -> UInt64 { head & (head & 0x80 != 0 ? 0x3F : 0x7F) }
}
