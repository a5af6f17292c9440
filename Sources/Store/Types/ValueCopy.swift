import Glibc
import RESP

// Copies of whole values that keep their encodings: what COPY makes.
extension Entry {
    /// An entry of its own under another key with a copy of the value. O(bytes).
    func copied(to key: Argument, expiry: Int64?, clock: UInt32, _ heap: Heap) -> Entry {
        if type == .string, encoding != .raw {
            let made = Entry.make(heap, key, .string, encoding, expiry: expiry, clock: clock, valueSize: valueSize)
            memcpy(made.valueBase, valueBase, valueSize)
            return made
        }
        return Entry.make(heap, key, type, encoding, expiry: expiry, clock: clock, pointer: copiedBlock(heap))
    }

    private func copiedBlock(_ heap: Heap) -> UnsafeMutableRawPointer {
        switch (type, encoding) {
        case (.string, _): return Blob.make(heap, Blob(pointer).bytes).base
        case (.list, _): return QuickList(pointer).copied(heap).pointer
        case (_, .intset): return Intset.copy(heap, Intset(pointer).bytes).base
        case (_, .listpack): return Listpack.copy(heap, Listpack(pointer).bytes).base
        case (.set, _): return Table<SetMember>(adopting: pointer).copied(heap) { SetMember.make(heap, SetMember($0).bytes).base }.pointer
        case (.hash, _): return Table<HashField>(adopting: pointer).copied(heap) { HashField($0).copied(heap).base }.pointer
        case (.sortedSet, _):
            let made = SortedIndex(heap)
            SortedSet(self).forEach { made.add($0, $1) }
            return made.pointer
        case (.stream, _): return Stream(self).copied(heap).pointer
        }
    }
}

extension Table {
    fileprivate func copied(_ heap: Heap, _ copy: (Pointer) -> Pointer) -> Table {
        let made = Table(heap)
        made.reserve(count)
        forEach { made.insert(copy($0)) }
        return made
    }
}

extension QuickList {
    /// A copy, node by node. O(n).
    fileprivate func copied(_ heap: Heap) -> QuickList {
        let made = QuickList.make(heap)
        forEachNode { node in
            if node.isPlain { return node.plainValue.withText { made.appendPlain($0) } }
            let pack = node.makeListpack()
            made.append(pack)
            pack.free()
        }
        return made
    }
}
