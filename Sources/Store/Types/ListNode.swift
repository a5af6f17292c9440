import Glibc
import RESP

/// One node of a list: entries of a listpack in a row, with free room at both ends, or a single long element.
///
///     0      8          16             20          24        28          32
///     | next | previous | capacity (4) | start (4) | end (4) | count (4) | capacity bytes ... |
///
///     packed node:   | room | entries, start ..< end | room |
///     plain node:    capacity is 0; start and end together are the element's count of bytes, which follow as they are
///
/// The room is what makes a push or a pop at either end cost no move of the others. An entry is drawn above `ListpackEntry`.
struct ListNode {
    typealias Pointer = UnsafeMutableRawPointer

    struct Header {
        var next: UnsafeMutablePointer<Header>?
        var previous: UnsafeMutablePointer<Header>?
        var capacity: UInt32
        var start: UInt32
        var end: UInt32
        var count: UInt32
    }

    let header: UnsafeMutablePointer<Header>

    static let headerSize = 32

    @inline(__always) init(_ header: UnsafeMutablePointer<Header>) { self.header = header }

    /// A packed node without entries, its room at the end away from `end`.
    static func packed(_ heap: Heap, capacity: Int, pushingAt end: ListEnd) -> ListNode {
        let at = end == .head ? UInt32(capacity) : 0
        return make(heap, size: capacity, Header(capacity: UInt32(capacity), start: at, end: at, count: 0))
    }

    static func plain(_ heap: Heap, _ value: Argument) -> ListNode {
        let count = UInt64(value.count)
        let node = make(heap, size: value.count, Header(
            capacity: 0, start: UInt32(truncatingIfNeeded: count), end: UInt32(truncatingIfNeeded: count >> 32), count: 1))
        memcpy(node.bytes, value.base, value.count)
        return node
    }

    private static func make(_ heap: Heap, size: Int, _ header: Header) -> ListNode {
        assert(MemoryLayout<Header>.size == headerSize)
        let block = heap.allocate(headerSize + size).bindMemory(to: Header.self, capacity: 1)
        block.initialize(to: header)
        return ListNode(block)
    }

    /// Bytes that the heap was asked for.
    private var size: Int { ListNode.headerSize + (isPlain ? plainValue.count : capacity) }
    @inline(__always) func free() { Heap.free(header, size) }
    /// Bytes of the block.
    var memory: Int { Heap.capacity(of: header, size) }
    private var heap: Heap { Heap.of(header, size) }

    @inline(__always) var next: ListNode? { header.pointee.next.map { ListNode($0) } }
    @inline(__always) var previous: ListNode? { header.pointee.previous.map { ListNode($0) } }
    @inline(__always) var isPlain: Bool { header.pointee.capacity == 0 }
    @inline(__always) var bytes: Pointer { Pointer(header) + ListNode.headerSize }
    @inline(__always) var capacity: Int { Int(header.pointee.capacity) }
    @inline(__always) var start: Int {
        get { Int(header.pointee.start) }
        nonmutating set { header.pointee.start = UInt32(truncatingIfNeeded: newValue) }
    }
    @inline(__always) var end: Int {
        get { Int(header.pointee.end) }
        nonmutating set { header.pointee.end = UInt32(truncatingIfNeeded: newValue) }
    }
    @inline(__always) var count: Int {
        get { Int(header.pointee.count) }
        nonmutating set { header.pointee.count = UInt32(truncatingIfNeeded: newValue) }
    }
    /// Bytes of the entries of a packed node.
    @inline(__always) var used: Int { Int(header.pointee.end &- header.pointee.start) }
    /// The element of a plain node.
    var plainValue: ListpackValue {
        ListpackValue(bytes, Int(header.pointee.start) | Int(header.pointee.end) << 32)
    }

    @inline(__always) var firstEntry: Pointer { isPlain ? bytes : bytes + start }
    @inline(__always) var lastEntry: Pointer { isPlain ? bytes : bytes + end - ListpackEntry.size(before: bytes + end) }

    @inline(__always)
    func value(at p: Pointer) -> ListpackValue { isPlain ? plainValue : ListpackEntry.value(at: p) }

    /// The entry of that index. O(distance from the nearer end).
    func seek(_ index: Int) -> Pointer {
        if isPlain { return bytes }
        if index <= count / 2 {
            var p = bytes + start
            for _ in 0..<index { p += ListpackEntry.size(at: p) }
            return p
        }
        var p = bytes + end
        for _ in index..<count { p -= ListpackEntry.size(before: p) }
        return p
    }

    /// The entries of a packed node as a listpack, for disk and replicas; it is the caller's to free. O(n).
    func makeListpack() -> Listpack { Listpack.around(heap, bytes + start, used, count: count) }
}

enum ListEnd {
    case head, tail

    var other: ListEnd { self == .head ? .tail : .head }
}

/// What `list-max-listpack-size` allows a node to hold.
struct ListLimits {
    /// Bytes of entries that Redis would put into a node.
    let bytes: Int
    /// Bytes of entries that fill a block of the heap well: a list's only node may have `bytes`, others have this.
    let room: Int
    let count: Int
    /// Longer elements become plain nodes.
    let packedMax: Int
    let isByCount: Bool

    /// - Parameter setting: -1 ... -5 for 4, 8, 16, 32, 64 KiB; positive for a count of elements.
    @inline(__always)
    init(_ setting: Int) {
        let size = setting < 0 ? 2048 << min(-setting, 5) : 8192
        bytes = size &- Listpack.overhead
        room = size &- ListNode.headerSize
        packedMax = size
        isByCount = setting >= 0
        count = setting < 0 ? .max : max(1, min(setting, 1 << 15))
    }
}
