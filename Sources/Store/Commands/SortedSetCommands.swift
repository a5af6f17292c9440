import Glibc
import RESP

/// Sorted sets: adding, removing, counting, popping. Ranges are in `SortedSetRangeCommands.swift`, unions and their like in
/// `SortedSetAlgebraCommands.swift`.
extension StoreServer {
    static let sortedSetCommands: [Command] = [
        Command(
            "ZADD", arity: -4, flags: [.write, .denyOOM, .fast], keys: .first, member: 3, categories: [.sortedSet], since: "1.2.0",
            syntax: "key [condition(NX|XX)]@3.0.2 [comparison(GT|LT)]@6.2.0 [change=CH]@3.0.2 [increment=INCR]@3.0.2 score_member(score:double member)...",
            access: "RW update",
            complexity: "O(log(N)) for each item added, where N is the number of elements in the sorted set.",
            summary: "Adds one or more members to a sorted set, or updates their scores. Creates the key if it doesn't exist."
        ) { call in call.server.zAdd(call, []) },
        Command(
            "ZINCRBY", arity: 4, flags: [.write, .denyOOM, .fast], keys: .first, member: 3, categories: [.sortedSet], since: "1.2.0",
            syntax: "key increment:int member", access: "RW access update",
            complexity: "O(log(N)) where N is the number of elements in the sorted set.",
            summary: "Increments the score of a member in a sorted set."
        ) { call in call.server.zAdd(call, [.increment]) },
        Command(
            "ZREM", arity: -3, flags: [.write, .fast], keys: .first, member: 2, categories: [.sortedSet], since: "1.2.0",
            syntax: "key member...", access: "RW delete",
            complexity: "O(M*log(N)) with N being the number of elements in the sorted set and M the number of elements to be removed.",
            summary: "Removes one or more members from a sorted set. Deletes the sorted set if all members were removed."
        ) { call in call.server.zRemove(call) },
        Command(
            "ZSCORE", arity: 3, flags: [.readOnly, .fast], keys: .first, member: 2, categories: [.sortedSet], since: "1.2.0",
            syntax: "key member",
            summary: "Returns the score of a member in a sorted set."
        ) { call in
            guard let found = call.server.lookup(call.db, call[1]) else { return call.reply.null() }
            guard found.type == .sortedSet else { return call.wrongType() }
            guard let score = SortedSet(found).score(of: call[2]) else { return call.reply.null() }
            call.reply.double(score)
        },
        Command(
            "ZMSCORE", arity: -3, flags: [.readOnly, .fast], keys: .first, categories: [.sortedSet], since: "6.2.0",
            syntax: "key member...",
            complexity: "O(N) where N is the number of members being requested.",
            summary: "Returns the score of one or more members in a sorted set."
        ) { call in
            let found = call.server.lookup(call.db, call[1])
            if let found, found.type != .sortedSet { return call.wrongType() }
            call.reply.array(call.count - 2)
            for i in 2..<call.count {
                if let found, let score = SortedSet(found).score(of: call[i]) {
                    call.reply.double(score)
                } else {
                    call.reply.null()
                }
            }
        },
        Command(
            "ZCARD", arity: 2, flags: [.readOnly, .fast], keys: .first, categories: [.sortedSet], since: "1.2.0",
            syntax: "key", access: "RO",
            summary: "Returns the number of members in a sorted set."
        ) { call in
            guard let found = call.server.lookup(call.db, call[1]) else { return call.reply.integer(0) }
            guard found.type == .sortedSet else { return call.wrongType() }
            call.reply.integer(SortedSet(found).count)
        },
        Command(
            "ZPOPMIN", arity: -2, flags: [.write, .fast], keys: .first, member: Command.lowestMember, categories: [.sortedSet], since: "5.0.0",
            syntax: "key [count:int]", access: "RW access delete",
            complexity: "O(log(N)*M) with N being the number of elements in the sorted set, and M being the number of elements popped.",
            summary: "Returns the lowest-scoring members from a sorted set after removing them. Deletes the sorted set if the last member was popped."
        ) { call in call.server.zPop(call, .lowest) },
        Command(
            "ZPOPMAX", arity: -2, flags: [.write, .fast], keys: .first, member: Command.highestMember, categories: [.sortedSet], since: "5.0.0",
            syntax: "key [count:int]", access: "RW access delete",
            complexity: "O(log(N)*M) with N being the number of elements in the sorted set, and M being the number of elements popped.",
            summary: "Returns the highest-scoring members from a sorted set after removing them. Deletes the sorted set if the last member was popped."
        ) { call in call.server.zPop(call, .highest) },
        Command(
            "ZMPOP", arity: -4, flags: [.write, .movableKeys], keys: .counted(at: 1), categories: [.sortedSet], since: "7.0.0",
            syntax: "numkeys:int key... where(MIN|MAX) [COUNT count:int]", access: "RW access delete",
            complexity: "O(K) + O(M*log(N)) where K is the number of provided keys, N being the number of elements in the sorted set, and M being the number of elements popped.",
            summary: "Returns the highest- or lowest-scoring members from one or more sorted sets after removing them. Deletes the sorted set if the last member was popped."
        ) { call in call.server.zPopFromAny(call, numberAt: 1, isBlocking: false) },
        Command(
            "BZMPOP", arity: -5, flags: [.write, .blocking, .movableKeys], keys: .counted(at: 2), categories: [.sortedSet], since: "7.0.0",
            syntax: "timeout:double numkeys:int key... where(MIN|MAX) [COUNT count:int]", access: "RW access delete",
            complexity: "O(K) + O(M*log(N)) where K is the number of provided keys, N being the number of elements in the sorted set, and M being the number of elements popped.",
            summary: "Removes and returns a member by score from one or more sorted sets. Blocks until a member is available otherwise. Deletes the sorted set if the last element was popped."
        ) { call in
            call.server.zPopFromAny(call, numberAt: 2, isBlocking: true)
        },
        Command(
            "BZPOPMIN", arity: -3, flags: [.write, .noScript, .blocking, .fast], keys: .allButLast, categories: [.sortedSet], since: "5.0.0",
            syntax: "key... timeout:double", access: "RW access delete",
            complexity: "O(log(N)) with N being the number of elements in the sorted set.",
            summary: "Removes and returns the member with the lowest score from one or more sorted sets. Blocks until a member is available otherwise. Deletes the sorted set if the last element was popped."
        ) { call in call.server.zPopBlocking(call, .lowest) },
        Command(
            "BZPOPMAX", arity: -3, flags: [.write, .noScript, .blocking, .fast], keys: .allButLast, categories: [.sortedSet], since: "5.0.0",
            syntax: "key... timeout:double", access: "RW access delete",
            complexity: "O(log(N)) with N being the number of elements in the sorted set.",
            summary: "Removes and returns the member with the highest score from one or more sorted sets. Blocks until a member is available otherwise. Deletes the sorted set if the last element was popped."
        ) { call in call.server.zPopBlocking(call, .highest) },
        Command(
            "ZRANDMEMBER", arity: -2, flags: [.readOnly], keys: .first, categories: [.sortedSet], since: "6.2.0",
            syntax: "key [options(count:int [WITHSCORES])]", tips: "nondeterministic_output",
            complexity: "O(N) where N is the number of members returned",
            summary: "Returns one or more random members from a sorted set."
        ) { call in call.server.zRandomMember(call) },
        Command(
            "ZSCAN", arity: -3, flags: [.readOnly], keys: .first, categories: [.sortedSet], since: "2.8.0",
            syntax: "key cursor:int [MATCH pattern:pattern] [COUNT count:int]", tips: "nondeterministic_output",
            complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.",
            summary: "Iterates over members and scores of a sorted set."
        ) { call in call.server.zScan(call) },
    ]

    var sortedSetLimits: SortedSet.Limits { SortedSet.Limits(configuration, heap) }

    // MARK: ZADD, ZINCRBY

    private struct AddOptions: OptionSet {
        let rawValue: UInt8
        static let onlyNew = AddOptions(rawValue: 1)
        static let onlyExisting = AddOptions(rawValue: 2)
        static let onlyGreater = AddOptions(rawValue: 4)
        static let onlyLess = AddOptions(rawValue: 8)
        static let countsChanged = AddOptions(rawValue: 16)
        static let increment = AddOptions(rawValue: 32)
    }

    private func zAdd(_ call: borrowing Call, _ implied: AddOptions) {
        var options = implied
        var first = 2
        // ZINCRBY has no options: its increment is never one of these words.
        if implied.isEmpty, call[2][0] > 0x39 {
            guard let end = addOptions(call, &options) else { return }
            first = end
        }
        let pairs = (call.count - first) / 2
        if pairs * 2 != call.count - first || pairs == 0 { return call.syntaxError() }
        if options.contains(.increment), pairs > 1 {
            return call.reply.error("ERR INCR option supports a single increment-element pair")
        }
        // All scores are read before anything is changed.
        withUnsafeTemporaryAllocation(of: Double.self, capacity: pairs) { scores in
            for i in 0..<pairs {
                guard let score = call[first + 2 * i].score else { return call.notAFloat() }
                scores[i] = score
            }
            zAdd(call, options, first, scores)
        }
    }

    /// - Returns: the index of the first score; nil after an error reply.
    private func addOptions(_ call: borrowing Call, _ options: inout AddOptions) -> Int? {
        var i = 2
        scan: while i < call.count {
            let word = call[i]
            if word.isWord("nx") { options.insert(.onlyNew) }
            else if word.isWord("xx") { options.insert(.onlyExisting) }
            else if word.isWord("gt") { options.insert(.onlyGreater) }
            else if word.isWord("lt") { options.insert(.onlyLess) }
            else if word.isWord("ch") { options.insert(.countsChanged) }
            else if word.isWord("incr") { options.insert(.increment) }
            else { break scan }
            i += 1
        }
        if (call.count - i) % 2 != 0 || i == call.count {
            call.syntaxError()
            return nil
        }
        if options.isSuperset(of: [.onlyNew, .onlyExisting]) {
            call.reply.error("ERR XX and NX options at the same time are not compatible")
            return nil
        }
        if options.intersection([.onlyNew, .onlyGreater, .onlyLess]).rawValue.nonzeroBitCount > 1 {
            call.reply.error("ERR GT, LT, and/or NX options at the same time are not compatible")
            return nil
        }
        return i
    }

    private func zAdd(_ call: borrowing Call, _ options: AddOptions, _ first: Int, _ scores: UnsafeMutableBufferPointer<Double>) {
        let key = call[1]
        let position = lookupForWrite(call.db, key)
        if let position, Entry(position.element).type != .sortedSet { return call.wrongType() }
        if position == nil, options.contains(.onlyExisting) {
            return options.contains(.increment) ? call.reply.null() : call.reply.integer(0)
        }
        var set: SortedSet
        if let position {
            set = SortedSet(Entry(position.element))
        } else if configuration.sortedSetMaxListpackEntries == 0 || call[first + 1].count > configuration.sortedSetMaxListpackValue {
            set = .makeLarge(heap)
        } else {
            set = .makeSmall(heap)
        }
        var added = 0
        var updated = 0
        var result: Double?
        var isNaN = false
        for i in 0..<scores.count {
            switch zAdd(&set, call[first + 2 * i + 1], scores[i], options, &result) {
            case .added: added += 1
            case .updated: updated += 1
            case .nothing: break
            case .notANumber: isNaN = true
            }
            if isNaN { break }
        }
        if let position {
            set.store(in: Entry(position.element))
        } else if added > 0 {
            created(call.db, key)
            call.db.add(Entry.make(heap, key, .sortedSet, set.encoding, expiry: nil, clock: call.db.accessClock, pointer: set.pointer))
        } else {
            set.release()
        }
        if added + updated > 0 {
            changed(call.db, key, .sortedSet, options.contains(.increment) ? "zincr" : "zadd", Int64(added + updated))
            if added > 0 { keyReady(call.db, key) }
        }
        if isNaN { return call.reply.error("ERR resulting score is not a number (NaN)") }
        if options.contains(.increment) {
            if let result { call.reply.double(result) } else { call.reply.null() }
        } else {
            call.reply.integer(options.contains(.countsChanged) ? added + updated : added)
        }
    }

    private enum AddOutcome {
        case added
        case updated
        case nothing
        case notANumber
    }

    /// Adds or changes one member. `result` is its score afterwards; nil when the options forbade the change.
    @inline(__always)
    private func zAdd(_ set: inout SortedSet, _ member: Argument, _ score: Double, _ options: AddOptions, _ result: inout Double?) -> AddOutcome {
        if case .large(let index) = set.form, options.isEmpty {
            // The usual case: one look at the table tells everything.
            let hash = index.members.hash(member)
            guard let position = index.members.find(member, hash) else {
                index.add(member, score, hash)
                return .added
            }
            let element = SortedElement(position.element)
            if element.score == score { return .nothing }
            index.tree.update(element, score: score)
            return .updated
        }
        guard let old = set.score(of: member) else {
            if options.contains(.onlyExisting) { return .nothing }
            set.add(member, score, sortedSetLimits)
            result = score
            return .added
        }
        if options.contains(.onlyNew) { return .nothing }
        let wanted = options.contains(.increment) ? old + score : score
        if wanted.isNaN { return .notANumber }
        if (options.contains(.onlyLess) && wanted >= old) || (options.contains(.onlyGreater) && wanted <= old) { return .nothing }
        result = wanted
        if wanted == old { return .nothing }
        set.update(member, wanted)
        return .updated
    }

    // MARK: ZREM

    private func zRemove(_ call: borrowing Call) {
        guard let position = lookupForWrite(call.db, call[1]) else { return call.reply.integer(0) }
        let entry = Entry(position.element)
        guard entry.type == .sortedSet else { return call.wrongType() }
        var set = SortedSet(entry)
        var removed = 0
        for i in 2..<call.count where set.remove(call[i]) {
            removed += 1
            if set.count == 0 { break }
        }
        concludeRemoval(call.db, call[1], entry, set, removed, event: "zrem")
        call.reply.integer(removed)
    }

    /// Writes back a set from which members were removed, says so, and lets an empty one go.
    func concludeRemoval(_ db: Database, _ key: Argument, _ entry: Entry, _ set: SortedSet, _ removed: Int, event: StaticString) {
        set.store(in: entry)
        guard removed > 0 else { return }
        changed(db, key, .sortedSet, event, Int64(removed))
        if set.count == 0 { deleteEmptied(db, key) }
    }

    // MARK: popping

    enum SortedEnd {
        case lowest
        case highest

        var event: StaticString { self == .lowest ? "zpopmin" : "zpopmax" }
        var command: StaticString { self == .lowest ? "ZPOPMIN" : "ZPOPMAX" }
    }

    private func zPop(_ call: borrowing Call, _ end: SortedEnd) {
        if call.count > 3 { return call.syntaxError() }
        var count = 1
        if call.count == 3 {
            guard let value = positiveCount(call, 2) else { return }
            count = value
        }
        guard let position = lookupForWrite(call.db, call[1]) else { return call.reply.array(0) }
        let entry = Entry(position.element)
        guard entry.type == .sortedSet else { return call.wrongType() }
        let popped = min(count, SortedSet(entry).count)
        let isNested = call.count == 3 && call.reply.isRESP3
        call.reply.array(isNested ? popped : popped * 2)
        pop(call.db, call[1], entry, popped, end, call.reply, isNested: isNested)
    }

    /// A count of 0 or more; nil after an error reply.
    private func positiveCount(_ call: borrowing Call, _ index: Int) -> Int? {
        guard let value = call[index].integer, value >= 0 else {
            call.reply.error("ERR value is out of range, must be positive")
            return nil
        }
        return Int(value)
    }

    /// Removes `count` members, which must be there, from an end of the set, and writes them with their scores.
    private func pop(_ db: Database, _ key: Argument, _ entry: Entry, _ count: Int, _ end: SortedEnd, _ reply: ReplyWriter, isNested: Bool) {
        guard count > 0 else { return }
        var set = SortedSet(entry)
        let first = end == .lowest ? 0 : set.count - count
        set.forEach(from: first, count: count, reversed: end == .highest) { member, score in
            if isNested { reply.array(2) }
            reply.bulk(member)
            reply.double(score)
        }
        set.remove(from: first, count: count)
        concludeRemoval(db, key, entry, set, count, event: end.event)
    }

    private func zPopBlocking(_ call: borrowing Call, _ end: SortedEnd) {
        guard let timeout = blockingTimeout(call, call[call.count - 1]) else { return }
        for i in 1..<call.count - 1 {
            guard let position = lookupForWrite(call.db, call[i]) else { continue }
            guard Entry(position.element).type == .sortedSet else { return call.wrongType() }
            _ = servePop(call.client, call.db, call[i], end)
            propagate(as: [[Array(Argument(end.command)), call[i].bytes]])
            return
        }
        let keys = (1..<call.count - 1).map { call.arguments[$0] }
        block(call.client, on: keys, timeout: timeout) { [unowned self] client, db, key in
            guard servePop(client, db, key, end) else { return false }
            feed(db, [Array(Argument(end.command)), key.bytes])
            return true
        } timedOut: { $0.reply.nullArray() }
    }

    /// Answers key, member and score.
    private func servePop(_ client: Client, _ db: Database, _ key: Argument, _ end: SortedEnd) -> Bool {
        guard let position = lookupForWrite(db, key) else { return false }
        let entry = Entry(position.element)
        guard entry.type == .sortedSet else { return false }
        client.reply.array(3)
        client.reply.bulk(key)
        pop(db, key, entry, 1, end, client.reply, isNested: false)
        return true
    }

    private func zPopFromAny(_ call: borrowing Call, numberAt index: Int, isBlocking: Bool) {
        guard let number = call[index].integer, number > 0 else {
            return call.reply.error("ERR numkeys should be greater than 0")
        }
        guard number <= Int64(call.count - index - 2) else { return call.syntaxError() }
        let where_ = index + 1 + Int(number)
        let end: SortedEnd
        if call[where_].isWord("min") { end = .lowest } else if call[where_].isWord("max") { end = .highest } else { return call.syntaxError() }
        var count = 1
        if call.count > where_ + 1 {
            guard call.count > where_ + 2, call[where_ + 1].isWord("count") else { return call.syntaxError() }
            guard let value = call[where_ + 2].integer, value > 0 else { return call.reply.error("ERR count should be greater than 0") }
            guard call.count == where_ + 3 else { return call.syntaxError() }
            count = Int(value)
        }
        // The time-out stands first and is looked at last.
        var timeout: Int64?
        if isBlocking {
            timeout = blockingTimeout(call, call[1])
            if timeout == nil { return }
        }
        for i in index + 1..<where_ {
            guard let position = lookupForWrite(call.db, call[i]) else { continue }
            guard Entry(position.element).type == .sortedSet else { return call.wrongType() }
            let popped = servePopMany(call.client, call.db, call[i], count, end)
            propagate(as: [popCommand(call[i], popped, end)])
            return
        }
        guard let timeout else { return call.reply.nullArray() }
        let keys = (index + 1..<where_).map { call.arguments[$0] }
        block(call.client, on: keys, timeout: timeout) { [unowned self] client, db, key in
            let popped = servePopMany(client, db, key, count, end)
            guard popped > 0 else { return false }
            feed(db, popCommand(key, popped, end))
            return true
        } timedOut: { $0.reply.nullArray() }
    }

    private func popCommand(_ key: Argument, _ count: Int, _ end: SortedEnd) -> [[UInt8]] {
        [Array(Argument(end.command)), key.bytes, Array(number: Int64(count))]
    }

    /// Answers the key and an array of pairs.
    /// - Returns: how many were popped; 0 when the key holds no sorted set, and nothing was answered.
    private func servePopMany(_ client: Client, _ db: Database, _ key: Argument, _ count: Int, _ end: SortedEnd) -> Int {
        guard let position = lookupForWrite(db, key) else { return 0 }
        let entry = Entry(position.element)
        guard entry.type == .sortedSet else { return 0 }
        let popped = min(count, SortedSet(entry).count)
        client.reply.array(2)
        client.reply.bulk(key)
        client.reply.array(popped)
        pop(db, key, entry, popped, end, client.reply, isNested: true)
        return popped
    }

    // MARK: random members, scanning

    private func zRandomMember(_ call: borrowing Call) {
        if call.count == 2 {
            guard let entry = lookup(call.db, call[1]) else { return call.reply.null() }
            guard entry.type == .sortedSet else { return call.wrongType() }
            let set = SortedSet(entry)
            set.forEach(from: Int.random(in: 0..<set.count, using: &random), count: 1) { member, _ in call.reply.bulk(member) }
            return
        }
        guard let wanted = call.symmetricLong(2) else { return }
        let withScores = call.count == 4 && call[3].isWord("withscores")
        if call.count > 3, !withScores { return call.syntaxError() }
        if withScores, wanted.magnitude > UInt(Int.max / 2) {
            return call.reply.error("ERR value is out of range")
        }
        guard let entry = lookup(call.db, call[1]) else { return call.reply.array(0) }
        guard entry.type == .sortedSet else { return call.wrongType() }
        let set = SortedSet(entry)
        let size = set.count
        let reply = call.reply
        let count = wanted < 0 ? -wanted : min(wanted, size)
        guard hasRoom(forReplyOf: count) else { return reply.error(StoreServer.outOfSystemMemory) }
        reply.array(withScores && !reply.isRESP3 ? count * 2 : count)
        func write(_ member: Argument, _ score: Double) {
            if withScores, reply.isRESP3 { reply.array(2) }
            reply.bulk(member)
            if withScores { reply.double(score) }
        }
        if wanted < 0 {
            for _ in 0..<count { set.forEach(from: Int.random(in: 0..<size, using: &random), count: 1) { write($0, $1) } }
        } else if count == size {
            set.forEach { write($0, $1) }
        } else {
            for rank in distinctRanks(count, of: size) { set.forEach(from: rank, count: 1) { write($0, $1) } }
        }
    }

    /// `count` different numbers below `size`, each choice equally likely. O(count) (Robert Floyd's sampling).
    private func distinctRanks(_ count: Int, of size: Int) -> [Int] {
        var chosen = Set<Int>()
        var ranks: [Int] = []
        for limit in size - count..<size {
            let candidate = Int.random(in: 0...limit, using: &random)
            let rank = chosen.contains(candidate) ? limit : candidate
            chosen.insert(rank)
            ranks.append(rank)
        }
        return ranks
    }

    private func zScan(_ call: borrowing Call) {
        guard let (entry, cursor, options) = beginScan(call, .sortedSet) else { return }
        var pairs: [([UInt8], String)] = []
        var next: UInt64 = 0
        func matches(_ member: Argument) -> Bool { options.pattern.map { Glob.matches($0, member) } ?? true }
        let set = SortedSet(entry)
        switch set.form {
        case .small:
            set.forEach { member, score in if matches(member) { pairs.append((member.bytes, Decimal.shortest(score))) } }
        case .large(let index):
            let (after, elements) = scanTable(index.members, cursor, options)
            next = after
            // Large ones have scores with seventeen digits here, and only here.
            pairs = elements.map { (SortedElement($0).member.bytes, LongDouble.short(SortedElement($0).score)) }
        }
        call.reply.array(2)
        call.reply.bulk(String(next))
        call.reply.array(pairs.count * 2)
        for (member, score) in pairs {
            call.reply.bulk(member)
            // Not a double under RESP3 either.
            call.reply.bulk(score)
        }
    }
}
