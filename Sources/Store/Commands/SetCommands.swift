import RESP

/// Sets: members, random members, membership. What takes several sets is in `SetCommands+Algebra.swift`.
extension StoreServer {
    static let setCommands: [Command] = setMemberCommands + setAlgebraCommands

    private static let setMemberCommands: [Command] = [
        Command(
            "SADD", arity: -3, flags: [.write, .denyOOM, .fast], keys: .first, member: 2, categories: [.set], since: "1.0.0",
            syntax: "key member...", access: "RW insert",
            complexity: "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.",
            summary: "Adds one or more members to a set. Creates the key if it doesn't exist."
        ) { call in call.server.addMembers(call) },
        Command(
            "SREM", arity: -3, flags: [.write, .fast], keys: .first, member: 2, categories: [.set], since: "1.0.0",
            syntax: "key member...", access: "RW delete",
            complexity: "O(N) where N is the number of members to be removed.",
            summary: "Removes one or more members from a set. Deletes the set if the last member was removed."
        ) { call in call.server.removeMembers(call) },
        Command(
            "SISMEMBER", arity: 3, flags: [.readOnly, .fast], keys: .first, member: 2, categories: [.set], since: "1.0.0",
            syntax: "key member", access: "RO",
            summary: "Determines whether a member belongs to a set."
        ) { call in
            guard let entry = call.server.lookup(call.db, call[1]) else { return call.reply.integer(0) }
            guard entry.type == .set else { return call.wrongType() }
            call.reply.integer(StoredSet(entry).contains(call[2]) ? 1 : 0)
        },
        Command(
            "SMISMEMBER", arity: -3, flags: [.readOnly, .fast], keys: .first, categories: [.set], since: "6.2.0",
            syntax: "key member...",
            complexity: "O(N) where N is the number of elements being checked for membership",
            summary: "Determines whether multiple members belong to a set."
        ) { call in
            let entry = call.server.lookup(call.db, call[1])
            if let entry, entry.type != .set { return call.wrongType() }
            call.reply.array(call.count - 2)
            for i in 2..<call.count { call.reply.integer(entry.map { StoredSet($0).contains(call[i]) } == true ? 1 : 0) }
        },
        Command(
            "SCARD", arity: 2, flags: [.readOnly, .fast], keys: .first, categories: [.set], since: "1.0.0",
            syntax: "key", access: "RO",
            summary: "Returns the number of members in a set."
        ) { call in
            guard let entry = call.server.lookup(call.db, call[1]) else { return call.reply.integer(0) }
            guard entry.type == .set else { return call.wrongType() }
            call.reply.integer(StoredSet(entry).count)
        },
        Command(
            "SMEMBERS", arity: 2, flags: [.readOnly], keys: .first, categories: [.set], since: "1.0.0",
            syntax: "key", tips: "nondeterministic_output_order",
            complexity: "O(N) where N is the set cardinality.", summary: "Returns all members of a set."
        ) { call in
            guard let entry = call.server.lookup(call.db, call[1]) else { return call.reply.set(0) }
            guard entry.type == .set else { return call.wrongType() }
            let stored = StoredSet(entry)
            let reply = call.reply
            reply.set(stored.count)
            stored.forEach { reply.bulk($0) }
        },
        Command(
            "SPOP", arity: -2, flags: [.write, .fast], keys: .first, member: Command.randomMember, categories: [.set], since: "1.0.0",
            syntax: "key [count:int]@3.2.0", access: "RW access delete", tips: "nondeterministic_output",
            complexity: "Without the count argument O(1), otherwise O(N) where N is the value of the passed count.",
            summary: "Returns one or more random members from a set after removing them. Deletes the set if the last member was popped."
        ) { call in
            if call.count == 2 { call.server.popMember(call) } else { call.server.popMembers(call) }
        },
        Command(
            "SRANDMEMBER", arity: -2, flags: [.readOnly], keys: .first, categories: [.set], since: "1.0.0",
            syntax: "key [count:int]@2.6.0", tips: "nondeterministic_output",
            complexity: "Without the count argument O(1), otherwise O(N) where N is the absolute value of the passed count.",
            summary: "Get one or multiple random members from a set"
        ) { call in call.server.randomMembers(call) },
        Command(
            "SMOVE", arity: 4, flags: [.write, .fast], keys: .firstTwo, categories: [.set], since: "1.0.0",
            syntax: "source:key destination:key member", access: "RW access delete 1; RW insert 2",
            summary: "Moves a member from one set to another."
        ) { call in call.server.moveMember(call) },
        Command(
            "SSCAN", arity: -3, flags: [.readOnly], keys: .first, categories: [.set], since: "2.8.0",
            syntax: "key cursor:int [MATCH pattern:pattern] [COUNT count:int]", tips: "nondeterministic_output",
            complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.",
            summary: "Iterates over members of a set."
        ) { call in call.server.scanSet(call) },
    ]

    // MARK: members

    private func addMembers(_ call: borrowing Call) {
        let key = call[1]
        let limits = SetLimits(configuration)
        let entry: Entry
        var stored: StoredSet
        if let position = lookupForWrite(call.db, key) {
            entry = Entry(position.element)
            guard entry.type == .set else { return call.wrongType() }
            stored = StoredSet(entry)
            if call.count > 3 { stored.prepare(toAdd: call.count - 2, limits, heap) }
        } else {
            stored = StoredSet.empty(for: call[2], expected: call.count - 2, limits, heap)
            entry = addSet(call.db, key, stored)
        }
        var added = 0
        for i in 2..<call.count where stored.add(call[i], limits, heap) { added &+= 1 }
        stored.store(in: entry)
        if added > 0 { changed(call.db, key, .set, "sadd", Int64(added)) }
        call.reply.integer(added)
    }

    /// Adds a set under a key that is not there.
    @discardableResult
    func addSet(_ db: Database, _ key: Argument, _ stored: StoredSet) -> Entry {
        let entry = Entry.make(heap, key, .set, stored.encoding, expiry: nil, clock: db.accessClock, pointer: stored.pointer)
        created(db, key)
        db.add(entry)
        keyReady(db, key)
        return entry
    }

    private func removeMembers(_ call: borrowing Call) {
        guard let position = lookupForWrite(call.db, call[1]) else { return call.reply.integer(0) }
        let entry = Entry(position.element)
        guard entry.type == .set else { return call.wrongType() }
        var stored = StoredSet(entry)
        var removed = 0
        for i in 2..<call.count where stored.remove(call[i]) { removed += 1 }
        stored.store(in: entry)
        if removed > 0 {
            changed(call.db, call[1], .set, "srem", Int64(removed))
            if stored.count == 0 { deleteEmptied(call.db, call[1]) }
        }
        call.reply.integer(removed)
    }

    private func moveMember(_ call: borrowing Call) {
        let member = call[3]
        // Both are looked up whatever the first is: one of them may expire by it.
        let destination = lookupForWrite(call.db, call[2]).map { Entry($0.element) }
        guard let position = lookupForWrite(call.db, call[1]) else { return call.reply.integer(0) }
        let entry = Entry(position.element)
        guard entry.type == .set else { return call.wrongType() }
        if let destination, destination.type != .set { return call.wrongType() }
        var source = StoredSet(entry)
        if call[1] == call[2] { return call.reply.integer(source.contains(member) ? 1 : 0) }
        guard source.remove(member) else { return call.reply.integer(0) }
        source.store(in: entry)
        changed(call.db, call[1], .set, "srem")
        if source.count == 0 { deleteEmptied(call.db, call[1]) }
        let limits = SetLimits(configuration)
        let target = destination ?? addSet(call.db, call[2], StoredSet.empty(for: member, expected: 1, limits, heap))
        var stored = StoredSet(target)
        if stored.add(member, limits, heap) {
            stored.store(in: target)
            changed(call.db, call[2], .set, "sadd")
        }
        call.reply.integer(1)
    }

    // MARK: random members

    private func popMember(_ call: borrowing Call) {
        guard let position = lookupForWrite(call.db, call[1]) else { return call.reply.null() }
        let entry = Entry(position.element)
        guard entry.type == .set else { return call.wrongType() }
        var stored = StoredSet(entry)
        if stored.encoding == .table {
            let table = stored.table
            let position = table.randomPosition(using: &random)!
            let member = SetMember(table.remove(at: position))
            call.reply.bulk(member.value)
            if propagation.isOn { propagate(as: [[Array("SREM".utf8), call[1].bytes, member.bytes.bytes]]) }
            member.free()
        } else {
            let member = stored.random(using: &random)
            call.reply.bulk(member)
            if propagation.isOn { propagate(as: [[Array("SREM".utf8), call[1].bytes, member.copy]]) }
            stored.remove(value: member)
            stored.store(in: entry)
        }
        changed(call.db, call[1], .set, "spop")
        if stored.count == 0 { deleteEmptied(call.db, call[1]) }
    }

    private func popMembers(_ call: borrowing Call) {
        if call.count > 3 { return call.syntaxError() }
        guard let wanted = call[2].integer, wanted >= 0 else {
            return call.reply.error("ERR value is out of range, must be positive")
        }
        guard let position = lookupForWrite(call.db, call[1]) else { return call.reply.set(0) }
        let entry = Entry(position.element)
        guard entry.type == .set else { return call.wrongType() }
        if wanted == 0 { return call.reply.set(0) }
        var stored = StoredSet(entry)
        let count = min(Int(wanted), stored.count)
        let reply = call.reply
        reply.set(count)
        if count == stored.count {
            stored.forEach { reply.bulk($0) }
            changed(call.db, call[1], .set, "spop", Int64(count))
            deleteEmptied(call.db, call[1])
            return propagate(as: [[Array("DEL".utf8), call[1].bytes]])
        }
        var told = [Array("SREM".utf8), call[1].bytes]
        for _ in 0..<count {
            let member = stored.random(using: &random)
            reply.bulk(member)
            if propagation.isOn { told.append(member.copy) }
            stored.remove(value: member)
        }
        stored.store(in: entry)
        changed(call.db, call[1], .set, "spop", Int64(count))
        propagate(as: [told])
    }

    private func randomMembers(_ call: borrowing Call) {
        guard call.count > 2 else {
            guard let entry = lookup(call.db, call[1]) else { return call.reply.null() }
            guard entry.type == .set else { return call.wrongType() }
            return call.reply.bulk(StoredSet(entry).random(using: &random))
        }
        if call.count > 3 { return call.syntaxError() }
        guard let wanted = call.symmetricLong(2) else { return }
        guard let entry = lookup(call.db, call[1]) else { return call.reply.array(0) }
        guard entry.type == .set else { return call.wrongType() }
        let stored = StoredSet(entry)
        let reply = call.reply
        let count = wanted < 0 ? -wanted : min(wanted, stored.count)
        guard hasRoom(forReplyOf: count) else { return reply.error(StoreServer.outOfSystemMemory) }
        reply.array(count)
        if wanted < 0 {
            for _ in 0..<count { reply.bulk(stored.random(using: &random)) }
        } else if count == stored.count {
            stored.forEach { reply.bulk($0) }
        } else if stored.encoding == .table {
            for element in stored.table.sample(count, using: &random) { reply.bulk(SetMember(element).value) }
        } else {
            var all: [ListpackValue] = []
            stored.forEach { all.append($0) }
            all.shuffleFront(count, using: &random)
            for member in all.prefix(count) { reply.bulk(member) }
        }
    }

    private func scanSet(_ call: borrowing Call) {
        guard let (entry, cursor, options) = beginScan(call, .set) else { return }
        let stored = StoredSet(entry)
        var found: [ListpackValue] = []
        var next: UInt64 = 0
        if stored.encoding == .table {
            let (cursor, elements) = scanTable(stored.table, cursor, options)
            next = cursor
            found = elements.map { SetMember($0).value }
        } else {
            stored.forEach { member in
                if let pattern = options.pattern, !member.withText({ Glob.matches(pattern, $0) }) { return }
                found.append(member)
            }
        }
        call.reply.array(2)
        call.reply.bulk(String(next))
        call.reply.array(found.count)
        for member in found { call.reply.bulk(member) }
    }
}
