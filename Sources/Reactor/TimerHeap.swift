/// Names one scheduled timer. A timer that has fired or was cancelled leaves a name that no longer matches anything.
public struct TimerID: Hashable, Sendable {
    let slot: Int32
    let generation: UInt32
}

/// Timers ordered by deadline: a 4-ary heap of slot numbers, the slots reused by a free list.
///
/// Insert, cancel and pop are O(log n) with n live timers; cancelled ones leave at once. Equal deadlines fire in the order
/// in which they were scheduled.
struct TimerHeap {
    struct Slot {
        var generation: UInt32 = 0
        var position: Int32 = -1
        var nextFree: Int32 = -1
        var interval: Duration?
        var label: StaticString = "timer"
        var body: (() -> Void)?
    }

    private struct Node {
        var deadline: Instant
        var sequence: UInt64
        var slot: Int32

        func isBefore(_ other: Node) -> Bool {
            deadline == other.deadline ? sequence < other.sequence : deadline < other.deadline
        }
    }

    private var nodes: [Node] = []
    private var slots: [Slot] = []
    private var firstFree: Int32 = -1
    private var sequence: UInt64 = 0
    /// The number of the last timer set; later ones have greater numbers.
    var lastSequence: UInt64 { sequence }

    var count: Int { nodes.count }
    /// The earliest deadline. O(1).
    var next: Instant? { nodes.first?.deadline }

    mutating func insert(at deadline: Instant, interval: Duration?, label: StaticString, _ body: @escaping () -> Void) -> TimerID {
        let slot: Int32
        if firstFree >= 0 {
            slot = firstFree
            firstFree = slots[Int(slot)].nextFree
        } else {
            slot = Int32(slots.count)
            slots.append(Slot())
        }
        slots[Int(slot)].interval = interval
        slots[Int(slot)].label = label
        slots[Int(slot)].body = body
        push(Node(deadline: deadline, sequence: nextSequence(), slot: slot))
        return TimerID(slot: slot, generation: slots[Int(slot)].generation)
    }

    /// - Returns: whether the timer was still to fire.
    @discardableResult
    mutating func cancel(_ id: TimerID) -> Bool {
        guard id.slot < slots.count, slots[Int(id.slot)].generation == id.generation else { return false }
        let position = slots[Int(id.slot)].position
        if position >= 0 { remove(at: Int(position)) }
        release(id.slot)
        return true
    }

    func contains(_ id: TimerID) -> Bool {
        id.slot < slots.count && slots[Int(id.slot)].generation == id.generation
    }

    /// Takes the earliest timer if it is due. A repeating one is put back first, at its own rhythm: a multiple of its
    /// interval after its first deadline, the next that is still to come. Timers set after number `last` are left alone.
    mutating func popDue(at now: Instant, upTo last: UInt64 = .max) -> (label: StaticString, body: () -> Void)? {
        guard let node = nodes.first, node.deadline <= now, node.sequence <= last else { return nil }
        let slot = Int(node.slot)
        let body = slots[slot].body!
        let label = slots[slot].label
        remove(at: 0)
        if let interval = slots[slot].interval {
            var deadline = node.deadline + interval
            if deadline <= now {
                let step = UInt64(max(1, interval.wholeNanoseconds))
                let missed = (now.nanoseconds - node.deadline.nanoseconds) / step
                deadline = Instant(nanoseconds: node.deadline.nanoseconds + (missed + 1) * step)
            }
            push(Node(deadline: deadline, sequence: nextSequence(), slot: node.slot))
        } else {
            release(node.slot)
        }
        return (label, body)
    }

    private mutating func nextSequence() -> UInt64 {
        sequence += 1
        return sequence
    }

    private mutating func release(_ slot: Int32) {
        let index = Int(slot)
        slots[index].generation &+= 1
        slots[index].body = nil
        slots[index].interval = nil
        slots[index].position = -1
        slots[index].nextFree = firstFree
        firstFree = slot
    }

    private mutating func push(_ node: Node) {
        nodes.append(node)
        siftUp(nodes.count - 1)
    }

    private mutating func remove(at position: Int) {
        slots[Int(nodes[position].slot)].position = -1
        let last = nodes.removeLast()
        guard position < nodes.count else { return }
        nodes[position] = last
        slots[Int(last.slot)].position = Int32(position)
        siftDown(position)
        siftUp(Int(slots[Int(last.slot)].position))
    }

    private mutating func siftUp(_ start: Int) {
        var index = start
        let node = nodes[index]
        while index > 0 {
            let parent = (index - 1) / 4
            guard node.isBefore(nodes[parent]) else { break }
            place(nodes[parent], at: index)
            index = parent
        }
        place(node, at: index)
    }

    private mutating func siftDown(_ start: Int) {
        var index = start
        let node = nodes[index]
        while true {
            let first = index * 4 + 1
            guard first < nodes.count else { break }
            var best = first
            for child in first..<min(first + 4, nodes.count) where nodes[child].isBefore(nodes[best]) { best = child }
            guard nodes[best].isBefore(node) else { break }
            place(nodes[best], at: index)
            index = best
        }
        place(node, at: index)
    }

    private mutating func place(_ node: Node, at index: Int) {
        nodes[index] = node
        slots[Int(node.slot)].position = Int32(index)
    }
}
