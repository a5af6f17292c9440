import RESP

/// Intersections, unions and differences of sets.
extension StoreServer {
    private static let interComplexity: StaticString =
        "O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets."
    private static let unionComplexity: StaticString = "O(N) where N is the total number of elements in all given sets."

    static let setAlgebraCommands: [Command] = [
        Command(
            "SINTER", arity: -2, flags: [.readOnly], keys: .all, categories: [.set], since: "1.0.0",
            syntax: "key...", tips: "nondeterministic_output_order",
            complexity: interComplexity,
            summary: "Returns the intersect of multiple sets."
        ) { call in call.server.intersect(call, 1..<call.count, nil) },
        Command(
            "SINTERSTORE", arity: -3, flags: [.write, .denyOOM], keys: .all, categories: [.set], since: "1.0.0",
            syntax: "destination:key key...", access: "RW update 1; RO access 2..",
            complexity: interComplexity, summary: "Stores the intersect of multiple sets in a key."
        ) { call in call.server.intersect(call, 2..<call.count, call[1]) },
        Command(
            "SINTERCARD", arity: -3, flags: [.readOnly, .movableKeys], keys: .counted(at: 1), categories: [.set], since: "7.0.0",
            syntax: "numkeys:int key... [LIMIT limit:int]",
            complexity: interComplexity, summary: "Returns the number of members of the intersect of multiple sets."
        ) { call in call.server.countIntersection(call) },
        Command(
            "SUNION", arity: -2, flags: [.readOnly], keys: .all, categories: [.set], since: "1.0.0",
            syntax: "key...", tips: "nondeterministic_output_order",
            complexity: unionComplexity,
            summary: "Returns the union of multiple sets."
        ) { call in call.server.unite(call, 1..<call.count, nil) },
        Command(
            "SUNIONSTORE", arity: -3, flags: [.write, .denyOOM], keys: .all, categories: [.set], since: "1.0.0",
            syntax: "destination:key key...", access: "OW update 1; RO access 2..",
            complexity: unionComplexity, summary: "Stores the union of multiple sets in a key."
        ) { call in call.server.unite(call, 2..<call.count, call[1]) },
        Command(
            "SDIFF", arity: -2, flags: [.readOnly], keys: .all, categories: [.set], since: "1.0.0",
            syntax: "key...", tips: "nondeterministic_output_order",
            complexity: unionComplexity,
            summary: "Returns the difference of multiple sets."
        ) { call in call.server.subtract(call, 1..<call.count, nil) },
        Command(
            "SDIFFSTORE", arity: -3, flags: [.write, .denyOOM], keys: .all, categories: [.set], since: "1.0.0",
            syntax: "destination:key key...", access: "OW update 1; RO access 2..",
            complexity: unionComplexity, summary: "Stores the difference of multiple sets in a key."
        ) { call in call.server.subtract(call, 2..<call.count, call[1]) },
    ]

    /// The sets under the keys, nil for those that do not exist.
    /// - Returns: nil after an error reply.
    private func sets(_ call: borrowing Call, _ keys: Range<Int>) -> [StoredSet?]? {
        var found: [StoredSet?] = []
        for i in keys {
            let entry = lookup(call.db, call[i])
            if let entry, entry.type != .set {
                call.wrongType()
                return nil
            }
            found.append(entry.map { StoredSet($0) })
        }
        return found
    }

    /// What is in all of the sets, in the order of the smallest of them; at most `limit` of it, 0 for all.
    private func intersection(_ sets: [StoredSet], limit: Int = 0) -> [ListpackValue] {
        let sorted = sets.sorted { $0.count < $1.count }
        var common: [ListpackValue] = []
        sorted[0].forEach { member in
            if limit > 0, common.count >= limit { return }
            for other in sorted.dropFirst() where !other.contains(member) { return }
            common.append(member)
        }
        return common
    }

    private func intersect(_ call: borrowing Call, _ keys: Range<Int>, _ destination: Argument?) {
        guard let found = sets(call, keys) else { return }
        let existing = found.compactMap { $0 }
        let members = existing.count < found.count ? [] : intersection(existing)
        guard let destination else { return replySet(call, members) }
        // All numbers make an intset, whatever the sets were.
        var result = StoredSet(Intset.empty(heap))
        let limits = SetLimits(configuration)
        for member in members { _ = member.withText { result.add($0, limits, heap) } }
        store(call, result, destination, "sinterstore")
    }

    private func countIntersection(_ call: borrowing Call) {
        guard let keyCount = call[1].integer, keyCount > 0 else {
            return call.reply.error("ERR numkeys should be greater than 0")
        }
        guard keyCount <= call.count - 2 else {
            return call.reply.error("ERR Number of keys can't be greater than number of args")
        }
        var limit = 0
        var i = 2 + Int(keyCount)
        while i < call.count {
            guard call[i].isWord("limit"), i + 1 < call.count else { return call.syntaxError() }
            guard let value = call[i + 1].integer, value >= 0 else { return call.reply.error("ERR LIMIT can't be negative") }
            limit = Int(value)
            i += 2
        }
        guard let found = sets(call, 2..<2 + Int(keyCount)) else { return }
        let existing = found.compactMap { $0 }
        call.reply.integer(existing.count < found.count ? 0 : intersection(existing, limit: limit).count)
    }

    private func unite(_ call: borrowing Call, _ keys: Range<Int>, _ destination: Argument?) {
        guard let found = sets(call, keys)?.compactMap({ $0 }) else { return }
        let limits = SetLimits(configuration)
        if destination == nil, found.count == 1 {
            let reply = call.reply
            reply.set(found[0].count)
            return found[0].forEach { reply.bulk($0) }
        }
        // Only a stored result is worth the small encodings.
        var result = destination == nil ? StoredSet(Table<SetMember>(heap)) : StoredSet(Intset.empty(heap))
        for set in found {
            set.forEach { member in _ = member.withText { result.add($0, limits, heap) } }
        }
        if let destination { return store(call, result, destination, "sunionstore") }
        let reply = call.reply
        reply.set(result.count)
        result.forEach { reply.bulk($0) }
        result.free()
    }

    private func subtract(_ call: borrowing Call, _ keys: Range<Int>, _ destination: Argument?) {
        guard let found = sets(call, keys) else { return }
        var members: [ListpackValue] = []
        let others = found.dropFirst().compactMap { $0 }
        found[0]?.forEach { member in
            for other in others where other.contains(member) { return }
            members.append(member)
        }
        guard let destination else { return replySet(call, members) }
        let limits = SetLimits(configuration)
        var result = StoredSet(Intset.empty(heap))
        // Where removing is the cheaper way for Redis, the whole first set was in the result once, and its encoding tells.
        if let first = found[0], isRemovingCheaper(first, others) {
            first.forEach { member in _ = member.withText { result.add($0, limits, heap) } }
            for other in others { other.forEach { member in _ = member.withText { result.remove($0) } } }
        } else {
            for member in members { _ = member.withText { result.add($0, limits, heap) } }
        }
        store(call, result, destination, "sdiffstore")
    }

    /// Redis's choice between looking up every member of the first set in the others, and removing those of the others from it.
    private func isRemovingCheaper(_ first: StoredSet, _ others: [StoredSet]) -> Bool {
        let lookups = first.count * (others.count + 1) / 2
        return lookups > first.count + others.reduce(0) { $0 + $1.count } && !others.contains { $0.pointer == first.pointer }
    }

    private func replySet(_ call: borrowing Call, _ members: [ListpackValue]) {
        call.reply.set(members.count)
        for member in members { call.reply.bulk(member) }
    }

    /// Puts the result where the key was; an empty one deletes the key. Replies with the count.
    private func store(_ call: borrowing Call, _ result: StoredSet, _ destination: Argument, _ event: StaticString) {
        let count = result.count
        if count == 0 {
            result.free()
            delete(call.db, destination)
        } else {
            put(call.db, Entry.make(
                heap, destination, .set, result.encoding, expiry: nil, clock: call.db.accessClock, pointer: result.pointer))
            changed(call.db, destination, .set, event)
        }
        call.reply.integer(count)
    }
}
