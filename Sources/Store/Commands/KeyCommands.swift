import Glibc
import RESP

/// Keys of any type: existence, expiry, names.
extension StoreServer {
    static let keyCommands: [Command] = [
        Command(
            "DEL", arity: -2, flags: [.write], keys: .all, categories: [.keyspace], since: "1.0.0",
            syntax: "key...", access: "RM delete", tips: "request_policy:multi_shard response_policy:agg_sum",
            complexity: "O(N) where N is the number of keys that will be removed.", summary: "Deletes one or more keys."
        ) { call in call.reply.integer(call.server.deleteAll(call)) },
        Command(
            "UNLINK", arity: -2, flags: [.write, .fast], keys: .all, categories: [.keyspace], since: "4.0.0",
            syntax: "key...", access: "RM delete", tips: "request_policy:multi_shard response_policy:agg_sum",
            complexity: "O(1) for each key removed regardless of its size.", summary: "Asynchronously deletes one or more keys."
        ) { call in call.reply.integer(call.server.deleteAll(call)) },
        Command(
            "EXISTS", arity: -2, flags: [.readOnly, .fast], keys: .all, categories: [.keyspace], since: "1.0.0",
            syntax: "key...", access: "RO", tips: "request_policy:multi_shard response_policy:agg_sum",
            complexity: "O(N) where N is the number of keys to check.", summary: "Determines whether one or more keys exist."
        ) { call in
            var found = 0
            for i in 1..<call.count where call.server.lookup(call.db, call[i], touches: false) != nil { found += 1 }
            call.reply.integer(found)
        },
        Command(
            "TOUCH", arity: -2, flags: [.readOnly, .fast], keys: .all, categories: [.keyspace], since: "3.2.1",
            syntax: "key...", access: "RO", tips: "request_policy:multi_shard response_policy:agg_sum",
            complexity: "O(N) where N is the number of keys that will be touched.",
            summary: "Returns the number of existing keys out of those specified after updating the time they were last accessed."
        ) { call in
            var found = 0
            for i in 1..<call.count {
                guard let entry = call.server.lookup(call.db, call[i], touches: false) else { continue }
                // What it is for, so not even CLIENT NO-TOUCH keeps it from that.
                let isHeld = call.server.clock.use.pointee.isHeld
                if isHeld { call.server.clock.use.pointee.isHeld = false }
                call.db.touch(entry)
                if isHeld { call.server.clock.use.pointee.isHeld = true }
                found += 1
            }
            call.reply.integer(found)
        },
        Command(
            "TYPE", arity: 2, flags: [.readOnly, .fast], keys: .first, categories: [.keyspace], since: "1.0.0",
            syntax: "key", access: "RO",
            summary: "Determines the type of value stored at a key."
        ) { call in
            guard let entry = call.server.lookup(call.db, call[1], touches: false) else { return call.reply.simple("none") }
            call.reply.simple(entry.type.name)
        },
        Command(
            "EXPIRE", arity: -3, flags: [.write, .fast], keys: .first, categories: [.keyspace], since: "1.0.0",
            syntax: "key seconds:int [condition(NX|XX|GT|LT)]@7.0.0", access: "RW update",
            summary: "Sets the expiration time of a key in seconds."
        ) { call in call.server.expire(call, .seconds) },
        Command(
            "PEXPIRE", arity: -3, flags: [.write, .fast], keys: .first, categories: [.keyspace], since: "2.6.0",
            syntax: "key milliseconds:int [condition(NX|XX|GT|LT)]@7.0.0", access: "RW update",
            summary: "Sets the expiration time of a key in milliseconds."
        ) { call in call.server.expire(call, .milliseconds) },
        Command(
            "EXPIREAT", arity: -3, flags: [.write, .fast], keys: .first, categories: [.keyspace], since: "1.2.0",
            syntax: "key unix-time-seconds:time [condition(NX|XX|GT|LT)]@7.0.0", access: "RW update",
            summary: "Sets the expiration time of a key to a Unix timestamp."
        ) { call in call.server.expire(call, .secondsAbsolute) },
        Command(
            "PEXPIREAT", arity: -3, flags: [.write, .fast], keys: .first, categories: [.keyspace], since: "2.6.0",
            syntax: "key unix-time-milliseconds:time [condition(NX|XX|GT|LT)]@7.0.0", access: "RW update",
            summary: "Sets the expiration time of a key to a Unix milliseconds timestamp."
        ) { call in call.server.expire(call, .millisecondsAbsolute) },
        Command(
            "TTL", arity: 2, flags: [.readOnly, .fast], keys: .first, categories: [.keyspace], since: "1.0.0",
            syntax: "key", tips: "nondeterministic_output",
            summary: "Returns the expiration time in seconds of a key."
        ) { call in call.server.timeToLive(call, isAbsolute: false, inSeconds: true) },
        Command(
            "PTTL", arity: 2, flags: [.readOnly, .fast], keys: .first, categories: [.keyspace], since: "2.6.0",
            syntax: "key", tips: "nondeterministic_output",
            summary: "Returns the expiration time in milliseconds of a key."
        ) { call in call.server.timeToLive(call, isAbsolute: false, inSeconds: false) },
        Command(
            "EXPIRETIME", arity: 2, flags: [.readOnly, .fast], keys: .first, categories: [.keyspace], since: "7.0.0",
            syntax: "key",
            summary: "Returns the expiration time of a key as a Unix timestamp."
        ) { call in call.server.timeToLive(call, isAbsolute: true, inSeconds: true) },
        Command(
            "PEXPIRETIME", arity: 2, flags: [.readOnly, .fast], keys: .first, categories: [.keyspace], since: "7.0.0",
            syntax: "key",
            summary: "Returns the expiration time of a key as a Unix milliseconds timestamp."
        ) { call in call.server.timeToLive(call, isAbsolute: true, inSeconds: false) },
        Command(
            "PERSIST", arity: 2, flags: [.write, .fast], keys: .first, categories: [.keyspace], since: "2.2.0",
            syntax: "key", access: "RW update",
            summary: "Removes the expiration time of a key."
        ) { call in
            guard let position = call.server.lookupForWrite(call.db, call[1]), Entry(position.element).hasExpiry else {
                return call.reply.integer(0)
            }
            call.db.setExpiry(position, nil)
            call.server.changed(call.db, call[1], .generic, "persist")
            call.reply.integer(1)
        },
        Command(
            "RENAME", arity: 3, flags: [.write], keys: .firstTwo, categories: [.keyspace], since: "1.0.0",
            syntax: "key newkey:key", access: "RW access delete 1; OW update 2",
            summary: "Renames a key and overwrites the destination."
        ) { call in call.server.rename(call, onlyNew: false) },
        Command(
            "RENAMENX", arity: 3, flags: [.write, .fast], keys: .firstTwo, categories: [.keyspace], since: "1.0.0",
            syntax: "key newkey:key", access: "RW access delete 1; OW insert 2",
            summary: "Renames a key only when the target key name doesn't exist."
        ) { call in call.server.rename(call, onlyNew: true) },
        Command(
            "KEYS", arity: 2, flags: [.readOnly], categories: [.keyspace, .dangerous], since: "1.0.0",
            syntax: "pattern:pattern", tips: "request_policy:all_shards nondeterministic_output_order",
            complexity: "O(N) with N being the number of keys in the database, under the assumption that the key names in the database and the given pattern have limited length.",
            summary: "Returns all key names that match a pattern."
        ) { call in
            var names: [Argument] = []
            let pattern = call[1]
            let now = call.db.now
            let isForAll = pattern == Argument("*")
            call.db.entries.forEach { element in
                let entry = Entry(element)
                if !(entry.hasExpiry && entry.expiry <= now), isForAll || Glob.matches(pattern, entry.key) { names.append(entry.key) }
            }
            call.reply.array(names.count)
            for name in names { call.reply.bulk(name) }
        },
        Command(
            "SCAN", arity: -2, flags: [.readOnly], categories: [.keyspace], since: "2.8.0",
            syntax: "cursor:int [MATCH pattern:pattern] [COUNT count:int] [TYPE type]@6.0.0", tips: "nondeterministic_output request_policy:special",
            complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.",
            summary: "Iterates over the key names in the database."
        ) { call in call.server.scan(call) },
        Command(
            "RANDOMKEY", arity: 1, flags: [.readOnly], categories: [.keyspace], since: "1.0.0",
            tips: "request_policy:all_shards nondeterministic_output",
            summary: "Returns a random key name from the database."
        ) { call in
            for _ in 0..<100 {
                guard let element = call.db.entries.random(using: &call.server.random) else { break }
                let entry = Entry(element)
                if call.server.lookup(call.db, entry.key, touches: false) != nil { return call.reply.bulk(entry.key) }
            }
            call.reply.null()
        },
        Command(
            "DBSIZE", arity: 1, flags: [.readOnly, .fast], categories: [.keyspace], since: "1.0.0",
            tips: "request_policy:all_shards response_policy:agg_sum", heading: "server",
            summary: "Returns the number of keys in the database."
        ) { call in call.reply.integer(call.db.count) },
        Command(
            "FLUSHDB", arity: -1, flags: [.write], categories: [.keyspace, .dangerous], since: "1.0.0",
            syntax: "[async(ASYNC@4.0.0|SYNC@6.2.0)]", tips: "request_policy:all_shards response_policy:all_succeeded", heading: "server",
            complexity: "O(N) where N is the number of keys in the selected database", summary: "Removes all keys from the current database."
        ) { call in call.server.flush(call, all: false) },
        Command(
            "FLUSHALL", arity: -1, flags: [.write], categories: [.keyspace, .dangerous], since: "1.0.0",
            syntax: "[async(ASYNC@4.0.0|SYNC@6.2.0)]", tips: "request_policy:all_shards response_policy:all_succeeded", heading: "server",
            complexity: "O(N) where N is the total number of keys in all databases", summary: "Removes all keys from all databases."
        ) { call in call.server.flush(call, all: true) },
        Command(
            "MOVE", arity: 3, flags: [.write, .fast], keys: .first, categories: [.keyspace], since: "1.0.0",
            syntax: "key db:int", access: "RW access update",
            summary: "Moves a key to another database."
        ) { call in call.server.move(call) },
        Command(
            "SWAPDB", arity: 3, flags: [.write, .fast], categories: [.keyspace, .dangerous], since: "4.0.0",
            syntax: "index1:int index2:int", heading: "server",
            complexity: "O(N) where N is the count of clients watching or blocking on keys from both databases.",
            summary: "Swaps two Redis databases."
        ) { call in call.server.swapDatabases(call) },
    ]

    private func deleteAll(_ call: borrowing Call) -> Int {
        var removed = 0
        for i in 1..<call.count where delete(call.db, call[i]) { removed += 1 }
        return removed
    }

    private func expire(_ call: borrowing Call, _ unit: ExpiryUnit) {
        let key = call[1]
        var onlyNone = false
        var onlySome = false
        var onlyGreater = false
        var onlyLess = false
        for i in 3..<max(3, call.count) {
            let option = call[i]
            if option.isWord("nx") { onlyNone = true } else if option.isWord("xx") { onlySome = true }
            else if option.isWord("gt") { onlyGreater = true } else if option.isWord("lt") { onlyLess = true }
            else { return call.error("ERR Unsupported option ", option) }
        }
        if onlyNone, onlySome || onlyGreater || onlyLess {
            return call.reply.error("ERR NX and XX, GT or LT options at the same time are not compatible")
        }
        if onlyGreater, onlyLess { return call.reply.error("ERR GT and LT options at the same time are not compatible") }
        guard let value = call.integer(2) else { return }
        guard let expiry = expiryMoment(value, unit, call.db.now) else {
            return call.reply.error("ERR invalid expire time in '\(call.slot.pointee.fullName)' command")
        }
        guard let position = lookupForWrite(call.db, key) else { return call.reply.integer(0) }
        let entry = Entry(position.element)
        let old = entry.hasExpiry ? entry.expiry : nil
        // No expiry counts as an infinite one.
        if (onlyNone && old != nil) || (onlySome && old == nil) || (onlyGreater && (old == nil || expiry <= old!))
            || (onlyLess && old != nil && expiry >= old!) {
            return call.reply.integer(0)
        }
        if expiry <= call.db.now, !isApplyingMasterStream {
            call.db.remove(at: position)
            changed(call.db, key, .generic, "del")
            propagate(as: [[Array("DEL".utf8), key.bytes]])
        } else {
            call.db.setExpiry(position, expiry)
            changed(call.db, key, .generic, "expire")
            if unit != .millisecondsAbsolute || call.count > 3 {
                propagate(as: [[Array("PEXPIREAT".utf8), key.bytes, Array(number: expiry)]])
            }
        }
        call.reply.integer(1)
    }

    private func timeToLive(_ call: borrowing Call, isAbsolute: Bool, inSeconds: Bool) {
        guard let entry = lookup(call.db, call[1], touches: false) else { return call.reply.integer(-2) }
        guard entry.hasExpiry else { return call.reply.integer(-1) }
        let time = max(0, isAbsolute ? entry.expiry : entry.expiry &- call.db.now)
        call.reply.integer(inSeconds ? Int64((UInt64(time) + 500) / 1000) : time)
    }

    private func rename(_ call: borrowing Call, onlyNew: Bool) {
        let from = call[1]
        let to = call[2]
        guard let position = lookupForWrite(call.db, from) else { return call.noSuchKey() }
        if from == to { return onlyNew ? call.reply.integer(0) : call.reply.ok() }
        if lookupForWrite(call.db, to) != nil {
            if onlyNew { return call.reply.integer(0) }
            _ = call.db.remove(to)
        }
        let old = call.db.take(at: call.db.find(from) ?? position)
        put(call.db, old.renamed(to))
        changed(call.db, from, .generic, "rename_from")
        changed(call.db, to, .generic, "rename_to", 0)
        onlyNew ? call.reply.integer(1) : call.reply.ok()
    }

    private func scan(_ call: borrowing Call) {
        guard let cursor = call[1].scanCursor else { return call.reply.error("ERR invalid cursor") }
        guard let options = ScanOptions(call, from: 2, allowsType: true) else { return }
        let now = call.db.now
        var names: [Argument] = []
        var dead: [[UInt8]] = []
        var next = cursor
        var rounds = options.rounds
        var seen = 0
        repeat {
            next = call.db.entries.scan(next) { element in
                seen += 1
                let entry = Entry(element)
                if let pattern = options.pattern, !Glob.matches(pattern, entry.key) { return }
                if entry.hasExpiry, entry.expiry <= now {
                    dead.append(entry.key.bytes)
                    return
                }
                if let type = options.type, type != "\(entry.type.name)" { return }
                names.append(entry.key)
            }
            rounds -= 1
        } while next != 0 && seen < options.count && rounds > 0
        call.reply.array(2)
        call.reply.bulk(String(next))
        call.reply.array(names.count)
        for name in names { call.reply.bulk(name) }
        // On a replica the master's keys stay until it says that they go.
        if replication.isReplica { dead.removeAll() }
        for key in dead { _ = key.withUnsafeBytes { lookupForWrite(call.db, Argument($0)) } }
    }

    private func flush(_ call: borrowing Call, all: Bool) {
        if call.count > 2 || (call.count == 2 && !call[1].isWord("sync") && !call[1].isWord("async")) {
            return call.syntaxError()
        }
        for db in databases where all || db.id == call.db.id {
            dirty += Int64(db.count)
            empty(db)
        }
        if all, !gate.contains(.loading) { persistence.dataWasFlushed() }
        // Passed on although there was nothing, or although the snapshot of nothing that was just taken left no change uncounted.
        propagation.isForced = true
        call.reply.ok()
    }

    /// Removes everything from a database.
    func empty(_ db: Database) {
        touchAllWatched(db)
        db.removeAll()
    }

    /// The database whose number is argument `index`.
    /// - Returns: nil after an error reply.
    func databaseIndex(_ call: borrowing Call, _ index: Int) -> Database? {
        guard let id = call.integer(index) else { return nil }
        guard Int32(exactly: id) != nil else {
            call.reply.error("ERR value is out of range, value must between -2147483648 and 2147483647")
            return nil
        }
        guard id >= 0, id < databases.count else {
            call.reply.error("ERR DB index is out of range")
            return nil
        }
        return databases[Int(id)]
    }

    private func move(_ call: borrowing Call) {
        guard let target = databaseIndex(call, 2) else { return }
        if target.id == call.db.id { return call.reply.error("ERR source and destination objects are the same") }
        guard let position = lookupForWrite(call.db, call[1]), lookupForWrite(target, call[1]) == nil else {
            return call.reply.integer(0)
        }
        let entry = call.db.take(at: position)
        put(target, entry)
        changed(call.db, call[1], .generic, "move_from")
        changed(target, call[1], .generic, "move_to", 0)
        call.reply.integer(1)
    }

    private func swapDatabases(_ call: borrowing Call) {
        // Both must be numbers before either must be one of a database.
        for (index, error) in [(1, "ERR invalid first DB index"), (2, "ERR invalid second DB index")] as [(Int, StaticString)] {
            guard let id = call[index].integer, Int32(exactly: id) != nil else { return call.reply.error(error) }
        }
        guard let first = databaseIndex(call, 1), let second = databaseIndex(call, 2) else { return }
        if first.id == second.id {
            dirty += 1
            return call.reply.ok()
        }
        touchAllWatched(first, replacedBy: second)
        touchAllWatched(second, replacedBy: first)
        first.swapContents(with: second)
        for db in [first, second] {
            for name in blocking.waiting.keys where name.db == db.id {
                name.key.withUnsafeBytes { key in
                    if db.find(Argument(key)) != nil { signalReady(db, Argument(key)) }
                }
            }
        }
        dirty += 1
        call.reply.ok()
    }
}

/// The options that SCAN and its relatives share.
struct ScanOptions {
    var count = 10
    var pattern: Argument?
    var type: String?
    var noValues = false
    /// Empty buckets are passed over, but no more than that many.
    var rounds: Int { min(count, 1 << 40) * 10 }

    /// - Returns: nil after an error reply.
    init?(_ call: borrowing Call, from first: Int, allowsType: Bool = false, allowsNoValues: Bool = false) {
        var i = first
        while i < call.count {
            let hasNext = i + 1 < call.count
            if call[i].isWord("count"), hasNext {
                guard let value = call.integer(i + 1) else { return nil }
                guard value >= 1 else {
                    call.syntaxError()
                    return nil
                }
                count = Int(value)
                i += 2
            } else if call[i].isWord("match"), hasNext {
                pattern = call[i + 1] == Argument("*") ? nil : call[i + 1]
                i += 2
            } else if allowsType, call[i].isWord("type"), hasNext {
                type = call[i + 1].lowercased
                i += 2
            } else if allowsNoValues, call[i].isWord("novalues") {
                noValues = true
                i += 1
            } else {
                call.syntaxError()
                return nil
            }
        }
    }
}

extension Argument {
    /// A cursor of SCAN, as strtoul(3) reads it: a sign may stand before it, nothing at all is 0, and the text ends with a zero byte.
    var scanCursor: UInt64? {
        var index = 0
        if index < count, self[index] == 0x2D || self[index] == 0x2B { index = 1 }
        var value: UInt64 = 0
        while index < count, self[index] != 0 {
            let digit = self[index] &- 48
            let (product, overflow) = value.multipliedReportingOverflow(by: 10)
            guard digit <= 9, !overflow else { return nil }
            let (sum, carry) = product.addingReportingOverflow(UInt64(digit))
            if carry { return nil }
            value = sum
            index += 1
        }
        // A sign alone is no number, so that what strtoul did not read is the sign.
        if count > 0, index == 1, self[0] == 0x2D || self[0] == 0x2B { return nil }
        return self[0, default: 0] == 0x2D ? 0 &- value : value
    }

    private subscript(index: Int, default value: UInt8) -> UInt8 { index < count ? self[index] : value }
}

extension Entry {
    /// The same value under another name; the old block is gone.
    func renamed(_ key: Argument) -> Entry {
        let size = valueSize
        let made = Entry.make(heap, key, type, encoding, expiry: hasExpiry ? expiry : nil, clock: clock, valueSize: size)
        memcpy(made.valueBase, valueBase, size)
        free()
        return made
    }
}

extension Database {
    /// Exchanges the contents; numbers, watchers and blocked clients stay where they are.
    func swapContents(with other: Database) {
        let mine = state.pointee
        let theirs = other.state.pointee
        state.initialize(to: State(
            id: mine.id, entries: theirs.entries, expiring: theirs.expiring, watchedKeys: mine.watchedKeys,
            blockedKeys: mine.blockedKeys, heap: mine.heap, clock: mine.clock))
        other.state.initialize(to: State(
            id: theirs.id, entries: mine.entries, expiring: mine.expiring, watchedKeys: theirs.watchedKeys,
            blockedKeys: theirs.blockedKeys, heap: theirs.heap, clock: theirs.clock))
    }
}
