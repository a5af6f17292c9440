import RESP

/// A stream that is being read, part by part, in the order of the file: its nodes, what is known of it, and for each group what is
/// pending and its consumers.
struct StreamBuilder {
    /// Each takes bytes: there is always something to come, so that a stream is whole when its last byte has come.
    enum Part {
        case nodes(left: Int)
        case state
        case group
        /// Of the last group.
        case pending(left: Int)
        case consumers
        case consumer
        /// Of the last consumer of the last group.
        case consumerPending(left: Int)
        case done
    }

    let stream: Stream
    var part: Part
    /// The ID of the last entry that was read.
    var lastEntry: StreamID?
    var groupsLeft = 0
    var consumersLeft = 0
    var group: StreamGroup?
    var consumer: StreamConsumer?
    /// What is pending in the group and has found its consumer.
    var assigned = 0
}

/// How streams are read, of all three forms: the second one tells more of the stream, the third one more of the consumers.
extension RDBReader {
    /// Reads the next part.
    /// - Returns: whether the stream is whole.
    func readStreamPart() throws(Stop) -> Bool {
        guard case .stream(var builder) = building!.builder else { return true }
        switch builder.part {
        case .nodes(let left):
            try readNode(&builder)
            builder.part = left > 1 ? .nodes(left: left - 1) : .state
        case .state: try readState(&builder)
        case .group: try readGroup(&builder)
        case .pending(let left):
            try readPending(&builder)
            builder.part = left > 1 ? .pending(left: left - 1) : .consumers
        case .consumers:
            builder.consumersLeft = try takeLength()
            builder.assigned = 0
            endConsumer(&builder)
            try checkGroup(builder)
        case .consumer:
            try readConsumer(&builder)
            try checkGroup(builder)
        case .consumerPending(let left):
            try readConsumersPending(&builder)
            if left > 1 { builder.part = .consumerPending(left: left - 1) } else { endConsumer(&builder) }
            try checkGroup(builder)
        case .done: break
        }
        building!.builder = .stream(builder)
        if case .done = builder.part { return true }
        return false
    }

    private func readNode(_ builder: inout StreamBuilder) throws(Stop) {
        guard let id = try withString({ $0.count == StreamID.size ? StreamID(bigEndian: $0.raw) : nil }) else {
            throw bad("a node of a stream has no ID of \(StreamID.size) bytes")
        }
        var last = builder.lastEntry
        guard last.map({ $0 < id }) ?? true, builder.stream.nodes.last.map({ $0.id < id }) ?? true else {
            throw bad("the nodes of a stream are not in order")
        }
        let pack: Listpack? = try withString { bytes in
            let raw = UnsafeRawBufferPointer(start: bytes.raw, count: bytes.count)
            guard Listpack.validate(raw) else { return nil }
            let pack = Listpack.copy(heap, raw)
            if StreamNode.validate(pack, id, after: &last) { return pack }
            pack.free()
            return nil
        }
        guard let pack else { throw bad("what should be a node of a stream is none") }
        builder.lastEntry = last
        // Redis leaves a node whose entries were all marked by an exact trim where it is; there is nothing in it.
        if StreamNode(id, pack.base).count == 0 { return pack.free() }
        builder.stream.nodes.insert(id, pack.base)
    }

    private func takeID() throws(Stop) -> StreamID {
        let milliseconds = try takeWideLength()
        return StreamID(milliseconds, try takeWideLength())
    }

    private func readState(_ builder: inout StreamBuilder) throws(Stop) {
        let count = try takeLength()
        let last = try takeID()
        var maxDeleted = StreamID.zero
        var added = UInt64(count)
        if building!.kind != .stream1 {
            // The first entry's is what it is.
            _ = try takeID()
            maxDeleted = try takeID()
            added = try takeWideLength()
        }
        let groups = try takeLength()
        let stream = builder.stream
        var found = 0
        stream.nodes.forEach { found += StreamNode($0, $1).count }
        guard found == count else { throw bad("a stream of \(count) entries has \(found)") }
        if let entry = builder.lastEntry, entry > last { throw bad("the last ID of a stream is lower than that of its last entry") }
        stream.state.pointee.count = count
        stream.state.pointee.lastID = last
        stream.state.pointee.maxDeletedID = maxDeleted
        stream.state.pointee.entriesAdded = added
        stream.updateFirst()
        builder.groupsLeft = groups
        builder.part = groups > 0 ? .group : .done
    }

    private func readGroup(_ builder: inout StreamBuilder) throws(Stop) {
        let name = try takeString()
        let last = try takeID()
        let stream = builder.stream
        var read = stream.entriesAdded(upTo: last) ?? StreamGroup.unknownEntriesRead
        if building!.kind != .stream1 { read = Int64(bitPattern: try takeWideLength()) }
        let pending = try takeLength()
        let group: StreamGroup? = name.withUnsafeBytes { bytes in
            let name = Argument(bytes)
            return stream.group(name) == nil ? stream.addGroup(name, lastID: last, entriesRead: read) : nil
        }
        guard let group else { throw bad("a stream has a group twice") }
        builder.groupsLeft -= 1
        builder.group = group
        builder.part = pending > 0 ? .pending(left: pending) : .consumers
    }

    private func readPending(_ builder: inout StreamBuilder) throws(Stop) {
        let id = StreamID(bigEndian: try take(StreamID.size).baseAddress!)
        let time = try takeNumber(Int64.self)
        let count = try takeWideLength()
        guard builder.group!.delivery(id) == nil else { throw bad("an entry is pending twice in a group of a stream") }
        builder.group!.add(id, time: time, count: count, nil)
    }

    private func readConsumer(_ builder: inout StreamBuilder) throws(Stop) {
        let name = try takeString()
        let seen = try takeNumber(Int64.self)
        let active = building!.kind == .stream3 ? try takeNumber(Int64.self) : seen
        let pending = try takeLength()
        let group = builder.group!
        let consumer: StreamConsumer? = name.withUnsafeBytes { bytes in
            let name = Argument(bytes)
            return group.consumer(name) == nil ? group.addConsumer(name, now: seen) : nil
        }
        guard let consumer else { throw bad("a group of a stream has a consumer twice") }
        consumer.state.pointee.active = active
        builder.consumersLeft -= 1
        builder.consumer = consumer
        if pending > 0 { builder.part = .consumerPending(left: pending) } else { endConsumer(&builder) }
    }

    private func readConsumersPending(_ builder: inout StreamBuilder) throws(Stop) {
        let id = StreamID(bigEndian: try take(StreamID.size).baseAddress!)
        guard let delivery = builder.group!.delivery(id), delivery.consumer == nil else {
            throw bad("an entry that is pending with a consumer is not so in the group, or with another consumer too")
        }
        builder.group!.move(delivery, id, to: builder.consumer!)
        builder.assigned += 1
    }

    private func endConsumer(_ builder: inout StreamBuilder) {
        builder.part = builder.consumersLeft > 0 ? .consumer : builder.groupsLeft > 0 ? .group : .done
    }

    /// Behind a group's last consumer everything that is pending must be somebody's.
    private func checkGroup(_ builder: StreamBuilder) throws(Stop) {
        switch builder.part {
        case .group, .done:
            guard builder.assigned == builder.group!.pending.count else { throw bad("an entry is pending in a group of a stream, but with no consumer") }
        default: break
        }
    }
}
