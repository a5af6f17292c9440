import Glibc
import RESP

/// Unions, intersections and differences of sorted sets and sets.
extension StoreServer {
    private static let complexity: StaticString = "O(N)+O(M*log(M)) with N being the sum of the sizes of the input sorted sets, and M being the number of elements in the resulting sorted set."
    private static let interComplexity: StaticString = "O(N*K)+O(M*log(M)) worst case with N being the smallest input sorted set, K being the number of input sorted sets and M being the number of elements in the resulting sorted set."

    static let sortedSetAlgebraCommands: [Command] = [
        Command(
            "ZUNION", arity: -3, flags: [.readOnly, .movableKeys], keys: .counted(at: 1), categories: [.sortedSet], since: "6.2.0",
            syntax: "numkeys:int key... [WEIGHTS weight:int...] [AGGREGATE aggregate(SUM|MIN|MAX)] [WITHSCORES]",
            complexity: complexity, summary: "Returns the union of multiple sorted sets."
        ) { call in call.server.zCombine(call, .union, isStoring: false) },
        Command(
            "ZINTER", arity: -3, flags: [.readOnly, .movableKeys], keys: .counted(at: 1), categories: [.sortedSet], since: "6.2.0",
            syntax: "numkeys:int key... [WEIGHTS weight:int...] [AGGREGATE aggregate(SUM|MIN|MAX)] [WITHSCORES]",
            complexity: interComplexity, summary: "Returns the intersect of multiple sorted sets."
        ) { call in call.server.zCombine(call, .intersection, isStoring: false) },
        Command(
            "ZDIFF", arity: -3, flags: [.readOnly, .movableKeys], keys: .counted(at: 1), categories: [.sortedSet], since: "6.2.0",
            syntax: "numkeys:int key... [WITHSCORES]",
            complexity: "O(L + (N-K)log(N)) worst case where L is the total number of elements in all the sets, N is the size of the first set, and K is the size of the result set.",
            summary: "Returns the difference between multiple sorted sets."
        ) { call in call.server.zCombine(call, .difference, isStoring: false) },
        Command(
            "ZUNIONSTORE", arity: -4, flags: [.write, .denyOOM, .movableKeys], keys: .destinationAndCounted, categories: [.sortedSet], since: "2.0.0",
            syntax: "destination:key numkeys:int key... [WEIGHTS weight:int...] [AGGREGATE aggregate(SUM|MIN|MAX)]",
            access: "OW update 1; RO access 2#",
            complexity: complexity, summary: "Stores the union of multiple sorted sets in a key."
        ) { call in call.server.zCombine(call, .union, isStoring: true) },
        Command(
            "ZINTERSTORE", arity: -4, flags: [.write, .denyOOM, .movableKeys], keys: .destinationAndCounted, categories: [.sortedSet], since: "2.0.0",
            syntax: "destination:key numkeys:int key... [WEIGHTS weight:int...] [AGGREGATE aggregate(SUM|MIN|MAX)]",
            access: "OW update 1; RO access 2#",
            complexity: interComplexity, summary: "Stores the intersect of multiple sorted sets in a key."
        ) { call in call.server.zCombine(call, .intersection, isStoring: true) },
        Command(
            "ZDIFFSTORE", arity: -4, flags: [.write, .denyOOM, .movableKeys], keys: .destinationAndCounted, categories: [.sortedSet], since: "6.2.0",
            syntax: "destination:key numkeys:int key...", access: "OW update 1; RO access 2#",
            complexity: "O(L + (N-K)log(N)) worst case where L is the total number of elements in all the sets, N is the size of the first set, and K is the size of the result set.",
            summary: "Stores the difference of multiple sorted sets in a key."
        ) { call in call.server.zCombine(call, .difference, isStoring: true) },
        Command(
            "ZINTERCARD", arity: -3, flags: [.readOnly, .movableKeys], keys: .counted(at: 1), categories: [.sortedSet], since: "7.0.0",
            syntax: "numkeys:int key... [LIMIT limit:int]",
            complexity: "O(N*K) worst case with N being the smallest input sorted set, K being the number of input sorted sets.",
            summary: "Returns the number of members of the intersect of multiple sorted sets."
        ) { call in call.server.zIntersectionCount(call) },
    ]

    private enum Combination {
        case union
        case intersection
        case difference

        var storeEvent: StaticString {
            switch self {
            case .union: "zunionstore"
            case .intersection: "zinterstore"
            case .difference: "zdiffstore"
            }
        }
    }

    private enum Aggregate {
        case sum
        case least
        case greatest

        func callAsFunction(_ a: Double, _ b: Double) -> Double {
            switch self {
            case .sum:
                // Infinities of both signs: Redis says 0.
                let sum = a + b
                return sum.isNaN ? 0 : sum
            // Which zero it is when both are: the first, as in Redis.
            case .least: return b < a ? b : a
            case .greatest: return b > a ? b : a
            }
        }
    }

    /// One of the sets that go in; no entry for a key that is not there.
    private struct Source {
        let entry: Entry?
        var weight = 1.0

        var count: Int {
            guard let entry else { return 0 }
            return entry.type == .sortedSet ? SortedSet(entry).count : StoredSet(entry).count
        }

        /// The member's score times the weight; members of sets have the score 1. It may be NaN (0 times infinity): unlike
        /// `forEach`, and like Redis in an intersection, that is left to the aggregate.
        func score(of member: Argument) -> Double? {
            guard let entry else { return nil }
            if entry.type == .sortedSet { return SortedSet(entry).score(of: member).map { $0 * weight } }
            return StoredSet(entry).contains(member) ? weight : nil
        }

        func weighted(_ score: Double) -> Double {
            let value = score * weight
            return value.isNaN ? 0 : value
        }

        func forEach(_ visit: (Argument, Double) -> Void) {
            guard let entry else { return }
            if entry.type == .sortedSet {
                SortedSet(entry).forEach { visit($0, weighted($1)) }
            } else {
                StoredSet(entry).forEach { value in value.withText { visit($0, weighted(1)) } }
            }
        }
    }

    private struct CombineOptions {
        var aggregate = Aggregate.sum
        var withScores = false
        /// ZINTERCARD: 0 for none.
        var limit = 0
    }

    /// Reads `numkeys` at `index` and the keys behind it.
    /// - Returns: nil after an error reply.
    private func sources(_ call: borrowing Call, _ index: Int) -> [Source]? {
        guard let number = call.integer(index) else { return nil }
        if number < 1 {
            call.reply.error("ERR at least 1 input key is needed for '\(call.slot.pointee.fullName)' command")
            return nil
        }
        if number > call.count - index - 1 {
            call.syntaxError()
            return nil
        }
        var result: [Source] = []
        for i in index + 1...index + Int(number) {
            let entry = lookup(call.db, call[i])
            if let entry, entry.type != .sortedSet, entry.type != .set {
                call.wrongType()
                return nil
            }
            result.append(Source(entry: entry))
        }
        return result
    }

    /// - Returns: false after an error reply.
    private func combineOptions(
        _ call: borrowing Call, from first: Int, _ kind: Combination, isStoring: Bool, isCounting: Bool, _ sources: inout [Source],
        _ options: inout CombineOptions
    ) -> Bool {
        var i = first
        while i < call.count {
            let left = call.count - i
            if kind != .difference, !isCounting, left >= sources.count + 1, call[i].isWord("weights") {
                for n in sources.indices {
                    guard let weight = call[i + 1 + n].score else {
                        call.reply.error("ERR weight value is not a float")
                        return false
                    }
                    sources[n].weight = weight
                }
                i += 1 + sources.count
            } else if kind != .difference, !isCounting, left >= 2, call[i].isWord("aggregate") {
                if call[i + 1].isWord("sum") { options.aggregate = .sum }
                else if call[i + 1].isWord("min") { options.aggregate = .least }
                else if call[i + 1].isWord("max") { options.aggregate = .greatest }
                else {
                    call.syntaxError()
                    return false
                }
                i += 2
            } else if !isStoring, !isCounting, call[i].isWord("withscores") {
                options.withScores = true
                i += 1
            } else if isCounting, left >= 2, call[i].isWord("limit") {
                guard let limit = call[i + 1].integer, limit >= 0 else {
                    call.reply.error("ERR LIMIT can't be negative")
                    return false
                }
                options.limit = Int(limit)
                i += 2
            } else {
                call.syntaxError()
                return false
            }
        }
        return true
    }

    private func zCombine(_ call: borrowing Call, _ kind: Combination, isStoring: Bool) {
        let index = isStoring ? 2 : 1
        guard var sources = sources(call, index) else { return }
        var options = CombineOptions()
        guard combineOptions(
            call, from: index + 1 + sources.count, kind, isStoring: isStoring, isCounting: false, &sources, &options)
        else { return }
        var longest = 0
        var result = SortedSet.adopt(combine(kind, sources, options.aggregate, &longest))
        if isStoring {
            result.compact(longest: longest, sortedSetLimits)
            return storeResult(call.db, call[1], result, event: kind.storeEvent, call.reply)
        }
        defer { result.release() }
        let reply = call.reply
        let isNested = options.withScores && reply.isRESP3
        reply.array(options.withScores && !isNested ? result.count * 2 : result.count)
        result.forEach { member, score in
            if isNested { reply.array(2) }
            reply.bulk(member)
            if options.withScores { reply.double(score) }
        }
    }

    private func combine(_ kind: Combination, _ sources: [Source], _ aggregate: Aggregate, _ longest: inout Int) -> SortedIndex {
        let result = SortedIndex(heap)
        var longestMember = 0
        switch kind {
        case .union:
            // The order of adding follows the sizes, as in Redis: sums of doubles depend on it.
            for source in sources.sorted(by: { $0.count < $1.count }) {
                source.forEach { member, score in
                    if let element = result.find(member) {
                        element.score = aggregate(element.score, score)
                    } else {
                        result.members.insert(SortedElement.make(heap, member, score: score).base)
                        longestMember = max(longestMember, member.count)
                    }
                }
            }
            result.members.forEach { result.tree.insert(SortedElement($0)) }
        case .intersection:
            forEachCommon(sources, aggregate) { member, score in
                longestMember = max(longestMember, member.count)
                result.add(member, score)
                return true
            }
        case .difference:
            let others = sources.dropFirst()
            sources[0].forEach { member, score in
                if !others.contains(where: { $0.score(of: member) != nil }) {
                    longestMember = max(longestMember, member.count)
                    result.add(member, score)
                }
            }
        }
        longest = longestMember
        return result
    }

    /// Visits what all sets have, until `visit` says false.
    private func forEachCommon(_ sources: [Source], _ aggregate: Aggregate, _ visit: (Argument, Double) -> Bool) {
        let sorted = sources.sorted { $0.count < $1.count }
        var goesOn = true
        sorted[0].forEach { member, first in
            guard goesOn else { return }
            var score = first
            for other in sorted.dropFirst() {
                guard let found = other.score(of: member) else { return }
                score = aggregate(score, found)
            }
            goesOn = visit(member, score)
        }
    }

    private func zIntersectionCount(_ call: borrowing Call) {
        guard var sources = sources(call, 1) else { return }
        var options = CombineOptions()
        guard combineOptions(
            call, from: 2 + sources.count, .intersection, isStoring: false, isCounting: true, &sources, &options)
        else { return }
        var count = 0
        forEachCommon(sources, .sum) { _, _ in
            count += 1
            return count != options.limit
        }
        call.reply.integer(count)
    }
}
