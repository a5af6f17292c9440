import RESP

/// Lists: elements that go from one to another, and pops from the first that has some.
extension StoreServer {
    static let listMoveCommands: [Command] = [
        Command(
            "LMOVE", arity: 5, flags: [.write, .denyOOM], keys: .firstTwo, categories: [.list], since: "6.2.0",
            syntax: "source:key destination:key wherefrom(LEFT|RIGHT) whereto(LEFT|RIGHT)", access: "RW access delete 1; RW insert 2",
            summary: "Returns an element after popping it from one list and pushing it to another. Deletes the list if the last element was moved."
        ) { call in
            guard let from = call.listEnd(3), let to = call.listEnd(4) else { return }
            call.server.move(call, from: from, to: to)
        },
        Command(
            "RPOPLPUSH", arity: 3, flags: [.write, .denyOOM], keys: .firstTwo, categories: [.list], since: "1.2.0",
            syntax: "source:key destination:key", access: "RW access delete 1; RW insert 2",
            deprecated: ("6.2.0", "`LMOVE` with the `RIGHT` and `LEFT` arguments"),
            summary: "Returns the last element of a list after removing and pushing it to another list. Deletes the list if the last element was popped."
        ) { call in call.server.move(call, from: .tail, to: .head) },
        Command(
            "LMPOP", arity: -4, flags: [.write, .movableKeys], keys: .counted(at: 1), categories: [.list], since: "7.0.0",
            syntax: "numkeys:int key... where(LEFT|RIGHT) [COUNT count:int]", access: "RW access delete",
            complexity: "O(N+M) where N is the number of provided keys and M is the number of elements returned.",
            summary: "Returns multiple elements from a list after removing them. Deletes the list if the last element was popped."
        ) { call in
            guard let request = MultiPop(call, at: 1) else { return }
            if !call.server.popFirst(call, request) { call.reply.nullArray() }
        },
    ]

    private func move(_ call: borrowing Call, from: ListEnd, to: ListEnd) {
        guard let position = lookupForWrite(call.db, call[1]) else { return call.reply.null() }
        let source = Entry(position.element)
        guard source.type == .list else { return call.wrongType() }
        _ = move(call.db, source, call[2], from: from, to: to, call.reply)
    }

    /// Moves an element from a list that exists to one that may not, and replies with it.
    /// - Returns: false after an error reply: the destination is no list.
    func move(_ db: Database, _ source: Entry, _ destinationKey: Argument, from: ListEnd, to: ListEnd, _ reply: ReplyWriter) -> Bool {
        var destination: Entry
        if let position = lookupForWrite(db, destinationKey) {
            destination = Entry(position.element)
            guard destination.type == .list else {
                reply.error("WRONGTYPE Operation against a key holding the wrong kind of value")
                return false
            }
        } else {
            destination = addList(db, destinationKey)
        }
        let limits = ListLimits(configuration.listMaxListpackSize)
        let list = QuickList(source.pointer)
        let other = QuickList(destination.pointer)
        let value = list.outermost(from)
        reply.bulk(value)
        // A copy: the push may move the node that the value lies in.
        value.withText { text in
            withUnsafeTemporaryAllocation(byteCount: max(1, text.count), alignment: 1) { copy in
                copy.copyMemory(from: UnsafeRawBufferPointer(text.buffer))
                let element = Argument(UnsafeRawBufferPointer(rebasing: copy[..<text.count]))
                list.removeOutermost(from)
                if destination.encoding == .listpack { other.noteGrowth(destination, element.count, count: 1, limits) }
                other.push(element, at: to, limits)
            }
        }
        changed(db, destinationKey, .list, to == .head ? "lpush" : "rpush", 0)
        // The entry is freed with its key when the list is deleted.
        withUnsafeTemporaryAllocation(byteCount: max(1, source.key.count), alignment: 1) { copy in
            let count = source.key.count
            copy.copyMemory(from: UnsafeRawBufferPointer(source.key.buffer))
            popped(db, Argument(UnsafeRawBufferPointer(rebasing: copy[..<count])), source, list, from, 1)
        }
        return true
    }

    /// Pops from the first of the keys that holds a list, and replies with its name and the elements.
    /// - Returns: false when there is none and nothing was replied.
    func popFirst(_ call: borrowing Call, _ request: MultiPop) -> Bool {
        for i in request.keys {
            guard let position = lookupForWrite(call.db, call[i]) else { continue }
            let entry = Entry(position.element)
            guard entry.type == .list else {
                call.wrongType()
                return true
            }
            let count = popNamed(call.db, call[i], entry, request.end, request.count, call.reply)
            propagate(as: [StoreServer.popCommand(request.end, call[i], count)])
            return true
        }
        return false
    }

    /// Replies with the key and an array of up to `limit` elements, which are removed.
    /// - Returns: how many.
    func popNamed(_ db: Database, _ key: Argument, _ entry: Entry, _ end: ListEnd, _ limit: Int, _ reply: ReplyWriter) -> Int {
        let list = QuickList(entry.pointer)
        let count = min(limit, list.count)
        reply.array(2)
        reply.bulk(key)
        reply.array(count)
        for _ in 0..<count {
            reply.bulk(list.outermost(end))
            list.removeOutermost(end)
        }
        popped(db, key, entry, list, end, count)
        return count
    }

    /// What replicas are told of a pop: the key is known by then, and whether it was waited for is of no interest.
    static func popCommand(_ end: ListEnd, _ key: Argument, _ count: Int? = nil) -> [[UInt8]] {
        let name = Array((end == .head ? "LPOP" : "RPOP").utf8)
        return count.map { [name, key.bytes, Array(number: Int64($0))] } ?? [name, key.bytes]
    }
}

/// What LMPOP and BLMPOP ask for.
struct MultiPop {
    let keys: Range<Int>
    let end: ListEnd
    var count = 1

    /// - Parameter index: where the number of keys is.
    /// - Returns: nil after an error reply.
    init?(_ call: borrowing Call, at index: Int) {
        guard let keyCount = call[index].integer, keyCount > 0 else {
            call.reply.error("ERR numkeys should be greater than 0")
            return nil
        }
        guard keyCount < Int64(call.count), index + Int(keyCount) + 1 < call.count else {
            call.syntaxError()
            return nil
        }
        let place = index + Int(keyCount) + 1
        keys = index + 1..<place
        guard let end = call.listEnd(place) else { return nil }
        self.end = end
        var i = place + 1
        while i < call.count {
            guard i == place + 1, call[i].isWord("count"), i + 1 < call.count else {
                call.syntaxError()
                return nil
            }
            guard let value = call[i + 1].integer, value > 0 else {
                call.reply.error("ERR count should be greater than 0")
                return nil
            }
            count = Int(value)
            i += 2
        }
    }
}
