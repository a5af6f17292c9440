import Glibc
import RESP

/// A group of consumers that share a stream's entries.
///
///     | name | name's count | last ID delivered | entries read | consumers | what is pending, by ID |
///
/// What was delivered to a consumer and not acknowledged yet is a `Delivery`, known to the group and to its consumer.
struct StreamGroup {
    typealias Pointer = UnsafeMutableRawPointer

    struct State {
        let name: Name
        var lastID: StreamID
        /// How many of the stream's entries the group has read; -1 when that is not known.
        var entriesRead: Int64
        var consumers = NamedList()
        var pending: IDTree.State
    }

    static let unknownEntriesRead: Int64 = -1

    let state: UnsafeMutablePointer<State>

    @inline(__always) init(_ pointer: Pointer) { state = pointer.assumingMemoryBound(to: State.self) }

    static func make(_ heap: Heap, _ name: Argument, lastID: StreamID, entriesRead: Int64) -> StreamGroup {
        let block = heap.allocate(MemoryLayout<State>.size).bindMemory(to: State.self, capacity: 1)
        block.initialize(to: State(name: Name(heap, name), lastID: lastID, entriesRead: entriesRead, pending: IDTree.State(heap: heap)))
        return StreamGroup(Pointer(block))
    }

    @inline(__always) var pointer: Pointer { Pointer(state) }
    @inline(__always) var heap: Heap { state.pointee.pending.heap }
    var name: Argument { state.pointee.name.text }
    @inline(__always) var pending: IDTree {
        IDTree((pointer + MemoryLayout<State>.offset(of: \.pending)!).assumingMemoryBound(to: IDTree.State.self))
    }

    func free() {
        var all = Int.max
        _ = release(&all)
    }

    /// See `Stream.release`.
    func release(_ leaves: inout Int) -> Bool {
        guard pending.release(&leaves, { Delivery($0).free() }) else { return false }
        while let consumer = state.pointee.consumers.last.map({ StreamConsumer($0) }) {
            guard consumer.pending.release(&leaves, { _ in }) else { return false }
            consumer.free()
            state.pointee.consumers.removeLast()
        }
        state.pointee.consumers.free(heap)
        state.pointee.name.free()
        Heap.free(state, MemoryLayout<State>.size)
        return true
    }

    /// Bytes of its blocks; what is pending is counted, not looked at.
    var memory: Int {
        var total = MemoryLayout<State>.size + state.pointee.name.memory + state.pointee.consumers.memory
        total += pending.extent.bytes + pending.count * heap.capacity(for: Delivery.size)
        state.pointee.consumers.forEach {
            let consumer = StreamConsumer($0)
            total += MemoryLayout<StreamConsumer.State>.size + consumer.state.pointee.name.memory + consumer.pending.extent.bytes
        }
        return total
    }

    // MARK: consumers

    func consumer(_ name: Argument) -> StreamConsumer? { state.pointee.consumers.find(name, StreamConsumer.name).map { StreamConsumer($0) } }

    /// Adds a consumer that is not there.
    /// - Parameter now: milliseconds since 1970.
    @discardableResult
    func addConsumer(_ name: Argument, now: Int64) -> StreamConsumer {
        let consumer = StreamConsumer.make(heap, name, now: now)
        state.pointee.consumers.insert(heap, consumer.pointer, StreamConsumer.name)
        return consumer
    }

    /// Removes a consumer; what was pending with it is forgotten. O(pending · log n).
    func remove(_ consumer: StreamConsumer) {
        consumer.pending.forEach { id, delivery in
            pending.remove(id)
            Delivery(delivery).free()
        }
        state.pointee.consumers.remove(consumer.pointer, StreamConsumer.name)
        consumer.pending.release { _ in }
        consumer.free()
    }

    // MARK: what is pending

    func delivery(_ id: StreamID) -> Delivery? { pending.find(id).map { Delivery($0.value) } }

    /// Adds a delivery of an entry that is not pending. O(log n).
    @discardableResult
    func add(_ id: StreamID, time: Int64, count: UInt64, _ consumer: StreamConsumer?) -> Delivery {
        let delivery = Delivery.make(heap, time: time, count: count, consumer)
        pending.insert(id, delivery.pointer)
        consumer?.pending.insert(id, delivery.pointer)
        return delivery
    }

    /// Gives a pending entry to a consumer. O(log n).
    func move(_ delivery: Delivery, _ id: StreamID, to consumer: StreamConsumer) {
        let owner = delivery.state.pointee.consumer
        if owner == consumer.pointer { return }
        if let owner { StreamConsumer(owner).pending.remove(id) }
        consumer.pending.insert(id, delivery.pointer)
        delivery.state.pointee.consumer = consumer.pointer
    }

    /// Forgets a pending entry. O(log n).
    /// - Returns: whether it was pending.
    @discardableResult
    func acknowledge(_ id: StreamID) -> Bool {
        guard let pointer = pending.remove(id) else { return false }
        let delivery = Delivery(pointer)
        if let owner = delivery.state.pointee.consumer { StreamConsumer(owner).pending.remove(id) }
        delivery.free()
        return true
    }
}

/// One that reads entries in a group's name, and acknowledges them.
struct StreamConsumer {
    typealias Pointer = UnsafeMutableRawPointer

    struct State {
        let name: Name
        /// When it last tried something, and when it last got something (-1: never yet); milliseconds since 1970.
        var seen: Int64
        var active: Int64
        var pending: IDTree.State
    }

    let state: UnsafeMutablePointer<State>

    @inline(__always) init(_ pointer: Pointer) { state = pointer.assumingMemoryBound(to: State.self) }

    static func make(_ heap: Heap, _ name: Argument, now: Int64) -> StreamConsumer {
        let block = heap.allocate(MemoryLayout<State>.size).bindMemory(to: State.self, capacity: 1)
        block.initialize(to: State(name: Name(heap, name), seen: now, active: -1, pending: IDTree.State(heap: heap)))
        return StreamConsumer(Pointer(block))
    }

    @inline(__always) var pointer: Pointer { Pointer(state) }
    var name: Argument { state.pointee.name.text }
    static func name(_ pointer: Pointer) -> Argument { StreamConsumer(pointer).name }
    @inline(__always) var pending: IDTree {
        IDTree((pointer + MemoryLayout<State>.offset(of: \.pending)!).assumingMemoryBound(to: IDTree.State.self))
    }

    /// Frees what is left when nothing is pending any more.
    func free() {
        state.pointee.name.free()
        Heap.free(state, MemoryLayout<State>.size)
    }
}

/// An entry that was delivered and not acknowledged.
struct Delivery {
    typealias Pointer = UnsafeMutableRawPointer

    struct State {
        /// Milliseconds since 1970.
        var time: Int64
        /// How often it was delivered.
        var count: UInt64
        var consumer: Pointer?
    }

    static let size = MemoryLayout<State>.size

    let state: UnsafeMutablePointer<State>

    @inline(__always) init(_ pointer: Pointer) { state = pointer.assumingMemoryBound(to: State.self) }

    static func make(_ heap: Heap, time: Int64, count: UInt64, _ consumer: StreamConsumer?) -> Delivery {
        let block = heap.allocate(size).bindMemory(to: State.self, capacity: 1)
        block.initialize(to: State(time: time, count: count, consumer: consumer?.pointer))
        return Delivery(Pointer(block))
    }

    @inline(__always) var pointer: Pointer { Pointer(state) }
    var consumer: StreamConsumer? { state.pointee.consumer.map { StreamConsumer($0) } }

    func free() { Heap.free(state, Delivery.size) }
}

extension Stream {
    func group(_ name: Argument) -> StreamGroup? {
        state.pointee.groups.find(name) { StreamGroup($0).name }.map { StreamGroup($0) }
    }

    /// Adds a group that is not there.
    @discardableResult
    func addGroup(_ name: Argument, lastID: StreamID, entriesRead: Int64) -> StreamGroup {
        let group = StreamGroup.make(heap, name, lastID: lastID, entriesRead: entriesRead)
        state.pointee.groups.insert(heap, group.pointer) { StreamGroup($0).name }
        return group
    }

    func remove(_ group: StreamGroup) {
        state.pointee.groups.remove(group.pointer) { StreamGroup($0).name }
        group.free()
    }

    func forEachGroup(_ visit: (StreamGroup) -> Void) { state.pointee.groups.forEach { visit(StreamGroup($0)) } }
}

extension StreamGroup {
    func forEachConsumer(_ visit: (StreamConsumer) -> Void) { state.pointee.consumers.forEach { visit(StreamConsumer($0)) } }
}
