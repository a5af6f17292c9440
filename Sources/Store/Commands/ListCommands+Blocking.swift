import RESP

/// Lists: commands that wait for an element when there is none.
///
/// Whoever waited longest is served first. Replicas are told of the pop that took place, after the push that made it possible.
extension StoreServer {
    static let blockingListCommands: [Command] = [
        Command(
            "BLPOP", arity: -3, flags: [.write, .blocking], keys: .allButLast, categories: [.list], since: "2.0.0",
            syntax: "key... timeout:double", access: "RW access delete",
            complexity: "O(N) where N is the number of provided keys.",
            summary: "Removes and returns the first element in a list. Blocks until an element is available otherwise. Deletes the list if the last element was popped."
        ) { call in call.server.blockingPop(call, from: .head) },
        Command(
            "BRPOP", arity: -3, flags: [.write, .blocking], keys: .allButLast, categories: [.list], since: "2.0.0",
            syntax: "key... timeout:double", access: "RW access delete",
            complexity: "O(N) where N is the number of provided keys.",
            summary: "Removes and returns the last element in a list. Blocks until an element is available otherwise. Deletes the list if the last element was popped."
        ) { call in call.server.blockingPop(call, from: .tail) },
        Command(
            "BRPOPLPUSH", arity: 4, flags: [.write, .denyOOM, .blocking], keys: .firstTwo, categories: [.list], since: "2.2.0",
            syntax: "source:key destination:key timeout:double", access: "RW access delete 1; RW insert 2",
            deprecated: ("6.2.0", "`BLMOVE` with the `RIGHT` and `LEFT` arguments"),
            summary: "Pops an element from a list, pushes it to another list and returns it. Block until an element is available otherwise. Deletes the list if the last element was popped."
        ) { call in
            guard let timeout = call.server.blockingTimeout(call, call[3]) else { return }
            call.server.blockingMove(call, from: .tail, to: .head, timeout) { [Array("RPOPLPUSH".utf8), $0, $1] }
        },
        Command(
            "BLMOVE", arity: 6, flags: [.write, .denyOOM, .blocking], keys: .firstTwo, categories: [.list], since: "6.2.0",
            syntax: "source:key destination:key wherefrom(LEFT|RIGHT) whereto(LEFT|RIGHT) timeout:double", access: "RW access delete 1; RW insert 2",
            summary: "Pops an element from a list, pushes it to another list and returns it. Blocks until an element is available otherwise. Deletes the list if the last element was moved."
        ) { call in
            guard let from = call.listEnd(3), let to = call.listEnd(4),
                let timeout = call.server.blockingTimeout(call, call[5])
            else { return }
            let (fromWord, toWord) = (call[3].bytes, call[4].bytes)
            call.server.blockingMove(call, from: from, to: to, timeout) { [Array("LMOVE".utf8), $0, $1, fromWord, toWord] }
        },
        Command(
            "BLMPOP", arity: -5, flags: [.write, .blocking, .movableKeys], keys: .counted(at: 2), categories: [.list], since: "7.0.0",
            syntax: "timeout:double numkeys:int key... where(LEFT|RIGHT) [COUNT count:int]", access: "RW access delete",
            complexity: "O(N+M) where N is the number of provided keys and M is the number of elements returned.",
            summary: "Pops the first element from one of multiple lists. Blocks until an element is available otherwise. Deletes the list if the last element was popped."
        ) { call in call.server.blockingMultiPop(call) },
    ]

    private func blockingPop(_ call: borrowing Call, from end: ListEnd) {
        guard let timeout = blockingTimeout(call, call[call.count - 1]) else { return }
        for i in 1..<call.count - 1 {
            guard let position = lookupForWrite(call.db, call[i]) else { continue }
            let entry = Entry(position.element)
            guard entry.type == .list else { return call.wrongType() }
            popPair(call.db, call[i], entry, end, call.reply)
            return propagate(as: [StoreServer.popCommand(end, call[i])])
        }
        let keys = (1..<call.count - 1).map { [arguments = call.arguments] in arguments[$0] }
        block(call.client, on: keys, timeout: timeout) { [unowned self] client, db, key in
            guard let entry = listForWaiting(db, key) else { return false }
            popPair(db, key, entry, end, client.reply)
            pass(on: StoreServer.popCommand(end, key), of: client, db)
            return true
        } timedOut: { client in
            client.reply.nullArray()
        }
    }

    /// Replies with the key and its outermost element, which is removed.
    private func popPair(_ db: Database, _ key: Argument, _ entry: Entry, _ end: ListEnd, _ reply: ReplyWriter) {
        let list = QuickList(entry.pointer)
        reply.array(2)
        reply.bulk(key)
        reply.bulk(list.outermost(end))
        list.removeOutermost(end)
        popped(db, key, entry, list, end, 1)
    }

    private func blockingMultiPop(_ call: borrowing Call) {
        guard let request = MultiPop(call, at: 2), let timeout = blockingTimeout(call, call[1]) else { return }
        if popFirst(call, request) { return }
        let keys = request.keys.map { [arguments = call.arguments] in arguments[$0] }
        block(call.client, on: keys, timeout: timeout) { [unowned self] client, db, key in
            guard let entry = listForWaiting(db, key) else { return false }
            let count = popNamed(db, key, entry, request.end, request.count, client.reply)
            pass(on: StoreServer.popCommand(request.end, key, count), of: client, db)
            return true
        } timedOut: { client in
            client.reply.nullArray()
        }
    }

    /// - Parameter command: what replicas are told, of source and destination.
    private func blockingMove(
        _ call: borrowing Call, from: ListEnd, to: ListEnd, _ timeout: Int64,
        _ command: @escaping (_ source: [UInt8], _ destination: [UInt8]) -> [[UInt8]]
    ) {
        if let position = lookupForWrite(call.db, call[1]) {
            let source = Entry(position.element)
            guard source.type == .list else { return call.wrongType() }
            if move(call.db, source, call[2], from: from, to: to, call.reply) {
                propagate(as: [command(call[1].bytes, call[2].bytes)])
            }
            return
        }
        // In a transaction the reply is not that of a time-out.
        if executionDepth > 0 { return call.reply.null() }
        let destination = call[2].bytes
        block(call.client, on: [call[1]], timeout: timeout) { [unowned self] client, db, key in
            // A destination that is being moved elsewhere would take the element with it: when it is over the client's turn comes.
            guard !destination.withUnsafeBytes({ isMigrating(Argument($0)) }), let source = listForWaiting(db, key) else { return false }
            let isMoved = destination.withUnsafeBytes { move(db, source, Argument($0), from: from, to: to, client.reply) }
            if isMoved { pass(on: command(key.bytes, destination), of: client, db) }
            return true
        } timedOut: { client in
            client.reply.nullArray()
        }
    }

    /// The list that a waiting client can be served from.
    private func listForWaiting(_ db: Database, _ key: Argument) -> Entry? {
        guard let position = lookupForWrite(db, key) else { return nil }
        let entry = Entry(position.element)
        return entry.type == .list ? entry : nil
    }

    /// Tells replicas what a client that has waited has done.
    func pass(on command: [[UInt8]], of client: Client, _ db: Database) { pass(on: [command], of: client, db) }

    func pass(on commands: [[[UInt8]]], of client: Client, _ db: Database) {
        feed(db, commands)
        client.lastWriteOffset = replication.offset
    }
}
