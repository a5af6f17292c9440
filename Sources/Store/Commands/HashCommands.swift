import RESP

/// Hashes.
extension StoreServer {
    static let hashCommands: [Command] = hashWriteCommands + hashReadCommands

    private static let hashWriteCommands: [Command] = [
        Command(
            "HSET", arity: -4, flags: [.write, .denyOOM, .fast], keys: .first, member: 2, categories: [.hash], since: "2.0.0",
            syntax: "key field_value(field value)...", access: "RW update",
            complexity: "O(1) for each field/value pair added, so O(N) to add N field/value pairs when the command is called with multiple field/value pairs.",
            summary: "Creates or modifies the value of a field in a hash."
        ) { call in
            if let created = call.server.setFields(call) { call.reply.integer(created) }
        },
        Command(
            "HMSET", arity: -4, flags: [.write, .denyOOM, .fast], keys: .first, categories: [.hash], since: "2.0.0",
            syntax: "key field_value(field value)...", access: "RW update", deprecated: ("4.0.0", "`HSET` with multiple field-value pairs"),
            complexity: "O(N) where N is the number of fields being set.", summary: "Sets the values of multiple fields."
        ) { call in
            if call.server.setFields(call) != nil { call.reply.ok() }
        },
        Command(
            "HSETNX", arity: 4, flags: [.write, .denyOOM, .fast], keys: .first, member: 2, categories: [.hash], since: "2.0.0",
            syntax: "key field value", access: "RW insert",
            summary: "Sets the value of a field in a hash only when the field doesn't exist."
        ) { call in call.server.setFieldIfNew(call) },
        Command(
            "HDEL", arity: -3, flags: [.write, .fast], keys: .first, member: 2, categories: [.hash], since: "2.0.0",
            syntax: "key field...", access: "RW delete",
            complexity: "O(N) where N is the number of fields to be removed.",
            summary: "Deletes one or more fields and their values from a hash. Deletes the hash if no fields remain."
        ) { call in call.server.removeFields(call) },
        Command(
            "HINCRBY", arity: 4, flags: [.write, .denyOOM, .fast], keys: .first, member: 2, categories: [.hash], since: "2.0.0",
            syntax: "key field increment:int", access: "RW access update",
            summary: "Increments the integer value of a field in a hash by a number. Uses 0 as initial value if the field doesn't exist."
        ) { call in call.server.incrementField(call) },
        Command(
            "HINCRBYFLOAT", arity: 4, flags: [.write, .denyOOM, .fast], keys: .first, categories: [.hash], since: "2.6.0",
            syntax: "key field increment:double", access: "RW access update",
            summary: "Increments the floating point value of a field by a number. Uses 0 as initial value if the field doesn't exist."
        ) { call in call.server.incrementFieldByFloat(call) },
    ]

    private static let hashReadCommands: [Command] = [
        Command(
            "HGET", arity: 3, flags: [.readOnly, .fast], keys: .first, member: 2, categories: [.hash], since: "2.0.0",
            syntax: "key field",
            summary: "Returns the value of a field in a hash."
        ) { call in
            guard let entry = call.server.lookup(call.db, call[1]) else { return call.reply.null() }
            guard entry.type == .hash else { return call.wrongType() }
            guard let value = StoredHash(entry).find(call[2]) else { return call.reply.null() }
            call.reply.bulk(value)
        },
        Command(
            "HMGET", arity: -3, flags: [.readOnly, .fast], keys: .first, categories: [.hash], since: "2.0.0",
            syntax: "key field...",
            complexity: "O(N) where N is the number of fields being requested.", summary: "Returns the values of all fields in a hash."
        ) { call in
            let entry = call.server.lookup(call.db, call[1])
            if let entry, entry.type != .hash { return call.wrongType() }
            call.reply.array(call.count - 2)
            for i in 2..<call.count {
                if let entry, let value = StoredHash(entry).find(call[i]) { call.reply.bulk(value) } else { call.reply.null() }
            }
        },
        Command(
            "HGETALL", arity: 2, flags: [.readOnly], keys: .first, categories: [.hash], since: "2.0.0",
            syntax: "key", tips: "nondeterministic_output_order",
            complexity: "O(N) where N is the size of the hash.", summary: "Returns all fields and values in a hash."
        ) { call in
            guard let entry = call.server.lookup(call.db, call[1]) else { return call.reply.map(0) }
            guard entry.type == .hash else { return call.wrongType() }
            let hash = StoredHash(entry)
            let reply = call.reply
            reply.map(hash.count)
            hash.forEach { field, value in
                reply.bulk(field)
                reply.bulk(value)
            }
        },
        Command(
            "HKEYS", arity: 2, flags: [.readOnly], keys: .first, categories: [.hash], since: "2.0.0",
            syntax: "key", tips: "nondeterministic_output_order",
            complexity: "O(N) where N is the size of the hash.", summary: "Returns all fields in a hash."
        ) { call in
            guard let entry = call.server.lookup(call.db, call[1]) else { return call.reply.array(0) }
            guard entry.type == .hash else { return call.wrongType() }
            let hash = StoredHash(entry)
            let reply = call.reply
            reply.array(hash.count)
            hash.forEach { field, _ in reply.bulk(field) }
        },
        Command(
            "HVALS", arity: 2, flags: [.readOnly], keys: .first, categories: [.hash], since: "2.0.0",
            syntax: "key", tips: "nondeterministic_output_order",
            complexity: "O(N) where N is the size of the hash.", summary: "Returns all values in a hash."
        ) { call in
            guard let entry = call.server.lookup(call.db, call[1]) else { return call.reply.array(0) }
            guard entry.type == .hash else { return call.wrongType() }
            let hash = StoredHash(entry)
            let reply = call.reply
            reply.array(hash.count)
            hash.forEach { _, value in reply.bulk(value) }
        },
        Command(
            "HLEN", arity: 2, flags: [.readOnly, .fast], keys: .first, categories: [.hash], since: "2.0.0",
            syntax: "key", access: "RO",
            summary: "Returns the number of fields in a hash."
        ) { call in
            guard let entry = call.server.lookup(call.db, call[1]) else { return call.reply.integer(0) }
            guard entry.type == .hash else { return call.wrongType() }
            call.reply.integer(StoredHash(entry).count)
        },
        Command(
            "HEXISTS", arity: 3, flags: [.readOnly, .fast], keys: .first, member: 2, categories: [.hash], since: "2.0.0",
            syntax: "key field", access: "RO",
            summary: "Determines whether a field exists in a hash."
        ) { call in
            guard let entry = call.server.lookup(call.db, call[1]) else { return call.reply.integer(0) }
            guard entry.type == .hash else { return call.wrongType() }
            call.reply.integer(StoredHash(entry).find(call[2]) != nil ? 1 : 0)
        },
        Command(
            "HSTRLEN", arity: 3, flags: [.readOnly, .fast], keys: .first, categories: [.hash], since: "3.2.0",
            syntax: "key field", access: "RO",
            summary: "Returns the length of the value of a field."
        ) { call in
            guard let entry = call.server.lookup(call.db, call[1]) else { return call.reply.integer(0) }
            guard entry.type == .hash else { return call.wrongType() }
            call.reply.integer(StoredHash(entry).find(call[2])?.count ?? 0)
        },
        Command(
            "HRANDFIELD", arity: -2, flags: [.readOnly], keys: .first, categories: [.hash], since: "6.2.0",
            syntax: "key [options(count:int [WITHVALUES])]", tips: "nondeterministic_output",
            complexity: "O(N) where N is the number of fields returned", summary: "Returns one or more random fields from a hash."
        ) { call in call.server.randomFields(call) },
        Command(
            "HSCAN", arity: -3, flags: [.readOnly], keys: .first, categories: [.hash], since: "2.8.0",
            syntax: "key cursor:int [MATCH pattern:pattern] [COUNT count:int]", tips: "nondeterministic_output",
            complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.",
            summary: "Iterates over fields and values of a hash."
        ) { call in call.server.scanHash(call) },
    ]

    // MARK: writing

    /// Finds a hash, or adds an empty one, which the caller fills.
    /// - Returns: nil after an error reply.
    @inline(__always)
    private func hashForWriting(_ call: borrowing Call) -> Entry? {
        if let position = lookupForWrite(call.db, call[1]) {
            let entry = Entry(position.element)
            if entry.type == .hash { return entry }
            call.wrongType()
            return nil
        }
        let entry = Entry.make(
            heap, call[1], .hash, .listpack, expiry: nil, clock: call.db.accessClock, pointer: StoredHash.empty(heap).pointer)
        created(call.db, call[1])
        call.db.add(entry)
        keyReady(call.db, call[1])
        return entry
    }

    /// - Returns: how many fields are new; nil after an error reply.
    @inline(__always)
    private func setFields(_ call: borrowing Call) -> Int? {
        guard call.count % 2 == 0 else {
            call.wrongArity()
            return nil
        }
        guard let entry = hashForWriting(call) else { return nil }
        let limits = HashLimits(configuration)
        var stored = StoredHash(entry)
        let pairs = call.count / 2 - 1
        if pairs > limits.entries { stored.convertToTable(heap, expected: pairs) }
        var created = 0
        for i in stride(from: 2, to: call.count, by: 2) where stored.set(call[i], call[i + 1], limits, heap) { created += 1 }
        stored.store(in: entry)
        changed(call.db, call[1], .hash, "hset", Int64(pairs))
        return created
    }

    private func setFieldIfNew(_ call: borrowing Call) {
        guard let entry = hashForWriting(call) else { return }
        var stored = StoredHash(entry)
        if stored.find(call[2]) != nil { return call.reply.integer(0) }
        _ = stored.set(call[2], call[3], HashLimits(configuration), heap)
        stored.store(in: entry)
        changed(call.db, call[1], .hash, "hset")
        call.reply.integer(1)
    }

    private func removeFields(_ call: borrowing Call) {
        guard let position = lookupForWrite(call.db, call[1]) else { return call.reply.integer(0) }
        let entry = Entry(position.element)
        guard entry.type == .hash else { return call.wrongType() }
        var stored = StoredHash(entry)
        var removed = 0
        for i in 2..<call.count where stored.remove(call[i]) { removed += 1 }
        stored.store(in: entry)
        if removed > 0 {
            changed(call.db, call[1], .hash, "hdel", Int64(removed))
            if stored.count == 0 { deleteEmptied(call.db, call[1]) }
        }
        call.reply.integer(removed)
    }

    private func incrementField(_ call: borrowing Call) {
        guard let delta = call.integer(3) else { return }
        guard let entry = hashForWriting(call) else { return }
        var stored = StoredHash(entry)
        var old: Int64 = 0
        if let value = stored.find(call[2]) {
            guard let number = value.integer ?? value.withText({ $0.integer }) else {
                return call.reply.error("ERR hash value is not an integer")
            }
            old = number
        }
        let (sum, overflow) = old.addingReportingOverflow(delta)
        if overflow { return call.reply.error("ERR increment or decrement would overflow") }
        ListpackValue(sum).withText { _ = stored.set(call[2], $0, HashLimits(configuration), heap) }
        stored.store(in: entry)
        changed(call.db, call[1], .hash, "hincrby")
        call.reply.integer(sum)
    }

    private func incrementFieldByFloat(_ call: borrowing Call) {
        guard let delta = LongDouble.parse(call[3]) else { return call.notAFloat() }
        guard delta.isFinite else { return call.reply.error("ERR value is NaN or Infinity") }
        guard let entry = hashForWriting(call) else { return }
        var stored = StoredHash(entry)
        var old: Float80 = 0
        if let value = stored.find(call[2]) {
            guard let number = value.withText({ LongDouble.parse($0) }) else { return call.reply.error("ERR hash value is not a float") }
            old = number
        }
        let sum = old + delta
        guard sum.isFinite else { return call.reply.error("ERR increment would produce NaN or Infinity") }
        let text = LongDouble.text(sum)
        text.withUnsafeBytes { _ = stored.set(call[2], Argument($0), HashLimits(configuration), heap) }
        stored.store(in: entry)
        changed(call.db, call[1], .hash, "hincrbyfloat")
        call.reply.bulk(text)
        // The outcome, not the sum, is passed on: floating point may differ elsewhere.
        propagate(as: [[Array("HSET".utf8), call[1].bytes, call[2].bytes, text]])
    }

    // MARK: reading

    private func randomFields(_ call: borrowing Call) {
        guard call.count > 2 else {
            guard let entry = lookup(call.db, call[1]) else { return call.reply.null() }
            guard entry.type == .hash else { return call.wrongType() }
            return call.reply.bulk(StoredHash(entry).random(using: &random).field)
        }
        guard let wanted = call.symmetricLong(2) else { return }
        let withValues = call.count == 4 && call[3].isWord("withvalues")
        if call.count > 3, !withValues { return call.syntaxError() }
        if withValues, wanted.magnitude > UInt(Int.max / 2) { return call.reply.error("ERR value is out of range") }
        guard let entry = lookup(call.db, call[1]) else { return call.reply.array(0) }
        guard entry.type == .hash else { return call.wrongType() }
        let stored = StoredHash(entry)
        let reply = call.reply
        func write(_ field: ListpackValue, _ value: ListpackValue) {
            if withValues, reply.isRESP3 { reply.array(2) }
            reply.bulk(field)
            if withValues { reply.bulk(value) }
        }
        let count = wanted < 0 ? -wanted : min(wanted, stored.count)
        guard hasRoom(forReplyOf: count) else { return reply.error(StoreServer.outOfSystemMemory) }
        reply.array(withValues && !reply.isRESP3 ? count * 2 : count)
        if wanted < 0 {
            for _ in 0..<count {
                let (field, value) = stored.random(using: &random)
                write(field, value)
            }
        } else if count == stored.count {
            stored.forEach(write)
        } else if stored.encoding == .table {
            for element in stored.table.sample(count, using: &random) { write(HashField(element).fieldValue, HashField(element).value) }
        } else {
            var all: [(ListpackValue, ListpackValue)] = []
            stored.forEach { all.append(($0, $1)) }
            all.shuffleFront(count, using: &random)
            for (field, value) in all.prefix(count) { write(field, value) }
        }
    }

    private func scanHash(_ call: borrowing Call) {
        guard let (entry, cursor, options) = beginScan(call, .hash) else { return }
        let stored = StoredHash(entry)
        var found: [(ListpackValue, ListpackValue)] = []
        var next: UInt64 = 0
        if stored.encoding == .table {
            let (cursor, elements) = scanTable(stored.table, cursor, options)
            next = cursor
            found = elements.map { (HashField($0).fieldValue, HashField($0).value) }
        } else {
            stored.forEach { field, value in
                if let pattern = options.pattern, !field.withText({ Glob.matches(pattern, $0) }) { return }
                found.append((field, value))
            }
        }
        call.reply.array(2)
        call.reply.bulk(String(next))
        call.reply.array(found.count * 2)
        for (field, value) in found {
            call.reply.bulk(field)
            call.reply.bulk(value)
        }
    }
}
