import Glibc
import RESP

/// Strings and numbers in a row in one block: Redis's listpack, byte for byte, so that it goes to disk and replica as it is.
///
///     0                4              6            byteCount - 1
///     | byteCount (4)  | entries (2)  | entry ...  | 0xFF |
///
/// Both numbers are little-endian. `entries` 65535 means "count them". An entry is drawn above `ListpackEntry`.
///
/// The struct names a block of a heap and does not own it: whoever keeps the listpack keeps `base`, and stores it anew after every
/// change, which may have moved it. A place in the listpack is the address of an entry, good until the next change. Values handed
/// to `append` and its like must not lie in the listpack itself.
struct Listpack {
    typealias Pointer = UnsafeMutableRawPointer

    private(set) var base: Pointer

    static let headerSize = 6
    /// Bytes of a listpack around its entries.
    static let overhead = 7
    /// Larger listpacks are refused, as by Redis: lengths would overflow.
    static let byteCountMax = 1 << 30
    private static let unknownCount: UInt16 = 0xFFFF

    @inline(__always) init(_ base: Pointer) { self.base = base }

    /// An empty listpack.
    /// - Parameter capacity: bytes of entries to expect.
    static func empty(_ heap: Heap, capacity: Int = 0) -> Listpack {
        let pack = Listpack(heap.allocate(min(overhead + capacity, Heap.slabMax)))
        pack.byteCount = overhead
        pack.entries = 0
        pack.base.storeBytes(of: ListpackEntry.end, toByteOffset: headerSize, as: UInt8.self)
        return pack
    }

    /// A copy of bytes that are a listpack, which `validate` has said.
    static func copy(_ heap: Heap, _ bytes: UnsafeRawBufferPointer) -> Listpack {
        let base = heap.allocate(bytes.count)
        memcpy(base, bytes.baseAddress!, bytes.count)
        return Listpack(base)
    }

    /// A listpack around bare entries.
    /// - Parameter count: how many entries these are.
    static func around(_ heap: Heap, _ entries: UnsafeRawPointer, _ size: Int, count: Int) -> Listpack {
        let pack = Listpack(heap.allocate(overhead + size))
        pack.byteCount = overhead + size
        pack.entries = UInt16(clamping: count)
        memcpy(pack.base + headerSize, entries, size)
        pack.base.storeBytes(of: ListpackEntry.end, toByteOffset: headerSize + size, as: UInt8.self)
        return pack
    }

    func free() { Heap.free(base, byteCount) }

    /// Bytes of the block.
    var memory: Int { Heap.capacity(of: base, byteCount) }
    /// See `Heap.moveIfSparse`.
    func moveIfSparse() -> Pointer? { Heap.moveIfSparse(base, byteCount) }
    var heap: Heap { Heap.of(base, byteCount) }

    /// Bytes of the whole listpack.
    @inline(__always)
    private(set) var byteCount: Int {
        get { Int(UInt32(littleEndian: base.loadUnaligned(as: UInt32.self))) }
        nonmutating set { base.storeBytes(of: UInt32(truncatingIfNeeded: newValue).littleEndian, as: UInt32.self) }
    }

    private var entries: UInt16 {
        get { UInt16(littleEndian: base.loadUnaligned(fromByteOffset: 4, as: UInt16.self)) }
        nonmutating set { base.storeBytes(of: newValue.littleEndian, toByteOffset: 4, as: UInt16.self) }
    }

    /// The whole listpack, as it is written to disk.
    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: byteCount) }

    /// Where the first entry is, or would be.
    @inline(__always) var start: Pointer { base + Listpack.headerSize }
    /// Where the end mark is.
    @inline(__always) var end: Pointer { base + (byteCount &- 1) }
    @inline(__always) var isEmpty: Bool { byteCount == Listpack.overhead }

    /// O(1); O(n) from 65535 entries on.
    @inline(__always)
    var count: Int { entries != Listpack.unknownCount ? Int(entries) : counted() }

    @inline(never)
    private func counted() -> Int {
        var n = 0
        var p = start
        while p.load(as: UInt8.self) != ListpackEntry.end {
            n += 1
            p += ListpackEntry.size(at: p)
        }
        return n
    }

    // MARK: places

    @inline(__always) var first: Pointer? { isEmpty ? nil : start }
    @inline(__always) var last: Pointer? { isEmpty ? nil : end - ListpackEntry.size(before: end) }

    @inline(__always)
    func next(_ p: Pointer) -> Pointer? {
        let next = p + ListpackEntry.size(at: p)
        return next.load(as: UInt8.self) == ListpackEntry.end ? nil : next
    }

    @inline(__always)
    func previous(_ p: Pointer) -> Pointer? { p == start ? nil : p - ListpackEntry.size(before: p) }

    @inline(__always) func value(at p: Pointer) -> ListpackValue { ListpackEntry.value(at: p) }

    /// The entry of that index, counted from the end when negative; nil when there are not as many. O(distance from the nearer end).
    func seek(_ index: Int) -> Pointer? {
        let count = self.count
        var index = index
        if index < 0 { index += count }
        guard index >= 0, index < count else { return nil }
        if index <= count / 2 {
            var p = start
            for _ in 0..<index { p += ListpackEntry.size(at: p) }
            return p
        }
        var p = end
        for _ in index..<count { p -= ListpackEntry.size(before: p) }
        return p
    }

    /// Finds a value among every `stride`-th entry. O(n).
    /// - Parameter from: the first entry to look at; nil for the listpack's first.
    func find(_ value: Argument, from: Pointer? = nil, stride: Int = 1) -> Pointer? {
        let number = value.count <= 20 ? value.integer : nil
        var p = from ?? start
        while p.load(as: UInt8.self) != ListpackEntry.end {
            if ListpackEntry.value(at: p).equals(value, number: number) { return p }
            p += ListpackEntry.size(at: p)
            var skipped = 1
            while skipped < stride, p.load(as: UInt8.self) != ListpackEntry.end {
                p += ListpackEntry.size(at: p)
                skipped += 1
            }
        }
        return nil
    }

    /// Visits every entry from the first to the last. O(n).
    @inline(__always)
    func forEach(_ visit: (ListpackValue) -> Void) {
        var p = start
        while p.load(as: UInt8.self) != ListpackEntry.end {
            visit(ListpackEntry.value(at: p))
            p += ListpackEntry.size(at: p)
        }
    }

    /// Visits the entries two by two: field and value, member and score. O(n).
    @inline(__always)
    func forEachPair(_ visit: (ListpackValue, ListpackValue) -> Void) {
        var p = start
        while p.load(as: UInt8.self) != ListpackEntry.end {
            let second = p + ListpackEntry.size(at: p)
            visit(ListpackEntry.value(at: p), ListpackEntry.value(at: second))
            p = second + ListpackEntry.size(at: second)
        }
    }

    // MARK: changes

    mutating func append(_ value: Argument) { insert(ListpackEntry(value), before: end) }
    mutating func append(_ value: Int64) { insert(ListpackEntry(value), before: end) }
    mutating func append(_ value: ListpackValue) { insert(ListpackEntry(value), before: end) }
    mutating func prepend(_ value: Argument) { insert(ListpackEntry(value), before: start) }

    /// Makes room for `count` further entries, `size` bytes together, at the end. O(1) but for moving the listpack.
    /// - Returns: where they are to be written.
    mutating func extend(by size: Int, count: Int) -> Pointer {
        let place = resize(at: end, from: 0, to: size)
        if entries != Listpack.unknownCount { entries = UInt16(clamping: Int(entries) + count) }
        return place
    }

    /// Inserts before the entry at `p`, or at the end mark. O(n).
    /// - Returns: where the new entry is.
    @discardableResult
    mutating func insert(_ value: Argument, before p: Pointer) -> Pointer { insert(ListpackEntry(value), before: p) }

    /// Inserts behind the entry at `p`. O(n).
    @discardableResult
    mutating func insert(_ value: Argument, after p: Pointer) -> Pointer {
        insert(ListpackEntry(value), before: p + ListpackEntry.size(at: p))
    }

    @discardableResult
    mutating func insert(_ entry: ListpackEntry, before p: Pointer) -> Pointer {
        let place = resize(at: p, from: 0, to: entry.size)
        entry.write(to: place)
        if entries != Listpack.unknownCount { entries += 1 }
        return place
    }

    /// Puts another value in the place of the entry at `p`. O(n), O(1) when it takes as many bytes.
    /// - Returns: where the entry is now.
    @discardableResult
    mutating func replace(_ p: Pointer, with value: Argument) -> Pointer { replace(p, with: ListpackEntry(value)) }

    @discardableResult
    mutating func replace(_ p: Pointer, with entry: ListpackEntry) -> Pointer {
        let place = resize(at: p, from: ListpackEntry.size(at: p), to: entry.size)
        entry.write(to: place)
        return place
    }

    /// Removes `count` entries from the one at `p` on, fewer when there are not as many. O(n).
    /// - Returns: the place behind them: an entry, or the end mark.
    @discardableResult
    mutating func remove(_ p: Pointer, count: Int = 1) -> Pointer {
        var size = 0
        var removed = 0
        while removed < count, (p + size).load(as: UInt8.self) != ListpackEntry.end {
            size += ListpackEntry.size(at: p + size)
            removed += 1
        }
        let place = resize(at: p, from: size, to: 0)
        if entries != Listpack.unknownCount { entries -= UInt16(removed) }
        return place
    }

    /// Makes the `old` bytes at `p` into `new` bytes, moving what is behind them.
    /// - Returns: where the `new` bytes, still to be written, begin.
    private mutating func resize(at p: Pointer, from old: Int, to new: Int) -> Pointer {
        let offset = p - base
        let total = byteCount
        if new != old {
            precondition(total + new - old <= Int(UInt32.max), "a listpack has at most 4 GiB")
            if new > old { base = Heap.resize(base, from: total, to: total + new - old) }
            memmove(base + offset + new, base + offset + old, total - offset - old)
            if new < old { base = Heap.resize(base, from: total, to: total + new - old) }
            byteCount = total + new - old
        }
        return base + offset
    }

    /// Whether `added` further bytes are still allowed.
    func isSafe(toAdd added: Int) -> Bool { byteCount + added <= Listpack.byteCountMax }

    // MARK: foreign bytes

    /// Whether foreign bytes (of a file, of RESTORE) are a listpack, every entry of it. O(n).
    ///
    /// - Parameter visit: hears each value; false from it makes the whole invalid.
    static func validate(_ bytes: UnsafeRawBufferPointer, _ visit: (ListpackValue) -> Bool = { _ in true }) -> Bool {
        validCount(bytes, visit) != nil
    }

    /// How many entries foreign bytes have that are a listpack; nil when they are none. O(n).
    @inline(__always)
    static func validCount(_ bytes: UnsafeRawBufferPointer, _ visit: (ListpackValue) -> Bool = { _ in true }) -> Int? {
        guard bytes.count >= overhead, bytes.count <= Int(UInt32.max), let base = bytes.baseAddress,
            Int(UInt32(littleEndian: base.loadUnaligned(as: UInt32.self))) == bytes.count,
            bytes[bytes.count - 1] == ListpackEntry.end
        else { return nil }
        let limit = base + bytes.count - 1
        var p = base + headerSize
        var count = 0
        while p < limit {
            guard let size = ListpackEntry.validatedSize(at: p, limit: limit),
                visit(ListpackEntry.value(at: Pointer(mutating: p)))
            else { return nil }
            p += size
            count += 1
        }
        let said = UInt16(littleEndian: base.loadUnaligned(fromByteOffset: 4, as: UInt16.self))
        return said == unknownCount || Int(said) == count ? count : nil
    }
}
