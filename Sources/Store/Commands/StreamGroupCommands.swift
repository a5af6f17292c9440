import RESP

/// Streams: groups of consumers, and what is pending in them.
extension StoreServer {
    static let streamGroupCommands: [Command] = [
        Command(
            container: "XGROUP", since: "5.0.0", heading: "stream", summary: "A container for consumer groups commands.",
            subcommands: [
                Command(
                    "CREATE", arity: -5, flags: [.write, .denyOOM], keys: .range(2, 2), categories: [.stream], since: "5.0.0",
                    syntax: "key groupname id(id|new_id=$) [MKSTREAM] [ENTRIESREAD entries_read:int]", access: "RW insert",
                    summary: "Creates a consumer group."
                ) { call in call.server.createGroup(call) },
                Command(
                    "SETID", arity: -5, flags: [.write], keys: .range(2, 2), categories: [.stream], since: "5.0.0",
                    syntax: "key groupname id(id|new_id=$) [ENTRIESREAD entries_read:int]", access: "RW update",
                    summary: "Sets the last-delivered ID of a consumer group."
                ) { call in call.server.setGroupID(call) },
                Command(
                    "DESTROY", arity: 4, flags: [.write], keys: .range(2, 2), categories: [.stream], since: "5.0.0",
                    syntax: "key groupname", access: "RW delete",
                    complexity: "O(N) where N is the number of entries in the group's pending entries list (PEL).",
                    summary: "Destroys a consumer group."
                ) { call in call.server.destroyGroup(call) },
                Command(
                    "CREATECONSUMER", arity: 5, flags: [.write, .denyOOM], keys: .range(2, 2), categories: [.stream], since: "6.2.0",
                    syntax: "key groupname consumername", access: "RW insert",
                    summary: "Creates a consumer in a consumer group."
                ) { call in
                    guard let (_, group) = call.server.group(call) else { return }
                    if group.consumer(call[4]) != nil { return call.reply.integer(0) }
                    group.addConsumer(call[4], now: call.db.now)
                    call.server.changed(call.db, call[2], .stream, "xgroup-createconsumer")
                    call.reply.integer(1)
                },
                Command(
                    "DELCONSUMER", arity: 5, flags: [.write], keys: .range(2, 2), categories: [.stream], since: "5.0.0",
                    syntax: "key groupname consumername", access: "RW delete",
                    summary: "Deletes a consumer from a consumer group."
                ) { call in
                    guard let (_, group) = call.server.group(call) else { return }
                    guard let consumer = group.consumer(call[4]) else { return call.reply.integer(0) }
                    let pending = consumer.pending.count
                    group.remove(consumer)
                    call.server.changed(call.db, call[2], .stream, "xgroup-delconsumer")
                    call.reply.integer(pending)
                },
                help(
                    "XGROUP", since: "5.0.0", categories: [.stream],
                    [
                        "CREATE <key> <groupname> <id|$> [option]", "    Create a new consumer group. Options are:", "    * MKSTREAM",
                        "      Create the empty stream if it does not exist.", "    * ENTRIESREAD entries_read",
                        "      Set the group's entries_read counter (internal use).", "CREATECONSUMER <key> <groupname> <consumer>",
                        "    Create a new consumer in the specified group.", "DELCONSUMER <key> <groupname> <consumer>",
                        "    Remove the specified consumer.", "DESTROY <key> <groupname>", "    Remove the specified group.",
                        "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]", "    Set the current group ID and entries_read counter.",
                    ]),
            ]),
        Command(
            "XACK", arity: -4, flags: [.write, .fast], keys: .first, categories: [.stream], since: "5.0.0",
            syntax: "key group id...", access: "RW update", complexity: "O(1) for each message ID processed.",
            summary: "Returns the number of messages that were successfully acknowledged by the consumer group member of a stream."
        ) { call in call.server.acknowledge(call) },
        Command(
            "XCLAIM", arity: -6, flags: [.write, .fast], keys: .first, categories: [.stream], since: "5.0.0",
            syntax: "key group consumer min-idle-time id... [IDLE ms:int] [TIME unix-time-milliseconds:time] [RETRYCOUNT count:int] [FORCE] [JUSTID] [LASTID id]",
            access: "RW update", tips: "nondeterministic_output",
            complexity: "O(log N) with N being the number of messages in the PEL of the consumer group.",
            summary: "Changes, or acquires, ownership of a message in a consumer group, as if the message was delivered a consumer group member."
        ) { call in call.server.claim(call) },
        Command(
            "XAUTOCLAIM", arity: -6, flags: [.write, .fast], keys: .first, categories: [.stream], since: "6.2.0",
            syntax: "key group consumer min-idle-time start [COUNT count:int] [JUSTID]", access: "RW delete", tips: "nondeterministic_output",
            complexity: "O(1) if COUNT is small.",
            summary: "Changes, or acquires, ownership of messages in a consumer group, as if the messages were delivered to as consumer group member."
        ) { call in call.server.claimIdle(call) },
        Command(
            "XPENDING", arity: -3, flags: [.readOnly], keys: .first, categories: [.stream], since: "5.0.0",
            syntax: "key group [filters([IDLE min-idle-time:int]@6.2.0 start end count:int [consumer])]", tips: "nondeterministic_output",
            complexity: "O(N) with N being the number of elements returned, so asking for a small fixed number of entries per call is O(1). O(M), where M is the total number of entries scanned when used with the IDLE filter. When the command returns just the summary and the list of consumers is small, it runs in O(1) time; otherwise, an additional O(N) time for iterating every consumer.",
            summary: "Returns the information and entries from a stream consumer group's pending entries list."
        ) { call in call.server.pending(call) },
    ]

    // MARK: XGROUP

    private func missingStream(_ reply: ReplyWriter) {
        reply.error("ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.")
    }

    /// The stream and the group that an XGROUP subcommand names; nil after an error reply.
    fileprivate func group(_ call: borrowing Call) -> (Stream, StreamGroup)? {
        guard let stream = streamForWrite(call, call[2], missing: missingStream) else { return nil }
        if let group = stream.group(call[3]) { return (stream, group) }
        call.reply.error(
            Array("NOGROUP No such consumer group '".utf8) + call[3].start(.max) + Array("' for key name '".utf8) + call[2].start(.max) + [0x27])
        return nil
    }

    /// The options behind an ID.
    private func groupOptions(_ call: borrowing Call, canMake: Bool) -> (makes: Bool, entriesRead: Int64)? {
        var makes = false
        var read = StreamGroup.unknownEntriesRead
        var i = 5
        while i < call.count {
            if canMake, call[i].isWord("mkstream") {
                makes = true
                i += 1
            } else if call[i].isWord("entriesread"), i + 1 < call.count {
                guard let value = call.integer(i + 1) else { return nil }
                if value < -1 {
                    call.reply.error("ERR value for ENTRIESREAD must be positive or -1")
                    return nil
                }
                read = value
                i += 2
            } else {
                call.unknownSubcommandOrArity()
                return nil
            }
        }
        return (makes, read)
    }

    private static func isLast(_ argument: Argument) -> Bool { argument.count == 1 && argument[0] == 0x24 }

    private func createGroup(_ call: borrowing Call) {
        guard let options = groupOptions(call, canMake: true) else { return }
        let key = call[2]
        var stream: Stream?
        if let position = lookupForWrite(call.db, key) {
            guard Entry(position.element).type == .stream else { return call.wrongType() }
            stream = Stream(Entry(position.element))
        }
        if stream == nil, !options.makes { return missingStream(call.reply) }
        if call.count > 8 { return call.unknownSubcommandOrArity() }
        var id = stream?.state.pointee.lastID ?? .zero
        if !StoreServer.isLast(call[4]) {
            guard let given = call.streamID(4) else { return }
            id = given
        }
        if stream?.group(call[3]) != nil { return call.reply.error("BUSYGROUP Consumer Group name already exists") }
        (stream ?? addStream(call.db, key)).addGroup(call[3], lastID: id, entriesRead: options.entriesRead)
        changed(call.db, key, .stream, "xgroup-create")
        call.reply.ok()
    }

    private func setGroupID(_ call: borrowing Call) {
        guard let options = groupOptions(call, canMake: false), let (stream, group) = group(call) else { return }
        guard call.count == 5 || call.count == 7 else { return call.unknownSubcommandOrArity() }
        var id = stream.state.pointee.lastID
        if !StoreServer.isLast(call[4]) {
            guard let given = call.streamID(4, isStrict: false) else { return }
            id = given
        }
        group.state.pointee.lastID = id
        group.state.pointee.entriesRead = options.entriesRead
        changed(call.db, call[2], .stream, "xgroup-setid")
        call.reply.ok()
    }

    private func destroyGroup(_ call: borrowing Call) {
        guard let stream = streamForWrite(call, call[2], missing: missingStream) else { return }
        guard let group = stream.group(call[3]) else { return call.reply.integer(0) }
        stream.remove(group)
        changed(call.db, call[2], .stream, "xgroup-destroy")
        // Whoever waits for it is told that it is gone.
        keyReady(call.db, call[2])
        call.reply.integer(1)
    }

    // MARK: what is pending

    private func noGroup(_ call: borrowing Call) {
        call.reply.error(
            Array("NOGROUP No such key '".utf8) + call[1].start(.max) + Array("' or consumer group '".utf8) + call[2].start(.max) + [0x27])
    }

    /// The stream and the group that the first two arguments name; nil after an error reply.
    private func pendingGroup(_ call: borrowing Call) -> (Stream, StreamGroup)? {
        guard let entry = lookup(call.db, call[1]) else {
            noGroup(call)
            return nil
        }
        guard entry.type == .stream else {
            call.wrongType()
            return nil
        }
        if let group = Stream(entry).group(call[2]) { return (Stream(entry), group) }
        noGroup(call)
        return nil
    }

    private func acknowledge(_ call: borrowing Call) {
        guard let entry = lookup(call.db, call[1]) else { return call.reply.integer(0) }
        guard entry.type == .stream else { return call.wrongType() }
        guard let group = Stream(entry).group(call[2]) else { return call.reply.integer(0) }
        for i in 3..<call.count where call.streamID(i) == nil { return }
        var count = 0
        for i in 3..<call.count where group.acknowledge(StreamID.parse(call[i], missing: 0, isStrict: true)!.id) { count += 1 }
        dirty += Int64(count)
        call.reply.integer(count)
    }

    private func claim(_ call: borrowing Call) {
        if let entry = lookup(call.db, call[1]), entry.type != .stream { return call.wrongType() }
        guard let (stream, group) = pendingGroup(call) else { return }
        guard var least = call[4].integer else { return call.reply.error("ERR Invalid min-idle-time argument for XCLAIM") }
        least = max(0, least)
        var ids: [StreamID] = []
        var end = 5
        while end < call.count, let parsed = StreamID.parse(call[end], missing: 0, isStrict: true), !parsed.isPartial {
            ids.append(parsed.id)
            end += 1
        }
        let now = call.db.now
        guard let options = ClaimOptions(call, from: end, now: now) else { return }
        var setsID = false
        if options.lastID > group.state.pointee.lastID {
            group.state.pointee.lastID = options.lastID
            setsID = true
        }
        var commands: [[[UInt8]]] = []
        let consumer = self.consumer(call[3], of: group, call[1], call.db, &commands)
        var claimed: [StreamNode.Entry] = []
        for id in ids {
            var delivery = group.delivery(id)
            guard let item = stream.find(id) else {
                // It is nobody's any more.
                if let delivery {
                    if propagation.isOn { commands.append(claim(call[1], group, id, delivery)) }
                    setsID = false
                    dirty += 1
                    group.acknowledge(id)
                }
                continue
            }
            if let delivery, least > 0, now &- delivery.state.pointee.time < least { continue }
            if delivery == nil, options.isForced { delivery = group.add(id, time: now, count: 1, nil) }
            guard let delivery else { continue }
            delivery.state.pointee.time = options.time
            if let count = options.count {
                delivery.state.pointee.count = UInt64(count)
            } else if !options.onlyIDs {
                delivery.state.pointee.count &+= 1
            }
            group.move(delivery, id, to: consumer)
            consumer.state.pointee.active = now
            claimed.append(item.entry)
            if propagation.isOn { commands.append(claim(call[1], group, id, delivery)) }
            setsID = false
            dirty += 1
        }
        if setsID {
            if propagation.isOn { commands.append(setID(call[1], group)) }
            dirty += 1
        }
        call.reply.array(claimed.count)
        for entry in claimed { options.onlyIDs ? call.reply.bulk(entry.id) : call.reply.streamEntry(entry) }
        commands.isEmpty ? propagateNothing() : propagate(as: commands)
    }

    private static let attemptsPerEntry = 10

    private func claimIdle(_ call: borrowing Call) {
        guard var least = call[4].integer else { return call.reply.error("ERR Invalid min-idle-time argument for XAUTOCLAIM") }
        least = max(0, least)
        guard let start = call.streamBound(5, isStart: true) else { return }
        var left = 100
        var onlyIDs = false
        var i = 6
        while i < call.count {
            if call[i].isWord("count"), i + 1 < call.count {
                guard let value = call[i + 1].integer, (1...Int64.max / 16).contains(value) else { return call.reply.error("ERR COUNT must be > 0") }
                left = Int(value)
                i += 1
            } else if call[i].isWord("justid") {
                onlyIDs = true
            } else {
                return call.syntaxError()
            }
            i += 1
        }
        guard let (stream, group) = pendingGroup(call) else { return }
        var commands: [[[UInt8]]] = []
        let consumer = self.consumer(call[3], of: group, call[1], call.db, &commands)
        let now = call.db.now
        var attempts = left.multipliedReportingOverflow(by: StoreServer.attemptsPerEntry).overflow ? Int.max : left * StoreServer.attemptsPerEntry
        var claimed: [StreamNode.Entry] = []
        var gone: [StreamID] = []
        var cursor: StreamID? = start
        while attempts > 0, left > 0, let from = cursor, let place = group.pending.first(from: from) {
            attempts -= 1
            let id = place.id
            let delivery = Delivery(place.value)
            cursor = id.next
            guard let item = stream.find(id) else {
                if propagation.isOn { commands.append(claim(call[1], group, id, delivery)) }
                dirty += 1
                group.acknowledge(id)
                gone.append(id)
                left -= 1
                continue
            }
            if least > 0, now &- delivery.state.pointee.time < least { continue }
            delivery.state.pointee.time = now
            if !onlyIDs { delivery.state.pointee.count &+= 1 }
            group.move(delivery, id, to: consumer)
            consumer.state.pointee.active = now
            claimed.append(item.entry)
            left -= 1
            if propagation.isOn { commands.append(claim(call[1], group, id, delivery)) }
            dirty += 1
        }
        call.reply.array(3)
        call.reply.bulk(cursor.flatMap { group.pending.first(from: $0)?.id } ?? .zero)
        call.reply.array(claimed.count)
        for entry in claimed { onlyIDs ? call.reply.bulk(entry.id) : call.reply.streamEntry(entry) }
        call.reply.array(gone.count)
        for id in gone { call.reply.bulk(id) }
        commands.isEmpty ? propagateNothing() : propagate(as: commands)
    }

    private func pending(_ call: borrowing Call) {
        if call.count == 3 { return summary(call) }
        guard (6...9).contains(call.count) else { return call.syntaxError() }
        var first = 3
        var least: Int64 = 0
        if call[3].isWord("idle") {
            guard let value = call.integer(4) else { return }
            if call.count < 8 { return call.syntaxError() }
            least = value
            first = 5
        }
        guard let count = call.integer(first + 2), let start = call.streamBound(first, isStart: true),
            let end = call.streamBound(first + 1, isStart: false), let (_, group) = pendingGroup(call)
        else { return }
        var pending = group.pending
        if first + 3 < call.count {
            guard let consumer = group.consumer(call[first + 3]) else { return call.reply.array(0) }
            pending = consumer.pending
        }
        let now = call.db.now
        var found: [(StreamID, Delivery)] = []
        var place = pending.first(from: start)
        while let p = place, p.id <= end, Int64(found.count) < count {
            let delivery = Delivery(p.value)
            if least == 0 || now &- delivery.state.pointee.time >= least { found.append((p.id, delivery)) }
            place = p.next
        }
        call.reply.array(found.count)
        for (id, delivery) in found {
            call.reply.array(4)
            call.reply.bulk(id)
            call.reply.bulk(delivery.consumer!.name)
            call.reply.integer(max(0, now &- delivery.state.pointee.time))
            call.reply.integer(Int64(bitPattern: delivery.state.pointee.count))
        }
    }

    private func summary(_ call: borrowing Call) {
        guard let (_, group) = pendingGroup(call) else { return }
        let reply = call.reply
        reply.array(4)
        reply.integer(group.pending.count)
        guard let first = group.pending.first, let last = group.pending.last else {
            reply.null()
            reply.null()
            return reply.nullArray()
        }
        reply.bulk(first.id)
        reply.bulk(last.id)
        var consumers: [StreamConsumer] = []
        group.forEachConsumer { if !$0.pending.isEmpty { consumers.append($0) } }
        reply.array(consumers.count)
        for consumer in consumers {
            reply.array(2)
            reply.bulk(consumer.name)
            reply.bulk(integer: Int64(consumer.pending.count))
        }
    }
}

/// The options of XCLAIM behind the IDs.
private struct ClaimOptions {
    var isForced = false
    var onlyIDs = false
    /// When the entries were delivered, as they will have it; milliseconds since 1970.
    var time: Int64
    /// How often they were; nil: once more, unless only IDs are asked for.
    var count: Int64?
    var lastID = StreamID.zero

    /// - Returns: nil after an error reply.
    init?(_ call: borrowing Call, from start: Int, now: Int64) {
        var given: Int64 = -1
        time = now
        var i = start
        while i < call.count {
            let option = call[i]
            let hasValue = i + 1 < call.count
            if option.isWord("force") {
                isForced = true
            } else if option.isWord("justid") {
                onlyIDs = true
            } else if hasValue, option.isWord("idle") {
                i += 1
                guard let value = call[i].integer else {
                    call.reply.error("ERR Invalid IDLE option argument for XCLAIM")
                    return nil
                }
                given = now &- value
            } else if hasValue, option.isWord("time") {
                i += 1
                guard let value = call[i].integer else {
                    call.reply.error("ERR Invalid TIME option argument for XCLAIM")
                    return nil
                }
                given = value
            } else if hasValue, option.isWord("retrycount") {
                i += 1
                guard let value = call[i].integer else {
                    call.reply.error("ERR Invalid RETRYCOUNT option argument for XCLAIM")
                    return nil
                }
                count = value < 0 ? nil : value
            } else if hasValue, option.isWord("lastid") {
                i += 1
                guard let value = call.streamID(i) else { return nil }
                lastID = value
            } else {
                call.error("ERR Unrecognized XCLAIM option '", option, "'")
                return nil
            }
            i += 1
        }
        // A time that cannot be is most likely a clock that goes wrong: no reason for an error.
        if given != -1, (0...now).contains(given) { time = given }
    }
}
