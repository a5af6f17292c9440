import Glibc
import RESP

// What a key costs.
extension Entry {
    /// Bytes of memory for key and value, as the heap counts them.
    /// - Parameter samples: how many elements of a large collection are looked at, from which the others follow; 0 for all.
    func memoryWithValue(samples: Int) -> Int {
        switch type {
        case .string: return memory + (encoding == .raw ? Blob(pointer).memory : 0)
        case .list: return memory + QuickList(pointer).memory(samples: samples)
        case .set:
            switch encoding {
            case .table: return memory + StoredSet(self).table.memory(samples: samples) { SetMember($0).memory }
            case .intset: return memory + StoredSet(self).intset.memory
            default: return memory + StoredSet(self).pack.memory
            }
        case .hash:
            if encoding != .table { return memory + StoredHash(self).pack.memory }
            return memory + StoredHash(self).table.memory(samples: samples) { HashField($0).memory }
        case .sortedSet:
            if encoding == .listpack { return memory + Listpack(pointer).memory }
            let index = SortedIndex(pointer)
            return memory + index.members.memory(samples: samples) { SortedElement($0).memory } + index.tree.memory
        case .stream: return memory + Stream(self).memory(samples: samples)
        }
    }
}

extension Table {
    /// Bytes of the table and, going by the first `samples` elements in its order, of its elements.
    fileprivate func memory(samples: Int, _ element: (Pointer) -> Int) -> Int {
        var seen = 0
        var bytes = 0
        var cursor: UInt64 = 0
        repeat {
            cursor = scan(cursor) {
                seen += 1
                bytes += element($0)
            }
        } while cursor != 0 && (samples == 0 || seen < samples)
        return memory + (seen == 0 ? 0 : Int(Double(bytes) / Double(seen) * Double(count)))
    }
}

extension QuickList {
    /// Bytes of the list and, going by its first nodes, of all nodes.
    fileprivate func memory(samples: Int) -> Int {
        var seen = 0
        var elements = 0
        var bytes = 0
        var node = head
        while let n = node, samples == 0 || elements < samples {
            seen += 1
            elements += n.count
            bytes += n.memory
            node = n.next
        }
        return MemoryLayout<State>.size + (seen == 0 ? 0 : Int(Double(bytes) / Double(seen) * Double(state.pointee.nodes)))
    }
}

extension SortedTree {
    /// Bytes of the nodes, going by the first leaf of each 64 or so.
    fileprivate var memory: Int {
        var seen = 0
        var elements = 0
        var bytes = 0
        var leaf: Leaf? = state.pointee.first
        while let l = leaf, seen < 64 {
            seen += 1
            elements += l.count
            bytes += l.memory
            leaf = l.next
        }
        guard elements > 0 else { return bytes }
        let leaves = seen < 64 ? seen : count * seen / elements
        return Int(Double(bytes) / Double(seen) * Double(leaves)) + leaves * Inner.size / (innerMax * 2 / 3)
    }

    private var innerMax: Int { SortedTree.innerMax }
}
