import Glibc
import RESP

/// A list: a chain of nodes of a few KiB each.
///
/// Promise: a push or a pop at either end writes or reads one entry and moves no other, but for a bounded number of bytes once in
/// many; an element is found by its index in O(nodes + entries of one node).
///
///     0      8      16      24
///     | head | tail | count | nodes |
///
/// A list block is reached from an entry of type list whatever its encoding says: `listpack` is only the name that Redis reports for
/// a list that is still short, `quicklist` that of a longer one.
struct QuickList {
    struct State {
        var head: UnsafeMutablePointer<ListNode.Header>?
        var tail: UnsafeMutablePointer<ListNode.Header>?
        /// Elements.
        var count = 0
        var nodes = 0
    }

    let state: UnsafeMutablePointer<State>

    @inline(__always)
    init(_ pointer: UnsafeMutableRawPointer) { state = pointer.assumingMemoryBound(to: State.self) }

    static func make(_ heap: Heap) -> QuickList {
        let block = heap.allocate(MemoryLayout<State>.size).bindMemory(to: State.self, capacity: 1)
        block.initialize(to: State())
        return QuickList(block)
    }

    /// Frees the list with everything in it. O(nodes).
    func free() {
        var all = Int.max
        _ = release(&all)
    }

    /// Frees a part of the list, and at last the list itself. From the first time on it is not to be used.
    /// - Parameter nodes: how many to free yet, counted down.
    /// - Returns: whether nothing is left.
    func release(_ nodes: inout Int) -> Bool {
        while let node = head {
            if nodes <= 0 { return false }
            nodes -= 1
            state.pointee.head = node.next?.header
            node.free()
        }
        Heap.free(state, MemoryLayout<State>.size)
        return true
    }

    @inline(__always) var pointer: UnsafeMutableRawPointer { UnsafeMutableRawPointer(state) }
    @inline(__always) var heap: Heap { Heap.of(state, MemoryLayout<State>.size) }
    @inline(__always) var count: Int { state.pointee.count }
    @inline(__always) var head: ListNode? { state.pointee.head.map { ListNode($0) } }
    @inline(__always) var tail: ListNode? { state.pointee.tail.map { ListNode($0) } }

    /// The bytes of the listpack that the list would be, when it has one packed node; nil when it has more.
    var listpackSize: Int? {
        guard state.pointee.nodes <= 1 else { return nil }
        guard let head else { return Listpack.overhead }
        return head.isPlain ? nil : head.used + Listpack.overhead
    }

    // MARK: push

    /// Adds an element at an end. Amortised O(1).
    @inline(__always)
    func push(_ value: Argument, at end: ListEnd, _ limits: ListLimits) {
        if value.count > limits.packedMax { return pushPlain(value, at: end) }
        let entry = ListpackEntry(value)
        entry.write(to: makeRoom(entry.size, at: end, limits))
        state.pointee.count &+= 1
    }

    /// Makes one more entry of `size` bytes part of the outermost node.
    /// - Returns: where it is to be written.
    @inline(__always)
    private func makeRoom(_ size: Int, at end: ListEnd, _ limits: ListLimits) -> UnsafeMutableRawPointer {
        if let outer = end == .head ? head : tail, outer.used &+ size <= limits.bytes, outer.count < limits.count {
            // A plain node's capacity is 0: there is no room in it.
            if end == .tail, outer.capacity &- outer.end >= size {
                let place = outer.bytes + outer.end
                outer.end = outer.end &+ size
                outer.count = outer.count &+ 1
                return place
            }
            if end == .head, !outer.isPlain, outer.start >= size {
                outer.start = outer.start &- size
                outer.count = outer.count &+ 1
                return outer.bytes + outer.start
            }
        }
        return makeRoomSlowly(size, at: end, limits)
    }

    @inline(never)
    private func makeRoomSlowly(_ size: Int, at end: ListEnd, _ limits: ListLimits) -> UnsafeMutableRawPointer {
        var node: ListNode
        if let outer = end == .head ? head : tail, !outer.isPlain, outer.used + size <= limits.bytes, outer.count < limits.count,
            let roomy = withRoom(outer, size, at: end, limits) {
            node = roomy
        } else {
            // The first node grows as it is filled; a further one will be filled.
            let capacity = state.pointee.nodes == 0 || limits.isByCount ? max(size, 32) : max(size, limits.room)
            node = ListNode.packed(heap, capacity: capacity, pushingAt: end)
            link(node, at: end)
        }
        node.count += 1
        if end == .tail {
            node.end += size
            return node.bytes + (node.end - size)
        }
        node.start -= size
        return node.bytes + node.start
    }

    /// Moves the entries of a node so that there is room at one end, in a larger block when it must be.
    ///
    /// A quarter of the capacity must come free by it, so that the next such move is far off.
    /// - Returns: the node where it is now; nil when it is as large as it may be.
    private func withRoom(_ node: ListNode, _ size: Int, at end: ListEnd, _ limits: ListLimits) -> ListNode? {
        let capacity = node.capacity
        let used = node.used
        let otherRoom = end == .tail ? node.start : capacity - node.end
        if capacity - used >= size + capacity / 4 {
            let kept = min(otherRoom, (capacity - used - size) / 4)
            let start = end == .tail ? kept : capacity - kept - used
            memmove(node.bytes + start, node.bytes + node.start, used)
            node.start = start
            node.end = start + used
            return node
        }
        let largest = max(state.pointee.nodes == 1 ? limits.bytes : limits.room, size)
        guard capacity < largest, used + size <= largest else { return nil }
        let wanted = min(max(capacity * 2, used + size), largest)
        let kept = min(otherRoom, (wanted - used - size) / 4)
        return move(node, capacity: wanted, start: end == .tail ? kept : wanted - kept - used)
    }

    /// Copies a packed node into another block, its entries beginning at `start`; the old block is gone.
    func move(_ node: ListNode, capacity: Int, start: Int) -> ListNode {
        let made = ListNode.packed(heap, capacity: capacity, pushingAt: .tail)
        let used = node.used
        memcpy(made.bytes + start, node.bytes + node.start, used)
        made.start = start
        made.end = start + used
        made.count = node.count
        replace(node, with: made)
        return made
    }

    @inline(never)
    private func pushPlain(_ value: Argument, at end: ListEnd) {
        link(ListNode.plain(heap, value), at: end)
        state.pointee.count += 1
    }

    // MARK: pop

    /// The outermost element; the list is not empty. It belongs to the list.
    @inline(__always)
    func outermost(_ end: ListEnd) -> ListpackValue {
        let node = (end == .head ? head : tail).unsafelyUnwrapped
        return node.value(at: end == .head ? node.firstEntry : node.lastEntry)
    }

    /// Removes the outermost element. O(1).
    @inline(__always)
    func removeOutermost(_ end: ListEnd) {
        let node = (end == .head ? head : tail).unsafelyUnwrapped
        state.pointee.count &-= 1
        if node.count == 1 { return unlink(node) }
        if end == .head {
            node.start = node.start &+ ListpackEntry.size(at: node.bytes + node.start)
        } else {
            node.end = node.end &- ListpackEntry.size(before: node.bytes + node.end)
        }
        node.count = node.count &- 1
        if state.pointee.nodes == 1, node.capacity > 512, node.used &* 8 < node.capacity { shrink(node) }
    }

    /// Gives back most of a node that has become nearly empty.
    @inline(never)
    private func shrink(_ node: ListNode) {
        let capacity = node.used * 2
        _ = move(node, capacity: capacity, start: node.used / 2)
    }

    // MARK: the chain

    func link(_ node: ListNode, at end: ListEnd) {
        if end == .tail {
            link(node, between: tail, and: nil)
        } else {
            link(node, between: nil, and: head)
        }
    }

    func link(_ node: ListNode, between previous: ListNode?, and next: ListNode?) {
        node.header.pointee.previous = previous?.header
        node.header.pointee.next = next?.header
        if let previous { previous.header.pointee.next = node.header } else { state.pointee.head = node.header }
        if let next { next.header.pointee.previous = node.header } else { state.pointee.tail = node.header }
        state.pointee.nodes += 1
    }

    /// Takes a node out of the chain and frees it; its elements are not counted any more already.
    @inline(never)
    func unlink(_ node: ListNode) {
        if let previous = node.previous { previous.header.pointee.next = node.next?.header } else { state.pointee.head = node.next?.header }
        if let next = node.next { next.header.pointee.previous = node.previous?.header } else { state.pointee.tail = node.previous?.header }
        state.pointee.nodes -= 1
        node.free()
    }

    private func replace(_ node: ListNode, with other: ListNode) {
        let (previous, next) = (node.previous, node.next)
        unlink(node)
        link(other, between: previous, and: next)
    }

    // MARK: loading and saving

    /// Adds a node with the entries of a listpack that `Listpack.validate` has passed. O(n).
    func append(_ pack: Listpack) {
        append(entries: UnsafeRawBufferPointer(start: pack.start, count: pack.byteCount - Listpack.overhead), count: pack.count)
    }

    /// The same for the entries alone, of which there are `count`. O(n).
    func append(entries: UnsafeRawBufferPointer, count: Int) {
        guard count > 0 else { return }
        let node = ListNode.packed(heap, capacity: entries.count, pushingAt: .tail)
        memcpy(node.bytes, entries.baseAddress!, entries.count)
        node.end = entries.count
        node.count = count
        link(node, at: .tail)
        state.pointee.count += count
    }

    /// Adds a plain node, as a file has it.
    func appendPlain(_ value: Argument) { pushPlain(value, at: .tail) }

    /// Visits the nodes from head to tail; see `ListNode.isPlain`, `plainValue` and `makeListpack`.
    func forEachNode(_ visit: (ListNode) -> Void) {
        var node = head
        while let n = node {
            visit(n)
            node = n.next
        }
    }
}
