import Glibc
import RESP
import Reactor

/// Snapshots on demand, and single values in the snapshot's format.
extension StoreServer {
    static let persistenceCommands: [Command] = [
        Command(
            "SAVE", arity: 1, flags: [.admin, .noScript, .noAsyncLoading, .noMulti], since: "1.0.0",
            complexity: "O(N) where N is the total number of keys in all databases", summary: "Synchronously saves the database(s) to disk."
        ) { call in
            if call.server.hasSnapshotChild { return call.reply.error("ERR Background save already in progress") }
            // 7.2 says no more than this; the log has the reason.
            if call.server.persistence.saveAsAsked() != nil { return call.reply.error("ERR") }
            call.reply.ok()
        },
        Command(
            "BGSAVE", arity: -1, flags: [.admin, .noScript, .noAsyncLoading], since: "1.0.0",
            syntax: "[SCHEDULE]@3.2.2",
            summary: "Asynchronously saves the database(s) to disk."
        ) { call in call.server.backgroundSave(call) },
        Command(
            "BGREWRITEAOF", arity: 1, flags: [.admin, .noScript, .noAsyncLoading], since: "1.0.0",
            summary: "Asynchronously rewrites the append-only file to disk."
        ) { call in call.server.rewriteAppendOnlyFile(call.reply) },
        Command(
            "LASTSAVE", arity: 1, flags: [.loading, .stale, .fast], categories: [.admin, .dangerous], since: "1.0.0",
            tips: "nondeterministic_output",
            summary: "Returns the Unix timestamp of the last successful save to disk."
        ) { call in call.reply.integer(call.server.persistence.lastSave) },
        Command(
            "DUMP", arity: 2, flags: [.readOnly], keys: .first, categories: [.keyspace], since: "2.6.0",
            syntax: "key", tips: "nondeterministic_output",
            complexity: "O(1) to access the key and additional O(N*M) to serialize it, where N is the number of Redis objects composing the value and M their average size. For small string values the time complexity is thus O(1)+O(1*M) where M is small, so simply O(1).",
            summary: "Returns a serialized representation of the value stored at a key."
        ) { call in
            guard let entry = call.server.lookup(call.db, call[1]) else { return call.reply.null() }
            call.reply.bulk(ValueDump.make(entry, compresses: call.server.configuration.compressesSnapshots))
        },
        Command(
            "RESTORE", arity: -4, flags: [.write, .denyOOM], keys: .first, categories: [.keyspace, .dangerous], since: "2.6.0",
            syntax: "key ttl:int serialized-value [REPLACE]@3.0.0 [ABSTTL]@5.0.0 [IDLETIME seconds:int]@5.0.0 [FREQ frequency:int]@5.0.0",
            access: "OW update",
            complexity: "O(1) to create the new key and additional O(N*M) to reconstruct the serialized value, where N is the number of Redis objects composing the value and M their average size. For small string values the time complexity is thus O(1)+O(1*M) where M is small, so simply O(1). However for sorted set values the complexity is O(N*M*log(N)) because inserting values into sorted sets is O(log(N)).",
            summary: "Creates a key from the serialized representation of a value."
        ) { call in call.server.restore(call) },
    ]

    private func backgroundSave(_ call: borrowing Call) {
        let isScheduling = call.count == 2 && call[1].isWord("schedule")
        if call.count > 1, !isScheduling { return call.syntaxError() }
        if hasSnapshotChild { return call.reply.error("ERR Background save already in progress") }
        if executionDepth > 0 || hasWritingChild {
            // In a transaction the data set is between two states that belong together.
            guard executionDepth > 0 || isScheduling else {
                return call.reply.error("ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to schedule a BGSAVE whenever possible.")
            }
            persistence.schedule()
            return call.reply.simple("Background saving scheduled")
        }
        if persistence.startBackgroundSave() != nil { return call.reply.error("ERR") }
        call.reply.simple("Background saving started")
    }

    private func rewriteAppendOnlyFile(_ reply: ReplyWriter) {
        if appendOnlyFile.rewrite.isRunning { return reply.error("ERR Background append only file rewriting already in progress") }
        if hasWritingChild || executionDepth > 0 {
            appendOnlyFile.scheduleRewrite()
            return reply.simple("Background append only file rewriting scheduled")
        }
        if appendOnlyFile.startRewrite() != nil {
            return reply.error("ERR Can't execute an AOF background rewriting. Please check the server logs for more information.")
        }
        reply.simple("Background append only file rewriting started")
    }

    private func restore(_ call: borrowing Call) {
        var replaces = false
        var isAbsolute = false
        var idle: Int64?
        var frequency: UInt8?
        var i = 4
        while i < call.count {
            if call[i].isWord("replace") {
                replaces = true
            } else if call[i].isWord("absttl") {
                isAbsolute = true
            } else if call[i].isWord("idletime"), i + 1 < call.count, frequency == nil {
                i += 1
                guard let value = call.integer(i) else { return }
                if value < 0 { return call.reply.error("ERR Invalid IDLETIME value, must be >= 0") }
                idle = value
            } else if call[i].isWord("freq"), i + 1 < call.count, idle == nil {
                i += 1
                guard let value = call.integer(i) else { return }
                guard let value = UInt8(exactly: value) else { return call.reply.error("ERR Invalid FREQ value, must be >= 0 and <= 255") }
                frequency = value
            } else {
                return call.syntaxError()
            }
            i += 1
        }
        let key = call[1]
        let position = lookupForWrite(call.db, key)
        if position != nil, !replaces { return call.reply.error("BUSYKEY Target key name already exists.") }
        guard let time = call.integer(2) else { return }
        if time < 0 { return call.reply.error("ERR Invalid TTL value, must be >= 0") }
        let (moment, overflow) = isAbsolute ? (time, false) : time.addingReportingOverflow(call.db.now)
        if overflow { return call.reply.error("ERR Invalid TTL value, must be >= 0") }
        let expiry = time == 0 ? nil : moment
        switch ValueDump.read(call[3], key, expiry: expiry, server: self) {
        case .damaged: return call.reply.error("ERR DUMP payload version or checksum are wrong")
        case .unreadable: return call.reply.error("ERR Bad data format")
        case .entry(let entry):
            if let expiry, expiry <= call.db.now, !isApplyingMasterStream {
                // Over before it began.
                entry.freeValue()
                entry.free()
                if position != nil {
                    delete(call.db, key)
                    propagate(as: [[Array("DEL".utf8), key.bytes]])
                }
                return call.reply.ok()
            }
            entry.clock = clock.clock(idle: idle, frequency: frequency)
            put(call.db, entry, isNew: true)
            changed(call.db, key, .generic, "restore")
            if expiry != nil, !isAbsolute {
                var command = [Array("RESTORE".utf8), key.bytes, Array(number: moment), call[3].bytes, Array("REPLACE".utf8), Array("ABSTTL".utf8)]
                if let idle { command += [Array("IDLETIME".utf8), Array(number: idle)] }
                if let frequency { command += [Array("FREQ".utf8), Array(number: Int64(frequency))] }
                propagate(as: [command])
            }
            call.reply.ok()
        }
    }
}
