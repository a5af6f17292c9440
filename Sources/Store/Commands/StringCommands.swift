import CLinux
import Glibc
import RESP

/// Strings: SET and its relatives, counters, ranges. Those that are numbers: `StringCommands+Numbers.swift`.
extension StoreServer {
    static let stringCommands: [Command] = [
        Command(
            "SET", arity: -3, flags: [.write, .denyOOM], keys: .first, categories: [.string], since: "1.0.0",
            syntax: "key value [condition(NX|XX)]@2.6.12 [GET]@6.2.0 [expiration(EX seconds:int@2.6.12|PX milliseconds:int@2.6.12|EXAT unix-time-seconds:time@6.2.0|PXAT unix-time-milliseconds:time@6.2.0|KEEPTTL@6.0.0)]",
            access: "RW access update variable_flags (RW and ACCESS due to the optional `GET` argument)",
            summary: "Sets the string value of a key, ignoring its type. The key is created if it doesn't exist."
        ) { call in
            if call.count == 3 { call.server.set(call) } else { call.server.setWithOptions(call) }
        },
        Command(
            "GET", arity: 2, flags: [.readOnly, .fast], keys: .first, categories: [.string], since: "1.0.0",
            syntax: "key",
            summary: "Returns the string value of a key."
        ) { call in
            guard let entry = call.server.lookup(call.db, call[1]) else { return call.reply.null() }
            call.replyString(entry)
        },
        Command(
            "GETEX", arity: -2, flags: [.write, .fast], keys: .first, categories: [.string], since: "6.2.0",
            syntax: "key [expiration(EX seconds:int|PX milliseconds:int|EXAT unix-time-seconds:time|PXAT unix-time-milliseconds:time|PERSIST)]",
            access: "RW access update (RW and UPDATE because it changes the TTL)",
            summary: "Returns the string value of a key after setting its expiration time."
        ) { call in call.server.getEx(call) },
        Command(
            "GETDEL", arity: 2, flags: [.write, .fast], keys: .first, categories: [.string], since: "6.2.0",
            syntax: "key", access: "RW access delete",
            summary: "Returns the string value of a key after deleting the key."
        ) { call in
            guard let position = call.server.lookupForReadAndWrite(call.db, call[1]) else { return call.reply.null() }
            let entry = Entry(position.element)
            guard entry.type == .string else { return call.wrongType() }
            call.replyString(entry)
            call.db.remove(at: position)
            call.server.changed(call.db, call[1], .generic, "del")
            call.server.propagate(as: [[Array("DEL".utf8), call[1].bytes]])
        },
        Command(
            "GETSET", arity: 3, flags: [.write, .denyOOM, .fast], keys: .first, categories: [.string], since: "1.0.0",
            syntax: "key value", access: "RW access update", deprecated: ("6.2.0", "`SET` with the `!GET` argument"),
            summary: "Returns the previous string value of a key after setting it to a new value."
        ) { call in
            if let position = call.server.lookupForReadAndWrite(call.db, call[1]) {
                let entry = Entry(position.element)
                guard entry.type == .string else { return call.wrongType() }
                call.replyString(entry)
            } else {
                call.server.created(call.db, call[1])
                call.reply.null()
            }
            _ = call.server.place(call, 1, 2, expiry: nil, keepExpiry: false)
            call.server.changed(call.db, call[1], .string, "set")
            call.server.propagate(as: [[Array("SET".utf8), call[1].bytes, call[2].bytes]])
        },
        Command(
            "SETNX", arity: 3, flags: [.write, .denyOOM, .fast], keys: .first, categories: [.string], since: "1.0.0",
            syntax: "key value", access: "OW insert",
            summary: "Set the string value of a key only when the key doesn't exist."
        ) { call in
            guard call.server.lookupForWrite(call.db, call[1]) == nil else { return call.reply.integer(0) }
            call.server.created(call.db, call[1])
            _ = call.server.place(call, 1, 2, expiry: nil, keepExpiry: false)
            call.server.changed(call.db, call[1], .string, "set")
            call.reply.integer(1)
        },
        Command(
            "SETEX", arity: 4, flags: [.write, .denyOOM], keys: .first, categories: [.string], since: "2.0.0",
            syntax: "key seconds:int value", access: "OW update",
            summary: "Sets the string value and expiration time of a key. Creates the key if it doesn't exist."
        ) { call in call.server.setExpiring(call, unit: 1000) },
        Command(
            "PSETEX", arity: 4, flags: [.write, .denyOOM], keys: .first, categories: [.string], since: "2.6.0",
            syntax: "key milliseconds:int value", access: "OW update",
            summary: "Sets both string value and expiration time in milliseconds of a key. The key is created if it doesn't exist."
        ) { call in call.server.setExpiring(call, unit: 1) },
        Command(
            "MGET", arity: -2, flags: [.readOnly, .fast], keys: .all, categories: [.string], since: "1.0.0",
            syntax: "key...", tips: "request_policy:multi_shard",
            complexity: "O(N) where N is the number of keys to retrieve.", summary: "Atomically returns the string values of one or more keys."
        ) { call in
            call.reply.array(call.count - 1)
            for i in 1..<call.count {
                if let entry = call.server.lookup(call.db, call[i]), entry.type == .string {
                    call.replyString(entry)
                } else {
                    call.reply.null()
                }
            }
        },
        Command(
            "MSET", arity: -3, flags: [.write, .denyOOM], keys: .everySecond, categories: [.string], since: "1.0.1",
            syntax: "key_value(key value)...", access: "OW update", tips: "request_policy:multi_shard response_policy:all_succeeded",
            complexity: "O(N) where N is the number of keys to set.",
            summary: "Atomically creates or modifies the string values of one or more keys."
        ) { call in
            guard call.count % 2 == 1 else { return call.wrongArity() }
            call.server.setMany(call)
            call.reply.ok()
        },
        Command(
            "MSETNX", arity: -3, flags: [.write, .denyOOM], keys: .everySecond, categories: [.string], since: "1.0.1",
            syntax: "key_value(key value)...", access: "OW insert", tips: "request_policy:multi_shard response_policy:agg_min",
            complexity: "O(N) where N is the number of keys to set.",
            summary: "Atomically modifies the string values of one or more keys only when all keys don't exist."
        ) { call in
            guard call.count % 2 == 1 else { return call.wrongArity() }
            for i in stride(from: 1, to: call.count, by: 2) where call.server.lookupForWrite(call.db, call[i]) != nil {
                return call.reply.integer(0)
            }
            call.server.setMany(call)
            call.reply.integer(1)
        },
        Command(
            "INCR", arity: 2, flags: [.write, .denyOOM, .fast], keys: .first, categories: [.string], since: "1.0.0",
            syntax: "key", access: "RW access update",
            summary: "Increments the integer value of a key by one. Uses 0 as initial value if the key doesn't exist."
        ) { call in call.server.increment(call, by: 1) },
        Command(
            "DECR", arity: 2, flags: [.write, .denyOOM, .fast], keys: .first, categories: [.string], since: "1.0.0",
            syntax: "key", access: "RW access update",
            summary: "Decrements the integer value of a key by one. Uses 0 as initial value if the key doesn't exist."
        ) { call in call.server.increment(call, by: -1) },
        Command(
            "INCRBY", arity: 3, flags: [.write, .denyOOM, .fast], keys: .first, categories: [.string], since: "1.0.0",
            syntax: "key increment:int", access: "RW access update",
            summary: "Increments the integer value of a key by a number. Uses 0 as initial value if the key doesn't exist."
        ) { call in
            guard let delta = call.integer(2) else { return }
            call.server.increment(call, by: delta)
        },
        Command(
            "DECRBY", arity: 3, flags: [.write, .denyOOM, .fast], keys: .first, categories: [.string], since: "1.0.0",
            syntax: "key decrement:int", access: "RW access update",
            summary: "Decrements a number from the integer value of a key. Uses 0 as initial value if the key doesn't exist."
        ) { call in
            guard let delta = call.integer(2) else { return }
            guard delta != .min else { return call.reply.error("ERR decrement would overflow") }
            call.server.increment(call, by: -delta)
        },
        Command(
            "INCRBYFLOAT", arity: 3, flags: [.write, .denyOOM, .fast], keys: .first, categories: [.string], since: "2.6.0",
            syntax: "key increment:double", access: "RW access update",
            summary: "Increment the floating point value of a key by a number. Uses 0 as initial value if the key doesn't exist."
        ) { call in call.server.incrementFloat(call) },
        Command(
            "APPEND", arity: 3, flags: [.write, .denyOOM, .fast], keys: .first, categories: [.string], since: "2.0.0",
            syntax: "key value", access: "RW insert",
            complexity: "O(1). The amortized time complexity is O(1) assuming the appended value is small and the already present value is of any size, since the dynamic string library used by Redis will double the free space available on every reallocation.",
            summary: "Appends a string to the value of a key. Creates the key if it doesn't exist."
        ) { call in call.server.append(call) },
        Command(
            "STRLEN", arity: 2, flags: [.readOnly, .fast], keys: .first, categories: [.string], since: "2.2.0",
            syntax: "key", access: "RO",
            summary: "Returns the length of a string value."
        ) { call in
            guard let entry = call.server.lookup(call.db, call[1]) else { return call.reply.integer(0) }
            guard entry.type == .string else { return call.wrongType() }
            call.reply.integer(entry.stringCount)
        },
        Command(
            "GETRANGE", arity: 4, flags: [.readOnly], keys: .first, categories: [.string], since: "2.4.0",
            syntax: "key start:int end:int",
            complexity: "O(N) where N is the length of the returned string. The complexity is ultimately determined by the returned length, but because creating a substring from an existing string is very cheap, it can be considered O(1) for small strings.",
            summary: "Returns a substring of the string stored at a key."
        ) { call in call.server.getRange(call) },
        Command(
            "SUBSTR", arity: 4, flags: [.readOnly], keys: .first, categories: [.string], since: "1.0.0",
            syntax: "key start:int end:int", deprecated: ("2.0.0", "`GETRANGE`"),
            complexity: "O(N) where N is the length of the returned string.", summary: "Returns a substring from a string value."
        ) { call in call.server.getRange(call) },
        Command(
            "SETRANGE", arity: 4, flags: [.write, .denyOOM], keys: .first, categories: [.string], since: "2.2.0",
            syntax: "key offset:int value", access: "RW update",
            complexity: "O(1), not counting the time taken to copy the new string in place. Usually, this string is very small so the amortized complexity is O(1). Otherwise, complexity is O(M) with M being the length of the value argument.",
            summary: "Overwrites a part of a string value with another by an offset. Creates the key if it doesn't exist."
        ) { call in call.server.setRange(call) },
    ]

    // MARK: SET

    @inline(__always)
    private func set(_ call: borrowing Call) {
        store(call, 1, 2, expiry: nil, keepExpiry: false)
        changed(call.db, call[1], .string, "set")
        call.reply.ok()
    }

    /// Puts argument `value` under argument `key`; a long value keeps the memory that it was received into.
    /// - Returns: whether the time of what was there was over.
    @inline(__always)
    fileprivate func place(_ call: borrowing Call, _ key: Int, _ value: Int, expiry: Int64?, keepExpiry: Bool) -> Bool {
        if call[value].count >= RequestParser.directThreshold, let block = call.takeOwnership(value) {
            return call.db.setString(
                call[key], blob: Blob.adopt(heap, block, count: call[value].count), expiry: expiry, keepExpiry: keepExpiry)
        }
        return call.db.setString(call[key], call[value], expiry: expiry, keepExpiry: keepExpiry)
    }

    /// Stores argument `value` under argument `key`, whatever is there.
    @inline(__always)
    private func store(_ call: borrowing Call, _ key: Int, _ value: Int, expiry: Int64?, keepExpiry: Bool) {
        willSet(call.db, call[key])
        let wasOver = place(call, key, value, expiry: expiry, keepExpiry: keepExpiry)
        if wasOver, !replication.isReplica { expired(call.db, call[key]) }
    }

    private func setWithOptions(_ call: borrowing Call) {
        var onlyNew = false
        var onlyExisting = false
        var wantsOld = false
        var keepExpiry = false
        var time: (unit: ExpiryUnit, value: Argument)?
        var i = 3
        while i < call.count {
            let option = call[i]
            if option.isWord("nx"), !onlyExisting {
                onlyNew = true
            } else if option.isWord("xx"), !onlyNew {
                onlyExisting = true
            } else if option.isWord("get") {
                wantsOld = true
            } else if option.isWord("keepttl"), time == nil {
                keepExpiry = true
            } else if let unit = ExpiryUnit(option), !keepExpiry, time == nil || time!.unit == unit, i + 1 < call.count {
                i += 1
                time = (unit, call[i])
            } else {
                return call.syntaxError()
            }
            i += 1
        }
        var expiry: Int64?
        if let time {
            expiry = expiryTime(call, time.value, time.unit)
            if expiry == nil { return }
        }
        let key = call[1]
        let position = wantsOld ? lookupForReadAndWrite(call.db, key) : lookupForWrite(call.db, key)
        if wantsOld {
            if let position {
                guard Entry(position.element).type == .string else { return call.wrongType() }
                call.replyString(Entry(position.element))
            } else {
                call.reply.null()
            }
        }
        if (onlyNew && position != nil) || (onlyExisting && position == nil) {
            if !wantsOld { call.reply.null() }
            return
        }
        if expiry != nil || wantsOld {
            // Relative times become absolute ones, as replicas have another clock.
            var command = [Array("SET".utf8), key.bytes, call[2].bytes]
            if let expiry { command += [Array("PXAT".utf8), Array(number: expiry)] }
            if keepExpiry { command.append(Array("KEEPTTL".utf8)) }
            if propagation.isOn { propagate(as: [command]) }
        }
        store(call, 1, 2, expiry: expiry, keepExpiry: keepExpiry)
        changed(call.db, key, .string, "set")
        if expiry != nil, !configuration.notifiedEvents.isEmpty { notify(.generic, "expire", key, call.db) }
        if !wantsOld { call.reply.ok() }
    }

    private func setExpiring(_ call: borrowing Call, unit: Int64) {
        guard let expiry = expiryTime(call, call[2], unit == 1000 ? .seconds : .milliseconds) else { return }
        if propagation.isOn {
            propagate(as: [[Array("SET".utf8), call[1].bytes, call[3].bytes, Array("PXAT".utf8), Array(number: expiry)]])
        }
        store(call, 1, 3, expiry: expiry, keepExpiry: false)
        changed(call.db, call[1], .string, "set")
        if !configuration.notifiedEvents.isEmpty { notify(.generic, "expire", call[1], call.db) }
        call.reply.ok()
    }

    private func setMany(_ call: borrowing Call) {
        for i in stride(from: 1, to: call.count, by: 2) {
            store(call, i, i + 1, expiry: nil, keepExpiry: false)
            changed(call.db, call[i], .string, "set")
        }
    }

    private func getEx(_ call: borrowing Call) {
        var persists = false
        var time: (unit: ExpiryUnit, value: Argument)?
        var i = 2
        while i < call.count {
            if call[i].isWord("persist"), time == nil {
                persists = true
            } else if let unit = ExpiryUnit(call[i]), !persists, time == nil || time!.unit == unit, i + 1 < call.count {
                i += 1
                time = (unit, call[i])
            } else {
                return call.syntaxError()
            }
            i += 1
        }
        guard let position = lookupForReadAndWrite(call.db, call[1]) else { return call.reply.null() }
        let entry = Entry(position.element)
        guard entry.type == .string else { return call.wrongType() }
        var expiry: Int64?
        if let time {
            expiry = expiryTime(call, time.value, time.unit)
            if expiry == nil { return }
        }
        call.replyString(entry)
        if let expiry {
            if expiry <= call.db.now, !isApplyingMasterStream {
                call.db.remove(at: position)
                changed(call.db, call[1], .generic, "del")
                propagate(as: [[Array("DEL".utf8), call[1].bytes]])
            } else {
                call.db.setExpiry(position, expiry)
                changed(call.db, call[1], .generic, "expire")
                propagate(as: [[Array("PEXPIREAT".utf8), call[1].bytes, Array(number: expiry)]])
            }
        } else if persists, entry.hasExpiry {
            call.db.setExpiry(position, nil)
            changed(call.db, call[1], .generic, "persist")
            propagate(as: [[Array("PERSIST".utf8), call[1].bytes]])
        }
    }

    // MARK: parts of strings

    private func append(_ call: borrowing Call) {
        let key = call[1]
        let value = call[2]
        guard let position = lookupForWrite(call.db, key) else {
            let entry = Entry.makeString(heap, key, value, expiry: nil, clock: call.db.accessClock)
            created(call.db, key)
            call.db.add(entry)
            changed(call.db, key, .string, "append")
            return call.reply.integer(value.count)
        }
        guard Entry(position.element).type == .string else { return call.wrongType() }
        let old = Entry(position.element).stringCount
        guard isAllowedLength(call, from: old, to: old + value.count) else { return }
        let blob = call.db.makeBlob(position, capacity: old + value.count)
        memcpy(blob.data + old, value.base, value.count)
        blob.count = old + value.count
        changed(call.db, key, .string, "append")
        call.reply.integer(blob.count)
    }

    private func isAllowedLength(_ call: borrowing Call, from old: Int, to count: Int) -> Bool {
        if count > configuration.protoMaxBulkLength, !isApplyingMasterStream {
            call.reply.error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
            return false
        }
        if !hasRoom(for: count - old) {
            call.reply.error(StoreServer.outOfSystemMemory)
            return false
        }
        return true
    }

    private func getRange(_ call: borrowing Call) {
        guard var start = call.integer(2), var end = call.integer(3) else { return }
        guard let entry = lookup(call.db, call[1]) else { return call.reply.bulk("") }
        guard entry.type == .string else { return call.wrongType() }
        withUnsafeTemporaryAllocation(byteCount: 24, alignment: 8) { scratch in
            let string = entry.string(scratch.baseAddress!)
            let count = Int64(string.count)
            if start < 0, end < 0, start > end { return call.reply.bulk("") }
            if start < 0 { start = max(0, start + count) }
            if end < 0 { end = max(0, end + count) }
            end = min(end, count - 1)
            if start > end || count == 0 { return call.reply.bulk("") }
            call.reply.bulk(string.raw + Int(start), Int(end - start + 1))
        }
    }

    private func setRange(_ call: borrowing Call) {
        guard let offset = call.integer(2) else { return }
        guard offset >= 0 else { return call.reply.error("ERR offset is out of range") }
        let key = call[1]
        let value = call[3]
        let position = lookupForWrite(call.db, key)
        if let position, Entry(position.element).type != .string { return call.wrongType() }
        let old = position.map { Entry($0.element).stringCount } ?? 0
        if value.count == 0 { return call.reply.integer(old) }
        let (end, overflow) = Int(offset).addingReportingOverflow(value.count)
        guard isAllowedLength(call, from: old, to: overflow ? .max : end) else { return }
        if position == nil {
            created(call.db, key)
            call.db.setString(key, Argument(""), expiry: nil)
        }
        let blob = call.db.makeBlob(call.db.find(key)!, capacity: max(end, old))
        if Int(offset) > old { memset(blob.data + old, 0, Int(offset) - old) }
        memcpy(blob.data + Int(offset), value.base, value.count)
        blob.count = max(end, old)
        changed(call.db, key, .string, "setrange")
        call.reply.integer(blob.count)
    }
}

extension Call {
    /// Replies with a string value, or the error when the entry is something else.
    @inline(__always)
    func replyString(_ entry: Entry) {
        guard entry.type == .string else { return wrongType() }
        if entry.encoding == .embedded { return reply.bulk(entry.embedded) }
        if entry.encoding == .integer { return reply.bulk(integer: entry.integer) }
        reply.bulk(Blob(entry.pointer).bytes)
    }

    /// Takes over the memory of a long argument; nil when it lies in the receive buffer.
    func takeOwnership(_ index: Int) -> UnsafeMutableRawPointer? {
        // A queued command's arguments are its own copies.
        guard server.executionDepth == 0, arguments == server.argumentArea.base else { return nil }
        return client.parser.pointee.takeOwnership(of: index)
    }
}
