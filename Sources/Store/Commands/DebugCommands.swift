import CLinux
import Glibc
import RESP

/// Looking inside: OBJECT, MEMORY and DEBUG.
extension StoreServer {
    static let debugCommands: [Command] = [
        Command(
            container: "OBJECT", since: "2.2.3", summary: "A container for object introspection commands.", categories: [.keyspace],
            subcommands: [
                Command(
                    "ENCODING", arity: 3, flags: [.readOnly], keys: .range(2, 2), categories: [.keyspace], since: "2.2.3",
                    summary: "Returns the internal encoding of a Redis object."
                ) { call in
                    guard let entry = call.server.peek(call.db, call[2]) else { return call.reply.null() }
                    call.reply.bulk(entry.encodingName)
                },
                Command(
                    "FREQ", arity: 3, flags: [.readOnly], keys: .range(2, 2), categories: [.keyspace], since: "4.0.0",
                    summary: "Returns the logarithmic access frequency counter of a Redis object."
                ) { call in
                    guard let entry = call.server.peek(call.db, call[2]) else { return call.reply.null() }
                    if call.server.configuration.evictionPolicy.countsFrequency {
                        return call.reply.integer(Int64(call.db.clock.frequency(entry.clock)))
                    }
                    call.reply.error("ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.")
                },
                Command(
                    "IDLETIME", arity: 3, flags: [.readOnly], keys: .range(2, 2), categories: [.keyspace], since: "2.2.3",
                    summary: "Returns the time since the last access to a Redis object."
                ) { call in
                    guard let entry = call.server.peek(call.db, call[2]) else { return call.reply.null() }
                    if call.server.configuration.evictionPolicy.countsFrequency {
                        return call.reply.error("ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.")
                    }
                    call.reply.integer(Int64(call.db.clock.idle(entry.clock)))
                },
                Command(
                    "REFCOUNT", arity: 3, flags: [.readOnly], keys: .range(2, 2), categories: [.keyspace], since: "2.2.3",
                    summary: "Returns the reference count of a value of a key."
                ) { call in
                    guard call.server.peek(call.db, call[2]) != nil else { return call.reply.null() }
                    call.reply.integer(1)
                },
                help(
                    "OBJECT", since: "6.2.0", categories: [.keyspace],
                    [
                        "ENCODING <key>", "    Return the kind of internal representation used in order to store the value",
                        "    associated with a <key>.", "FREQ <key>", "    Return the access frequency index of the <key>. The returned integer is",
                        "    proportional to the logarithm of the recent access frequency of the key.", "IDLETIME <key>",
                        "    Return the idle time of the <key>, that is the approximated number of", "    seconds elapsed since the last access to the key.",
                        "REFCOUNT <key>", "    Return the number of references of the value associated with the specified", "    <key>.",
                    ]),
            ]),
        Command(
            container: "MEMORY", since: "4.0.0", summary: "A container for memory diagnostics commands.",
            subcommands: [
                Command(
                    "USAGE", arity: -3, flags: [.readOnly], keys: .range(2, 2), since: "4.0.0",
                    complexity: "O(N) where N is the number of samples.", summary: "Estimates the memory usage of a key."
                ) { call in
                    if call.count > 3 {
                        guard call.count == 5, call[3].isWord("samples") else { return call.syntaxError() }
                        guard let samples = call.integer(4) else { return }
                        if samples < 0 { return call.syntaxError() }
                    }
                    guard let entry = call.server.peek(call.db, call[2]) else { return call.reply.null() }
                    call.reply.integer(entry.memory)
                },
                Command("DOCTOR", arity: 2, since: "4.0.0", summary: "Outputs a memory problems report.") { call in
                    let memory = MemoryUse()
                    call.reply.verbatim("\(memory.used) bytes are in use, \(memory.resident) are resident. Nothing else is examined.\n")
                },
                Command("PURGE", arity: 2, since: "4.0.0", summary: "Asks the allocator to release memory.") { call in
                    malloc_trim(0)
                    call.reply.ok()
                },
                help(
                    "MEMORY", since: "4.0.0",
                    [
                        "DOCTOR", "    Return memory problems reports.", "PURGE",
                        "    Attempt to purge dirty pages for reclamation by the allocator.", "USAGE <key> [SAMPLES <count>]",
                        "    Return memory in bytes used by <key> and its value.",
                    ]),
            ]),
        Command(
            "DEBUG", arity: -2, flags: [.admin, .noScript, .loading, .stale], since: "1.0.0", complexity: "Depends on subcommand.",
            summary: "A container for debugging commands."
        ) { call in call.server.debug(call) },
    ]

    /// Finds a key without touching its clock or the statistics.
    private func peek(_ db: Database, _ key: Argument) -> Entry? {
        guard let position = db.find(key) else { return nil }
        let entry = Entry(position.element)
        return entry.hasExpiry && entry.expiry <= db.now ? nil : entry
    }

    private func debug(_ call: borrowing Call) {
        guard isAllowed(configuration.debugPermission, call.client) else {
            return call.reply.error("ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.")
        }
        if call[1].isWord("sleep"), call.count == 3 {
            sleep(seconds: call[2].double ?? 0)
            call.reply.ok()
        } else if call[1].isWord("set-active-expire"), call.count == 3 {
            configuration.isActiveExpiryOn = call[2].integer ?? 0 != 0
            call.reply.ok()
        } else if call[1].isWord("object"), call.count == 3 {
            guard let entry = peek(call.db, call[2]) else { return call.noSuchKey() }
            let idle = call.db.clock.idle(entry.clock)
            call.reply.simple("Value at:\(entry.base) refcount:1 encoding:\(entry.encodingName) serializedlength:\(entry.memory) lru:\(entry.clock) lru_seconds_idle:\(idle)")
        } else if call[1].isWord("stringmatch-len"), call.count == 4 {
            // Tells how long matching takes: the pattern * against a text of that length.
            call.reply.integer(Glob.matches(call[3], call[2]) ? 1 : 0)
        } else if call[1].isWord("change-repl-id"), call.count == 2 {
            replication.changeID(StoreServer.randomID())
            call.reply.ok()
        } else if call[1].isWord("reload"), call.count == 2 || (call.count == 3 && call[2].isWord("nosave")) {
            if call.count == 2, persistence.save() != nil { return call.reply.error("ERR Error trying to save the RDB, check server logs.") }
            do throws(RDBReader.FileError) {
                try persistence.load()
                call.reply.ok()
            } catch {
                logger.warning("DEBUG RELOAD: \(error)")
                call.reply.error("ERR Error trying to load the RDB dump, check server logs.")
            }
        } else if call[1].isWord("error"), call.count == 3 {
            call.reply.error(call[2].text)
        } else if call[1].isWord("log"), call.count == 3 {
            logger.warning("DEBUG LOG: \(call[2].text)")
            call.reply.ok()
        } else if call[1].isWord("protocol"), call.count == 3 {
            replyProtocolTest(call)
        } else if call[1].isWord("help"), call.count == 2 {
            let lines: [StaticString] = [
                "DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", "CHANGE-REPL-ID",
                "    Change the replication IDs of the instance.", "ERROR <string>",
                "    Return a Redis protocol error with <string> as message.", "RELOAD [NOSAVE]",
                "    Save the RDB on disk and reload it back to memory.", "LOG <message>", "    Write <message> to the server log.",
                "OBJECT <key>", "    Show low level info about `key` and associated value.", "PROTOCOL <type>",
                "    Reply with a test value of the specified type.", "SET-ACTIVE-EXPIRE <0|1>",
                "    Setting it to 0 disables expiring keys in background when they are not", "    accessed.", "SLEEP <seconds>",
                "    Stop the server for <seconds>. Decimals allowed.", "HELP", "    Prints this help.",
            ]
            call.reply.array(lines.count)
            for line in lines { call.reply.simple(line) }
        } else {
            call.reply.error("ERR unknown subcommand or wrong number of arguments for '\(call[1].text.prefix(128))'. Try DEBUG HELP.")
        }
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
        else if call[2].isWord("null") { reply.null() }
        else if call[2].isWord("true") { reply.boolean(true) }
        else if call[2].isWord("false") { reply.boolean(false) }
        else if call[2].isWord("verbatim") { reply.verbatim("This is a verbatim\nstring") }
        else if call[2].isWord("array") {
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
            reply.error("ERR Wrong protocol type name. Please use one of the following: string|integer|double|null|array|set|map|verbatim|true|false")
        }
    }
}

extension Entry {
    /// Redis's name for the encoding that ours corresponds to.
    var encodingName: StaticString {
        switch encoding {
        case .raw: "raw"
        case .integer: "int"
        // Redis embeds up to 44 bytes; ours may hold more in one block.
        case .embedded: stringCount > 44 ? "raw" : "embstr"
        case .listpack: "listpack"
        case .quicklist: "quicklist"
        case .intset: "intset"
        case .table: "hashtable"
        case .sortedTree: "skiplist"
        }
    }

    /// Bytes of memory for key and value, as the allocator counts them.
    var memory: Int {
        let own = malloc_usable_size(base)
        return type == .string && encoding != .raw ? own : own + malloc_usable_size(pointer)
    }
}
