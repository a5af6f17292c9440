import Glibc
import RESP

/// The elements of a large sorted set in order: a B+ tree that counts, so that ranks cost O(log n) too.
///
/// Promise: an element never moves; finding, adding, removing and ranking touch O(log n) nodes of a few cache lines each.
/// Elements are ordered by (score, member). Scores lie in the nodes, in a row, so that a search reads members only where scores
/// are equal.
///
///     leaf:     0       4          8          16     24                 24 + 8C
///               | count | C        | previous | next | C scores         | C elements |
///
///     inner:    0       8                   8 + 8F          8 + 16F      8 + 24F
///               | count | F scores          | F elements    | F children | F counts |
///
/// `scores[i], elements[i]` of an inner node, from i = 1 on, separate children i - 1 and i: everything in child i - 1 comes
/// before them, nothing in child i does. An inner node's `counts[i]` is how many elements there are below child i.
///
/// A leaf's block grows and shrinks with its elements, up to `leafMax` of them. Nodes are split when full; one that has become small is merged with a neighbour where both fit into one. A leaf filled in
/// ascending order is left full.
struct SortedTree {
    typealias Pointer = UnsafeMutableRawPointer

    static let leafMax = 48
    static let innerMax = 31
    /// A leaf has room for so many more elements than it needs when its block changes.
    static let leafSpare = 4
    /// What two nodes may have together to be merged: room is left for what is added next.
    static let leafMergedMax = leafMax * 3 / 4
    static let innerMergedMax = innerMax * 3 / 4
    /// More levels than any memory can fill.
    static let levelsMax = 24

    struct State {
        var root: Pointer
        /// Levels of inner nodes above the leaves.
        var height = 0
        var count = 0
        var first: Leaf
        var last: Leaf
        let heap: Heap
    }

    let state: UnsafeMutablePointer<State>

    init(_ heap: Heap) {
        state = heap.allocate(MemoryLayout<State>.size).bindMemory(to: State.self, capacity: 1)
        let leaf = Leaf.make(heap, capacity: SortedTree.leafSpare)
        state.initialize(to: State(root: leaf.base, first: leaf, last: leaf, heap: heap))
    }

    /// The tree of a block that was buried.
    init(_ pointer: Pointer) { state = pointer.assumingMemoryBound(to: State.self) }

    @inline(__always) var pointer: Pointer { Pointer(state) }
    @inline(__always) var heap: Heap { state.pointee.heap }

    @inline(__always) var count: Int { state.pointee.count }

    // MARK: nodes

    struct Leaf {
        let base: Pointer

        static let headerSize = 24

        @inline(__always) init(_ base: Pointer) { self.base = base }

        static func make(_ heap: Heap, capacity: Int) -> Leaf {
            let leaf = Leaf(heap.allocate(headerSize + capacity * 16))
            leaf.count = 0
            leaf.base.storeBytes(of: UInt32(capacity), toByteOffset: 4, as: UInt32.self)
            leaf.previous = nil
            leaf.next = nil
            return leaf
        }

        func free() { Heap.free(base, Leaf.headerSize + capacity * 16) }
        /// Bytes of the block.
        var memory: Int { Heap.capacity(of: base, Leaf.headerSize + capacity * 16) }

        @inline(__always) var count: Int {
            get { Int(base.load(as: UInt32.self)) }
            nonmutating set { base.storeBytes(of: UInt32(truncatingIfNeeded: newValue), as: UInt32.self) }
        }
        /// For how many elements there is room.
        @inline(__always) var capacity: Int { Int(base.load(fromByteOffset: 4, as: UInt32.self)) }
        @inline(__always) var previous: Leaf? {
            get { base.load(fromByteOffset: 8, as: Pointer?.self).map { Leaf($0) } }
            nonmutating set { base.storeBytes(of: newValue?.base, toByteOffset: 8, as: Pointer?.self) }
        }
        @inline(__always) var next: Leaf? {
            get { base.load(fromByteOffset: 16, as: Pointer?.self).map { Leaf($0) } }
            nonmutating set { base.storeBytes(of: newValue?.base, toByteOffset: 16, as: Pointer?.self) }
        }
        @inline(__always) var scores: UnsafeMutablePointer<Double> {
            (base + Leaf.headerSize).assumingMemoryBound(to: Double.self)
        }
        @inline(__always) var elements: UnsafeMutablePointer<Pointer> {
            (base + Leaf.headerSize + capacity &* 8).assumingMemoryBound(to: Pointer.self)
        }

        /// Where an element is that is in the leaf: no other element is looked at.
        @inline(__always)
        func index(of element: SortedElement) -> Int {
            var index = SortedTree.firstNotBelow(scores, 0, count, element.score)
            while elements[index] != element.base { index &+= 1 }
            return index
        }

        /// Makes room at `index` and puts an element there; there must be room.
        @inline(__always)
        func insert(_ score: Double, _ element: Pointer, at index: Int) {
            let moved = (count &- index) &* 8
            memmove(scores + (index &+ 1), scores + index, moved)
            memmove(elements + (index &+ 1), elements + index, moved)
            scores[index] = score
            elements[index] = element
            count &+= 1
        }

        @inline(__always)
        func remove(at index: Int) {
            count &-= 1
            let moved = (count &- index) &* 8
            memmove(scores + index, scores + (index &+ 1), moved)
            memmove(elements + index, elements + (index &+ 1), moved)
        }

        /// Moves everything from `index` on to the end of another leaf.
        func move(from index: Int, to other: Leaf) {
            let moved = count - index
            memcpy(other.scores + other.count, scores + index, moved * 8)
            memcpy(other.elements + other.count, elements + index, moved * 8)
            other.count += moved
            count = index
        }
    }

    struct Inner {
        let base: Pointer

        static let size = 8 + innerMax * 32

        @inline(__always) init(_ base: Pointer) { self.base = base }

        static func make(_ heap: Heap) -> Inner {
            let inner = Inner(heap.allocate(size))
            inner.count = 0
            return inner
        }

        func free() { Heap.free(base, Inner.size) }

        /// How many children.
        @inline(__always) var count: Int {
            get { base.load(as: Int.self) }
            nonmutating set { base.storeBytes(of: newValue, as: Int.self) }
        }
        @inline(__always) var scores: UnsafeMutablePointer<Double> { (base + 8).assumingMemoryBound(to: Double.self) }
        @inline(__always) var elements: UnsafeMutablePointer<Pointer> {
            (base + 8 + innerMax * 8).assumingMemoryBound(to: Pointer.self)
        }
        @inline(__always) var children: UnsafeMutablePointer<Pointer> {
            (base + 8 + innerMax * 16).assumingMemoryBound(to: Pointer.self)
        }
        @inline(__always) var counts: UnsafeMutablePointer<Int> { (base + 8 + innerMax * 24).assumingMemoryBound(to: Int.self) }

        var total: Int { (0..<count).reduce(0) { $0 + counts[$1] } }

        func insert(_ node: NewNode, at index: Int) {
            let moved = (count - index) * 8
            memmove(scores + index + 1, scores + index, moved)
            memmove(elements + index + 1, elements + index, moved)
            memmove(children + index + 1, children + index, moved)
            memmove(counts + index + 1, counts + index, moved)
            scores[index] = node.score
            elements[index] = node.element
            children[index] = node.base
            counts[index] = node.count
            count += 1
        }

        func remove(at index: Int) {
            count -= 1
            let moved = (count - index) * 8
            memmove(scores + index, scores + index + 1, moved)
            memmove(elements + index, elements + index + 1, moved)
            memmove(children + index, children + index + 1, moved)
            memmove(counts + index, counts + index + 1, moved)
        }

        func move(from index: Int, to other: Inner) {
            let moved = count - index
            memcpy(other.scores + other.count, scores + index, moved * 8)
            memcpy(other.elements + other.count, elements + index, moved * 8)
            memcpy(other.children + other.count, children + index, moved * 8)
            memcpy(other.counts + other.count, counts + index, moved * 8)
            other.count += moved
            count = index
        }
    }

    /// A node that a split has made, with what separates it from the one before it and how many elements are below.
    struct NewNode {
        let base: Pointer
        let score: Double
        let element: Pointer
        let count: Int
    }

    /// An inner node on the way to a leaf, and which child was taken.
    struct Step {
        let inner: Inner
        let index: Int
    }
    /// The way to a leaf: level 1 is the leaf's parent.
    typealias Path = UnsafeMutablePointer<Step>

    // MARK: searching in a node

    /// The first index of `range` whose element does not come before (score, member). O(log n).
    @inline(__always)
    static func lowerBound(
        _ scores: UnsafeMutablePointer<Double>, _ elements: UnsafeMutablePointer<Pointer>, _ from: Int, _ to: Int,
        _ score: Double, _ member: Argument
    ) -> Int {
        let low = firstNotBelow(scores, from, to, score)
        if low == to || scores[low] != score { return low }
        return lowerBoundAmongEqual(scores, elements, low, to, score, member)
    }

    @inline(never)
    private static func lowerBoundAmongEqual(
        _ scores: UnsafeMutablePointer<Double>, _ elements: UnsafeMutablePointer<Pointer>, _ from: Int, _ to: Int,
        _ score: Double, _ member: Argument
    ) -> Int {
        var low = from
        var high = to
        while low < high {
            let middle = (low &+ high) >> 1
            if scores[middle] == score, SortedElement(elements[middle]).member.isBefore(member) {
                low = middle &+ 1
            } else {
                high = middle
            }
        }
        return low
    }

    /// The first index whose score is not below: they are counted, all of them. A binary search reads fewer, but each only after
    /// the one before it has come from memory; these are read at once, and compared two at a time.
    @inline(__always)
    fileprivate static func firstNotBelow(_ scores: UnsafeMutablePointer<Double>, _ from: Int, _ to: Int, _ score: Double) -> Int {
        var index = from
        var i = from
        while i < to {
            index &+= scores[i] < score ? 1 : 0
            i &+= 1
        }
        return index
    }

    /// The child in which (score, member) is or would be.
    @inline(__always)
    private static func childIndex(_ inner: Inner, _ score: Double, _ member: Argument) -> Int {
        let count = inner.count
        let index = lowerBound(inner.scores, inner.elements, 1, count, score, member)
        // An element equal to the separator is in the child behind it.
        if index < count, inner.scores[index] == score {
            let separator = SortedElement(inner.elements[index]).member
            if separator.base == member.base || separator == member { return index }
        }
        return index &- 1
    }

    /// The leaf in which (score, member) is or would be, and the way there.
    @inline(__always)
    func descend(_ score: Double, _ member: Argument, _ path: Path) -> Leaf {
        var node = state.pointee.root
        var level = state.pointee.height
        while level > 0 {
            let inner = Inner(node)
            let index = SortedTree.childIndex(inner, score, member)
            path[level] = Step(inner: inner, index: index)
            node = inner.children[index]
            level &-= 1
        }
        return Leaf(node)
    }

    @inline(__always)
    func withPath<R>(_ body: (Path) -> R) -> R {
        withUnsafeTemporaryAllocation(of: Step.self, capacity: SortedTree.levelsMax) { body($0.baseAddress!) }
    }

    // MARK: whole trees

    /// Frees the nodes, not the elements. O(n).
    func deallocate() {
        var all = Int.max
        _ = release(&all)
    }

    /// Frees a part of the nodes, and at last the tree itself. From the first time on the tree is not to be used.
    /// - Parameter leaves: how many to free yet, counted down. Inner nodes, one to many leaves, go at the end.
    /// - Returns: whether nothing is left.
    func release(_ leaves: inout Int) -> Bool {
        while leaves > 0 {
            let leaf = state.pointee.first
            guard let next = leaf.next else {
                leaf.free()
                releaseInner(state.pointee.root, level: state.pointee.height)
                Heap.free(state, MemoryLayout<State>.size)
                return true
            }
            state.pointee.first = next
            leaf.free()
            leaves -= 1
        }
        return false
    }

    private func releaseInner(_ node: Pointer, level: Int) {
        guard level > 0 else { return }
        let inner = Inner(node)
        if level > 1 {
            for i in 0..<inner.count { releaseInner(inner.children[i], level: level - 1) }
        }
        inner.free()
    }

    /// Visits every element in order. O(n).
    @inline(__always)
    func forEach(_ visit: (SortedElement) -> Void) {
        var leaf: Leaf? = state.pointee.first
        while let l = leaf {
            for i in 0..<l.count { visit(SortedElement(l.elements[i])) }
            leaf = l.next
        }
    }
}
