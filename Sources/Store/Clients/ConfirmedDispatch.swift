import Reactor
import RESP

/// Commands while `reply-after-replicas` is set: what each has changed, and what its reply shows. `Confirmation` does the rest.
extension StoreServer {
    /// Runs a command, and lets its reply wait if it is a write, or shows a key whose last write is not confirmed.
    @inline(never)
    func runConfirming(_ client: Client, _ slot: UnsafeMutablePointer<CommandTable.Slot>, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) {
        let confirmation = confirmation.unsafelyUnwrapped
        let before = confirmation.changeCount
        let start = client.connection.outputPosition
        let db = client.db
        let transaction = client.transaction != nil && slot.pointee.name.isWord("exec") ? client.transaction : nil
        let watched = transaction == nil ? nil : client.watched
        run(client, slot, arguments, count)
        let hasChanged = confirmation.changeCount > before
        guard gate.contains(.confirming) else {
            // It was this command that ended it.
            confirmation.forgetChanges()
            if !replication.isReplica { return confirmation.settleMessages(at: 0) }
            confirmation.dropMessages()
            if hasChanged { confirmation.replaceLast(client, from: start, isWrite: true) }
            return
        }
        if confirmation.hasChanges { confirmation.settleChanges(at: replication.offset) }
        var offset: Int64 = 0
        var isWrite = false
        if hasChanged {
            offset = replication.offset
            isWrite = slot.pointee.command.flags.contains(.write) || transaction != nil
        } else if confirmation.isBehind {
            offset = transaction.map { offsetOfReads($0, watched, in: db) } ?? offsetOfRead(slot, arguments, count, in: db)
        }
        // What is said by a client that waits may be about what it has written.
        if confirmation.messages.hasCollected { confirmation.settleMessages(at: max(offset, client.confirmationOffset)) }
        // The links to our replicas and to our master carry what replies wait for.
        guard offset > confirmation.confirmed, client.gate.isDisjoint(with: [.replica, .master]) else { return }
        confirmation.hold(client, from: start, until: offset, isWrite: isWrite)
    }

    /// Runs a command on a master that was demoted with writes unconfirmed: a reply that would show one of them becomes an error.
    @inline(never)
    func runDoubting(_ client: Client, _ slot: UnsafeMutablePointer<CommandTable.Slot>, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) {
        let start = client.connection.outputPosition
        let db = client.db
        let transaction = client.transaction != nil && slot.pointee.name.isWord("exec") ? client.transaction : nil
        run(client, slot, arguments, count)
        guard gate.contains(.doubtful), client.gate.isDisjoint(with: [.replica, .master]) else { return }
        let offset = transaction.map { offsetOfReads($0, nil, in: db) } ?? offsetOfRead(slot, arguments, count, in: db)
        if offset > confirmation.confirmed { confirmation.replaceLast(client, from: start, isWrite: false) }
    }

    /// Where the last write ends of what a command has read that has changed nothing.
    private func offsetOfRead(
        _ slot: UnsafeMutablePointer<CommandTable.Slot>, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int, in db: Database
    ) -> Int64 {
        let confirmation = confirmation.unsafelyUnwrapped
        let flags = slot.pointee.command.flags
        let keys = slot.pointee.command.keys
        guard !flags.isDisjoint(with: [.readOnly, .write]) else {
            return isDebugging(slot, arguments, count) ? confirmation.last : 0
        }
        // KEYS, SCAN, DBSIZE ... have none and see all.
        if keys.first == 0 { return slot.pointee.command.categories.contains(.keyspace) ? confirmation.last : 0 }
        if seesMoreThanItsKeys(slot, arguments, count) { return confirmation.last }
        var most: Int64 = 0
        func look(_ index: Int) { if index < count { most = max(most, confirmation.offset(of: arguments[index], db)) } }
        if keys.first < 0, keys.step == 0 {
            // Behind the word STREAMS: keys, and as many IDs.
            guard let word = (-keys.first..<count).first(where: { arguments[$0].isWord("streams") }) else { return 0 }
            for index in word + 1..<word + 1 + (count - word - 1) / 2 { look(index) }
        } else if keys.first < 0 {
            let at = -keys.first
            // A number that is wrong has been answered with an error.
            guard at < count, let number = arguments[at].integer, number > 0, number < Int64(count - at) else { return 0 }
            if keys.last == 1 { look(1) }
            for index in at + 1...at + Int(number) { look(index) }
        } else {
            let end = keys.last < 0 ? count + keys.last : keys.last
            var index = keys.first
            while index <= end {
                look(index)
                index += keys.step
            }
        }
        return most
    }

    /// Commands whose reply may depend on keys that are no arguments of theirs, or on another database.
    private func seesMoreThanItsKeys(_ slot: UnsafeMutablePointer<CommandTable.Slot>, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) -> Bool {
        let name = slot.pointee.name
        if slot.pointee.command.flags.contains(.movableKeys), slot.pointee.command.keys.first > 0 {
            // SORT alone sees what it sorts.
            guard name.isWord("sort") || name.isWord("sort_ro") else { return true }
            return (2..<max(2, count)).contains { arguments[$0].isWord("by") || arguments[$0].isWord("get") }
        }
        guard slot.pointee.command.flags.contains(.write) else { return false }
        return name.isWord("move") || (name.isWord("copy") && count > 3)
    }

    /// DEBUG's looks at data.
    private func isDebugging(_ slot: UnsafeMutablePointer<CommandTable.Slot>, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) -> Bool {
        guard count > 1, slot.pointee.name.isWord("debug") else { return false }
        return arguments[1].isWord("digest") || arguments[1].isWord("digest-value") || arguments[1].isWord("object")
    }

    /// The same for a transaction that has changed nothing: what its commands read, and what it watched, for that it was not executed
    /// shows that somebody wrote.
    private func offsetOfReads(_ transaction: Transaction, _ watched: WatchedKeys?, in db: Database) -> Int64 {
        var db = db
        var most = watched.map { confirmation.offset(of: $0.keys) } ?? 0
        for queued in transaction.queued {
            withArguments(queued.arguments) { arguments, count in
                if queued.slot.pointee.name.isWord("select") {
                    if let id = arguments[1].integer, id >= 0, id < Int64(databases.count) { db = databases[Int(id)] }
                } else {
                    most = max(most, offsetOfRead(queued.slot, arguments, count, in: db))
                }
            }
        }
        return most
    }

    /// Answers a client that has waited for keys in vain: there is nothing in them, and that too may not be confirmed.
    func replyTimedOut(_ client: Client, _ state: BlockedState) {
        let start = client.connection.outputPosition
        state.timedOut(client)
        guard gate.contains(.confirming), case .keys(let names) = state.reason else { return }
        confirmation.hold(client, from: start, until: confirmation.offset(of: names), isWrite: false)
    }
}
