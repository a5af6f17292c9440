import CLinux
import Glibc
import RESP

/// Looking inside: OBJECT.
extension StoreServer {
    static let debugCommands: [Command] = [
        Command(
            container: "OBJECT", since: "2.2.3",
            heading: "generic",
            summary: "A container for object introspection commands.",
            subcommands: [
                Command(
                    "ENCODING", arity: 3, flags: [.readOnly], keys: .range(2, 2), categories: [.keyspace], since: "2.2.3",
                    syntax: "key", access: "RO", tips: "nondeterministic_output",
                    summary: "Returns the internal encoding of a Redis object."
                ) { call in
                    guard let entry = call.server.peek(call.db, call[2]) else { return call.reply.null() }
                    call.reply.bulk(entry.encodingName)
                },
                Command(
                    "FREQ", arity: 3, flags: [.readOnly], keys: .range(2, 2), categories: [.keyspace], since: "4.0.0",
                    syntax: "key", access: "RO", tips: "nondeterministic_output",
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
                    syntax: "key", access: "RO", tips: "nondeterministic_output",
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
                    syntax: "key", access: "RO", tips: "nondeterministic_output",
                    summary: "Returns the reference count of a value of a key."
                ) { call in
                    guard let entry = call.server.peek(call.db, call[2]) else { return call.reply.null() }
                    call.reply.integer(call.server.isShared(entry) ? Int(Int32.max) : 1)
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
            ])
    ]

    /// Finds a key without touching its clock or the statistics.
    func peek(_ db: Database, _ key: Argument) -> Entry? {
        lookupForWrite(db, key, touches: false).map { Entry($0.element) }
    }

    /// Whether Redis would keep the value once for all keys that have it: numbers below 10 000, unless eviction needs to know how each
    /// key is used.
    func isShared(_ entry: Entry) -> Bool {
        entry.type == .string && entry.encoding == .integer && (0..<10_000).contains(entry.integer)
            && (configuration.maxMemory == 0 || !configuration.evictionPolicy.looksAtUse)
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
        case .sortedTree: type == .stream ? "stream" : "skiplist"
        }
    }
}
