import RESP

/// How lists, sets, hashes, sorted sets and streams are written: as a Redis 7.0 can read them, which knows no listpacks of sets.
extension RDBWriter {
    func collectionKind(of entry: Entry) -> RDB.Kind {
        switch entry.type {
        case .string: .string
        case .list: .quicklist2
        case .set: entry.encoding == .intset ? .setIntset : .set
        case .hash: entry.encoding == .listpack ? .hashListpack : .hash
        case .sortedSet: entry.encoding == .listpack ? .sortedSetListpack : .sortedSet
        case .stream: .stream2
        }
    }

    func writeCollection(_ entry: Entry) {
        switch entry.type {
        case .string: break
        case .list: write(QuickList(entry.pointer))
        case .set: write(StoredSet(entry))
        case .hash: write(StoredHash(entry))
        case .sortedSet: write(SortedSet(entry))
        case .stream: write(Stream(entry))
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

    // MARK: streams

    /// As of version 10: a consumer's time is that of its last attempt, and when it last got something is not told.
    private func write(_ stream: Stream) {
        length(stream.nodes.count)
        stream.nodes.forEach { id, base in
            id.withBigEndian { string(Argument($0)) }
            string(Argument(Listpack(base).bytes))
        }
        let state = stream.state.pointee
        length(state.count)
        for id in [state.lastID, state.firstID, state.maxDeletedID] { self.id(id) }
        length(bits: state.entriesAdded)
        length(state.groups.count)
        stream.forEachGroup { write($0) }
    }

    /// An ID as two lengths.
    private func id(_ id: StreamID) {
        length(bits: id.milliseconds)
        length(bits: id.sequence)
    }

    private func write(_ group: StreamGroup) {
        string(group.name)
        id(group.state.pointee.lastID)
        length(bits: UInt64(bitPattern: group.state.pointee.entriesRead))
        length(group.pending.count)
        group.pending.forEach { id, pointer in
            let delivery = Delivery(pointer).state.pointee
            id.withBigEndian { raw($0) }
            number(delivery.time.littleEndian)
            length(bits: delivery.count)
        }
        length(group.state.pointee.consumers.count)
        group.forEachConsumer { consumer in
            string(consumer.name)
            number(consumer.state.pointee.seen.littleEndian)
            length(consumer.pending.count)
            consumer.pending.forEach { id, _ in id.withBigEndian { raw($0) } }
        }
    }
}
