import Glibc
import RESP

/// What all collections have in common: they are freed and counted by their type and encoding.
///
///     type     encoding           block that the entry points at
///     list     listpack           `QuickList` that is still short
///              quicklist          `QuickList`
///     set      intset             `Intset`
///              listpack           `Listpack` of members
///              table              `Table<SetMember>`
///     hash     listpack           `Listpack` of fields and values in turn
///              table              `Table<HashField>`
///     zset     listpack           `Listpack` of members and scores in turn
///              sortedTree         `SortedIndex`
///     stream   sortedTree         `Stream`
extension Entry {
    /// The table of a large set's, hash's or sorted set's members, whatever its elements are: for touching, not for finding.
    var memberTable: Table<EntryElement>? {
        switch (type, encoding) {
        case (.set, .table), (.hash, .table): Table<EntryElement>(adopting: pointer)
        case (.sortedSet, .sortedTree): Table<EntryElement>(adopting: SortedIndex(pointer).members.pointer)
        default: nil
        }
    }

    /// The tree of a large sorted set.
    var sortedTree: SortedTree? { type == .sortedSet && encoding == .sortedTree ? SortedIndex(pointer).tree : nil }

    /// Frees the block of a list, set, hash, sorted set or stream; what is large is left to `Heap.reclaim`. O(1).
    @inline(never)
    func freeCollection() {
        switch type {
        case .string: break
        case .list:
            let list = QuickList(pointer)
            if list.state.pointee.nodes > Heap.gravesMin { heap.bury(.list, pointer) } else { list.free() }
        case .set where encoding == .table && StoredSet(self).count > Heap.gravesMin:
            StoredSet(self).table.beginRelease()
            heap.bury(.set, pointer)
        case .hash where encoding == .table && StoredHash(self).count > Heap.gravesMin:
            StoredHash(self).table.beginRelease()
            heap.bury(.hash, pointer)
        case .sortedSet where encoding == .sortedTree && SortedIndex(pointer).count > Heap.gravesMin:
            let index = SortedIndex(pointer)
            index.members.beginRelease()
            heap.bury(.sortedMembers, index.members.pointer)
            heap.bury(.tree, index.tree.pointer)
            index.freeHead()
        case .stream:
            let stream = Stream(self)
            if stream.isLarge { heap.bury(.stream, pointer) } else { stream.free() }
        case .set: StoredSet(self).free()
        case .hash: StoredHash(self).free()
        case .sortedSet: SortedSet(self).release()
        }
    }
}

extension Table {
    /// The table whose block an entry points at.
    @inline(__always)
    init(adopting pointer: Pointer) { state = pointer.assumingMemoryBound(to: State.self) }

    /// What an entry points at.
    @inline(__always) var pointer: Pointer { Pointer(state) }

}

extension ReplyWriter {
    /// An element of a collection as a bulk string.
    @inline(__always)
    func bulk(_ value: ListpackValue) {
        if let number = value.integer { return bulk(integer: number) }
        bulk(value.bytes.unsafelyUnwrapped, value.count)
    }
}
