import Glibc

/// Pointers in the order of stream IDs: a B+ tree.
///
/// Promise: finding, adding and removing touch O(log n) nodes; IDs lie in a row, so that a search reads nothing else. A stream's nodes are
/// found by it, and what is pending in a group.
///
///     leaf:     0       4          8          16     24        24 + 16C
///               | count | capacity | previous | next | C IDs   | C values |
///
///     inner:    0       8            8 + 16F
///               | count | F IDs      | F children |
///
/// `ids[i]` of an inner node, from i = 1 on, separates children i - 1 and i: everything in child i - 1 comes before it, nothing in child i
/// does. Leaves are never empty, but there may be none. What is filled in ascending order is left full. A leaf's block grows and shrinks
/// with what is in it.
///
/// The state lies in a block of whoever owns the tree.
struct IDTree {
    typealias Pointer = UnsafeMutableRawPointer

    static let leafMax = 64
    static let innerMax = 40
    /// What two nodes may have together to be merged: room is left for what is added next.
    static let leafMergedMax = leafMax * 3 / 4
    static let innerMergedMax = innerMax * 3 / 4
    /// More levels than any memory can fill.
    static let levelsMax = 24

    struct State {
        var root: Pointer?
        /// Levels of inner nodes above the leaves.
        var height = 0
        var count = 0
        var first: Pointer?
        var last: Pointer?
        let heap: Heap
    }

    let state: UnsafeMutablePointer<State>

    @inline(__always) init(_ state: UnsafeMutablePointer<State>) { self.state = state }

    @inline(__always) var heap: Heap { state.pointee.heap }
    @inline(__always) var count: Int { state.pointee.count }
    @inline(__always) var isEmpty: Bool { state.pointee.count == 0 }

    // MARK: nodes

    struct Leaf: IDTreeNode {
        let base: Pointer

        static let headerSize = 24

        @inline(__always) init(_ base: Pointer) { self.base = base }

        static func size(_ capacity: Int) -> Int { headerSize + capacity * 24 }

        static func make(_ heap: Heap, capacity: Int) -> Leaf {
            assert(MemoryLayout<StreamID>.stride == StreamID.size)
            let leaf = Leaf(heap.allocate(size(capacity)))
            leaf.count = 0
            leaf.base.storeBytes(of: UInt32(capacity), toByteOffset: 4, as: UInt32.self)
            leaf.previous = nil
            leaf.next = nil
            return leaf
        }

        func free() { Heap.free(base, Leaf.size(capacity)) }
        var memory: Int { Heap.capacity(of: base, Leaf.size(capacity)) }

        @inline(__always) var count: Int {
            get { Int(base.load(as: UInt32.self)) }
            nonmutating set { base.storeBytes(of: UInt32(truncatingIfNeeded: newValue), as: UInt32.self) }
        }
        @inline(__always) var capacity: Int { Int(base.load(fromByteOffset: 4, as: UInt32.self)) }
        @inline(__always) var previous: Leaf? {
            get { base.load(fromByteOffset: 8, as: Pointer?.self).map { Leaf($0) } }
            nonmutating set { base.storeBytes(of: newValue?.base, toByteOffset: 8, as: Pointer?.self) }
        }
        @inline(__always) var next: Leaf? {
            get { base.load(fromByteOffset: 16, as: Pointer?.self).map { Leaf($0) } }
            nonmutating set { base.storeBytes(of: newValue?.base, toByteOffset: 16, as: Pointer?.self) }
        }
        @inline(__always) var ids: UnsafeMutablePointer<StreamID> {
            (base + Leaf.headerSize).assumingMemoryBound(to: StreamID.self)
        }
        @inline(__always) var values: UnsafeMutablePointer<Pointer> {
            (base + Leaf.headerSize + capacity &* 16).assumingMemoryBound(to: Pointer.self)
        }
        @inline(__always) var pointers: UnsafeMutablePointer<Pointer> { values }
    }

    struct Inner: IDTreeNode {
        let base: Pointer

        static let size = 8 + IDTree.innerMax * 24

        @inline(__always) init(_ base: Pointer) { self.base = base }

        static func make(_ heap: Heap) -> Inner {
            let inner = Inner(heap.allocate(size))
            inner.count = 0
            return inner
        }

        func free() { Heap.free(base, Inner.size) }

        @inline(__always) var count: Int {
            get { base.load(as: Int.self) }
            nonmutating set { base.storeBytes(of: newValue, as: Int.self) }
        }
        @inline(__always) var ids: UnsafeMutablePointer<StreamID> { (base + 8).assumingMemoryBound(to: StreamID.self) }
        @inline(__always) var children: UnsafeMutablePointer<Pointer> {
            (base + 8 + IDTree.innerMax &* 16).assumingMemoryBound(to: Pointer.self)
        }
        @inline(__always) var pointers: UnsafeMutablePointer<Pointer> { children }

        /// The child that an ID belongs to.
        @inline(__always)
        func index(of id: StreamID) -> Int {
            var low = 1
            var high = count
            while low < high {
                let middle = (low + high) / 2
                if ids[middle] <= id { low = middle + 1 } else { high = middle }
            }
            return low - 1
        }
    }

    // MARK: places

    /// Where a value is, good until the next change.
    struct Place {
        let leaf: Leaf
        let index: Int

        @inline(__always) var id: StreamID { leaf.ids[index] }
        @inline(__always) var value: Pointer {
            get { leaf.values[index] }
            nonmutating set { leaf.values[index] = newValue }
        }
        var next: Place? {
            if index + 1 < leaf.count { return Place(leaf: leaf, index: index + 1) }
            return leaf.next.map { Place(leaf: $0, index: 0) }
        }
        var previous: Place? {
            if index > 0 { return Place(leaf: leaf, index: index - 1) }
            return leaf.previous.map { Place(leaf: $0, index: $0.count - 1) }
        }
    }

    var first: Place? { state.pointee.first.map { Place(leaf: Leaf($0), index: 0) } }
    var last: Place? { state.pointee.last.map { Place(leaf: Leaf($0), index: Leaf($0).count - 1) } }

    private func leaf(of id: StreamID) -> Leaf? {
        guard var node = state.pointee.root else { return nil }
        for _ in 0..<state.pointee.height {
            let inner = Inner(node)
            node = inner.children[inner.index(of: id)]
        }
        return Leaf(node)
    }

    /// How many IDs of a leaf come before one.
    @inline(__always)
    static func lowerBound(_ leaf: Leaf, _ id: StreamID) -> Int {
        let ids = leaf.ids
        var low = 0
        var high = leaf.count
        while low < high {
            let middle = (low + high) / 2
            if ids[middle] < id { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// O(log n).
    func find(_ id: StreamID) -> Place? {
        guard let leaf = leaf(of: id) else { return nil }
        let index = IDTree.lowerBound(leaf, id)
        return index < leaf.count && leaf.ids[index] == id ? Place(leaf: leaf, index: index) : nil
    }

    /// The first at an ID or behind it. O(log n).
    func first(from id: StreamID) -> Place? {
        guard let leaf = leaf(of: id) else { return nil }
        let index = IDTree.lowerBound(leaf, id)
        if index < leaf.count { return Place(leaf: leaf, index: index) }
        return leaf.next.map { Place(leaf: $0, index: 0) }
    }

    /// The last at an ID or before it. O(log n).
    func last(upTo id: StreamID) -> Place? {
        guard let leaf = leaf(of: id) else { return nil }
        let index = IDTree.lowerBound(leaf, id)
        if index < leaf.count, leaf.ids[index] == id { return Place(leaf: leaf, index: index) }
        if index > 0 { return Place(leaf: leaf, index: index - 1) }
        return leaf.previous.map { Place(leaf: $0, index: $0.count - 1) }
    }

    /// Visits everything in order. O(n).
    func forEach(_ visit: (StreamID, Pointer) -> Void) {
        var leaf = state.pointee.first.map { Leaf($0) }
        while let l = leaf {
            for i in 0..<l.count { visit(l.ids[i], l.values[i]) }
            leaf = l.next
        }
    }
}

/// A node of an `IDTree`: IDs in order, and a pointer beside each.
protocol IDTreeNode {
    var count: Int { get nonmutating set }
    var ids: UnsafeMutablePointer<StreamID> { get }
    var pointers: UnsafeMutablePointer<IDTree.Pointer> { get }
}

extension IDTreeNode {
    /// Puts a pair in its place; there must be room. O(count).
    @inline(__always)
    func insert(_ id: StreamID, _ pointer: IDTree.Pointer, at index: Int) {
        let moved = count - index
        memmove(ids + (index + 1), ids + index, moved * 16)
        memmove(pointers + (index + 1), pointers + index, moved * 8)
        ids[index] = id
        pointers[index] = pointer
        count += 1
    }

    @inline(__always)
    func remove(at index: Int) {
        count -= 1
        let moved = count - index
        memmove(ids + index, ids + (index + 1), moved * 16)
        memmove(pointers + index, pointers + (index + 1), moved * 8)
    }

    /// Moves everything from `index` on to the end of another node, which must have the room.
    func move(from index: Int, to other: Self) {
        let moved = count - index
        memcpy(other.ids + other.count, ids + index, moved * 16)
        memcpy(other.pointers + other.count, pointers + index, moved * 8)
        other.count += moved
        count = index
    }
}
