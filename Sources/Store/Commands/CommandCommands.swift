import RESP

/// COMMAND: what the declarations say, in Redis's forms.
extension StoreServer {
    private static let flags: CommandFlags = [.loading, .stale]

    static let commandCommands: [Command] = [
        Command(
            "COMMAND", arity: -1, flags: flags, categories: [.connection], since: "2.8.13",
            complexity: "O(N) where N is the total number of Redis commands", summary: "Returns detailed information about all commands.",
            subcommands: [
                Command("COUNT", arity: 2, flags: flags, categories: [.connection], since: "2.8.13", summary: "Returns a count of commands.") { call in
                    call.reply.integer(call.server.commands.all.count)
                },
                Command(
                    "LIST", arity: -2, flags: flags, categories: [.connection], since: "7.0.0",
                    complexity: "O(N) where N is the total number of Redis commands", summary: "Returns a list of command names."
                ) { call in call.server.listCommands(call) },
                Command(
                    "INFO", arity: -2, flags: flags, categories: [.connection], since: "2.8.13",
                    complexity: "O(N) where N is the number of commands to look up",
                    summary: "Returns information about one, multiple or all commands."
                ) { call in
                    if call.count == 2 { return call.server.describeAll(call) }
                    call.reply.array(call.count - 2)
                    for i in 2..<call.count {
                        if let slot = call.server.slot(named: call[i]) { slot.pointee.describe(call.reply) } else { call.reply.null() }
                    }
                },
                Command(
                    "DOCS", arity: -2, flags: flags, categories: [.connection], since: "7.0.0",
                    complexity: "O(N) where N is the number of commands to look up",
                    summary: "Returns documentary information about one, multiple or all commands."
                ) { call in
                    let slots = call.count == 2 ? call.server.commands.all : (2..<call.count).compactMap { call.server.slot(named: call[$0]) }
                    call.reply.map(slots.count)
                    for slot in slots {
                        call.reply.bulk(slot.pointee.fullName)
                        slot.pointee.document(call.reply)
                    }
                },
                Command(
                    "GETKEYS", arity: -4, flags: flags, categories: [.connection], since: "2.8.13",
                    complexity: "O(N) where N is the number of arguments to the command",
                    summary: "Extracts the key names from an arbitrary command."
                ) { call in
                    guard let (_, keys) = call.server.keysOfCommand(call) else { return }
                    call.reply.array(keys.count)
                    for key in keys { call.reply.bulk(call[key]) }
                },
                Command(
                    "GETKEYSANDFLAGS", arity: -4, flags: flags, categories: [.connection], since: "7.0.0",
                    complexity: "O(N) where N is the number of arguments to the command",
                    summary: "Extracts the key names and access flags for an arbitrary command."
                ) { call in
                    guard let (slot, keys) = call.server.keysOfCommand(call) else { return }
                    call.reply.array(keys.count)
                    for key in keys {
                        call.reply.array(2)
                        call.reply.bulk(call[key])
                        slot.pointee.command.replyKeyFlags(call.reply)
                    }
                },
                help(
                    "COMMAND", since: "5.0.0", categories: [.connection],
                    [
                        "(no subcommand)", "    Return details about all Redis commands.", "COUNT",
                        "    Return the total number of commands in this Redis server.", "LIST",
                        "    Return a list of all commands in this Redis server.", "INFO [<command-name> ...]",
                        "    Return details about multiple Redis commands.", "    If no command names are given, documentation details for all",
                        "    commands are returned.", "DOCS [<command-name> ...]", "    Return documentation details about multiple Redis commands.",
                        "    If no command names are given, documentation details for all", "    commands are returned.", "GETKEYS <full-command>",
                        "    Return the keys from a full Redis command.", "GETKEYSANDFLAGS <full-command>",
                        "    Return the keys and the access flags from a full Redis command.",
                    ]),
            ]
        ) { call in
            call.server.describeAll(call)
        }
    ]

    private func describeAll(_ call: borrowing Call) {
        call.reply.array(commands.all.count)
        for slot in commands.all { slot.pointee.describe(call.reply) }
    }

    /// Finds `get` and `config|get`.
    func slot(named name: Argument) -> UnsafeMutablePointer<CommandTable.Slot>? {
        let words = name.lowercased.split(separator: "|", omittingEmptySubsequences: false)
        guard words.count <= 2, let first = words.first,
            let parent = Array(first.utf8).withUnsafeBytes({ commands.find(Argument($0)) })
        else { return nil }
        if words.count == 1 { return parent }
        return parent.pointee.subcommands.first { $0.pointee.fullName == words.joined(separator: "|") }
    }

    private func listCommands(_ call: borrowing Call) {
        var slots = commands.all
        if call.count > 2 {
            guard call.count == 5, call[2].isWord("filterby") else { return call.syntaxError() }
            slots = commands.all + commands.all.flatMap(\.pointee.subcommands)
            if call[3].isWord("module") {
                slots = []
            } else if call[3].isWord("aclcat") {
                let wanted = "@" + call[4].lowercased
                let category = CommandCategories.names.first { $0.1 == wanted }?.0
                slots = category.map { category in slots.filter { $0.pointee.command.allCategories.contains(category) } } ?? []
            } else if call[3].isWord("pattern") {
                let pattern = call[4].lowercased
                slots = slots.filter { Glob.matches(pattern, $0.pointee.fullName) }
            } else {
                return call.syntaxError()
            }
        }
        call.reply.array(slots.count)
        for slot in slots { call.reply.bulk(slot.pointee.fullName) }
    }

    /// The command that follows GETKEYS, and where its keys are among the arguments; nil after an error reply.
    private func keysOfCommand(_ call: borrowing Call) -> (UnsafeMutablePointer<CommandTable.Slot>, [Int])? {
        let count = call.count - 2
        guard var slot = commands.find(call[2]) else {
            call.reply.error("ERR Invalid command specified")
            return nil
        }
        if count > 1, let sub = slot.pointee.subcommands.first(where: { CommandTable.same($0.pointee.name, call[3]) }) { slot = sub }
        let command = slot.pointee.command
        if command.keys.first == 0 {
            call.reply.error("ERR The command has no key arguments")
            return nil
        }
        guard command.arity >= 0 ? count == command.arity : count >= -command.arity else {
            call.reply.error("ERR Invalid number of arguments specified for command")
            return nil
        }
        guard let keys = command.keys.positions(in: call.arguments + 2, count) else {
            call.reply.error("ERR Invalid arguments specified for command")
            return nil
        }
        return (slot, keys.map { $0 + 2 })
    }
}

extension KeyPositions {
    /// Where the keys of a request are; nil when the number of keys that it names is wrong.
    func positions(in arguments: UnsafeMutablePointer<Argument>, _ count: Int) -> [Int]? {
        if first < 0 {
            let at = -first
            guard at < count, let number = arguments[at].integer, number > 0, number < Int64(count - at) else { return nil }
            return (last == 1 ? [1] : []) + Array(at + 1...at + Int(number))
        }
        let end = last < 0 ? count + last : last
        guard first > 0, end >= first, end < count else { return nil }
        return Array(stride(from: first, through: end, by: step))
    }
}

extension CommandTable.Slot {
    /// One entry of COMMAND INFO: name, arity, flags, first key, last key, step, categories, tips, key specifications, subcommands.
    func describe(_ reply: ReplyWriter) {
        reply.array(10)
        reply.bulk(fullName)
        reply.integer(command.arity)
        let flags = CommandFlags.names.filter { command.flags.contains($0.0) }
        reply.set(flags.count)
        for (_, name) in flags { reply.simple(name) }
        // Keys that are counted by an argument have no fixed place.
        let isFixed = command.keys.first > 0
        reply.integer(isFixed ? command.keys.first : 0)
        reply.integer(isFixed ? command.keys.last : 0)
        reply.integer(isFixed ? command.keys.step : 0)
        let categories = CommandCategories.names.filter { command.allCategories.contains($0.0) }
        reply.set(categories.count)
        for (_, name) in categories { reply.simple(name) }
        reply.array(0)
        command.replyKeySpecification(reply)
        reply.array(subcommands.count)
        for subcommand in subcommands { subcommand.pointee.describe(reply) }
    }

    /// One entry of COMMAND DOCS.
    func document(_ reply: ReplyWriter) {
        reply.map(subcommands.isEmpty ? 4 : 5)
        reply.bulk("summary")
        reply.bulk(command.summary)
        reply.bulk("since")
        reply.bulk(command.since)
        reply.bulk("group")
        reply.bulk(command.group)
        reply.bulk("complexity")
        reply.bulk(command.complexity)
        guard !subcommands.isEmpty else { return }
        reply.bulk("subcommands")
        reply.map(subcommands.count)
        for subcommand in subcommands {
            reply.bulk(subcommand.pointee.fullName)
            subcommand.pointee.document(reply)
        }
    }
}

extension Command {
    /// The heading under which Redis documents the command.
    var group: StaticString {
        let order: [(CommandCategories, StaticString)] = [
            (.transaction, "transactions"), (.pubsub, "pubsub"), (.connection, "connection"), (.string, "string"), (.list, "list"),
            (.sortedSet, "sorted-set"), (.set, "set"), (.hash, "hash"), (.keyspace, "generic"),
        ]
        return order.first { allCategories.contains($0.0) }?.1 ?? "server"
    }

    /// What Redis says of the use of a key; told from whether the command writes.
    func replyKeyFlags(_ reply: ReplyWriter) {
        reply.set(2)
        reply.simple(flags.contains(.write) ? "RW" : "RO")
        reply.simple("access")
    }

    /// The key specification: where to begin, and which arguments from there on are keys.
    func replyKeySpecification(_ reply: ReplyWriter) {
        guard keys.first != 0 else { return reply.array(0) }
        reply.array(1)
        reply.map(3)
        reply.bulk("flags")
        replyKeyFlags(reply)
        reply.bulk("begin_search")
        reply.map(2)
        reply.bulk("type")
        reply.bulk("index")
        reply.bulk("spec")
        reply.map(1)
        reply.bulk("index")
        reply.integer(abs(keys.first))
        reply.bulk("find_keys")
        reply.map(2)
        reply.bulk("type")
        if keys.first < 0 {
            reply.bulk("keynum")
            reply.bulk("spec")
            reply.map(3)
            reply.bulk("keynumidx")
            reply.integer(0)
            reply.bulk("firstkey")
            reply.integer(1)
        } else {
            reply.bulk("range")
            reply.bulk("spec")
            reply.map(3)
            reply.bulk("lastkey")
            // Counted from the first key on; negative stays counted from the end.
            reply.integer(keys.last < 0 ? keys.last : keys.last - keys.first)
        }
        if keys.first > 0 {
            reply.bulk("keystep")
            reply.integer(keys.step)
            reply.bulk("limit")
            reply.integer(0)
        } else {
            reply.bulk("keystep")
            reply.integer(keys.step)
        }
    }
}

extension Glob {
    static func matches(_ pattern: String, _ text: String) -> Bool {
        Array(pattern.utf8).withUnsafeBytes { pattern in Array(text.utf8).withUnsafeBytes { matches(Argument(pattern), Argument($0)) } }
    }
}
