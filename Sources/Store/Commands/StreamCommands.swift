import RESP

/// Streams: entries. What reads new ones is in `StreamReadCommands.swift`, groups are in `StreamGroupCommands.swift`.
extension StoreServer {
    static let streamCommands: [Command] = streamEntryCommands + streamReadCommands + streamGroupCommands + streamInfoCommands

    private static let streamEntryCommands: [Command] = [
        Command(
            "XADD", arity: -5, flags: [.write, .denyOOM, .fast], keys: .first, categories: [.stream], since: "5.0.0",
            syntax: "key [NOMKSTREAM]@6.2.0 [trim(strategy(MAXLEN|MINID@6.2.0) [operator(equal==|approximately=~)] threshold [LIMIT count:int]@6.2.0)] id_or_auto(auto_id=*|id) field_value(field value)...",
            access: "RW update (UPDATE instead of INSERT because of the optional trimming feature)", tips: "nondeterministic_output",
            complexity: "O(1) when adding a new entry, O(N) when trimming where N being the number of entries evicted.",
            summary: "Appends a new message to a stream. Creates the key if it doesn't exist."
        ) { call in call.server.addEntry(call) },
        Command(
            "XLEN", arity: 2, flags: [.readOnly, .fast], keys: .first, categories: [.stream], since: "5.0.0",
            syntax: "key", access: "RO",
            summary: "Return the number of messages in a stream."
        ) { call in
            guard let entry = call.server.lookup(call.db, call[1]) else { return call.reply.integer(0) }
            guard entry.type == .stream else { return call.wrongType() }
            call.reply.integer(Stream(entry).count)
        },
        Command(
            "XRANGE", arity: -4, flags: [.readOnly], keys: .first, categories: [.stream], since: "5.0.0",
            syntax: "key start end [COUNT count:int]",
            complexity: "O(N) with N being the number of elements being returned. If N is constant (e.g. always asking for the first 10 elements with COUNT), you can consider it O(1).",
            summary: "Returns the messages from a stream within a range of IDs."
        ) { call in call.server.entriesInRange(call, isReversed: false) },
        Command(
            "XREVRANGE", arity: -4, flags: [.readOnly], keys: .first, categories: [.stream], since: "5.0.0",
            syntax: "key end start [COUNT count:int]",
            complexity: "O(N) with N being the number of elements returned. If N is constant (e.g. always asking for the first 10 elements with COUNT), you can consider it O(1).",
            summary: "Returns the messages from a stream within a range of IDs in reverse order."
        ) { call in call.server.entriesInRange(call, isReversed: true) },
        Command(
            "XDEL", arity: -3, flags: [.write, .fast], keys: .first, categories: [.stream], since: "5.0.0",
            syntax: "key id...", access: "RW delete",
            complexity: "O(1) for each single item to delete in the stream, regardless of the stream size.",
            summary: "Returns the number of messages after removing them from a stream."
        ) { call in call.server.removeEntries(call) },
        Command(
            "XTRIM", arity: -4, flags: [.write], keys: .first, categories: [.stream], since: "5.0.0",
            syntax: "key trim(strategy(MAXLEN|MINID@6.2.0) [operator(equal==|approximately=~)] threshold [LIMIT count:int]@6.2.0)",
            access: "RW delete", tips: "nondeterministic_output",
            complexity: "O(N), with N being the number of evicted entries. Constant times are very small however, since entries are organized in macro nodes containing multiple entries that can be released with a single deallocation.",
            summary: "Deletes messages from the beginning of a stream."
        ) { call in call.server.trimStream(call) },
        Command(
            "XSETID", arity: -3, flags: [.write, .denyOOM, .fast], keys: .first, categories: [.stream], since: "5.0.0",
            syntax: "key last-id [ENTRIESADDED entries_added:int]@7.0.0 [MAXDELETEDID max_deleted_entry_id]@7.0.0", access: "RW update",
            summary: "An internal command for replicating stream values."
        ) { call in call.server.setStreamID(call) },
    ]

    /// The stream of a key that is changed; nil with an error reply when the key holds something else.
    /// - Parameter missing: what to answer when there is none.
    func streamForWrite(_ call: borrowing Call, _ key: Argument, missing: (ReplyWriter) -> Void) -> Stream? {
        guard let position = lookupForWrite(call.db, key) else {
            missing(call.reply)
            return nil
        }
        let entry = Entry(position.element)
        guard entry.type == .stream else {
            call.wrongType()
            return nil
        }
        return Stream(entry)
    }

    /// Adds an empty stream under a key that is not there.
    func addStream(_ db: Database, _ key: Argument) -> Stream {
        let stream = Stream.make(heap)
        db.add(Entry.make(heap, key, .stream, .sortedTree, expiry: nil, clock: db.accessClock, pointer: stream.pointer))
        return stream
    }

    // MARK: XADD

    private func addEntry(_ call: borrowing Call) {
        guard let options = StreamOptions(call, isAdding: true) else { return }
        let first = options.end + 1
        guard call.count - first >= 2, (call.count - first) % 2 == 0 else { return call.wrongArity() }
        if let wanted = options.id, !wanted.isPartial, wanted.id == .zero {
            return call.reply.error("ERR The ID specified in XADD must be greater than 0-0")
        }
        let key = call[1]
        let position = lookupForWrite(call.db, key)
        if let position, Entry(position.element).type != .stream { return call.wrongType() }
        if position == nil, options.makesNone { return call.reply.null() }
        let stream = position.map { Stream(Entry($0.element)) } ?? addStream(call.db, key)
        let last = stream.state.pointee.lastID
        if last == .max { return call.reply.error("ERR The stream has exhausted the last possible ID, unable to add more items") }
        guard let id = nextID(behind: last, options.id), id > last else {
            return call.reply.error("ERR The ID specified in XADD is equal or smaller than the target stream top item")
        }
        let content = StreamNode.Content(words: call.arguments + first, pairs: (call.count - first) / 2)
        guard content.byteCount <= Listpack.byteCountMax else { return call.reply.error("ERR Elements are too large to be stored") }
        stream.append(id, content, Stream.Limits(configuration))
        call.reply.bulk(id)
        changed(call.db, key, .stream, "xadd")
        if let cut = options.cut, stream.trim(cut, isApproximate: options.isApproximate, limit: options.limit) > 0 {
            if !configuration.notifiedEvents.isEmpty { notify(.stream, "xtrim", key, call.db) }
        }
        if options.id == nil || options.id!.isPartial || options.isApproximate {
            propagate(call, options, stream) { $0[options.end] = id.text }
        }
        keyReady(call.db, key)
    }

    /// The ID of a new entry; nil when there can be none with those milliseconds.
    private func nextID(behind last: StreamID, _ wanted: StreamID.Parsed?) -> StreamID? {
        if let wanted {
            guard wanted.isPartial, wanted.id.milliseconds == last.milliseconds else { return wanted.id }
            return last.sequence < .max ? StreamID(last.milliseconds, last.sequence + 1) : nil
        }
        let now = UInt64(loop.wallMilliseconds)
        return now > last.milliseconds ? StreamID(now, 0) : last.next
    }

    /// Passes on what a command has done: with the ID that was chosen, and cut off exactly where this server cut off.
    private func propagate(_ call: borrowing Call, _ options: StreamOptions, _ stream: Stream, _ edit: (inout [[UInt8]]) -> Void) {
        guard propagation.isOn else { return }
        var words = (0..<call.count).map { [arguments = call.arguments] in arguments[$0].bytes }
        edit(&words)
        if options.isApproximate, let cut = options.cut {
            words[options.threshold - 1] = Array("=".utf8)
            words[options.threshold] = switch cut {
            case .count: Array(number: Int64(stream.count))
            case .id: (stream.count == 0 ? StreamID.max : stream.state.pointee.firstID).text
            }
            // What limited it is in the threshold now, and goes with `~` only.
            if let limit = options.limitWord { words.removeSubrange(limit...limit + 1) }
        }
        propagate(as: [words])
    }

    // MARK: the others

    private func trimStream(_ call: borrowing Call) {
        guard let options = StreamOptions(call, isAdding: false) else { return }
        guard let stream = streamForWrite(call, call[1], missing: { $0.integer(0) }) else { return }
        let removed = stream.trim(options.cut!, isApproximate: options.isApproximate, limit: options.limit)
        if removed > 0 {
            changed(call.db, call[1], .stream, "xtrim", Int64(removed))
            if options.isApproximate { propagate(call, options, stream) { _ in } }
        }
        call.reply.integer(removed)
    }

    private func entriesInRange(_ call: borrowing Call, isReversed: Bool) {
        let (low, high) = isReversed ? (3, 2) : (2, 3)
        guard let start = call.streamBound(low, isStart: true), let end = call.streamBound(high, isStart: false) else { return }
        var most = Int.max
        var i = 4
        while i < call.count {
            guard call[i].isWord("count"), i + 1 < call.count else { return call.syntaxError() }
            guard let count = call.integer(i + 1) else { return }
            most = count < 0 ? 0 : Int(count)
            i += 2
        }
        guard let entry = lookup(call.db, call[1]) else { return call.reply.array(0) }
        guard entry.type == .stream else { return call.wrongType() }
        if most == 0 { return call.reply.nullArray() }
        let stream = Stream(entry)
        let reply = call.reply
        var left = stream.count(from: start, to: end, most: most)
        reply.array(left)
        if left == 0 { return }
        func visit(_ entry: StreamNode.Entry) -> Bool {
            reply.streamEntry(entry)
            left -= 1
            return left > 0
        }
        if isReversed { stream.forEachReversed(from: end, to: start, visit) } else { stream.forEach(from: start, to: end, visit) }
    }

    private func removeEntries(_ call: borrowing Call) {
        guard let stream = streamForWrite(call, call[1], missing: { $0.integer(0) }) else { return }
        for i in 2..<call.count where call.streamID(i) == nil { return }
        let first = stream.state.pointee.firstID
        var removed = 0
        var needsFirst = false
        for i in 2..<call.count {
            let id = StreamID.parse(call[i], missing: 0, isStrict: true)!.id
            guard stream.remove(id) else { continue }
            removed += 1
            if id == first { needsFirst = true }
        }
        if removed > 0 {
            if needsFirst || stream.count == 0 { stream.updateFirst() }
            changed(call.db, call[1], .stream, "xdel", Int64(removed))
        }
        call.reply.integer(removed)
    }

    private func setStreamID(_ call: borrowing Call) {
        guard let id = call.streamID(2) else { return }
        var added: Int64?
        var maxDeleted = StreamID.zero
        var i = 3
        while i < call.count {
            if call[i].isWord("entriesadded"), i + 1 < call.count {
                guard let value = call.integer(i + 1) else { return }
                if value < 0 { return call.reply.error("ERR entries_added must be positive") }
                added = value
            } else if call[i].isWord("maxdeletedid"), i + 1 < call.count {
                guard let value = call.streamID(i + 1) else { return }
                if id < value { return call.reply.error("ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id") }
                maxDeleted = value
            } else {
                return call.syntaxError()
            }
            i += 2
        }
        guard let stream = streamForWrite(call, call[1], missing: { $0.error("ERR no such key") }) else { return }
        if stream.count > 0 {
            if let last = stream.last?.id, id < last {
                return call.reply.error("ERR The ID specified in XSETID is smaller than the target stream top item")
            }
            if let added, added < Int64(stream.count) {
                return call.reply.error("ERR The entries_added specified in XSETID is smaller than the target stream length")
            }
        }
        stream.state.pointee.lastID = id
        if let added { stream.state.pointee.entriesAdded = UInt64(added) }
        if maxDeleted != .zero { stream.state.pointee.maxDeletedID = maxDeleted }
        changed(call.db, call[1], .stream, "xsetid")
        call.reply.ok()
    }
}

/// The options of XADD and XTRIM.
private struct StreamOptions {
    var cut: Stream.Cut?
    var isApproximate = false
    /// Entries that an approximate cut may remove at most; 0 for no limit.
    var limit = 0
    /// NOMKSTREAM: where there is no stream, none is made.
    var makesNone = false
    /// nil: to be chosen.
    var id: StreamID.Parsed?
    /// Where the ID is (XADD), or behind the last argument.
    var end = 2
    /// Where the threshold of the cut is, and the word LIMIT.
    var threshold = 0
    var limitWord: Int?

    /// - Returns: nil after an error reply.
    init?(_ call: borrowing Call, isAdding: Bool) {
        var limitGiven: Int64?
        options: while end < call.count {
            let option = call[end]
            let left = call.count - 1 - end
            if isAdding, option.count == 1, option[0] == 0x2A { break }
            if left > 0, option.isWord("maxlen") || option.isWord("minid") {
                guard cut == nil else {
                    call.reply.error("ERR syntax error, MAXLEN and MINID options at the same time are not compatible")
                    return nil
                }
                let next = call[end + 1]
                if left >= 2, next.count == 1, next[0] == 0x7E || next[0] == 0x3D {
                    isApproximate = next[0] == 0x7E
                    end += 1
                }
                guard let parsed = StreamOptions.cut(call, option, end + 1) else { return nil }
                cut = parsed
                end += 1
                threshold = end
            } else if left > 0, option.isWord("limit") {
                guard let value = call.integer(end + 1) else { return nil }
                guard value >= 0 else {
                    call.reply.error("ERR The LIMIT argument must be >= 0.")
                    return nil
                }
                limitGiven = value
                limitWord = end
                end += 1
            } else if isAdding, option.isWord("nomkstream") {
                makesNone = true
            } else if isAdding {
                guard let parsed = StreamID.parse(option, missing: 0, isStrict: true) else {
                    call.invalidStreamID()
                    return nil
                }
                id = parsed
                break options
            } else {
                call.syntaxError()
                return nil
            }
            end += 1
        }
        if let limitGiven, limitGiven > 0, cut == nil {
            call.reply.error("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy")
            return nil
        }
        if !isAdding, cut == nil {
            call.reply.error("ERR syntax error, XTRIM must be called with at least one trimming strategy")
            return nil
        }
        // What comes from our master or from the file was cut off exactly there.
        if call.isFromMaster || call.server.gate.contains(.loading) { return }
        if let limitGiven {
            guard isApproximate else {
                call.reply.error("ERR syntax error, LIMIT cannot be used without the special ~ option")
                return nil
            }
            limit = Int(limitGiven)
        } else if isApproximate {
            let entries = call.server.configuration.streamNodeMaxEntries.multipliedReportingOverflow(by: 100).partialValue
            limit = entries <= 0 ? 10_000 : min(entries, 1_000_000)
        }
    }

    private static func cut(_ call: borrowing Call, _ option: Argument, _ index: Int) -> Stream.Cut? {
        guard option.isWord("maxlen") else { return call.streamID(index).map { .id($0) } }
        guard let count = call.integer(index) else { return nil }
        if count < 0 {
            call.reply.error("ERR The MAXLEN argument must be >= 0.")
            return nil
        }
        return .count(Int(count))
    }
}

extension Call {
    func invalidStreamID() { reply.error("ERR Invalid stream ID specified as stream command argument") }

    /// Argument `index` as an ID; nil after an error reply.
    /// - Parameter isStrict: see `StreamID.parse`.
    func streamID(_ index: Int, missing: UInt64 = 0, isStrict: Bool = true) -> StreamID? {
        if let parsed = StreamID.parse(self[index], missing: missing, isStrict: isStrict), !parsed.isPartial { return parsed.id }
        invalidStreamID()
        return nil
    }

    /// Argument `index` as an end of a range; `(` before it leaves it out.
    func streamBound(_ index: Int, isStart: Bool) -> StreamID? {
        let text = self[index]
        let missing: UInt64 = isStart ? 0 : .max
        guard text.count > 1, text[0] == 0x28 else { return streamID(index, missing: missing, isStrict: false) }
        let rest = Argument(base: text.base + 1, count: text.count - 1)
        guard let parsed = StreamID.parse(rest, missing: missing, isStrict: true), !parsed.isPartial else {
            invalidStreamID()
            return nil
        }
        if let id = isStart ? parsed.id.next : parsed.id.previous { return id }
        reply.error(isStart ? "ERR invalid start ID for the interval" : "ERR invalid end ID for the interval")
        return nil
    }
}

extension ReplyWriter {
    /// An entry: its ID, and its fields and values in turn.
    func streamEntry(_ entry: StreamNode.Entry) {
        array(2)
        bulk(entry.id)
        array(entry.count * 2)
        entry.forEach { bulk($0) }
    }
}
