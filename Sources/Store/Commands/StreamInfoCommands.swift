import RESP

/// Streams: what is known of them. Redis 7.2's fields: a consumer's last success beside its last attempt.
extension StoreServer {
    static let streamInfoCommands: [Command] = [
        Command(
            container: "XINFO", since: "5.0.0", heading: "stream", summary: "A container for stream introspection commands.",
            subcommands: [
                Command(
                    "STREAM", arity: -3, flags: [.readOnly], keys: .range(2, 2), categories: [.stream], since: "5.0.0",
                    syntax: "key [FULL full([COUNT count:int])]", summary: "Returns information about a stream."
                ) { call in call.server.describeStream(call) },
                Command(
                    "GROUPS", arity: 3, flags: [.readOnly], keys: .range(2, 2), categories: [.stream], since: "5.0.0",
                    syntax: "key", summary: "Returns a list of the consumer groups of a stream."
                ) { call in
                    guard let stream = call.server.streamForInfo(call) else { return }
                    call.reply.array(stream.state.pointee.groups.count)
                    stream.forEachGroup { group in
                        call.reply.map(6)
                        call.reply.bulk("name")
                        call.reply.bulk(group.name)
                        call.reply.bulk("consumers")
                        call.reply.integer(group.state.pointee.consumers.count)
                        call.reply.bulk("pending")
                        call.reply.integer(group.pending.count)
                        call.server.describeProgress(call.reply, stream, group)
                    }
                },
                Command(
                    "CONSUMERS", arity: 4, flags: [.readOnly], keys: .range(2, 2), categories: [.stream], since: "5.0.0",
                    syntax: "key groupname", tips: "nondeterministic_output", summary: "Returns a list of the consumers in a consumer group."
                ) { call in
                    guard let stream = call.server.streamForInfo(call) else { return }
                    guard let group = stream.group(call[3]) else {
                        return call.reply.error(
                            Array("NOGROUP No such consumer group '".utf8) + call[3].start(.max) + Array("' for key name '".utf8)
                                + call[2].start(.max) + [0x27])
                    }
                    let now = call.db.now
                    call.reply.array(group.state.pointee.consumers.count)
                    group.forEachConsumer { consumer in
                        let active = consumer.state.pointee.active
                        call.reply.map(4)
                        call.reply.bulk("name")
                        call.reply.bulk(consumer.name)
                        call.reply.bulk("pending")
                        call.reply.integer(consumer.pending.count)
                        call.reply.bulk("idle")
                        call.reply.integer(max(0, now &- consumer.state.pointee.seen))
                        call.reply.bulk("inactive")
                        call.reply.integer(active == -1 ? -1 : max(0, now &- active))
                    }
                },
                help(
                    "XINFO", since: "5.0.0", categories: [.stream],
                    [
                        "CONSUMERS <key> <groupname>", "    Show consumers of <groupname>.", "GROUPS <key>", "    Show the stream consumer groups.",
                        "STREAM <key> [FULL [COUNT <count>]", "    Show information about the stream.",
                    ]),
            ])
    ]

    /// The stream that is asked about; nil after an error reply.
    private func streamForInfo(_ call: borrowing Call) -> Stream? {
        guard let entry = lookup(call.db, call[2]) else {
            call.noSuchKey()
            return nil
        }
        guard entry.type == .stream else {
            call.wrongType()
            return nil
        }
        return Stream(entry)
    }

    /// How far a group has come: three pairs of a map.
    private func describeProgress(_ reply: ReplyWriter, _ stream: Stream, _ group: StreamGroup) {
        let state = group.state.pointee
        reply.bulk("last-delivered-id")
        reply.bulk(state.lastID)
        reply.bulk("entries-read")
        state.entriesRead == StreamGroup.unknownEntriesRead ? reply.null() : reply.integer(state.entriesRead)
        reply.bulk("lag")
        if let lag = stream.lag(of: group) { reply.integer(lag) } else { reply.null() }
    }

    private func describeStream(_ call: borrowing Call) {
        let full = call.count > 3
        if full {
            guard call[3].isWord("full"), call.count == 4 || (call.count == 6 && call[4].isWord("count")) else {
                return call.unknownSubcommandOrArity()
            }
        }
        guard let stream = streamForInfo(call) else { return }
        var most = 10
        if call.count == 6 {
            guard let count = call.integer(5) else { return }
            most = count < 0 ? 10 : count == 0 ? .max : Int(count)
        }
        let reply = call.reply
        let state = stream.state.pointee
        reply.map(full ? 9 : 10)
        reply.bulk("length")
        reply.integer(state.count)
        reply.bulk("radix-tree-keys")
        reply.integer(stream.nodes.count)
        // No radix tree here, but nodes of an index all the same.
        reply.bulk("radix-tree-nodes")
        reply.integer(stream.nodes.extent.nodes)
        reply.bulk("last-generated-id")
        reply.bulk(state.lastID)
        reply.bulk("max-deleted-entry-id")
        reply.bulk(state.maxDeletedID)
        reply.bulk("entries-added")
        reply.integer(Int64(bitPattern: state.entriesAdded))
        reply.bulk("recorded-first-entry-id")
        reply.bulk(state.firstID)
        if full { return describeFully(reply, stream, most) }
        reply.bulk("groups")
        reply.integer(state.groups.count)
        for (name, entry) in [("first-entry", stream.first), ("last-entry", stream.last)] {
            reply.bulk(name)
            if let entry { reply.streamEntry(entry) } else { reply.null() }
        }
    }

    private func describeFully(_ reply: ReplyWriter, _ stream: Stream, _ most: Int) {
        reply.bulk("entries")
        var left = min(stream.count, most)
        reply.array(left)
        if left > 0 {
            stream.forEach(from: .zero, to: .max) { entry in
                reply.streamEntry(entry)
                left -= 1
                return left > 0
            }
        }
        reply.bulk("groups")
        reply.array(stream.state.pointee.groups.count)
        stream.forEachGroup { group in
            reply.map(7)
            reply.bulk("name")
            reply.bulk(group.name)
            describeProgress(reply, stream, group)
            reply.bulk("pel-count")
            reply.integer(group.pending.count)
            reply.bulk("pending")
            describePending(reply, group.pending, most, withConsumer: true)
            reply.bulk("consumers")
            reply.array(group.state.pointee.consumers.count)
            group.forEachConsumer { consumer in
                reply.map(5)
                reply.bulk("name")
                reply.bulk(consumer.name)
                reply.bulk("seen-time")
                reply.integer(consumer.state.pointee.seen)
                reply.bulk("active-time")
                reply.integer(consumer.state.pointee.active)
                reply.bulk("pel-count")
                reply.integer(consumer.pending.count)
                reply.bulk("pending")
                describePending(reply, consumer.pending, most, withConsumer: false)
            }
        }
    }

    private func describePending(_ reply: ReplyWriter, _ pending: IDTree, _ most: Int, withConsumer: Bool) {
        let count = min(pending.count, most)
        reply.array(count)
        var place = pending.first
        for _ in 0..<count {
            let p = place!
            let delivery = Delivery(p.value)
            reply.array(withConsumer ? 4 : 3)
            reply.bulk(p.id)
            if withConsumer { reply.bulk(delivery.consumer!.name) }
            reply.integer(delivery.state.pointee.time)
            reply.integer(Int64(bitPattern: delivery.state.pointee.count))
            place = p.next
        }
    }
}

extension Stream {
    /// How many entries a group has not read yet; nil when it cannot be told.
    func lag(of group: StreamGroup) -> Int64? {
        let added = Int64(bitPattern: state.pointee.entriesAdded)
        let progress = group.state.pointee
        if added == 0 { return 0 }
        if progress.entriesRead != StreamGroup.unknownEntriesRead, !hasGaps(from: progress.lastID) { return added &- progress.entriesRead }
        return entriesAdded(upTo: progress.lastID).map { added &- $0 }
    }
}
