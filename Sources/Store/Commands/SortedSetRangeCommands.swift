import Glibc
import RESP

/// Ranges of sorted sets: by rank, by score, by member. Every one becomes a range of ranks.
extension StoreServer {
    private static let rangeComplexity: StaticString = "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements returned."

    static let sortedSetRangeCommands: [Command] = [
        Command(
            "ZRANGE", arity: -4, flags: [.readOnly], keys: .first, categories: [.sortedSet], since: "1.2.0",
            syntax: "key start stop [sortby(BYSCORE|BYLEX)]@6.2.0 [REV]@6.2.0 [LIMIT offset_count(offset:int count:int)]@6.2.0 [WITHSCORES]",
            complexity: rangeComplexity,
            summary: "Returns members in a sorted set within a range of indexes."
        ) { call in call.server.zRange(call, RangeRequest(isFree: true)) },
        Command(
            "ZRANGESTORE", arity: -5, flags: [.write, .denyOOM], keys: .firstTwo, categories: [.sortedSet], since: "6.2.0",
            syntax: "dst:key src:key min max [sortby(BYSCORE|BYLEX)] [REV] [LIMIT offset_count(offset:int count:int)]",
            access: "OW update 1; RO access 2",
            complexity: "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements stored into the destination key.",
            summary: "Stores a range of members from sorted set in a key."
        ) { call in call.server.zRange(call, RangeRequest(isFree: true, isStoring: true)) },
        Command(
            "ZREVRANGE", arity: -4, flags: [.readOnly], keys: .first, categories: [.sortedSet], since: "1.2.0",
            syntax: "key start:int stop:int [WITHSCORES]", deprecated: ("6.2.0", "`ZRANGE` with the `REV` argument"),
            complexity: rangeComplexity,
            summary: "Returns members in a sorted set within a range of indexes in reverse order."
        ) { call in call.server.zRange(call, RangeRequest(isReversed: true)) },
        Command(
            "ZRANGEBYSCORE", arity: -4, flags: [.readOnly], keys: .first, categories: [.sortedSet], since: "1.0.5",
            syntax: "key min:double max:double [WITHSCORES]@2.0.0 [LIMIT offset_count(offset:int count:int)]",
            deprecated: ("6.2.0", "`ZRANGE` with the `BYSCORE` argument"),
            complexity: rangeComplexity,
            summary: "Returns members in a sorted set within a range of scores."
        ) { call in call.server.zRange(call, RangeRequest(kind: .score)) },
        Command(
            "ZREVRANGEBYSCORE", arity: -4, flags: [.readOnly], keys: .first, categories: [.sortedSet], since: "2.2.0",
            syntax: "key max:double min:double [WITHSCORES] [LIMIT offset_count(offset:int count:int)]",
            deprecated: ("6.2.0", "`ZRANGE` with the `REV` and `BYSCORE` arguments"),
            complexity: rangeComplexity,
            summary: "Returns members in a sorted set within a range of scores in reverse order."
        ) { call in call.server.zRange(call, RangeRequest(kind: .score, isReversed: true)) },
        Command(
            "ZRANGEBYLEX", arity: -4, flags: [.readOnly], keys: .first, categories: [.sortedSet], since: "2.8.9",
            syntax: "key min max [LIMIT offset_count(offset:int count:int)]", deprecated: ("6.2.0", "`ZRANGE` with the `BYLEX` argument"),
            complexity: rangeComplexity,
            summary: "Returns members in a sorted set within a lexicographical range."
        ) { call in call.server.zRange(call, RangeRequest(kind: .member)) },
        Command(
            "ZREVRANGEBYLEX", arity: -4, flags: [.readOnly], keys: .first, categories: [.sortedSet], since: "2.8.9",
            syntax: "key max min [LIMIT offset_count(offset:int count:int)]", deprecated: ("6.2.0", "`ZRANGE` with the `REV` and `BYLEX` arguments"),
            complexity: rangeComplexity,
            summary: "Returns members in a sorted set within a lexicographical range in reverse order."
        ) { call in call.server.zRange(call, RangeRequest(kind: .member, isReversed: true)) },
        Command(
            "ZCOUNT", arity: 4, flags: [.readOnly, .fast], keys: .first, categories: [.sortedSet], since: "2.0.0",
            syntax: "key min:double max:double",
            complexity: "O(log(N)) with N being the number of elements in the sorted set.",
            summary: "Returns the count of members in a sorted set that have scores within a range."
        ) { call in call.server.zCount(call, .score) },
        Command(
            "ZLEXCOUNT", arity: 4, flags: [.readOnly, .fast], keys: .first, categories: [.sortedSet], since: "2.8.9",
            syntax: "key min max",
            complexity: "O(log(N)) with N being the number of elements in the sorted set.",
            summary: "Returns the number of members in a sorted set within a lexicographical range."
        ) { call in call.server.zCount(call, .member) },
        Command(
            "ZRANK", arity: -3, flags: [.readOnly, .fast], keys: .first, member: 2, categories: [.sortedSet], since: "2.0.0",
            syntax: "key member [WITHSCORE]@7.2.0",
            complexity: "O(log(N))",
            summary: "Returns the index of a member in a sorted set ordered by ascending scores."
        ) { call in call.server.zRank(call, isReversed: false) },
        Command(
            "ZREVRANK", arity: -3, flags: [.readOnly, .fast], keys: .first, categories: [.sortedSet], since: "2.0.0",
            syntax: "key member [WITHSCORE]@7.2.0",
            complexity: "O(log(N))",
            summary: "Returns the index of a member in a sorted set ordered by descending scores."
        ) { call in call.server.zRank(call, isReversed: true) },
        Command(
            "ZREMRANGEBYRANK", arity: 4, flags: [.write], keys: .first, categories: [.sortedSet], since: "2.0.0",
            syntax: "key start:int stop:int", access: "RW delete",
            complexity: "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements removed by the operation.",
            summary: "Removes members in a sorted set within a range of indexes. Deletes the sorted set if all members were removed."
        ) { call in call.server.zRemoveRange(call, .rank, event: "zremrangebyrank") },
        Command(
            "ZREMRANGEBYSCORE", arity: 4, flags: [.write], keys: .first, categories: [.sortedSet], since: "1.2.0",
            syntax: "key min:double max:double", access: "RW delete",
            complexity: "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements removed by the operation.",
            summary: "Removes members in a sorted set within a range of scores. Deletes the sorted set if all members were removed."
        ) { call in call.server.zRemoveRange(call, .score, event: "zremrangebyscore") },
        Command(
            "ZREMRANGEBYLEX", arity: 4, flags: [.write], keys: .first, categories: [.sortedSet], since: "2.8.9",
            syntax: "key min max", access: "RW delete",
            complexity: "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements removed by the operation.",
            summary: "Removes members in a sorted set within a lexicographical range. Deletes the sorted set if all members were removed."
        ) { call in call.server.zRemoveRange(call, .member, event: "zremrangebylex") },
    ]

    private enum RangeKind {
        case rank
        case score
        case member
    }

    /// What a range command asks for.
    private struct RangeRequest {
        var kind = RangeKind.rank
        var isReversed = false
        /// ZRANGE and ZRANGESTORE: kind and direction may be given as options.
        var isFree = false
        var isStoring = false
        var withScores = false
        var offset = 0
        var limit = -1
    }

    /// Where a range begins and ends, before a set is known.
    private enum RangeBounds {
        case ranks(Int, Int)
        case scores(ScoreBound, ScoreBound)
        case members(MemberBound, MemberBound)

        /// The ranks that are meant in a set.
        func resolve(_ set: SortedSet, isReversed: Bool) -> Range<Int> {
            let count = set.count
            switch self {
            case .ranks(var first, var last):
                if first < 0 { first = max(0, first + count) }
                if last < 0 { last += count }
                last = min(last, count - 1)
                guard first <= last else { return 0..<0 }
                return isReversed ? count - 1 - last..<count - first : first..<last + 1
            case .scores(let low, let high):
                let first = set.count(below: low.value, orEqual: low.isExclusive)
                let end = set.count(below: high.value, orEqual: !high.isExclusive)
                return first < end ? first..<end : 0..<0
            case .members(let low, let high):
                let first = low.firstRank(set, count)
                let end = high.endRank(set, count)
                return first < end ? first..<end : 0..<0
            }
        }
    }

    private struct ScoreBound {
        let value: Double
        let isExclusive: Bool

        /// `1.5`, `(1.5`, `-inf`.
        init?(_ argument: Argument) {
            isExclusive = argument.count > 0 && argument[0] == 0x28
            let number = isExclusive ? Argument(base: argument.base + 1, count: argument.count - 1) : argument
            guard let value = number.looseDouble else { return nil }
            self.value = value
        }
    }

    private enum MemberBound {
        case lowest
        case highest
        case member(Argument, isExclusive: Bool)

        /// `-`, `+`, `[member`, `(member`.
        init?(_ argument: Argument) {
            guard argument.count > 0 else { return nil }
            let rest = Argument(base: argument.base + 1, count: argument.count - 1)
            switch argument[0] {
            case 0x2D where rest.count == 0: self = .lowest
            case 0x2B where rest.count == 0: self = .highest
            case 0x5B: self = .member(rest, isExclusive: false)
            case 0x28: self = .member(rest, isExclusive: true)
            default: return nil
            }
        }

        func firstRank(_ set: SortedSet, _ count: Int) -> Int {
            switch self {
            case .lowest: 0
            case .highest: count
            case .member(let member, let isExclusive): set.count(before: member, orEqual: isExclusive)
            }
        }

        func endRank(_ set: SortedSet, _ count: Int) -> Int {
            switch self {
            case .lowest: 0
            case .highest: count
            case .member(let member, let isExclusive): set.count(before: member, orEqual: !isExclusive)
            }
        }
    }

    /// Reads the bounds at `index` and behind it.
    /// - Returns: nil after an error reply.
    private func bounds(_ call: borrowing Call, _ index: Int, _ kind: RangeKind, isReversed: Bool = false) -> RangeBounds? {
        switch kind {
        case .rank:
            guard let first = call.integer(index), let last = call.integer(index + 1) else { return nil }
            return .ranks(Int(first), Int(last))
        case .score:
            if let low = ScoreBound(call[isReversed ? index + 1 : index]), let high = ScoreBound(call[isReversed ? index : index + 1]) {
                return .scores(low, high)
            }
            call.reply.error("ERR min or max is not a float")
        case .member:
            if let low = MemberBound(call[isReversed ? index + 1 : index]), let high = MemberBound(call[isReversed ? index : index + 1]) {
                return .members(low, high)
            }
            call.reply.error("ERR min or max not valid string range item")
        }
        return nil
    }

    // MARK: ZRANGE and its like

    private func zRange(_ call: borrowing Call, _ plain: RangeRequest) {
        var request = plain
        let key = request.isStoring ? 2 : 1
        guard rangeOptions(call, &request, from: key + 3) else { return }
        guard let bounds = bounds(call, key + 1, request.kind, isReversed: request.isReversed) else { return }
        let entry = request.isStoring ? lookupForWrite(call.db, call[key]).map { Entry($0.element) } : lookup(call.db, call[key])
        guard let entry else {
            if request.isStoring { return storeResult(call.db, call[1], nil, event: "zrangestore", call.reply) }
            return call.reply.array(0)
        }
        guard entry.type == .sortedSet else { return call.wrongType() }
        let set = SortedSet(entry)
        let range = limited(bounds.resolve(set, isReversed: request.isReversed), request)
        if request.isStoring {
            storeRange(call, set, range, request)
        } else {
            write(set, range, request, call.reply)
        }
    }

    /// - Returns: false after an error reply.
    private func rangeOptions(_ call: borrowing Call, _ request: inout RangeRequest, from first: Int) -> Bool {
        var hasKind = !request.isFree
        var hasDirection = !request.isFree
        var i = first
        while i < call.count {
            let option = call[i]
            if !request.isStoring, option.isWord("withscores") {
                request.withScores = true
            } else if option.isWord("limit"), i + 2 < call.count {
                guard let offset = call.integer(i + 1), let limit = call.integer(i + 2) else { return false }
                request.offset = Int(offset)
                request.limit = Int(limit)
                i += 2
            } else if !hasDirection, option.isWord("rev") {
                request.isReversed = true
                hasDirection = true
            } else if !hasKind, option.isWord("bylex") {
                request.kind = .member
                hasKind = true
            } else if !hasKind, option.isWord("byscore") {
                request.kind = .score
                hasKind = true
            } else {
                call.syntaxError()
                return false
            }
            i += 1
        }
        if request.limit != -1, request.kind == .rank {
            call.reply.error("ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX")
            return false
        }
        if request.withScores, request.kind == .member {
            call.reply.error("ERR syntax error, WITHSCORES not supported in combination with BYLEX")
            return false
        }
        return true
    }

    /// The part of the range that LIMIT leaves, counted in the direction of the request.
    private func limited(_ range: Range<Int>, _ request: RangeRequest) -> Range<Int> {
        if request.kind == .rank { return range }
        guard request.offset >= 0, request.offset < range.count else { return 0..<0 }
        let left = range.count - request.offset
        let count = request.limit < 0 ? left : min(left, request.limit)
        let first = request.isReversed ? range.upperBound - request.offset - count : range.lowerBound + request.offset
        return first..<first + count
    }

    private func write(_ set: SortedSet, _ range: Range<Int>, _ request: RangeRequest, _ reply: ReplyWriter) {
        let isNested = request.withScores && reply.isRESP3
        reply.array(request.withScores && !isNested ? range.count * 2 : range.count)
        if request.withScores {
            set.forEach(from: range.lowerBound, count: range.count, reversed: request.isReversed) { member, score in
                if isNested { reply.array(2) }
                reply.bulk(member)
                reply.double(score)
            }
        } else {
            set.forEach(from: range.lowerBound, count: range.count, reversed: request.isReversed) { member, _ in reply.bulk(member) }
        }
    }

    private func storeRange(_ call: borrowing Call, _ set: SortedSet, _ range: Range<Int>, _ request: RangeRequest) {
        var result = SortedSet.makeLarge(heap)
        var longest = 0
        // Redis fills a listpack for as long as it can, and a listpack knows one zero only.
        // It knows before how many members a range of ranks has, and no other.
        var isSmall = request.kind != .rank || range.count <= sortedSetLimits.entries
        set.forEach(from: range.lowerBound, count: range.count, reversed: request.isReversed) { member, score in
            isSmall = isSmall && member.count <= sortedSetLimits.value && result.count < sortedSetLimits.entries
            result.add(member, isSmall && score == 0 ? 0 : score, sortedSetLimits)
            longest = max(longest, member.count)
        }
        result.compact(longest: longest, sortedSetLimits)
        storeResult(call.db, call[1], result, event: "zrangestore", call.reply)
    }

    /// Puts a result under a key in place of what was there and answers how many members it has; an empty one removes the key.
    func storeResult(_ db: Database, _ key: Argument, _ result: SortedSet?, event: StaticString, _ reply: ReplyWriter) {
        guard let result, result.count > 0 else {
            result?.release()
            delete(db, key)
            return reply.integer(0)
        }
        _ = lookupForWrite(db, key)
        put(db, Entry.make(heap, key, .sortedSet, result.encoding, expiry: nil, clock: db.accessClock, pointer: result.pointer))
        changed(db, key, .sortedSet, event)
        reply.integer(result.count)
    }

    // MARK: counts, ranks, removal

    private func zCount(_ call: borrowing Call, _ kind: RangeKind) {
        guard let bounds = bounds(call, 2, kind) else { return }
        guard let entry = lookup(call.db, call[1]) else { return call.reply.integer(0) }
        guard entry.type == .sortedSet else { return call.wrongType() }
        call.reply.integer(bounds.resolve(SortedSet(entry), isReversed: false).count)
    }

    /// WITHSCORE is of Redis 7.2.
    private func zRank(_ call: borrowing Call, isReversed: Bool) {
        if call.count > 4 { return call.wrongArity() }
        let withScore = call.count == 4
        if withScore, !call[3].isWord("withscore") { return call.syntaxError() }
        let entry = lookup(call.db, call[1])
        if let entry, entry.type != .sortedSet { return call.wrongType() }
        guard let entry, let found = SortedSet(entry).rank(of: call[2]) else {
            return withScore ? call.reply.nullArray() : call.reply.null()
        }
        if withScore { call.reply.array(2) }
        call.reply.integer(isReversed ? SortedSet(entry).count - 1 - found.rank : found.rank)
        if withScore { call.reply.double(found.score) }
    }

    private func zRemoveRange(_ call: borrowing Call, _ kind: RangeKind, event: StaticString) {
        guard let bounds = bounds(call, 2, kind) else { return }
        guard let position = lookupForWrite(call.db, call[1]) else { return call.reply.integer(0) }
        let entry = Entry(position.element)
        guard entry.type == .sortedSet else { return call.wrongType() }
        var set = SortedSet(entry)
        let range = bounds.resolve(set, isReversed: false)
        set.remove(from: range.lowerBound, count: range.count)
        concludeRemoval(call.db, call[1], entry, set, range.count, event: event)
        call.reply.integer(range.count)
    }
}
