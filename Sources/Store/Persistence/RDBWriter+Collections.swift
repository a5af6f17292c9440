import RESP

/// How lists, sets, hashes and sorted sets are written: as a Redis 7.0 can read them, which knows no listpacks of sets.
extension RDBWriter {
    func collectionKind(of entry: Entry) -> RDB.Kind {
        switch entry.type {
        case .string: .string
        case .list: .quicklist2
        case .set: entry.encoding == .intset ? .setIntset : .set
        case .hash: entry.encoding == .listpack ? .hashListpack : .hash
        case .sortedSet: entry.encoding == .listpack ? .sortedSetListpack : .sortedSet
        }
    }

    func writeCollection(_ entry: Entry) {
        switch entry.type {
        case .string: break
        case .list: write(QuickList(entry.pointer))
        case .set: write(StoredSet(entry))
        case .hash: write(StoredHash(entry))
        case .sortedSet: write(SortedSet(entry))
        }
    }

    private func write(_ list: QuickList) {
        length(list.state.pointee.nodes)
        list.forEachNode { node in
            if node.isPlain {
                length(RDB.NodeForm.plain.rawValue)
                node.plainValue.withText { string($0) }
            } else {
                length(RDB.NodeForm.packed.rawValue)
                let pack = node.makeListpack()
                string(Argument(pack.bytes))
                pack.free()
            }
        }
    }

    private func write(_ set: StoredSet) {
        if set.encoding == .intset { return string(Argument(set.intset.bytes)) }
        length(set.count)
        set.forEach { value in value.withText { string($0) } }
    }

    private func write(_ hash: StoredHash) {
        if hash.encoding == .listpack { return string(Argument(hash.pack.bytes)) }
        length(hash.count)
        hash.forEach { field, value in
            field.withText { string($0) }
            value.withText { string($0) }
        }
    }

    private func write(_ set: SortedSet) {
        switch set.form {
        case .small(let pack): string(Argument(pack.bytes))
        case .large:
            length(set.count)
            // From the highest to the lowest, as Redis does: it reads that order fastest.
            set.forEach(from: 0, count: set.count, reversed: true) { member, score in
                string(member)
                double(score)
            }
        }
    }
}
