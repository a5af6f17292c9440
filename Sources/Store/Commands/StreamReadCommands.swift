import RESP

/// Streams: what reads entries behind the last one known, and waits for them.
///
/// A group's progress goes to replicas as XCLAIM of each entry with the time and the count of its delivery, and XGROUP SETID.
extension StoreServer {
    static let streamReadCommands: [Command] = [
        Command(
            "XREAD", arity: -4, flags: [.readOnly, .blocking, .movableKeys], keys: .streams(from: 1), categories: [.stream], since: "5.0.0",
            syntax: "[COUNT count:int] [BLOCK milliseconds:int] STREAMS streams(key... id...)", access: "RO access STREAMS+1/2",
            complexity: "For each stream mentioned: O(N) with N being the number of elements being returned, it means that XREAD-ing with a fixed COUNT is O(1). Note that when the BLOCK option is used, XADD will pay O(M) time in order to serve the M clients blocked on the stream getting new data.",
            summary: "Returns messages from multiple streams with IDs greater than the ones requested. Blocks until a message is available otherwise."
        ) { call in call.server.readStreams(call, ofGroup: false) },
        Command(
            "XREADGROUP", arity: -7, flags: [.write, .blocking, .movableKeys], keys: .streams(from: 4), categories: [.stream], since: "5.0.0",
            syntax: "GROUP group_consumer(group consumer) [COUNT count:int] [BLOCK milliseconds:int] [NOACK] STREAMS streams(key... id...)",
            access: "RO access STREAMS+4/2",
            complexity: "For each stream mentioned: O(M) with M being the number of elements returned. If M is constant (e.g. always asking for the first 10 elements with COUNT), you can consider it O(1). On the other side when XREADGROUP blocks, XADD will pay the O(N) time in order to serve the N clients blocked on the stream getting new data.",
            summary: "Returns new or historical messages from a stream for a consumer in a group. Blocks until a message is available otherwise."
        ) { call in call.server.readStreams(call, ofGroup: true) },
    ]

    /// A client that waits without COUNT is not served a huge number of entries at once.
    private static let countWhenBlocked = 1000

    private func readStreams(_ call: borrowing Call, ofGroup: Bool) {
        guard let request = StreamRequest(call, ofGroup: ofGroup) else { return }
        guard let wanted = resolve(call, request) else { return }
        var commands: [[[UInt8]]] = []
        // What can be answered now; consumers are made on the way.
        var ready: [(key: Argument, stream: Stream, from: StreamID, group: StreamGroup?, consumer: StreamConsumer?, isHistory: Bool)] = []
        for (key, id) in wanted {
            guard let entry = lookup(call.db, key) else { continue }
            let stream = Stream(entry)
            guard ofGroup else {
                if case .behind(let id) = id, let last = stream.last?.id, last > id { ready.append((key, stream, id, nil, nil, false)) }
                continue
            }
            guard let group = stream.group(request.group) else { continue }
            let consumer = self.consumer(request.consumer, of: group, key, call.db, &commands)
            switch id {
            case .behind(let id): ready.append((key, stream, id, group, consumer, true))
            case .new:
                // A stream that is named twice: the second reply begins where the first one will have ended.
                let before = ready.last { $0.group?.pointer == group.pointer && !$0.isHistory }
                let last = before.map { stream.id(behind: $0.from, entries: request.most) } ?? group.state.pointee.lastID
                if let top = stream.last?.id, top > last { ready.append((key, stream, last, group, consumer, false)) }
            }
        }
        if !ready.isEmpty {
            call.reply.isRESP3 ? call.reply.map(ready.count) : call.reply.array(ready.count)
            for one in ready {
                if !call.reply.isRESP3 { call.reply.array(2) }
                call.reply.bulk(one.key)
                if let group = one.group, let consumer = one.consumer {
                    if one.isHistory {
                        sendHistory(call.reply, one.stream, one.from, request.most, consumer)
                    } else {
                        let delivery = StreamDelivery(stream: one.stream, key: one.key, group: group, consumer: consumer, keepsNothing: request.keepsNothing)
                        commands += deliver(call.reply, delivery, request.most)
                    }
                    dirty += 1
                } else {
                    send(call.reply, one.stream, behind: one.from, request.most)
                }
            }
        }
        if ofGroup { commands.isEmpty ? propagateNothing() : propagate(as: commands) }
        if ready.isEmpty {
            guard let timeout = request.timeout else { return call.reply.nullArray() }
            wait(call, request, wanted, timeout)
        }
    }

    /// From where a stream is to be read.
    private enum Start {
        case behind(StreamID)
        /// `>`: what no consumer of the group has got yet.
        case new
    }

    /// The keys and the IDs of a request; nil after an error reply.
    private func resolve(_ call: borrowing Call, _ request: StreamRequest) -> [(key: Argument, start: Start)]? {
        var result: [(Argument, Start)] = []
        for i in 0..<request.count {
            let key = call[request.first + i]
            let index = request.first + request.count + i
            let text = call[index]
            let entry = lookup(call.db, key)
            if let entry, entry.type != .stream {
                call.wrongType()
                return nil
            }
            if request.ofGroup, entry.map({ Stream($0).group(request.group) == nil }) ?? true {
                call.reply.error(
                    Array("NOGROUP No such key '".utf8) + key.start(.max) + Array("' or consumer group '".utf8) + request.group.start(.max)
                        + Array("' in XREADGROUP with GROUP option".utf8))
                return nil
            }
            let isSign = text.count == 1
            if isSign, text[0] == 0x24 {
                if request.ofGroup {
                    call.reply.error("ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.")
                    return nil
                }
                result.append((key, .behind(entry.map { Stream($0).state.pointee.lastID } ?? .zero)))
            } else if isSign, text[0] == 0x3E {
                if !request.ofGroup {
                    call.reply.error("ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.")
                    return nil
                }
                result.append((key, .new))
            } else {
                guard let id = call.streamID(index) else { return nil }
                // The highest ID of all is how Redis notes `>`.
                result.append((key, request.ofGroup && id == .max ? .new : .behind(id)))
            }
        }
        return result
    }

    /// The consumer of that name; one that is not there is made.
    /// - Parameter commands: what replicas are to be told.
    func consumer(_ name: Argument, of group: StreamGroup, _ key: Argument, _ db: Database, _ commands: inout [[[UInt8]]]) -> StreamConsumer {
        if let consumer = group.consumer(name) {
            consumer.state.pointee.seen = db.now
            return consumer
        }
        let consumer = group.addConsumer(name, now: db.now)
        changed(db, key, .stream, "xgroup-createconsumer")
        if propagation.isOn {
            commands.append([Array("XGROUP".utf8), Array("CREATECONSUMER".utf8), key.bytes, group.name.bytes, name.bytes])
        }
        return consumer
    }

    // MARK: replies

    /// The entries behind an ID.
    private func send(_ reply: ReplyWriter, _ stream: Stream, behind id: StreamID, _ most: Int) {
        let start = id.next ?? .max
        var left = stream.count(from: start, to: .max, most: most)
        reply.array(left)
        guard left > 0 else { return }
        stream.forEach(from: start, to: .max) { entry in
            reply.streamEntry(entry)
            left -= 1
            return left > 0
        }
    }

    /// What is pending with a consumer, once more. Entries that are gone have no fields.
    private func sendHistory(_ reply: ReplyWriter, _ stream: Stream, _ id: StreamID, _ most: Int, _ consumer: StreamConsumer) {
        guard let start = id.next else { return reply.array(0) }
        var count = 0
        var place = consumer.pending.first(from: start)
        while let p = place, count < most {
            count += 1
            place = p.next
        }
        reply.array(count)
        place = consumer.pending.first(from: start)
        let now = clock.milliseconds
        for _ in 0..<count {
            let p = place!
            if let item = stream.find(p.id) {
                reply.streamEntry(item.entry)
                let delivery = Delivery(p.value)
                delivery.state.pointee.time = now
                delivery.state.pointee.count &+= 1
            } else {
                reply.array(2)
                reply.bulk(p.id)
                reply.nullArray()
            }
            place = p.next
        }
    }

    private struct StreamDelivery {
        let stream: Stream
        let key: Argument
        let group: StreamGroup
        let consumer: StreamConsumer
        /// NOACK: what is delivered is done with.
        let keepsNothing: Bool
    }

    /// Gives a consumer what comes behind the group's last ID.
    /// - Returns: what replicas are to be told.
    private func deliver(_ reply: ReplyWriter, _ to: StreamDelivery, _ most: Int) -> [[[UInt8]]] {
        let group = to.group
        let state = group.state
        let start = state.pointee.lastID.next ?? .max
        var commands: [[[UInt8]]] = []
        var left = to.stream.count(from: start, to: .max, most: most)
        reply.array(left)
        guard left > 0 else { return [] }
        let now = clock.milliseconds
        to.stream.forEach(from: start, to: .max) { entry in
            let id = entry.id
            if state.pointee.entriesRead != StreamGroup.unknownEntriesRead, !to.stream.hasGaps(from: id) {
                state.pointee.entriesRead &+= 1
            } else if to.stream.state.pointee.entriesAdded > 0 {
                state.pointee.entriesRead = to.stream.entriesAdded(upTo: id) ?? StreamGroup.unknownEntriesRead
            }
            state.pointee.lastID = id
            reply.streamEntry(entry)
            if !to.keepsNothing {
                // After XGROUP SETID the entry may be pending with another consumer already.
                if let delivery = group.delivery(id) {
                    group.move(delivery, id, to: to.consumer)
                    delivery.state.pointee.time = now
                    delivery.state.pointee.count = 1
                    if propagation.isOn { commands.append(claim(to.key, group, id, delivery)) }
                } else {
                    let delivery = group.add(id, time: now, count: 1, to.consumer)
                    if propagation.isOn { commands.append(claim(to.key, group, id, delivery)) }
                }
                to.consumer.state.pointee.active = now
            }
            left -= 1
            return left > 0
        }
        if propagation.isOn { commands.append(setID(to.key, group)) }
        return commands
    }

    /// A delivery as a command.
    func claim(_ key: Argument, _ group: StreamGroup, _ id: StreamID, _ delivery: Delivery) -> [[UInt8]] {
        let state = delivery.state.pointee
        return [
            Array("XCLAIM".utf8), key.bytes, group.name.bytes, delivery.consumer!.name.bytes, Array("0".utf8), id.text, Array("TIME".utf8),
            Array(number: state.time), Array("RETRYCOUNT".utf8), Array("\(state.count)".utf8), Array("FORCE".utf8), Array("JUSTID".utf8),
            Array("LASTID".utf8), group.state.pointee.lastID.text,
        ]
    }

    /// A group's progress as a command.
    func setID(_ key: Argument, _ group: StreamGroup) -> [[UInt8]] {
        [
            Array("XGROUP".utf8), Array("SETID".utf8), key.bytes, group.name.bytes, group.state.pointee.lastID.text,
            Array("ENTRIESREAD".utf8), Array(number: group.state.pointee.entriesRead),
        ]
    }

    // MARK: waiting

    private func wait(_ call: borrowing Call, _ request: StreamRequest, _ wanted: [(key: Argument, start: Start)], _ timeout: Int64) {
        let most = request.most == .max ? StoreServer.countWhenBlocked : request.most
        var starts: [[UInt8]: Start] = [:]
        for (key, start) in wanted where starts[key.bytes] == nil { starts[key.bytes] = start }
        let ofGroup = request.ofGroup
        let (groupName, consumerName, keepsNothing) = (request.group.bytes, request.consumer.bytes, request.keepsNothing)
        block(call.client, on: wanted.map(\.key), timeout: timeout, hearsOfChanges: ofGroup) { [unowned self] client, db, key in
            guard let position = lookupForWrite(db, key), case let entry = Entry(position.element), entry.type == .stream else {
                if ofGroup { client.reply.error("UNBLOCKED the stream key no longer exists") }
                return ofGroup
            }
            let stream = Stream(entry)
            let reply = client.reply
            func begin() {
                if reply.isRESP3 {
                    reply.map(1)
                } else {
                    reply.array(1)
                    reply.array(2)
                }
                reply.bulk(key)
            }
            guard ofGroup else {
                guard case .behind(let id)? = starts[key.bytes], let last = stream.last?.id, last > id else { return false }
                begin()
                send(reply, stream, behind: id, most)
                return true
            }
            guard let group = groupName.withUnsafeBytes({ stream.group(Argument($0)) }) else {
                reply.error("NOGROUP the consumer group this client was blocked on no longer exists")
                return true
            }
            guard let last = stream.last?.id, last > group.state.pointee.lastID else { return false }
            var commands: [[[UInt8]]] = []
            let consumer = consumerName.withUnsafeBytes { self.consumer(Argument($0), of: group, key, db, &commands) }
            begin()
            commands += deliver(reply, StreamDelivery(stream: stream, key: key, group: group, consumer: consumer, keepsNothing: keepsNothing), most)
            dirty += 1
            pass(on: commands, of: client, db)
            return true
        } timedOut: { client in
            client.reply.nullArray()
        }
    }
}

/// What XREAD and XREADGROUP are asked.
private struct StreamRequest {
    let ofGroup: Bool
    var most = Int.max
    /// Milliseconds, 0 for ever; nil for not waiting.
    var timeout: Int64?
    var keepsNothing = false
    var group = Argument("")
    var consumer = Argument("")
    /// Where the keys begin, and how many there are; the IDs follow.
    var first = 0
    var count = 0

    /// - Returns: nil after an error reply.
    init?(_ call: borrowing Call, ofGroup: Bool) {
        self.ofGroup = ofGroup
        var hasGroup = false
        var i = 1
        while i < call.count, first == 0 {
            let option = call[i]
            let left = call.count - i - 1
            if option.isWord("block"), left > 0 {
                i += 1
                guard let value = StreamRequest.timeout(call, i) else { return nil }
                timeout = value
            } else if option.isWord("count"), left > 0 {
                i += 1
                guard let value = call.integer(i) else { return nil }
                most = value <= 0 ? .max : Int(value)
            } else if option.isWord("streams"), left > 0 {
                first = i + 1
                guard left % 2 == 0 else {
                    call.reply.error("ERR Unbalanced '\(call.slot.pointee.fullName)' list of streams: for each stream key an ID or '\(ofGroup ? ">" : "$")' must be specified.")
                    return nil
                }
                count = left / 2
            } else if option.isWord("group"), left >= 2 {
                guard ofGroup else {
                    call.reply.error("ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.")
                    return nil
                }
                group = call[i + 1]
                consumer = call[i + 2]
                hasGroup = true
                i += 2
            } else if option.isWord("noack") {
                guard ofGroup else {
                    call.reply.error("ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.")
                    return nil
                }
                keepsNothing = true
            } else {
                call.syntaxError()
                return nil
            }
            i += 1
        }
        if first == 0 {
            call.syntaxError()
            return nil
        }
        if ofGroup, !hasGroup {
            call.reply.error("ERR Missing GROUP option for XREADGROUP")
            return nil
        }
    }

    private static func timeout(_ call: borrowing Call, _ index: Int) -> Int64? {
        guard let value = call[index].integer else {
            call.reply.error("ERR timeout is not an integer or out of range")
            return nil
        }
        if value < 0 {
            call.reply.error("ERR timeout is negative")
            return nil
        }
        guard value < Int64.max - call.server.loop.wallMilliseconds else {
            call.reply.error("ERR timeout is out of range")
            return nil
        }
        return value
    }
}
