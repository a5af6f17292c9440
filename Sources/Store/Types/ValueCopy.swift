import Glibc
import RESP

/// Deep copies of values, in the encoding that they have, whatever the thresholds say by now.
extension Entry {
    /// A copy of the value under another key. O(n); O(n log n) for a large sorted set.
    func copied(to key: Argument, expiry: Int64?, clock: UInt32, _ hash: KeyHash) -> Entry {
        if type == .string, encoding != .raw {
            let made = Entry.make(key, .string, encoding, expiry: expiry, clock: clock, valueSize: valueSize)
            memcpy(made.valueBase, valueBase, valueSize)
            return made
        }
        return Entry.make(key, type, encoding, expiry: expiry, clock: clock, pointer: copiedBlock(hash))
    }

    private func copiedBlock(_ hash: KeyHash) -> UnsafeMutableRawPointer {
        switch (type, encoding) {
        case (.string, _): return Blob.make(Blob(pointer).bytes).base
        case (.list, _): return QuickList(pointer).copied().pointer
        case (_, .intset): return Intset.copy(Intset(pointer).bytes).base
        case (_, .listpack): return Listpack.copy(Listpack(pointer).bytes).base
        case (.set, _): return Table<SetMember>(adopting: pointer).copied(hash) { SetMember.make(SetMember($0).bytes).base }.pointer
        case (.hash, _): return Table<HashField>(adopting: pointer).copied(hash) { HashField($0).copied().base }.pointer
        case (.sortedSet, _):
            let made = SortedIndex(hash: hash)
            SortedSet(self).forEach { made.add($0, $1) }
            return made.pointer
        }
    }
}

extension Table {
    fileprivate func copied(_ hash: KeyHash, _ copy: (Pointer) -> Pointer) -> Table {
        let made = Table(hash: hash)
        made.reserve(count)
        forEach { made.insert(copy($0)) }
        return made
    }
}

extension QuickList {
    /// A copy, node by node. O(n).
    fileprivate func copied() -> QuickList {
        let made = QuickList.make()
        forEachNode { node in
            if node.isPlain { return node.plainValue.withText { made.appendPlain($0) } }
            let pack = node.makeListpack()
            made.append(pack)
            pack.free()
        }
        return made
    }
}
