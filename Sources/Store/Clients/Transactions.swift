import Glibc
import RESP

/// Commands queued between MULTI and EXEC.
final class Transaction {
    struct Queued {
        let slot: UnsafeMutablePointer<CommandTable.Slot>
        let arguments: [[UInt8]]
    }
    var queued: [Queued] = []
    /// What the arguments take.
    private(set) var bytes = 0
    /// A command was refused while queueing: EXEC will be refused.
    var isFlagged = false

    func append(_ slot: UnsafeMutablePointer<CommandTable.Slot>, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) {
        for i in 0..<count { bytes += arguments[i].count + 32 }
        queued.append(Queued(slot: slot, arguments: (0..<count).map { arguments[$0].bytes }))
    }
}

/// A key in one database, as watchers and blocked clients name it.
struct DatabaseKey: Hashable {
    let db: Int
    let key: [UInt8]
}

/// What one client watches.
final class WatchedKeys {
    var keys: [DatabaseKey] = []
    /// Those whose time was over already: that they go is no change.
    var expired: Set<DatabaseKey> = []
    /// One of them was changed.
    var isDirty = false
}

/// Who watches which key.
struct WatchTable {
    var watchers: [DatabaseKey: [Client]] = [:]
}

extension StoreServer {
    static let transactionCommands: [Command] = [
        Command(
            "MULTI", arity: 1, flags: [.noScript, .loading, .stale, .fast, .allowBusy], categories: [.transaction],
            since: "1.2.0", summary: "Starts a transaction."
        ) { call in
            if call.client.transaction != nil { return call.reply.error("ERR MULTI calls can not be nested") }
            call.client.transaction = Transaction()
            call.client.gate.insert(.inTransaction)
            call.reply.ok()
        },
        Command(
            "DISCARD", arity: 1, flags: [.noScript, .loading, .stale, .fast, .allowBusy], categories: [.transaction],
            since: "2.0.0", complexity: "O(N), when N is the number of queued commands", summary: "Discards a transaction."
        ) { call in
            guard call.client.transaction != nil else { return call.reply.error("ERR DISCARD without MULTI") }
            call.server.endTransaction(call.client)
            call.reply.ok()
        },
        Command(
            "EXEC", arity: 1, flags: [.noScript, .loading, .stale, .skipSlowLog], categories: [.transaction],
            since: "1.2.0", complexity: "Depends on commands in the transaction", summary: "Executes all commands in a transaction."
        ) { call in call.server.executeTransaction(call.client) },
        Command(
            "WATCH", arity: -2, flags: [.noScript, .loading, .stale, .fast, .allowBusy], keys: .all, categories: [.transaction],
            since: "2.2.0",
            syntax: "key...", access: "RO",
            complexity: "O(1) for every key.",
            summary: "Monitors changes to keys to determine the execution of a transaction."
        ) { call in
            if call.client.transaction != nil { return call.reply.error("ERR WATCH inside MULTI is not allowed") }
            for i in 1..<call.count { call.server.watch(call.client, call.db, call[i]) }
            call.reply.ok()
        },
        Command(
            "UNWATCH", arity: 1, flags: [.noScript, .loading, .stale, .fast, .allowBusy], categories: [.transaction],
            since: "2.2.0", summary: "Forgets about watched keys of a transaction."
        ) { call in
            call.server.unwatch(call.client)
            call.reply.ok()
        },
    ]

    func endTransaction(_ client: Client) {
        client.transaction = nil
        client.gate.remove(.inTransaction)
        unwatch(client)
    }

    func executeTransaction(_ client: Client) {
        guard let transaction = client.transaction else { return client.reply.error("ERR EXEC without MULTI") }
        let isDirty = client.watched.map { watched in watched.isDirty || watched.keys.contains { !watched.expired.contains($0) && isExpired($0) } } ?? false
        endTransaction(client)
        if transaction.isFlagged {
            client.reply.error("EXECABORT Transaction discarded because of previous errors.")
            return
        }
        if isDirty { return client.reply.nullArray() }
        if gate.contains(.replica), configuration.isReplicaReadOnly, !client.isMaster,
            transaction.queued.contains(where: { $0.slot.pointee.command.flags.contains(.write) }) {
            client.reply.error("EXECABORT Transaction discarded because of: READONLY You can't write against a read only replica.")
            return
        }
        client.reply.array(transaction.queued.count)
        executionDepth += 1
        let db = client.db
        for queued in transaction.queued {
            withArguments(queued.arguments) { run(client, queued.slot, $0, $1) }
        }
        executionDepth -= 1
        if executionDepth == 0 { closePropagatedTransaction(db) }
        // The commands were passed on one by one, and EXEC behind them.
        propagateNothing()
        client.lastWriteOffset = replication.offset
    }

    /// Whether a watched key's time is over though nobody has looked at it since: that counts as a change.
    private func isExpired(_ name: DatabaseKey) -> Bool {
        name.key.withUnsafeBytes { key in
            guard let position = databases[name.db].find(Argument(key)) else { return false }
            let entry = Entry(position.element)
            return entry.hasExpiry && entry.expiry <= loop.wallMilliseconds
        }
    }

    func watch(_ client: Client, _ db: Database, _ key: Argument) {
        let name = DatabaseKey(db: db.id, key: key.bytes)
        if client.watched == nil { client.watched = WatchedKeys() }
        guard !client.watched!.keys.contains(name) else { return }
        client.watched!.keys.append(name)
        if isExpired(name) { client.watched!.expired.insert(name) }
        watches.watchers[name, default: []].append(client)
        db.state.pointee.watchedKeys += 1
    }

    func unwatch(_ client: Client) {
        guard let watched = client.watched else { return }
        for name in watched.keys {
            databases[name.db].state.pointee.watchedKeys -= 1
            watches.watchers[name]?.removeAll { $0 === client }
            if watches.watchers[name]?.isEmpty == true { watches.watchers[name] = nil }
        }
        client.watched = nil
    }

    /// A key was changed where somebody watches keys, or `reply-after-replicas` has to know of every change.
    @inline(never)
    func touchWatched(_ db: Database, _ key: Argument) {
        if gate.contains(.confirming), !gate.contains(.loading) { confirmation.changed(db, key) }
        if !watches.watchers.isEmpty { touchWatchers(db, key) }
    }

    func touchWatchers(_ db: Database, _ key: Argument) {
        let name = DatabaseKey(db: db.id, key: key.bytes)
        for client in watches.watchers[name] ?? [] {
            if client.watched?.expired.remove(name) != nil, db.find(key) == nil { continue }
            client.watched?.isDirty = true
        }
    }

    /// A database is about to lose its contents, or to get another's: watched keys that are in either will have changed.
    func touchAllWatched(_ db: Database, replacedBy other: Database? = nil) {
        signalChanged(db)
        guard db.state.pointee.watchedKeys > 0 else { return }
        if gate.contains(.confirming), !gate.contains(.loading) { confirmation.changedAll(db) }
        for (name, clients) in watches.watchers where name.db == db.id {
            let changes = name.key.withUnsafeBytes { key in
                db.find(Argument(key)) != nil || other?.find(Argument(key)) != nil
            }
            guard changes else { continue }
            for client in clients {
                let wasOver = client.watched?.expired.remove(name) != nil
                if wasOver, name.key.withUnsafeBytes({ other?.find(Argument($0)) }) == nil { continue }
                client.watched?.isDirty = true
            }
        }
    }
}
