import Glibc

/// A sorted array of whole numbers in one block: Redis's intset, byte for byte.
///
///     0           4           8
///     | width (4) | count (4) | count numbers of `width` bytes (2, 4 or 8), ascending ...
///
/// Everything is little-endian. The width is that of the number that needs most; it never shrinks.
///
/// The struct names a block of a heap and does not own it: store `base` anew after every change, which may have moved it.
struct Intset {
    private(set) var base: UnsafeMutableRawPointer

    static let headerSize = 8

    @inline(__always) init(_ base: UnsafeMutableRawPointer) { self.base = base }

    static func empty(_ heap: Heap) -> Intset {
        let set = Intset(heap.allocate(headerSize))
        set.width = 2
        set.count = 0
        return set
    }

    /// A copy of bytes that are an intset, which `validate` has said.
    static func copy(_ heap: Heap, _ bytes: UnsafeRawBufferPointer) -> Intset {
        let base = heap.allocate(bytes.count)
        memcpy(base, bytes.baseAddress!, bytes.count)
        return Intset(base)
    }

    func free() { Heap.free(base, byteCount) }

    /// Bytes of the block.
    var memory: Int { Heap.capacity(of: base, byteCount) }
    /// See `Heap.moveIfSparse`.
    func moveIfSparse() -> UnsafeMutableRawPointer? { Heap.moveIfSparse(base, byteCount) }

    private(set) var width: Int {
        get { Int(UInt32(littleEndian: base.load(as: UInt32.self))) }
        nonmutating set { base.storeBytes(of: UInt32(newValue).littleEndian, as: UInt32.self) }
    }

    private(set) var count: Int {
        get { Int(UInt32(littleEndian: base.load(fromByteOffset: 4, as: UInt32.self))) }
        nonmutating set { base.storeBytes(of: UInt32(newValue).littleEndian, toByteOffset: 4, as: UInt32.self) }
    }

    var byteCount: Int { Intset.headerSize + count * width }
    /// The whole set, as it is written to disk.
    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: byteCount) }

    /// The number of that index, in ascending order. O(1).
    @inline(__always) subscript(_ index: Int) -> Int64 { Intset.load(base, index, width) }

    @inline(__always)
    private static func load(_ base: UnsafeRawPointer, _ index: Int, _ width: Int) -> Int64 {
        let p = base + headerSize + index &* width
        switch width {
        case 2: return Int64(Int16(littleEndian: p.loadUnaligned(as: Int16.self)))
        case 4: return Int64(Int32(littleEndian: p.loadUnaligned(as: Int32.self)))
        default: return Int64(littleEndian: p.loadUnaligned(as: Int64.self))
        }
    }

    private func store(_ value: Int64, _ index: Int, _ width: Int) {
        let p = base + Intset.headerSize + index &* width
        switch width {
        case 2: p.storeBytes(of: Int16(truncatingIfNeeded: value).littleEndian, as: Int16.self)
        case 4: p.storeBytes(of: Int32(truncatingIfNeeded: value).littleEndian, as: Int32.self)
        default: p.storeBytes(of: value.littleEndian, as: Int64.self)
        }
    }

    static func width(for value: Int64) -> Int {
        if value >= Int64(Int16.min), value <= Int64(Int16.max) { return 2 }
        return value >= Int64(Int32.min) && value <= Int64(Int32.max) ? 4 : 8
    }

    /// The index of the first number that is not smaller, and whether it is this one. O(log n).
    private func search(_ value: Int64) -> (index: Int, isThere: Bool) {
        let width = self.width
        var low = 0
        var high = count
        while low < high {
            let middle = (low &+ high) >> 1
            if Intset.load(base, middle, width) < value { low = middle &+ 1 } else { high = middle }
        }
        return (low, low < count && Intset.load(base, low, width) == value)
    }

    func contains(_ value: Int64) -> Bool { search(value).isThere }

    /// Adds a number. O(n).
    /// - Returns: false when it was there.
    mutating func insert(_ value: Int64) -> Bool {
        let needed = Intset.width(for: value)
        if needed > width { widen(to: needed) }
        let (index, isThere) = search(value)
        if isThere { return false }
        let n = count
        let w = width
        base = Heap.resize(base, from: byteCount, to: Intset.headerSize + (n + 1) * w)
        let place = base + Intset.headerSize + index * w
        memmove(place + w, place, (n - index) * w)
        store(value, index, w)
        count = n + 1
        return true
    }

    /// - Returns: false when it was not there.
    mutating func remove(_ value: Int64) -> Bool {
        let (index, isThere) = search(value)
        if !isThere { return false }
        let n = count
        let w = width
        let place = base + Intset.headerSize + index * w
        memmove(place, place + w, (n - index - 1) * w)
        let before = byteCount
        count = n - 1
        base = Heap.resize(base, from: before, to: byteCount)
        return true
    }

    private mutating func widen(to new: Int) {
        let old = width
        let n = count
        base = Heap.resize(base, from: byteCount, to: Intset.headerSize + n * new)
        // From the last on: each number is read before its bytes are written over.
        for index in stride(from: n - 1, through: 0, by: -1) { store(Intset.load(base, index, old), index, new) }
        width = new
    }

    @inline(__always)
    func forEach(_ visit: (Int64) -> Void) {
        let width = self.width
        for index in 0..<count { visit(Intset.load(base, index, width)) }
    }

    /// Whether foreign bytes are an intset that holds something, ascending and without repetition. O(n).
    static func validate(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard bytes.count > headerSize, let base = bytes.baseAddress else { return false }
        let width = Int(UInt32(littleEndian: base.loadUnaligned(as: UInt32.self)))
        let count = Int(UInt32(littleEndian: base.loadUnaligned(fromByteOffset: 4, as: UInt32.self)))
        guard width == 2 || width == 4 || width == 8, count > 0, bytes.count == headerSize + count * width else { return false }
        for index in 1..<max(1, count) where load(base, index - 1, width) >= load(base, index, width) { return false }
        return true
    }
}
