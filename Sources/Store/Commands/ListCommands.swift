import RESP

/// Lists. What goes from one to another is in `ListCommands+Move.swift`, those that wait in `ListCommands+Blocking.swift`.
extension StoreServer {
    static let listCommands: [Command] = listEndCommands + listElementCommands + listMoveCommands + blockingListCommands

    private static let listEndCommands: [Command] = [
        Command(
            "LPUSH", arity: -3, flags: [.write, .denyOOM, .fast], keys: .first, categories: [.list], since: "1.0.0",
            syntax: "key element...", access: "RW insert",
            complexity: pushComplexity, summary: "Prepends one or more elements to a list. Creates the key if it doesn't exist."
        ) { call in call.server.push(call, at: .head, onlyExisting: false) },
        Command(
            "RPUSH", arity: -3, flags: [.write, .denyOOM, .fast], keys: .first, categories: [.list], since: "1.0.0",
            syntax: "key element...", access: "RW insert",
            complexity: pushComplexity, summary: "Appends one or more elements to a list. Creates the key if it doesn't exist."
        ) { call in call.server.push(call, at: .tail, onlyExisting: false) },
        Command(
            "LPUSHX", arity: -3, flags: [.write, .denyOOM, .fast], keys: .first, categories: [.list], since: "2.2.0",
            syntax: "key element...", access: "RW insert",
            complexity: pushComplexity, summary: "Prepends one or more elements to a list only when the list exists."
        ) { call in call.server.push(call, at: .head, onlyExisting: true) },
        Command(
            "RPUSHX", arity: -3, flags: [.write, .denyOOM, .fast], keys: .first, categories: [.list], since: "2.2.0",
            syntax: "key element...", access: "RW insert",
            complexity: pushComplexity, summary: "Appends an element to a list only when the list exists."
        ) { call in call.server.push(call, at: .tail, onlyExisting: true) },
        Command(
            "LPOP", arity: -2, flags: [.write, .fast], keys: .first, categories: [.list], since: "1.0.0",
            syntax: "key [count:int]@6.2.0", access: "RW access delete",
            complexity: "O(N) where N is the number of elements returned",
            summary: "Returns the first elements in a list after removing it. Deletes the list if the last element was popped."
        ) { call in call.server.pop(call, from: .head) },
        Command(
            "RPOP", arity: -2, flags: [.write, .fast], keys: .first, categories: [.list], since: "1.0.0",
            syntax: "key [count:int]@6.2.0", access: "RW access delete",
            complexity: "O(N) where N is the number of elements returned",
            summary: "Returns and removes the last elements of a list. Deletes the list if the last element was popped."
        ) { call in call.server.pop(call, from: .tail) },
        Command(
            "LLEN", arity: 2, flags: [.readOnly, .fast], keys: .first, categories: [.list], since: "1.0.0",
            syntax: "key", access: "RO",
            summary: "Returns the length of a list."
        ) { call in
            guard let entry = call.server.lookup(call.db, call[1]) else { return call.reply.integer(0) }
            guard entry.type == .list else { return call.wrongType() }
            call.reply.integer(QuickList(entry.pointer).count)
        },
    ]

    private static let pushComplexity: StaticString =
        "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments."

    private static let listElementCommands: [Command] = [
        Command(
            "LINDEX", arity: 3, flags: [.readOnly], keys: .first, categories: [.list], since: "1.0.0",
            syntax: "key index:int",
            complexity: "O(N) where N is the number of elements to traverse to get to the element at index. This makes asking for the first or the last element of the list O(1).",
            summary: "Returns an element from a list by its index."
        ) { call in
            guard let entry = call.server.lookup(call.db, call[1]) else { return call.reply.null() }
            guard entry.type == .list else { return call.wrongType() }
            guard let index = call.integer(2) else { return }
            guard let found = QuickList(entry.pointer).position(Int(index)) else { return call.reply.null() }
            call.reply.bulk(found.value)
        },
        Command(
            "LSET", arity: 4, flags: [.write, .denyOOM], keys: .first, categories: [.list], since: "1.0.0",
            syntax: "key index:int element", access: "RW update",
            complexity: "O(N) where N is the length of the list. Setting either the first or the last element of the list is O(1).",
            summary: "Sets the value of an element in a list by its index."
        ) { call in call.server.setElement(call) },
        Command(
            "LRANGE", arity: 4, flags: [.readOnly], keys: .first, categories: [.list], since: "1.0.0",
            syntax: "key start:int stop:int",
            complexity: "O(S+N) where S is the distance of start offset from HEAD for small lists, from nearest end (HEAD or TAIL) for large lists; and N is the number of elements in the specified range.",
            summary: "Returns a range of elements from a list."
        ) { call in call.server.listRange(call) },
        Command(
            "LTRIM", arity: 4, flags: [.write], keys: .first, categories: [.list], since: "1.0.0",
            syntax: "key start:int stop:int", access: "RW delete",
            complexity: "O(N) where N is the number of elements to be removed by the operation.",
            summary: "Removes elements from both ends a list. Deletes the list if all elements were trimmed."
        ) { call in call.server.trim(call) },
        Command(
            "LINSERT", arity: 5, flags: [.write, .denyOOM], keys: .first, categories: [.list], since: "2.2.0",
            syntax: "key where(BEFORE|AFTER) pivot element", access: "RW insert",
            complexity: "O(N) where N is the number of elements to traverse before seeing the value pivot. This means that inserting somewhere on the left end on the list (head) can be considered O(1) and inserting somewhere on the right end (tail) is O(N).",
            summary: "Inserts an element before or after another element in a list."
        ) { call in call.server.insertElement(call) },
        Command(
            "LREM", arity: 4, flags: [.write], keys: .first, categories: [.list], since: "1.0.0",
            syntax: "key count:int element", access: "RW delete",
            complexity: "O(N+M) where N is the length of the list and M is the number of elements removed.",
            summary: "Removes elements from a list. Deletes the list if the last element was removed."
        ) { call in call.server.removeElements(call) },
        Command(
            "LPOS", arity: -3, flags: [.readOnly], keys: .first, categories: [.list], since: "6.0.6",
            syntax: "key element [RANK rank:int] [COUNT num-matches:int] [MAXLEN len:int]",
            complexity: "O(N) where N is the number of elements in the list, for the average case. When searching for elements near the head or the tail of the list, or when the MAXLEN option is provided, the command may run in constant time.",
            summary: "Returns the index of matching elements in a list."
        ) { call in call.server.findElements(call) },
    ]

    // MARK: the ends

    private func push(_ call: borrowing Call, at end: ListEnd, onlyExisting: Bool) {
        let key = call[1]
        let entry: Entry
        if let position = lookupForWrite(call.db, key) {
            entry = Entry(position.element)
            guard entry.type == .list else { return call.wrongType() }
        } else {
            if onlyExisting { return call.reply.integer(0) }
            entry = addList(call.db, key)
        }
        let list = QuickList(entry.pointer)
        let limits = ListLimits(configuration.listMaxListpackSize)
        if entry.encoding == .listpack {
            var size = 0
            for i in 2..<call.count { size &+= call[i].count }
            list.noteGrowth(entry, size, count: call.count &- 2, limits)
        }
        for i in 2..<call.count { list.push(call[i], at: end, limits) }
        call.reply.integer(list.count)
        changed(call.db, key, .list, end == .head ? "lpush" : "rpush", Int64(call.count &- 2))
    }

    /// Adds an empty list, which the caller fills.
    func addList(_ db: Database, _ key: Argument) -> Entry {
        let entry = Entry.make(heap, key, .list, .listpack, expiry: nil, clock: db.accessClock, pointer: QuickList.make(heap).pointer)
        created(db, key)
        db.add(entry)
        keyReady(db, key)
        return entry
    }

    private func pop(_ call: borrowing Call, from end: ListEnd) {
        if call.count > 3 { return call.wrongArity() }
        var wanted = 1
        if call.count == 3 {
            guard let value = call[2].integer, value >= 0 else {
                return call.reply.error("ERR value is out of range, must be positive")
            }
            wanted = Int(value)
        }
        guard let position = lookupForWrite(call.db, call[1]) else {
            return call.count == 3 ? call.reply.nullArray() : call.reply.null()
        }
        let entry = Entry(position.element)
        guard entry.type == .list else { return call.wrongType() }
        let list = QuickList(entry.pointer)
        if call.count == 3 {
            if wanted == 0 { return call.reply.array(0) }
            wanted = min(wanted, list.count)
            call.reply.array(wanted)
        }
        for _ in 0..<wanted {
            call.reply.bulk(list.outermost(end))
            list.removeOutermost(end)
        }
        popped(call.db, call[1], entry, list, end, wanted)
    }

    /// Says what a pop has changed, and deletes the list when it has become empty.
    @inline(__always)
    func popped(_ db: Database, _ key: Argument, _ entry: Entry, _ list: QuickList, _ end: ListEnd, _ count: Int) {
        changed(db, key, .list, end == .head ? "lpop" : "rpop", Int64(count))
        if list.count == 0 {
            deleteEmptied(db, key)
        } else if entry.encoding == .quicklist {
            list.noteDecline(entry, ListLimits(configuration.listMaxListpackSize))
        }
    }

    // MARK: elements

    private func setElement(_ call: borrowing Call) {
        guard let position = lookupForWrite(call.db, call[1]) else { return call.noSuchKey() }
        let entry = Entry(position.element)
        guard entry.type == .list else { return call.wrongType() }
        guard let index = call.integer(2) else { return }
        let list = QuickList(entry.pointer)
        guard list.position(Int(index)) != nil else { return call.outOfRange() }
        let limits = ListLimits(configuration.listMaxListpackSize)
        if entry.encoding == .listpack { list.noteGrowth(entry, call[3].count, count: 1, limits) }
        list.replace(at: Int(index), with: call[3], limits)
        if entry.encoding == .quicklist { list.noteDecline(entry, limits) }
        changed(call.db, call[1], .list, "lset")
        call.reply.ok()
    }

    private func listRange(_ call: borrowing Call) {
        guard let start = call.integer(2), let end = call.integer(3) else { return }
        guard let entry = lookup(call.db, call[1]) else { return call.reply.array(0) }
        guard entry.type == .list else { return call.wrongType() }
        let list = QuickList(entry.pointer)
        guard let range = IndexRange(start, end, count: list.count) else { return call.reply.array(0) }
        call.reply.array(range.count)
        let reply = ReplyWriter(call.reply.out, isRESP3: false)
        list.forEach(from: range.first, count: range.count) { reply.bulk($0) }
    }

    private func trim(_ call: borrowing Call) {
        guard let start = call.integer(2), let end = call.integer(3) else { return }
        let key = call[1]
        guard let position = lookupForWrite(call.db, key) else { return call.reply.ok() }
        let entry = Entry(position.element)
        guard entry.type == .list else { return call.wrongType() }
        let list = QuickList(entry.pointer)
        let before = list.count
        if let range = IndexRange(start, end, count: before) {
            list.removeRange(from: range.first + range.count, count: before - range.first - range.count)
            list.removeRange(from: 0, count: range.first)
        } else {
            list.removeRange(from: 0, count: before)
        }
        changed(call.db, key, .list, "ltrim", Int64(before - list.count))
        if list.count == 0 {
            deleteEmptied(call.db, key)
        } else if entry.encoding == .quicklist {
            list.noteDecline(entry, ListLimits(configuration.listMaxListpackSize))
        }
        call.reply.ok()
    }

    private func insertElement(_ call: borrowing Call) {
        let isAfter = call[2].isWord("after")
        guard isAfter || call[2].isWord("before") else { return call.syntaxError() }
        guard let position = lookupForWrite(call.db, call[1]) else { return call.reply.integer(0) }
        let entry = Entry(position.element)
        guard entry.type == .list else { return call.wrongType() }
        let list = QuickList(entry.pointer)
        let limits = ListLimits(configuration.listMaxListpackSize)
        let pivot = call[3]
        let number = pivot.integer
        var place = list.position(.head)
        while let here = place, !here.value.equals(pivot, number: number) { place = here.next }
        guard let place else { return call.reply.integer(-1) }
        if entry.encoding == .listpack { list.noteGrowth(entry, call[4].count, count: 1, limits) }
        list.insert(call[4], at: place, after: isAfter, limits)
        changed(call.db, call[1], .list, "linsert")
        call.reply.integer(list.count)
    }

    private func removeElements(_ call: borrowing Call) {
        guard let limit = call.symmetricLong(2) else { return }
        let key = call[1]
        guard let position = lookupForWrite(call.db, key) else { return call.reply.integer(0) }
        let entry = Entry(position.element)
        guard entry.type == .list else { return call.wrongType() }
        let list = QuickList(entry.pointer)
        let limits = ListLimits(configuration.listMaxListpackSize)
        let removed = list.removeAll(call[3], limit: limit, limits)
        if removed > 0 {
            changed(call.db, key, .list, "lrem", Int64(removed))
            if list.count == 0 {
                deleteEmptied(call.db, key)
            } else if entry.encoding == .quicklist {
                list.noteDecline(entry, limits)
            }
        }
        call.reply.integer(removed)
    }

    private func findElements(_ call: borrowing Call) {
        var rank = 1
        var wanted: Int?
        var maxLength = 0
        var i = 3
        while i < call.count {
            guard i + 1 < call.count else { return call.syntaxError() }
            if call[i].isWord("rank") {
                guard let value = call.symmetricLong(i + 1) else { return }
                guard value != 0 else {
                    return call.reply.error("ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list")
                }
                rank = value
            } else if call[i].isWord("count") {
                guard let value = call[i + 1].integer, value >= 0 else { return call.reply.error("ERR COUNT can't be negative") }
                wanted = Int(value)
            } else if call[i].isWord("maxlen") {
                guard let value = call[i + 1].integer, value >= 0 else { return call.reply.error("ERR MAXLEN can't be negative") }
                maxLength = Int(value)
            } else {
                return call.syntaxError()
            }
            i += 2
        }
        guard let entry = lookup(call.db, call[1]) else { return wanted == nil ? call.reply.null() : call.reply.array(0) }
        guard entry.type == .list else { return call.wrongType() }
        let list = QuickList(entry.pointer)
        let element = call[2]
        let number = element.integer
        let isBackwards = rank < 0
        var toSkip = rank.magnitude - 1
        let limit = wanted == nil ? 1 : wanted == 0 ? .max : wanted!
        var found: [Int] = []
        var compared = 0
        var place = list.position(isBackwards ? .tail : .head)
        while let here = place, found.count < limit, maxLength == 0 || compared < maxLength {
            if here.value.equals(element, number: number) {
                if toSkip > 0 { toSkip -= 1 } else { found.append(isBackwards ? list.count - 1 - compared : compared) }
            }
            compared += 1
            place = isBackwards ? here.previous : here.next
        }
        if wanted == nil { return found.isEmpty ? call.reply.null() : call.reply.integer(found[0]) }
        call.reply.array(found.count)
        for index in found { call.reply.integer(index) }
    }
}

/// The elements that a pair of indices means, counted from the end when negative.
struct IndexRange {
    let first: Int
    let count: Int

    /// - Returns: nil when there are none.
    @inline(__always)
    init?(_ start: Int64, _ end: Int64, count total: Int) {
        let total = Int64(total)
        let first = start < 0 ? max(0, start &+ total) : start
        let last = min(end < 0 ? end &+ total : end, total &- 1)
        guard first <= last else { return nil }
        self.first = Int(first)
        count = Int(last &- first) &+ 1
    }
}

extension Call {
    /// Argument `index` as LEFT or RIGHT; replies with an error when it is neither.
    func listEnd(_ index: Int) -> ListEnd? {
        if self[index].isWord("left") { return .head }
        if self[index].isWord("right") { return .tail }
        syntaxError()
        return nil
    }

    /// Argument `index` as a whole number whose negative can be told too; replies with an error when it is none.
    func symmetricLong(_ index: Int) -> Int? {
        guard let value = integer(index) else { return nil }
        guard value != .min else {
            reply.error("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807")
            return nil
        }
        return Int(value)
    }
}

/// The name that Redis has for a list: `listpack` as long as it fits one, `quicklist` afterwards, and `listpack` again when it has
/// shrunk to half of that.
extension QuickList {
    /// To be called before elements are added to a list of encoding listpack.
    @inline(__always)
    func noteGrowth(_ entry: Entry, _ addedBytes: Int, count addedCount: Int, _ limits: ListLimits) {
        if let size = listpackSize, size &+ addedBytes <= limits.packedMax, !limits.isByCount || count &+ addedCount <= limits.count {
            return
        }
        entry.setEncoding(.list, .quicklist)
    }

    /// To be called after elements were removed from a list of encoding quicklist.
    @inline(__always)
    func noteDecline(_ entry: Entry, _ limits: ListLimits) {
        guard state.pointee.nodes == 1, let size = listpackSize, size <= limits.packedMax / 2,
            !limits.isByCount || count <= limits.count / 2
        else { return }
        entry.setEncoding(.list, .listpack)
    }
}
