import Glibc

// Freeing what is large, in steps.
extension Heap {
    /// Something that nobody can reach any more and that is still to be freed.
    struct Grave {
        let next: UnsafeMutablePointer<Grave>?
        let kind: Kind
        let pointer: Pointer

        enum Kind: UInt8 {
            /// Tables with their elements.
            case entries, set, hash, sortedMembers
            /// A table whose elements are another's.
            case places
            case list
            /// The nodes of a sorted set's tree.
            case tree
            case stream
        }
    }

    /// What has more elements than this is freed in steps.
    static let gravesMin = 64

    var isReclaiming: Bool { state.pointee.graves != nil }

    /// Leaves something to `reclaim`. O(1).
    func bury(_ kind: Grave.Kind, _ pointer: Pointer) {
        let grave = allocate(MemoryLayout<Grave>.size).bindMemory(to: Grave.self, capacity: 1)
        grave.initialize(to: Grave(next: state.pointee.graves, kind: kind, pointer: pointer))
        state.pointee.graves = grave
        state.pointee.gravesCount += 1
    }

    /// Frees some of what has been buried: about so many buckets of tables, nodes of lists and leaves of trees.
    func reclaim(_ steps: Int = .max) {
        var left = steps
        while left > 0, let grave = state.pointee.graves {
            // Whatever is buried meanwhile comes in front of it.
            state.pointee.graves = grave.pointee.next
            let (kind, pointer) = (grave.pointee.kind, grave.pointee.pointer)
            Heap.free(grave, MemoryLayout<Grave>.size)
            state.pointee.gravesCount -= 1
            if dig(kind, pointer, &left) { state.pointee.gravesEmptied += 1 } else { bury(kind, pointer) }
        }
    }

    /// - Returns: whether nothing is left.
    private func dig(_ kind: Grave.Kind, _ pointer: Pointer, _ left: inout Int) -> Bool {
        switch kind {
        case .entries:
            return Table<EntryElement>(adopting: pointer).release(&left) {
                Entry($0).freeValue()
                Entry($0).free()
            }
        case .places: return Table<EntryElement>(adopting: pointer).release(&left) { _ in }
        case .set: return Table<SetMember>(adopting: pointer).release(&left) { SetMember($0).free() }
        case .hash: return Table<HashField>(adopting: pointer).release(&left) { HashField($0).free() }
        case .sortedMembers: return Table<SortedElementKey>(adopting: pointer).release(&left) { SortedElement($0).free() }
        case .list: return QuickList(pointer).release(&left)
        case .tree: return SortedTree(pointer).release(&left)
        case .stream: return Stream(pointer).release(&left)
        }
    }
}
