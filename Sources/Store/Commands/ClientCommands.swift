import Glibc
import Reactor
import RESP

/// CLIENT: what is known of connections, and what can be done to them.
extension StoreServer {
    private static let flags: CommandFlags = [.noScript, .loading, .stale]
    private static let adminFlags: CommandFlags = [.admin, .noScript, .loading, .stale]

    static let clientCommands: [Command] = [
        Command(
            container: "CLIENT", since: "2.4.0",
            heading: "connection",
            summary: "A container for client connection commands.",
            subcommands: [
                Command("ID", arity: 2, flags: flags, categories: [.connection], since: "5.0.0", summary: "Returns the unique client ID of the connection.") { call in
                    call.reply.integer(call.client.id)
                },
                Command(
                    "INFO", arity: 2, flags: flags, categories: [.connection], since: "6.2.0",
                    tips: "nondeterministic_output",
                    summary: "Returns information about the connection."
                ) { call in
                    call.reply.verbatim(call.server.describe(call.client) + "\n")
                },
                Command(
                    "LIST", arity: -2, flags: adminFlags, categories: [.connection, .dangerous], since: "2.4.0",
                    syntax: "[TYPE normal_master_replica_pubsub(NORMAL|MASTER|REPLICA|PUBSUB)]@5.0.0 [ID id(client-id:int...)]@6.2.0",
                    tips: "nondeterministic_output",
                    complexity: "O(N) where N is the number of client connections", summary: "Lists open connections."
                ) { call in call.server.listClients(call) },
                Command("GETNAME", arity: 2, flags: flags, categories: [.connection], since: "2.6.9", summary: "Returns the name of the connection.") { call in
                    if call.client.name.isEmpty { call.reply.null() } else { call.reply.bulk(call.client.name) }
                },
                Command(
                    "SETNAME", arity: 3, flags: flags, categories: [.connection], since: "2.6.9",
                    syntax: "connection-name",
                    summary: "Sets the connection name."
                ) { call in
                    guard isValidName(call[2]) else { return badName(call.reply) }
                    call.client.name = call[2].bytes
                    call.reply.ok()
                },
                Command(
                    "SETINFO", arity: 4, flags: flags, categories: [.connection], since: "7.2.0",
                    syntax: "attr(LIB-NAME libname|LIB-VER libver)",
                    summary: "Sets information specific to the client or connection."
                ) { call in
                    call.server.setInfo(call)
                },
                Command(
                    "KILL", arity: -3, flags: adminFlags, categories: [.connection, .dangerous], since: "2.4.0",
                    syntax: "filter(ip:port!2.8.12|new-format([ID client-id:int]@2.8.12|[TYPE normal_master_slave_pubsub(NORMAL|MASTER@3.2.0|SLAVE|REPLICA@5.0.0|PUBSUB)]@2.8.12|[USER username]|[ADDR ip:port]|[LADDR ip:port]@6.2.0|[SKIPME yes/no])...)",
                    complexity: "O(N) where N is the number of client connections", summary: "Terminates open connections."
                ) { call in call.server.killClients(call) },
                Command(
                    "PAUSE", arity: -3, flags: adminFlags, categories: [.connection, .dangerous], since: "2.9.50",
                    syntax: "timeout:int [mode(WRITE|ALL)]@6.2.0",
                    summary: "Suspends commands processing."
                ) { call in call.server.pauseClients(call) },
                Command(
                    "UNPAUSE", arity: 2, flags: adminFlags, categories: [.connection, .dangerous], since: "6.2.0",
                    complexity: "O(N) Where N is the number of paused clients", summary: "Resumes processing commands from paused clients."
                ) { call in
                    call.server.unpause()
                    call.reply.ok()
                },
                Command(
                    "UNBLOCK", arity: -3, flags: adminFlags, categories: [.connection, .dangerous], since: "5.0.0",
                    syntax: "client-id:int [timeout_error(TIMEOUT|ERROR)]",
                    complexity: "O(log N) where N is the number of client connections",
                    summary: "Unblocks a client blocked by a blocking command from a different connection."
                ) { call in call.server.unblockClient(call) },
                Command("REPLY", arity: 3, flags: flags, categories: [.connection], since: "3.2.0", syntax: "on_off_skip(ON|OFF|SKIP)", summary: "Instructs the server whether to reply to commands.") { call in
                    call.server.setReplies(call)
                },
                Command(
                    "NO-EVICT", arity: 3, flags: adminFlags, categories: [.connection, .dangerous], since: "7.0.0",
                    syntax: "enabled(ON|OFF)",
                    summary: "Sets the client eviction mode of the connection."
                ) { call in
                    guard let on = onOrOff(call, 2) else { return }
                    call.client.isNoEvict = on
                    call.reply.ok()
                },
                Command(
                    "NO-TOUCH", arity: 3, flags: flags, categories: [.connection], since: "7.2.0",
                    syntax: "enabled(ON|OFF)",
                    summary: "Controls whether commands sent by the client affect the LRU/LFU of accessed keys."
                ) { call in
                    guard let on = onOrOff(call, 2) else { return }
                    call.client.isNoTouch = on
                    call.reply.ok()
                },
                Command(
                    "GETREDIR", arity: 2, flags: flags, categories: [.connection], since: "6.0.0",
                    summary: "Returns the client ID to which the connection's tracking notifications are redirected."
                ) { call in call.reply.integer(-1) },
                Command(
                    "TRACKING", arity: -3, flags: flags, categories: [.connection], since: "6.0.0",
                    syntax: "status(ON|OFF) [REDIRECT client-id:int] [PREFIX prefix]... [BCAST] [OPTIN] [OPTOUT] [NOLOOP]",
                    summary: "Controls server-assisted client-side caching for the connection."
                ) { call in
                    guard let on = onOrOff(call, 2) else { return }
                    if on { return call.reply.error("ERR client-side caching (CLIENT TRACKING) is not supported") }
                    call.reply.ok()
                },
                Command(
                    "TRACKINGINFO", arity: 2, flags: flags, categories: [.connection], since: "6.2.0",
                    summary: "Returns information about server-assisted client-side caching for the connection."
                ) { call in
                    call.reply.map(3)
                    call.reply.bulk("flags")
                    call.reply.set(1)
                    call.reply.bulk("off")
                    call.reply.bulk("redirect")
                    call.reply.integer(-1)
                    call.reply.bulk("prefixes")
                    call.reply.array(0)
                },
                Command(
                    "CACHING", arity: 3, flags: flags, categories: [.connection], since: "6.0.0",
                    syntax: "mode(YES|NO)",
                    summary: "Instructs the server whether to track the keys in the next request."
                ) { call in
                    call.reply.error("ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled")
                },
                help(
                    "CLIENT", since: "5.0.0", categories: [.connection],
                    [
                        "CACHING (YES|NO)", "    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.", "GETREDIR",
                        "    Return the client ID we are redirecting to when tracking is enabled.", "GETNAME",
                        "    Return the name of the current connection.", "ID", "    Return the ID of the current connection.", "INFO",
                        "    Return information about the current client connection.", "KILL <ip:port>",
                        "    Kill connection made from <ip:port>.", "KILL <option> <value> [<option> <value> [...]]",
                        "    Kill connections. Options are:", "    * ADDR (<ip:port>|<unixsocket>:0)",
                        "      Kill connections made from the specified address", "    * LADDR (<ip:port>|<unixsocket>:0)",
                        "      Kill connections made to specified local address", "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
                        "      Kill connections by type.", "    * USER <username>", "      Kill connections authenticated by <username>.",
                        "    * SKIPME (YES|NO)", "      Skip killing current connection (default: yes).", "    * ID <client-id>",
                        "      Kill connections by client id.", "LIST [options ...]",
                        "    Return information about client connections. Options:", "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
                        "      Return clients of specified type.", "    * ID <client-id> [<client-id> ...]",
                        "      Return clients of specified IDs only.", "UNPAUSE", "    Stop the current client pause, resuming traffic.",
                        "PAUSE <timeout> [WRITE|ALL]", "    Suspend all, or just write, clients for <timeout> milliseconds.",
                        "REPLY (ON|OFF|SKIP)", "    Control the replies sent to the current connection.", "SETNAME <name>",
                        "    Assign the name <name> to the current connection.", "SETINFO <option> <value>",
                        "    Set client meta attr. Options are:", "    * LIB-NAME: the client lib name.", "    * LIB-VER: the client lib version.",
                        "UNBLOCK <clientid> [TIMEOUT|ERROR]", "    Unblock the specified blocked client.",
                        "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]", "         [OPTIN] [OPTOUT] [NOLOOP]",
                        "    Control server assisted client side caching.", "TRACKINGINFO",
                        "    Report tracking status for the current connection.", "NO-EVICT (ON|OFF)",
                        "    Protect current client connection from eviction.", "NO-TOUCH (ON|OFF)",
                        "    Will not touch LRU/LFU stats when this mode is on.",
                    ]),
            ])
    ]

    /// The subcommand HELP of a container: a line that says how to use it, these, and HELP itself.
    static func help(_ name: StaticString, since: StaticString, flags: CommandFlags = [.loading, .stale], categories: CommandCategories = [], _ lines: [StaticString]) -> Command {
        Command("HELP", arity: 2, flags: flags, categories: categories, since: since, summary: "Returns helpful text about the different subcommands.") { call in
            call.reply.array(lines.count + 3)
            call.reply.simple("\(name) <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")
            for line in lines { call.reply.simple(line) }
            call.reply.simple("HELP")
            call.reply.simple("    Prints this help.")
        }
    }

    private static func onOrOff(_ call: borrowing Call, _ index: Int) -> Bool? {
        if call[index].isWord("on") { return true }
        if call[index].isWord("off") { return false }
        call.syntaxError()
        return nil
    }

    // MARK: description

    /// The kinds of clients that CLIENT LIST and KILL know.
    enum ClientKind {
        case normal, master, replica, pubsub

        init?(_ word: Argument) {
            if word.isWord("normal") { self = .normal } else if word.isWord("master") { self = .master }
            else if word.isWord("replica") || word.isWord("slave") { self = .replica } else if word.isWord("pubsub") { self = .pubsub }
            else { return nil }
        }

        init(_ client: Client) {
            if client.isMaster { self = .master } else if client.gate.contains(.replica) { self = .replica }
            else if client.subscriptions != nil { self = .pubsub } else { self = .normal }
        }
    }

    /// A client as CLIENT LIST prints it: Redis 7.2's fields in its order.
    func describe(_ client: Client) -> String {
        let now = loop.wallMilliseconds
        let connection = client.connection
        let input = connection.input.count
        let output = client.queuedOutput
        let memory = client.memory + output - connection.output.count
        let fields: [(String, String)] = [
            ("id", "\(client.id)"), ("addr", "\(connection.peer)"), ("laddr", "\(connection.local)"), ("fd", "\(connection.descriptor)"),
            ("name", String(decoding: client.name, as: UTF8.self)), ("age", "\((now - client.createdAt) / 1000)"),
            ("idle", "\((now - client.lastInteraction) / 1000)"), ("flags", flags(of: client)), ("db", "\(client.db.id)"),
            ("sub", "\(client.subscriptions?.channels.count ?? 0)"), ("psub", "\(client.subscriptions?.patterns.count ?? 0)"),
            ("ssub", "\(client.subscriptions?.shardChannels.count ?? 0)"), ("multi", "\(client.transaction?.queued.count ?? -1)"),
            ("qbuf", "\(input)"), ("qbuf-free", "\(max(0, connection.bufferBytes - connection.output.count - input))"), ("argv-mem", "0"), ("multi-mem", "\(client.transaction?.bytes ?? 0)"),
            ("rbs", "0"), ("rbp", "0"), ("obl", "0"), ("oll", output > 0 ? "1" : "0"), ("omem", "\(output)"), ("tot-mem", "\(memory)"),
            ("events", output > 0 ? "rw" : "r"), ("cmd", client.lastCommand?.pointee.fullName ?? "NULL"), ("user", "default"),
            ("redir", "-1"), ("resp", client.isRESP3 ? "3" : "2"), ("lib-name", String(decoding: client.libraryName, as: UTF8.self)),
            ("lib-ver", String(decoding: client.libraryVersion, as: UTF8.self)),
        ]
        return fields.map { "\($0)=\($1)" }.joined(separator: " ")
    }

    private func flags(of client: Client) -> String {
        var text = ""
        if client.gate.contains(.monitor) { text += "O" } else if client.gate.contains(.replica) { text += "S" }
        if client.isMaster { text += "M" }
        if client.subscriptions != nil { text += "P" }
        if client.transaction != nil { text += "x" }
        if client.isBlocked { text += "b" }
        if client.watched?.isDirty == true { text += "d" }
        if client.connection.isClosing { text += "c" }
        if case .unix = client.connection.peer { text += "U" }
        if client.isNoEvict { text += "e" }
        if client.isNoTouch { text += "T" }
        return text.isEmpty ? "N" : text
    }

    private func listClients(_ call: borrowing Call) {
        var chosen = clients.values.sorted { $0.id < $1.id }
        if call.count > 2 {
            if call.count == 4, call[2].isWord("type") {
                guard let kind = ClientKind(call[3]) else {
                    return call.reply.error(Array("ERR Unknown client type '".utf8) + call[3].start(.max) + Array("'".utf8))
                }
                chosen.removeAll { ClientKind($0) != kind }
            } else if call.count > 3, call[2].isWord("id") {
                chosen = []
                for i in 3..<call.count {
                    guard let id = call[i].integer else { return call.reply.error("ERR Invalid client ID") }
                    if let client = clients[id] { chosen.append(client) }
                }
            } else {
                return call.syntaxError()
            }
        }
        call.reply.verbatim(chosen.map { describe($0) + "\n" }.joined())
    }

    private func setInfo(_ call: borrowing Call) {
        let isName = call[2].isWord("lib-name")
        guard isName || call[2].isWord("lib-ver") else { return call.reply.error("ERR Unrecognized option '\(call[2].text)'") }
        guard StoreServer.isValidName(call[3]) else {
            return call.reply.error("ERR \(isName ? "lib-name" : "lib-ver") cannot contain spaces, newlines or special characters.")
        }
        if isName { call.client.libraryName = call[3].bytes } else { call.client.libraryVersion = call[3].bytes }
        call.reply.ok()
    }

    // MARK: CLIENT KILL

    private struct KillFilter {
        var id: Int64?
        var kind: ClientKind?
        var address: String?
        var localAddress: String?
        var skipsMe = true

        func matches(_ client: Client, caller: Client) -> Bool {
            if skipsMe, client === caller { return false }
            if let id, client.id != id { return false }
            if let kind, ClientKind(client) != kind { return false }
            if let address, "\(client.connection.peer)" != address { return false }
            if let localAddress, "\(client.connection.local)" != localAddress { return false }
            return true
        }
    }

    private func killClients(_ call: borrowing Call) {
        var filter = KillFilter()
        let isOldForm = call.count == 3
        if isOldForm {
            filter.address = call[2].text
            filter.skipsMe = false
        } else {
            guard readKillFilter(call, &filter) else { return }
        }
        var killed = 0
        let caller = call.client
        for client in clients.values where filter.matches(client, caller: caller) && !client.connection.isClosing {
            killed += 1
            if client === caller { client.closeAfterReplies() } else { client.connection.close() }
        }
        if !isOldForm { return call.reply.integer(killed) }
        killed > 0 ? call.reply.ok() : call.reply.error("ERR No such client")
    }

    /// - Returns: false after an error reply.
    private func readKillFilter(_ call: borrowing Call, _ filter: inout KillFilter) -> Bool {
        func naming(_ text: StaticString, _ name: Argument) -> [UInt8] { Argument(text).bytes + name.start(.max) + [0x27] }
        for i in stride(from: 2, to: call.count, by: 2) {
            guard i + 1 < call.count else {
                call.syntaxError()
                return false
            }
            let value = call[i + 1]
            var problem: [UInt8]?
            if call[i].isWord("id") {
                filter.id = value.integer
                if (filter.id ?? 0) < 1 { problem = Argument("ERR client-id should be greater than 0").bytes }
            } else if call[i].isWord("type") {
                filter.kind = ClientKind(value)
                if filter.kind == nil { problem = naming("ERR Unknown client type '", value) }
            } else if call[i].isWord("addr") {
                filter.address = value.text
            } else if call[i].isWord("laddr") {
                filter.localAddress = value.text
            } else if call[i].isWord("user") {
                if !(value == Argument("default")) { problem = naming("ERR No such user '", value) }
            } else if call[i].isWord("skipme"), value.isWord("yes") || value.isWord("no") {
                filter.skipsMe = value.isWord("yes")
            } else {
                problem = Argument("ERR syntax error").bytes
            }
            if let problem {
                call.reply.error(problem)
                return false
            }
        }
        return true
    }

    // MARK: waiting

    private func pauseClients(_ call: borrowing Call) {
        var writesOnly = false
        if call.count == 4 {
            writesOnly = call[3].isWord("write")
            guard writesOnly || call[3].isWord("all") else { return call.reply.error("ERR CLIENT PAUSE mode must be WRITE or ALL") }
        } else if call.count > 4 {
            return call.unknownSubcommandOrArity()
        }
        guard let time = call[2].integer else { return call.reply.error("ERR timeout is not an integer or out of range") }
        guard time >= 0 else { return call.reply.error("ERR timeout is negative") }
        guard time <= Int64.max / 2 - loop.wallMilliseconds else { return call.reply.error("ERR timeout is out of range") }
        pause(until: loop.wallMilliseconds + time, writesOnly: writesOnly)
        call.reply.ok()
    }

    private func unblockClient(_ call: borrowing Call) {
        if call.count > 4 { return call.unknownSubcommandOrArity() }
        var isError = false
        if call.count == 4 {
            isError = call[3].isWord("error")
            guard isError || call[3].isWord("timeout") else {
                return call.reply.error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
            }
        }
        guard let id = call.integer(2) else { return }
        guard let client = clients[id], let state = client.blocked else { return call.reply.integer(0) }
        switch state.reason {
        case .pause, .migration, .confirmation, .shutdown: return call.reply.integer(0)
        case .keys, .replicas, .disks: break
        }
        unblock(client)
        if isError { client.reply.error("UNBLOCKED client unblocked via CLIENT UNBLOCK") } else { replyTimedOut(client, state) }
        goOn(client)
        call.reply.integer(1)
    }

    private func setReplies(_ call: borrowing Call) {
        let client = call.client
        if call[2].isWord("on") {
            client.gate.remove([.repliesOff, .skipsReply, .skipsNextReply])
            client.output = client.connection.output
            client.reply.ok()
        } else if call[2].isWord("off") {
            client.gate.insert(.repliesOff)
            client.output = discardedOutput
        } else if call[2].isWord("skip") {
            if !client.gate.contains(.repliesOff) { client.gate.insert(.skipsNextReply) }
        } else {
            call.syntaxError()
        }
    }
}
