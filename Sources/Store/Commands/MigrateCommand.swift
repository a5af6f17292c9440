import Glibc
import RESP

/// MIGRATE: keys moved to another server.
extension StoreServer {
    static let migrateCommands: [Command] = [
        Command(
            "MIGRATE", arity: -6, flags: [.write, .movableKeys], keys: .range(3, 3), categories: [.keyspace, .dangerous], since: "2.6.0",
            syntax: """
                host port:int key_or_empty_string(key|empty_string=) destination-db:int timeout:int [COPY]@3.0.0 [REPLACE]@3.0.0 \
                [authentication([AUTH password]@4.0.7|[AUTH2 username_password(username password)]@6.0.0)] [KEYS key...]@3.0.6
                """,
            access: "RW access delete; RW access delete incomplete KEYS-2", tips: "nondeterministic_output",
            complexity: "This command actually executes a DUMP+DEL in the source instance, and a RESTORE in the target instance. See the pages of these commands for time complexity. Also an O(N) data transfer between the two instances is performed.",
            summary: "Atomically transfers a key from one Redis instance to another."
        ) { call in call.server.migrate(call) }
    ]

    private func migrate(_ call: borrowing Call) {
        guard let request = MigrationRequest(call) else { return }
        if executionDepth > 0 {
            // Those behind it in the transaction would have to wait for the other server too, and all other clients with them.
            return call.reply.error("ERR MIGRATE is not possible inside a transaction here")
        }
        var values: [Migration.Value] = []
        for key in request.keys {
            key.withUnsafeBytes {
                guard let entry = lookup(call.db, Argument($0)) else { return }
                let left = entry.hasExpiry ? max(1, entry.expiry - call.db.now) : 0
                let dump = ValueDump.make(entry, compresses: configuration.compressesSnapshots)
                values.append(Migration.Value(key: key, timeToLive: left, dump: dump))
            }
        }
        if values.isEmpty { return call.reply.simple("NOKEY") }
        start(Migration(request, values, of: call.client, in: call.db, server: self), of: call.client)
    }
}

/// What MIGRATE asks for.
struct MigrationRequest {
    var host: String
    /// As atoi(3) and htons(3) read it, which lets 99999 be one.
    var port: UInt16
    /// The database over there; whether there is one of that number the other server says.
    var database: Int64
    /// Milliseconds that each step may take: connecting, sending some, receiving some.
    var timeout: Int64
    /// Leaves the keys where they are.
    var copies = false
    /// Overwrites keys of the same name.
    var replaces = false
    /// What stands behind AUTH; empty for none.
    var credentials: [[UInt8]] = []
    var keys: [[UInt8]]

    /// - Returns: nil after an error reply.
    init?(_ call: borrowing Call) {
        host = call[1].text
        port = UInt16(truncatingIfNeeded: call[2].buffer.prefix { (48...57).contains($0) }.prefix(9).reduce(0) { $0 * 10 + Int($1 - 48) })
        keys = [call[3].bytes]
        database = 0
        timeout = 0
        var i = 6
        while i < call.count {
            let following = call.count - 1 - i
            if call[i].isWord("copy") {
                copies = true
            } else if call[i].isWord("replace") {
                replaces = true
            } else if call[i].isWord("auth"), following >= 1 {
                credentials = [call[i + 1].bytes]
                i += 1
            } else if call[i].isWord("auth2"), following >= 2 {
                credentials = [call[i + 1].bytes, call[i + 2].bytes]
                i += 2
            } else if call[i].isWord("keys") {
                guard call[3].count == 0 else {
                    call.reply.error("ERR When using MIGRATE KEYS option, the key argument must be set to the empty string")
                    return nil
                }
                keys = (i + 1..<max(i + 1, call.count)).map { [arguments = call.arguments] in arguments[$0].bytes }
                break
            } else {
                call.syntaxError()
                return nil
            }
            i += 1
        }
        guard let milliseconds = call.integer(5), let number = call.integer(4) else { return nil }
        timeout = milliseconds <= 0 ? 1000 : min(milliseconds, 1 << 40)
        database = number
    }
}
