import Glibc
import Logging
import RESP

/// DEBUG: what tests, and people who look for faults, ask a server to do.
extension StoreServer {
    static let debugSubcommands: [Command] = [
        Command(
            "DEBUG", arity: -2, flags: [.admin, .noScript, .loading, .stale], since: "1.0.0", isInternal: true, complexity: "Depends on subcommand.",
            summary: "A container for debugging commands."
        ) { call in
            guard call.server.isAllowed(call.server.configuration.debugPermission, call.client) else {
                return call.reply.error("ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.")
            }
            let known = debugHandlers.first { call[1].isWord($0.name) && $0.counts.contains(call.count) }
            guard let known else { return call.server.unknownDebug(call) }
            known.run(call)
        }
    ]

    private func unknownDebug(_ call: borrowing Call) {
        call.reply.error(Array("ERR unknown subcommand or wrong number of arguments for '".utf8) + call[1].start(128) + Array("'. Try DEBUG HELP.".utf8))
    }

    private struct DebugHandler: Sendable {
        /// In lower case.
        let name: StaticString
        /// Arguments of the whole request.
        let counts: ClosedRange<Int>
        let run: @Sendable (borrowing Call) -> Void
    }

    private static let debugHandlers: [DebugHandler] = [
        DebugHandler(name: "sleep", counts: 3...3) { call in
            call.server.sleep(seconds: call[2].double ?? 0)
            call.reply.ok()
        },
        DebugHandler(name: "set-active-expire", counts: 3...3) { call in
            call.server.configuration.isActiveExpiryOn = call[2].integer ?? 0 != 0
            call.reply.ok()
        },
        DebugHandler(name: "object", counts: 3...3) { call in call.server.debugObject(call) },
        DebugHandler(name: "digest", counts: 2...2) { call in call.reply.simple(DataDigest(call.server.databases).text) },
        DebugHandler(name: "digest-value", counts: 2...Int.max) { call in
            call.reply.array(call.count - 2)
            for i in 2..<call.count {
                var digest = DataDigest()
                // As in Redis: a key whose time is over but that is still there counts.
                if let position = call.db.find(call[i]) { digest.add(value: Entry(position.element)) }
                call.reply.simple(digest.text)
            }
        },
        DebugHandler(name: "listpack", counts: 3...3) { call in call.server.debugListpack(call) },
        DebugHandler(name: "quicklist-packed-threshold", counts: 3...3) { call in
            // Nothing hangs on it here: an element that is longer than a node has one of its own, whatever its length.
            guard (try? StoreConfiguration.memory(call[2].text, 0...4 << 30)) != nil else {
                return call.reply.error("ERR argument must be a memory value bigger than 1 and smaller than 4gb")
            }
            call.reply.ok()
        },
        DebugHandler(name: "stringmatch-len", counts: 4...4) { call in
            // Tells how long matching takes: a pattern against a text.
            call.reply.integer(Glob.matches(call[3], call[2]) ? 1 : 0)
        },
        DebugHandler(name: "change-repl-id", counts: 2...2) { call in
            call.server.replication.changeID(StoreServer.randomID())
            call.reply.ok()
        },
        DebugHandler(name: "reload", counts: 2...Int.max) { call in call.server.debugReload(call) },
        DebugHandler(name: "loadaof", counts: 2...2) { call in
            do throws(AOFError) {
                try call.server.appendOnlyFile.reload()
                call.server.logger.warning("Append Only File loaded by DEBUG LOADAOF")
                call.reply.ok()
            } catch {
                call.server.logger.warning("DEBUG LOADAOF: \(error)")
                call.reply.error("ERR Error trying to load the AOF files, check server logs.")
            }
        },
        DebugHandler(name: "populate", counts: 3...5) { call in call.server.debugPopulate(call) },
        DebugHandler(name: "error", counts: 3...3) { call in
            // Not counted among the errors: nothing has failed.
            let line = call[2].bytes.map { $0 == 13 || $0 == 10 ? 32 : $0 }
            call.reply.out.append([0x2D] + line + [13, 10])
        },
        DebugHandler(name: "log", counts: 3...3) { call in
            call.server.logger.warning("DEBUG LOG: \(call[2].text)")
            call.reply.ok()
        },
        DebugHandler(name: "protocol", counts: 3...3) { call in call.server.replyProtocolTest(call) },
        DebugHandler(name: "help", counts: 2...2) { call in
            call.reply.array(debugHelp.count)
            for line in debugHelp { call.reply.simple(line) }
        },
    ]

    private static let debugHelp: [StaticString] = [
        "DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", "CHANGE-REPL-ID",
        "    Change the replication IDs of the instance.", "    Dangerous: should be used only for testing the replication subsystem.",
        "DIGEST", "    Output a hex signature representing the current DB content.", "DIGEST-VALUE <key> [<key> ...]",
        "    Output a hex signature of the values of all the specified keys.", "ERROR <string>",
        "    Return a Redis protocol error with <string> as message. Useful for clients", "    unit tests to simulate Redis errors.",
        "LOADAOF", "    Flush the AOF buffers on disk and reload the AOF in memory.",
        "LOG <message>", "    Write <message> to the server log.", "OBJECT <key>",
        "    Show low level info about `key` and associated value.", "POPULATE <count> [<prefix>] [<size>]",
        "    Create <count> string keys named key:<num>. If <prefix> is specified then",
        "    it is used instead of the 'key' prefix. These are not propagated to", "    replicas.", "PROTOCOL <type>",
        "    Reply with a test value of the specified type. <type> can be: string,",
        "    integer, double, bignum, null, array, set, map, attrib, push, verbatim,", "    true, false.", "RELOAD [option ...]",
        "    Save the RDB on disk and reload it back to memory. Valid <option> values:",
        "    * MERGE: conflicting keys will be loaded from RDB.",
        "    * NOFLUSH: the existing database will not be removed before load; without",
        "      MERGE a conflicting key is an error, and nothing is loaded.",
        "    * NOSAVE: the database will be loaded from an existing RDB file.", "SET-ACTIVE-EXPIRE <0|1>",
        "    Setting it to 0 disables expiring keys in background when they are not",
        "    accessed (otherwise the Redis behavior). Setting it to 1 reenables back the", "    default.",
        "QUICKLIST-PACKED-THRESHOLD <size>", "    Accepted; elements longer than a node have nodes of their own here.", "SLEEP <seconds>",
        "    Stop the server for <seconds>. Decimals allowed.", "STRINGMATCH-LEN <text> <pattern>",
        "    Match the text with the pattern.", "LISTPACK <key>", "    Log the elements of the listpack of <key>.", "HELP",
        "    Prints this help.",
    ]

    private func debugObject(_ call: borrowing Call) {
        guard let entry = peek(call.db, call[2]) else { return call.noSuchKey() }
        let idle = call.db.clock.idle(entry.clock)
        // DUMP has one byte of type before the value, and version and checksum behind it.
        let serialized = ValueDump.make(entry, compresses: false).count - 11
        var text = "Value at:\(entry.base) refcount:\(isShared(entry) ? Int(Int32.max) : 1) encoding:\(entry.encodingName) serializedlength:\(serialized) lru:\(entry.clock) lru_seconds_idle:\(idle)"
        if entry.type == .list, entry.encoding == .quicklist {
            let list = QuickList(entry.pointer)
            let nodes = list.state.pointee.nodes
            var bytes = 0
            list.forEachNode { bytes += $0.used + Listpack.overhead }
            let hundredths = list.count * 100 / max(1, nodes)
            text += " ql_nodes:\(nodes) ql_avg_node:\(hundredths / 100).\(String(100 + hundredths % 100).dropFirst()) ql_listpack_max:\(configuration.listMaxListpackSize) ql_compressed:0 ql_uncompressed_size:\(bytes)"
        }
        call.reply.simple(text)
    }

    private func debugListpack(_ call: borrowing Call) {
        guard let entry = peek(call.db, call[2]) else { return call.noSuchKey() }
        guard entry.encoding == .listpack, entry.type != .list else { return call.reply.error("ERR Not a listpack encoded object.") }
        let pack = Listpack(entry.pointer)
        logger.notice("listpack of \(pack.byteCount) bytes, \(pack.count) elements")
        pack.forEach { value in value.withText { logger.notice("    \(Quoting.quoted($0.buffer))") } }
        call.reply.simple("Listpack structure printed in the log")
    }

    private func debugReload(_ call: borrowing Call) {
        var saves = true
        var flushes = true
        var merges = false
        for i in 2..<call.count {
            if call[i].isWord("merge") { merges = true } else if call[i].isWord("noflush") { flushes = false }
            else if call[i].isWord("nosave") { saves = false }
            else { return call.reply.error("ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.") }
        }
        if saves, persistence.save() != nil { return call.reply.error("ERR Error trying to save the RDB, check server logs.") }
        do throws(RDBReader.FileError) {
            guard try persistence.load(flushes: flushes, merges: merges) else {
                return call.reply.error("ERR a key of the RDB dump is there already, nothing was loaded; MERGE replaces what is there")
            }
            logger.warning("DB reloaded by DEBUG RELOAD")
            call.reply.ok()
        } catch {
            logger.warning("DEBUG RELOAD: \(error)")
            call.reply.error("ERR Error trying to load the RDB dump, check server logs.")
        }
    }

    private func debugPopulate(_ call: borrowing Call) {
        guard let count = call[2].integer, count >= 0 else { return call.reply.error("ERR value is out of range, must be positive") }
        var size = 0
        if call.count == 5 {
            guard let asked = call[4].integer, asked >= 0, asked <= Int64(configuration.protoMaxBulkLength) else { return call.reply.error("ERR value is out of range, must be positive") }
            size = Int(asked)
        }
        let prefix = call.count > 3 ? call[3].bytes : Array("key".utf8)
        for i in 0..<count {
            let key = prefix + Array(":\(i)".utf8)
            var value = Array("value:\(i)".utf8)
            if size > 0 { value = Array(value.prefix(size)) + [UInt8](repeating: 0, count: max(0, size - value.count)) }
            key.withUnsafeBytes { key in
                guard call.db.find(Argument(key)) == nil else { return }
                _ = value.withUnsafeBytes { call.db.setString(Argument(key), Argument($0), expiry: nil) }
                keyChanged(call.db, Argument(key))
            }
        }
        call.reply.ok()
    }

    /// Stands still: what DEBUG SLEEP is for.
    private func sleep(seconds: Double) {
        guard seconds > 0, seconds < 1e9 else { return }
        var time = timespec(tv_sec: Int(seconds), tv_nsec: Int((seconds - seconds.rounded(.down)) * 1e9))
        var rest = timespec()
        while nanosleep(&time, &rest) != 0, errno == EINTR { time = rest }
    }

    /// A value of each type of the protocol, for client libraries' tests.
    private func replyProtocolTest(_ call: borrowing Call) {
        let reply = call.reply
        if call[2].isWord("string") { reply.bulk("Hello World") }
        else if call[2].isWord("integer") { reply.integer(12345) }
        else if call[2].isWord("double") { reply.double(3.141) }
        else if call[2].isWord("bignum") { reply.isRESP3 ? reply.raw("(1234567999999999999999999999999999999\r\n") : reply.bulk("1234567999999999999999999999999999999") }
        else if call[2].isWord("null") { reply.null() }
        else if call[2].isWord("true") { reply.boolean(true) }
        else if call[2].isWord("false") { reply.boolean(false) }
        else if call[2].isWord("verbatim") { reply.verbatim("This is a verbatim\nstring") }
        else if call[2].isWord("attrib") {
            if reply.isRESP3 {
                reply.raw("|1\r\n")
                reply.bulk("key-popularity")
                reply.array(2)
                reply.bulk("key:123")
                reply.integer(90)
            }
            // An attribute precedes the reply that it belongs to.
            reply.bulk("Some real reply following the attribute")
        } else if call[2].isWord("push") {
            guard reply.isRESP3 else { return reply.error("ERR RESP2 is not supported by this command") }
            reply.push(2)
            reply.bulk("server-cpu-usage")
            reply.integer(42)
            // A push is no reply.
            reply.bulk("Some real reply following the push reply")
        } else if call[2].isWord("array") {
            reply.array(3)
            for i in 0..<3 { reply.integer(i) }
        } else if call[2].isWord("set") {
            reply.set(3)
            for i in 0..<3 { reply.integer(i) }
        } else if call[2].isWord("map") {
            reply.map(3)
            for i in 0..<3 {
                reply.integer(i)
                reply.boolean(i == 1)
            }
        } else {
            reply.error("ERR Wrong protocol type name. Please use one of the following: string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false")
        }
    }
}
