import Glibc
import RESP

/// A stream: entries in the order of their IDs, in nodes of about a hundred, and the groups that read them.
///
/// Promise: adding at the end, and cutting off at the front by whole nodes, cost O(log n) in the number of nodes; an entry is found in
/// O(log n) and the size of a node.
///
/// What an entry of the keyspace points at:
///
///     | count | last ID | first ID | highest deleted ID | entries ever added | groups | index of the nodes |
///
/// A node is drawn above `StreamNode`; a group above `StreamGroup`.
struct Stream {
    typealias Pointer = UnsafeMutableRawPointer

    struct State {
        /// Entries that are there.
        var count = 0
        /// The ID given last; a new one is higher.
        var lastID = StreamID.zero
        /// That of the first entry; zero when there is none.
        var firstID = StreamID.zero
        /// The highest one that XDEL has removed.
        var maxDeletedID = StreamID.zero
        var entriesAdded: UInt64 = 0
        var groups = NamedList()
        var nodes: IDTree.State
    }

    let state: UnsafeMutablePointer<State>

    @inline(__always) init(_ pointer: Pointer) { state = pointer.assumingMemoryBound(to: State.self) }
    @inline(__always) init(_ entry: Entry) { self.init(entry.pointer) }

    static func make(_ heap: Heap) -> Stream {
        let block = heap.allocate(MemoryLayout<State>.size).bindMemory(to: State.self, capacity: 1)
        block.initialize(to: State(nodes: IDTree.State(heap: heap)))
        return Stream(Pointer(block))
    }

    @inline(__always) var pointer: Pointer { Pointer(state) }
    @inline(__always) var count: Int { state.pointee.count }
    @inline(__always) var nodes: IDTree {
        IDTree((pointer + MemoryLayout<State>.offset(of: \.nodes)!).assumingMemoryBound(to: IDTree.State.self))
    }
    @inline(__always) var heap: Heap { state.pointee.nodes.heap }

    // MARK: freeing

    /// Whether freeing it takes long.
    var isLarge: Bool {
        var pending = 0
        state.pointee.groups.forEach { pending += StreamGroup($0).pending.count }
        return nodes.count + pending / IDTree.leafMax > Heap.gravesMin
    }

    /// Frees everything.
    func free() {
        var all = Int.max
        _ = release(&all)
    }

    /// Frees a part of the stream, and at last the stream itself. From the first time on it is not to be used.
    /// - Parameter steps: about how many nodes to free yet, counted down.
    /// - Returns: whether nothing is left.
    func release(_ steps: inout Int) -> Bool {
        var leaves = steps == .max ? .max : (steps + IDTree.leafMax - 1) / IDTree.leafMax
        defer { if steps != .max { steps = leaves * IDTree.leafMax } }
        guard nodes.release(&leaves, { Listpack($0).free() }) else { return false }
        while let group = state.pointee.groups.last.map({ StreamGroup($0) }) {
            guard group.release(&leaves) else { return false }
            state.pointee.groups.removeLast()
        }
        state.pointee.groups.free(heap)
        Heap.free(state, MemoryLayout<State>.size)
        return true
    }

    /// Bytes of the stream's blocks, going by its first nodes and groups.
    /// - Parameter samples: how many nodes are looked at; 0 for all.
    func memory(samples: Int) -> Int {
        var (seen, bytes) = (0, 0)
        var place = nodes.first
        while let p = place, samples == 0 || seen < samples {
            seen += 1
            bytes += Listpack(p.value).memory
            place = p.next
        }
        var total = MemoryLayout<State>.size + nodes.extent.bytes + (seen == 0 ? 0 : Int(Double(bytes) / Double(seen) * Double(nodes.count)))
        total += state.pointee.groups.memory
        state.pointee.groups.forEach { total += StreamGroup($0).memory }
        return total
    }

    // MARK: adding

    /// How much goes into a node (`stream-node-max-bytes`, `stream-node-max-entries`).
    struct Limits {
        let bytes: Int
        let entries: Int

        init(_ configuration: StoreConfiguration) {
            let most = configuration.streamNodeMaxBytes
            bytes = most == 0 ? Listpack.byteCountMax : min(most, Listpack.byteCountMax)
            entries = configuration.streamNodeMaxEntries
        }
    }

    /// Adds an entry whose ID is higher than the last one. Amortised O(size of the entry).
    /// - Precondition: the content takes less than `Listpack.byteCountMax` bytes.
    func append(_ id: StreamID, _ content: StreamNode.Content, _ limits: Limits) {
        if let last = nodes.last, hasRoom(StreamNode(last), content.byteCount, limits) {
            last.value = StreamNode(last).appending(id, content).base
        } else {
            let pack = StreamNode.make(heap, content, room: content.byteCount)
            nodes.insert(id, StreamNode(id, pack.base).appending(id, content).base)
        }
        if count == 0 { state.pointee.firstID = id }
        state.pointee.count += 1
        state.pointee.entriesAdded &+= 1
        state.pointee.lastID = id
    }

    /// Marked entries take room too.
    private func hasRoom(_ node: StreamNode, _ size: Int, _ limits: Limits) -> Bool {
        node.pack.byteCount + size < limits.bytes && (limits.entries == 0 || node.count + node.deleted < limits.entries)
    }

    // MARK: removing

    /// Removes an entry. O(log n + size of a node).
    /// - Returns: whether it was there.
    func remove(_ id: StreamID) -> Bool {
        guard let found = find(id) else { return false }
        let place = found.node
        StreamNode.mark(found.entry)
        let node = StreamNode(place)
        if node.count == 1 {
            node.pack.free()
            nodes.remove(place.id)
        } else {
            place.value = node.counting(deleted: 1).base
        }
        state.pointee.count -= 1
        if id > state.pointee.maxDeletedID { state.pointee.maxDeletedID = id }
        return true
    }

    /// Where a stream is to be cut off.
    enum Cut {
        /// So many entries may stay.
        case count(Int)
        /// Entries from this one on may stay.
        case id(StreamID)
    }

    /// Removes entries from the front.
    /// - Parameters:
    ///   - isApproximate: only whole nodes go.
    ///   - limit: nodes go only as long as no more entries than these have; 0 for no limit.
    /// - Returns: how many entries went.
    func trim(_ cut: Cut, isApproximate: Bool, limit: Int) -> Int {
        var removed = 0
        while let place = nodes.first {
            let node = StreamNode(place)
            let entries = node.count
            if case .count(let most) = cut, count <= most { break }
            if limit > 0, removed + entries > limit { break }
            let isWhole: Bool = switch cut {
            case .count(let most): count - entries >= most
            // Marked or not, as in Redis: how much goes by an approximate cut hangs on it.
            case .id(let least): node.last.map { $0.id < least } ?? true
            }
            if isWhole {
                node.pack.free()
                nodes.remove(place.id)
                state.pointee.count -= entries
                removed += entries
                continue
            }
            if isApproximate { break }
            var marked = 0
            var next = node.first
            while let entry = next {
                next = node.next(entry)
                switch cut {
                case .count(let most) where count <= most: next = nil
                case .id(let least) where entry.id >= least && !entry.isDeleted: next = nil
                default:
                    if entry.isDeleted { continue }
                    StreamNode.mark(entry)
                    marked += 1
                    state.pointee.count -= 1
                }
            }
            if marked == entries {
                node.pack.free()
                nodes.remove(place.id)
            } else if marked > 0 {
                place.value = node.counting(deleted: marked).base
            }
            removed += marked
            break
        }
        if removed > 0 { updateFirst() }
        return removed
    }

    /// Looks anew which entry is the first.
    func updateFirst() { state.pointee.firstID = first?.id ?? .zero }
}

// MARK: copies

extension Stream {
    /// A stream of its own with the same entries and groups. O(n).
    func copied(_ heap: Heap) -> Stream {
        let made = Stream.make(heap)
        nodes.forEach { id, base in made.nodes.insert(id, Listpack.copy(heap, Listpack(base).bytes).base) }
        made.state.pointee.count = count
        made.state.pointee.lastID = state.pointee.lastID
        made.state.pointee.firstID = state.pointee.firstID
        made.state.pointee.maxDeletedID = state.pointee.maxDeletedID
        made.state.pointee.entriesAdded = state.pointee.entriesAdded
        forEachGroup { group in
            let twin = made.addGroup(group.name, lastID: group.state.pointee.lastID, entriesRead: group.state.pointee.entriesRead)
            group.forEachConsumer { consumer in
                let other = twin.addConsumer(consumer.name, now: consumer.state.pointee.seen)
                other.state.pointee.active = consumer.state.pointee.active
                consumer.pending.forEach { id, pointer in
                    let delivery = Delivery(pointer).state.pointee
                    twin.add(id, time: delivery.time, count: delivery.count, other)
                }
            }
        }
        return made
    }
}
