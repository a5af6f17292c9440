import Glibc
import RESP

/// SORT, and the longest common subsequence of two strings, and COPY: what works through whole values.
extension StoreServer {
    static let wholeValueCommands: [Command] = [
        Command(
            "SORT", arity: -2, flags: [.write, .denyOOM, .movableKeys], keys: .first, categories: [.set, .sortedSet, .list, .dangerous], since: "1.0.0",
            syntax: "key [BY pattern:pattern#1] [LIMIT offset_count(offset:int count:int)] [GET pattern:pattern#1]... [order(ASC|DESC)] [sorting=ALPHA] [STORE destination:key#2]",
            access: """
                RO access 1; RO access ? (For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the content of the key we sort); \
                OW update ? (For the optional STORE keyword. It is marked 'unknown' because the keyword can appear anywhere in the argument array)
                """, heading: "generic",
            complexity: "O(N+M*log(M)) where N is the number of elements in the list or set to sort, and M the number of returned elements. When the elements are not sorted, complexity is O(N).",
            summary: "Sorts the elements in a list, a set, or a sorted set, optionally storing the result."
        ) { call in call.server.sort(call, mayStore: true) },
        Command(
            "SORT_RO", arity: -2, flags: [.readOnly, .movableKeys], keys: .first, categories: [.set, .sortedSet, .list, .dangerous], since: "7.0.0",
            syntax: "key [BY pattern:pattern#1] [LIMIT offset_count(offset:int count:int)] [GET pattern:pattern#1]... [order(ASC|DESC)] [sorting=ALPHA]",
            access: "RO access 1; RO access ? (For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the content of the key we sort)",
            heading: "generic",
            complexity: "O(N+M*log(M)) where N is the number of elements in the list or set to sort, and M the number of returned elements. When the elements are not sorted, complexity is O(N).",
            summary: "Returns the sorted elements of a list, a set, or a sorted set."
        ) { call in call.server.sort(call, mayStore: false) },
        Command(
            "LCS", arity: -3, flags: [.readOnly], keys: .firstTwo, categories: [.string], since: "7.0.0",
            syntax: "key1:key key2:key#0 [LEN] [IDX] [MINMATCHLEN len:int] [WITHMATCHLEN]",
            complexity: "O(N*M) where N and M are the lengths of s1 and s2, respectively", summary: "Finds the longest common substring."
        ) { call in call.server.longestCommonSubsequence(call) },
        Command(
            "COPY", arity: -3, flags: [.write, .denyOOM], keys: .firstTwo, categories: [.keyspace], since: "6.2.0",
            syntax: "source:key destination:key [DB destination-db:int] [REPLACE]", access: "RO access 1; OW update 2",
            complexity: "O(N) worst case for collections, where N is the number of nested items. O(1) for string values.",
            summary: "Copies the value of a key to a new key."
        ) { call in call.server.copy(call) },
    ]

    // MARK: COPY

    private func copy(_ call: borrowing Call) {
        var target = call.db
        var replaces = false
        var i = 3
        while i < call.count {
            if call[i].isWord("replace") {
                replaces = true
            } else if call[i].isWord("db"), i + 1 < call.count {
                i += 1
                guard let db = databaseIndex(call, i) else { return }
                target = db
            } else {
                return call.syntaxError()
            }
            i += 1
        }
        if target.id == call.db.id, call[1] == call[2] {
            return call.reply.error("ERR source and destination objects are the same")
        }
        guard let entry = lookup(call.db, call[1]), replaces || lookupForWrite(target, call[2]) == nil else {
            return call.reply.integer(0)
        }
        guard hasRoom(for: entry.memoryWithValue(samples: 5)) else { return call.reply.error(StoreServer.outOfSystemMemory) }
        let expiry = entry.hasExpiry ? entry.expiry : nil
        let made = entry.copied(to: call[2], expiry: expiry, clock: call.db.accessClock, heap)
        put(target, made, isNew: true)
        changed(target, call[2], .generic, "copy_to")
        call.reply.integer(1)
    }

    // MARK: SORT

    private struct SortOptions {
        var by: Argument?
        var get: [Argument] = []
        var offset = 0
        var limit = -1
        var isDescending = false
        var isAlphabetic = false
        var store: Argument?

        /// A BY pattern without a star was given: nothing is sorted, whatever other pattern follows.
        var isUnsorted = false
    }

    private struct SortItem {
        let element: [UInt8]
        var weight: Double = 0
        /// What ALPHA compares; nil for a key that is not there.
        var text: [UInt8]?
    }

    private func sort(_ call: borrowing Call, mayStore: Bool) {
        var options = SortOptions()
        var i = 2
        while i < call.count {
            let option = call[i]
            let left = call.count - i - 1
            if option.isWord("asc") {
                options.isDescending = false
            } else if option.isWord("desc") {
                options.isDescending = true
            } else if option.isWord("alpha") {
                options.isAlphabetic = true
            } else if option.isWord("limit"), left >= 2 {
                guard let offset = call.integer(i + 1), let limit = call.integer(i + 2) else { return }
                options.offset = Int(offset)
                options.limit = Int(limit)
                i += 2
            } else if mayStore, option.isWord("store"), left >= 1 {
                options.store = call[i + 1]
                i += 1
            } else if option.isWord("by"), left >= 1 {
                options.by = call[i + 1]
                if memchr(call[i + 1].base, 0x2A, call[i + 1].count) == nil { options.isUnsorted = true }
                i += 1
            } else if option.isWord("get"), left >= 1 {
                options.get.append(call[i + 1])
                i += 1
            } else {
                return call.syntaxError()
            }
            i += 1
        }
        let entry = lookup(call.db, call[1])
        if let entry, [.string, .hash, .stream].contains(entry.type) { return call.wrongType() }
        if let entry, entry.type == .sortedSet {
            // Redis makes it a large one here, and OBJECT ENCODING tells.
            var set = SortedSet(entry)
            set.enlarge(heap)
            set.store(in: entry)
        }
        // A set has no order of its own, so that storing it unsorted would not be the same on replicas.
        let sortsAnyway = entry?.type == .set && options.isUnsorted && options.store != nil
        if sortsAnyway { options.isAlphabetic = true }
        var items = elements(of: entry, reversed: options.isUnsorted && options.isDescending).map { SortItem(element: $0) }
        if sortsAnyway || !options.isUnsorted {
            guard weigh(&items, options, by: sortsAnyway ? nil : options.by, call.db) else {
                return call.reply.error("ERR One or more scores can't be converted into double")
            }
            arrange(&items, options, byPattern: options.by != nil && !sortsAnyway)
        }
        deliver(call, slice(items, options), options)
    }

    private func elements(of entry: Entry?, reversed: Bool) -> [[UInt8]] {
        guard let entry else { return [] }
        var result: [[UInt8]] = []
        func take(_ value: ListpackValue) { result.append(value.withText { $0.bytes }) }
        switch entry.type {
        case .list:
            QuickList(entry.pointer).forEach(take)
            if reversed { result.reverse() }
        case .set: StoredSet(entry).forEach(take)
        case .sortedSet:
            let set = SortedSet(entry)
            set.forEach(from: 0, count: set.count, reversed: reversed) { member, _ in result.append(member.bytes) }
        case .string, .hash, .stream: break
        }
        return result
    }

    /// Looks up what the elements are compared by.
    /// - Returns: whether all of it could be read.
    private func weigh(_ items: inout [SortItem], _ options: SortOptions, by pattern: Argument?, _ db: Database) -> Bool {
        for i in items.indices {
            let text = pattern.map { value(of: $0, for: items[i].element, db) } ?? items[i].element
            if options.isAlphabetic {
                items[i].text = text
            } else if let text {
                guard let weight = text.withUnsafeBytes({ Argument($0).sortWeight }) else { return false }
                items[i].weight = weight
            }
        }
        return true
    }

    private func arrange(_ items: inout [SortItem], _ options: SortOptions, byPattern: Bool) {
        func compare(_ a: [UInt8], _ b: [UInt8]) -> Int {
            let common = memcmp(a, b, min(a.count, b.count))
            return common != 0 ? Int(common) : a.count - b.count
        }
        func order(_ a: SortItem, _ b: SortItem) -> Int {
            guard options.isAlphabetic else {
                if a.weight != b.weight { return a.weight < b.weight ? -1 : 1 }
                return compare(a.element, b.element)
            }
            switch (a.text, b.text) {
            case (nil, nil): return 0
            case (nil, _): return -1
            case (_, nil): return 1
            case (let x?, let y?): return compare(x, y)
            }
        }
        items.sort { options.isDescending ? order($0, $1) > 0 : order($0, $1) < 0 }
    }

    private func slice(_ items: [SortItem], _ options: SortOptions) -> ArraySlice<SortItem> {
        let first = min(max(0, options.offset), items.count)
        guard options.limit >= 0 else { return items[first...] }
        return items[first..<min(items.count, first + min(options.limit, items.count))]
    }

    private func deliver(_ call: borrowing Call, _ items: ArraySlice<SortItem>, _ options: SortOptions) {
        let patterns = options.get.isEmpty ? [Argument("#")] : options.get
        var values: [[UInt8]?] = []
        for item in items {
            for pattern in patterns { values.append(pattern == Argument("#") ? item.element : value(of: pattern, for: item.element, call.db)) }
        }
        guard let store = options.store else {
            call.reply.array(values.count)
            for value in values {
                if let value { call.reply.bulk(value) } else { call.reply.null() }
            }
            return
        }
        if values.isEmpty {
            delete(call.db, store)
            return call.reply.integer(0)
        }
        let list = QuickList.make(heap)
        let limits = ListLimits(configuration.listMaxListpackSize)
        let made = Entry.make(heap, store, .list, .listpack, expiry: nil, clock: call.db.accessClock, pointer: list.pointer)
        list.noteGrowth(made, values.reduce(0) { $0 + ($1?.count ?? 0) }, count: values.count, limits)
        for value in values { (value ?? []).withUnsafeBytes { list.push(Argument($0), at: .tail, limits) } }
        put(call.db, made)
        changed(call.db, store, .list, "sortstore", Int64(values.count))
        call.reply.integer(values.count)
    }

    /// The value of the key that a pattern means for an element: its first star stands for the element, `->` names a field.
    private func value(of pattern: Argument, for element: [UInt8], _ db: Database) -> [UInt8]? {
        let bytes = pattern.bytes
        guard let star = bytes.firstIndex(of: 0x2A) else { return nil }
        var key = bytes
        var field: [UInt8]?
        if let arrow = bytes.indices.dropLast(2).first(where: { $0 > star && bytes[$0] == 0x2D && bytes[$0 + 1] == 0x3E }) {
            field = Array(bytes[(arrow + 2)...])
            key = Array(bytes[..<arrow])
        }
        key.replaceSubrange(star...star, with: element)
        return key.withUnsafeBytes { name in
            guard let entry = lookup(db, Argument(name)) else { return nil }
            if let field {
                guard entry.type == .hash else { return nil }
                return field.withUnsafeBytes { StoredHash(entry).find(Argument($0))?.withText { $0.bytes } }
            }
            guard entry.type == .string else { return nil }
            return withUnsafeTemporaryAllocation(byteCount: 24, alignment: 8) { entry.string($0.baseAddress!).bytes }
        }
    }

    // MARK: LCS

    private func longestCommonSubsequence(_ call: borrowing Call) {
        var strings: [[UInt8]] = []
        // Both are looked up before the type of either is: one of them may expire by it.
        for entry in [lookup(call.db, call[1]), lookup(call.db, call[2])] {
            guard let entry else {
                strings.append([])
                continue
            }
            guard entry.type == .string else { return call.reply.error("ERR The specified keys must contain string values") }
            strings.append(withUnsafeTemporaryAllocation(byteCount: 24, alignment: 8) { entry.string($0.baseAddress!).bytes })
        }
        var wantsLength = false
        var wantsIndexes = false
        var wantsMatchLength = false
        var shortest: Int64 = 0
        var i = 3
        while i < call.count {
            if call[i].isWord("idx") {
                wantsIndexes = true
            } else if call[i].isWord("len") {
                wantsLength = true
            } else if call[i].isWord("withmatchlen") {
                wantsMatchLength = true
            } else if call[i].isWord("minmatchlen"), i + 1 < call.count {
                i += 1
                guard let value = call.integer(i) else { return }
                shortest = max(0, value)
            } else {
                return call.syntaxError()
            }
            i += 1
        }
        if wantsLength, wantsIndexes {
            return call.reply.error("ERR If you want both the length and indexes, please just use IDX.")
        }
        let a = strings[0]
        let b = strings[1]
        let (cells, overflow) = (a.count + 1).multipliedReportingOverflow(by: b.count + 1)
        guard !overflow, cells < 1 << 28 else {
            return call.reply.error("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
        }
        // lengths[i * width + j] is the length for the first i bytes of a and the first j of b.
        let width = b.count + 1
        var lengths = [UInt32](repeating: 0, count: cells)
        for i in 0..<a.count {
            for j in 0..<b.count {
                lengths[(i + 1) * width + j + 1] = a[i] == b[j]
                    ? lengths[i * width + j] + 1 : max(lengths[i * width + j + 1], lengths[(i + 1) * width + j])
            }
        }
        let length = Int(lengths[cells - 1])
        if wantsLength { return call.reply.integer(length) }
        var common: [UInt8] = []
        var matches: [(a: Range<Int>, b: Range<Int>)] = []
        var x = a.count
        var y = b.count
        var open: (a: Range<Int>, b: Range<Int>)?
        while x > 0, y > 0 {
            if a[x - 1] == b[y - 1] {
                common.append(a[x - 1])
                if let run = open, run.a.lowerBound == x, run.b.lowerBound == y {
                    open = (x - 1..<run.a.upperBound, y - 1..<run.b.upperBound)
                } else {
                    if let run = open { matches.append(run) }
                    open = (x - 1..<x, y - 1..<y)
                }
                x -= 1
                y -= 1
            } else if lengths[(x - 1) * width + y] > lengths[x * width + y - 1] {
                x -= 1
            } else {
                y -= 1
            }
        }
        if let open { matches.append(open) }
        guard wantsIndexes else { return call.reply.bulk(Array(common.reversed())) }
        let shown = matches.filter { $0.a.count >= shortest }
        call.reply.map(2)
        call.reply.bulk("matches")
        call.reply.array(shown.count)
        for match in shown {
            call.reply.array(wantsMatchLength ? 3 : 2)
            for range in [match.a, match.b] {
                call.reply.array(2)
                call.reply.integer(range.lowerBound)
                call.reply.integer(range.upperBound - 1)
            }
            if wantsMatchLength { call.reply.integer(match.a.count) }
        }
        call.reply.bulk("len")
        call.reply.integer(length)
    }
}
