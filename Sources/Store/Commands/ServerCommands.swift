import Glibc
import Reactor
import RESP

/// The server as a whole: its time, its end, who watches it, how long things took.
extension StoreServer {
    private static let flags: CommandFlags = [.admin, .noScript, .loading, .stale]

    static let serverCommands: [Command] = [
        Command(
            "MONITOR", arity: 1, flags: flags, since: "1.0.0", complexity: "", summary: "Listens for all requests received by the server in real-time."
        ) { call in
            let client = call.client
            // A replica is fed already; in a transaction the replies would not be one for each command.
            guard client.replica == nil, call.server.executionDepth == 0 else {
                return call.reply.error("ERR MONITOR isn't allowed for DENY BLOCKING client")
            }
            if !client.gate.contains(.monitor) {
                client.gate.insert(.monitor)
                call.server.monitors.append(client)
                call.server.updateGate()
            }
            call.reply.ok()
        },
        Command(
            "TIME", arity: 1, flags: [.loading, .stale, .fast], since: "2.6.0",
            tips: "nondeterministic_output",
            summary: "Returns the server time."
        ) { call in
            // The loop's clock stands still for an iteration; who asks for the time wants this very moment.
            var now = timespec()
            clock_gettime(CLOCK_REALTIME, &now)
            call.reply.array(2)
            call.reply.bulk(integer: Int64(now.tv_sec))
            call.reply.bulk(integer: Int64(now.tv_nsec / 1000))
        },
        Command(
            "SHUTDOWN", arity: -1, flags: [.admin, .noScript, .loading, .stale, .noMulti, .allowBusy], since: "1.0.0",
            syntax: "[nosave_save(NOSAVE|SAVE)] [NOW]@7.0.0 [FORCE]@7.0.0 [ABORT]@7.0.0",
            complexity: "O(N) when saving, where N is the total number of keys in all databases when saving data, otherwise O(1)",
            summary: "Synchronously saves the database(s) to disk and shuts down the Redis server."
        ) { call in call.server.shutDown(call) },
        Command(
            "LOLWUT", arity: -1, flags: [.readOnly, .fast], since: "5.0.0",
            syntax: "[VERSION version:int]",
            complexity: "", summary: "Displays computer art and the Redis version"
        ) { call in
            if call.count > 2, call[1].isWord("version"), call.integer(2) == nil { return }
            call.reply.verbatim("A lookout in the mast sees the whole platform.\n\nRedis ver. \(StoreVersion.redis), vigie \(StoreVersion.vigie)\n")
        },
        Command(
            container: "SLOWLOG", since: "2.2.12", summary: "A container for slow log commands.",
            subcommands: [
                Command(
                    "GET", arity: -2, flags: [.admin, .loading, .stale], since: "2.2.12",
                    syntax: "[count:int]", tips: "request_policy:all_nodes nondeterministic_output",
                    complexity: "O(N) where N is the number of entries returned",
                    summary: "Returns the slow log's entries."
                ) { call in call.server.slowLog.reply(call) },
                Command(
                    "LEN", arity: 2, flags: [.admin, .loading, .stale], since: "2.2.12",
                    tips: "request_policy:all_nodes response_policy:agg_sum nondeterministic_output",
                    summary: "Returns the number of entries in the slow log."
                ) { call in
                    call.reply.integer(call.server.slowLog.entries.count)
                },
                Command(
                    "RESET", arity: 2, flags: [.admin, .loading, .stale], since: "2.2.12",
                    tips: "request_policy:all_nodes response_policy:all_succeeded",
                    complexity: "O(N) where N is the number of entries in the slowlog",
                    summary: "Clears all entries from the slow log."
                ) { call in
                    call.server.slowLog.entries.removeAll()
                    call.reply.ok()
                },
                help(
                    "SLOWLOG", since: "6.2.0",
                    [
                        "GET [<count>]", "    Return top <count> entries from the slowlog (default: 10, -1 mean all).", "    Entries are made of:",
                        "    id, timestamp, time in microseconds, arguments array, client IP and port,", "    client name", "LEN",
                        "    Return the length of the slowlog.", "RESET", "    Reset the slowlog.",
                    ]),
            ]),
        Command(
            container: "MODULE", since: "4.0.0", summary: "A container for module commands.",
            subcommands: [
                Command(
                    "LIST", arity: 2, flags: [.admin, .noScript], since: "4.0.0",
                    tips: "nondeterministic_output_order",
                    summary: "Returns all loaded modules."
                ) { call in
                    call.reply.array(0)
                },
                help("MODULE", since: "5.0.0", flags: [.loading, .stale], ["LIST", "    Return a list of loaded modules."]),
            ]),
    ]

    private func shutDown(_ call: borrowing Call) {
        var options = ShutdownOptions()
        for i in 1..<max(1, call.count) {
            if call[i].isWord("nosave"), options.save != true { options.save = false } else if call[i].isWord("save"), options.save != false { options.save = true }
            else if call[i].isWord("now") { options.isImmediate = true } else if call[i].isWord("force") { options.isForced = true }
            else if call[i].isWord("abort"), call.count == 2 { return abortShutdown() ? call.reply.ok() : call.reply.error("ERR No shutdown in progress.") }
            else { return call.syntaxError() }
        }
        let client = call.client
        shutDown(options) { [unowned self, weak client] isDone in
            if isDone { return onShutdown() }
            guard let client else { return }
            client.reply.error("ERR Errors trying to SHUTDOWN. Check logs.")
            guard case .shutdown? = client.blocked?.reason else { return }
            unblock(client)
            goOn(client)
        }
        if pendingShutdown != nil { block(client, BlockedState(.shutdown, timedOut: { _ in }), timeout: 0) }
    }

    /// Whether a connection comes from this host.
    func isLocal(_ connection: Connection) -> Bool {
        switch connection.peer {
        case .unix: true
        case .ipv4(let host, _): host >> 24 == 127
        case .ipv6(let high, let low, _, _): high == 0 && low == 1
        }
    }
}
