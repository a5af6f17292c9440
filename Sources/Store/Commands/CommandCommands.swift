import RESP

/// COMMAND: what the declarations say, in Redis's forms.
extension StoreServer {
    private static let flags: CommandFlags = [.loading, .stale]

    static let commandCommands: [Command] = [
        Command(
            "COMMAND", arity: -1, flags: flags, categories: [.connection], since: "2.8.13",
            tips: "nondeterministic_output_order", heading: "server",
            complexity: "O(N) where N is the total number of Redis commands", summary: "Returns detailed information about all commands.",
            subcommands: [
                Command("COUNT", arity: 2, flags: flags, categories: [.connection], since: "2.8.13", summary: "Returns a count of commands.") { call in
                    call.reply.integer(call.server.commands.all.count)
                },
                Command(
                    "LIST", arity: -2, flags: flags, categories: [.connection], since: "7.0.0",
                    syntax: "[FILTERBY filterby(MODULE module-name|ACLCAT category|PATTERN pattern:pattern)]", tips: "nondeterministic_output_order",
                    complexity: "O(N) where N is the total number of Redis commands", summary: "Returns a list of command names."
                ) { call in call.server.listCommands(call) },
                Command(
                    "INFO", arity: -2, flags: flags, categories: [.connection], since: "2.8.13",
                    syntax: "[command-name...]", tips: "nondeterministic_output_order",
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
                    syntax: "[command-name...]", tips: "nondeterministic_output_order",
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
                        let flags = call.server.keyFlags(slot, call, key)
                        call.reply.set(flags.count)
                        for flag in flags { call.reply.simple(flag) }
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
        var slots = commands.all + commands.all.flatMap(\.pointee.subcommands)
        if call.count > 2 {
            guard call.count == 5, call[2].isWord("filterby") else { return call.syntaxError() }
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
        var found = commands.find(call[2])
        if let slot = found, count > 1, !slot.pointee.subcommands.isEmpty { found = slot.pointee.subcommand(call[3]) }
        guard let slot = found else {
            call.reply.error("ERR Invalid command specified")
            return nil
        }
        let command = slot.pointee.command
        let specifications = KeySpecification.all(of: command)
        guard specifications.contains(where: { !$0.flags.contains("not_key") }) else {
            call.reply.error("ERR The command has no key arguments")
            return nil
        }
        guard command.arity >= 0 ? count == command.arity : count >= -command.arity else {
            call.reply.error("ERR Invalid number of arguments specified for command")
            return nil
        }
        // MIGRATE's list of keys, in place of the one before it, which must be empty then.
        if let keyword = specifications.lazy.compactMap(\.keyword).first, keyword.start < 0,
            let at = StoreServer.place(of: keyword.word, in: call, from: 2 - command.arity) {
            if call[2 + command.keys.first].count == 0 { return (slot, Array(at + 1..<call.count)) }
            call.reply.error("ERR Invalid arguments specified for command")
            return nil
        }
        guard let keys = command.keys.positions(in: call.arguments + 2, count) else {
            call.reply.error("ERR Invalid arguments specified for command")
            return nil
        }
        // What SORT stores into is named by a word anywhere behind the key; the last one counts.
        let hasWord = specifications.contains { $0.place == .unknown && $0.flags.contains("OW") }
        let word = hasWord ? stride(from: count - 2, to: 1, by: -1).first { call[$0 + 2].isWord("store") } : nil
        return (slot, (keys + (word.map { [$0 + 1] } ?? [])).map { $0 + 2 })
    }

    /// Where the word is that keys stand behind, which a password does not count for.
    private static func place(of word: String, in call: borrowing Call, from start: Int) -> Int? {
        var at = start
        while at < call.count {
            let argument = call[at].lowercased
            if argument == word.lowercased() { return at }
            at += argument == "auth" ? 2 : argument == "auth2" ? 3 : 1
        }
        return nil
    }

    /// What a command does with one of its keys.
    private func keyFlags(_ slot: UnsafeMutablePointer<CommandTable.Slot>, _ call: borrowing Call, _ key: Int) -> [String] {
        let specifications = KeySpecification.all(of: slot.pointee.command)
        let position = key - 2
        if let last = specifications.last, last.place == .unknown, last.flags.contains("OW"), call[key - 1].isWord("store"), position > 1 { return last.flags }
        let flags = (specifications.last { $0.begin.map { $0 <= position } ?? false } ?? specifications[0]).flags
        guard flags.contains("variable_flags") else { return flags }
        // SET reads what was there only with GET.
        return (5..<max(5, call.count)).contains { call[$0].isWord("get") } ? ["RW", "access", "update"] : ["OW", "update"]
    }
}

extension KeyPositions {
    /// Where the keys of a request are; nil when the number of keys that it names is wrong.
    func positions(in arguments: UnsafeMutablePointer<Argument>, _ count: Int) -> [Int]? {
        if step == 0, first < 0 {
            guard -first < count, let at = (-first..<count).first(where: { arguments[$0].isWord("streams") }), count - at > 2 else { return nil }
            return Array(at + 1..<at + 1 + (count - at - 1) / 2)
        }
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
        // Keys that are counted by an argument have no fixed place, a destination before them has.
        let keys = command.keys.first > 0 ? command.keys : command.keys.last == 1 ? .first : .none
        reply.integer(keys.first)
        reply.integer(keys.last)
        reply.integer(keys.step)
        let categories = CommandCategories.names.filter { command.allCategories.contains($0.0) }
        reply.set(categories.count)
        for (_, name) in categories { reply.simple(name) }
        let tips = "\(command.tips)".split(separator: " ")
        reply.set(tips.count)
        for tip in tips { reply.bulk(String(tip)) }
        let specifications = KeySpecification.all(of: command)
        reply.set(specifications.count)
        for specification in specifications { specification.write(reply) }
        subcommands.isEmpty ? reply.set(0) : reply.array(subcommands.count)
        for subcommand in subcommands { subcommand.pointee.describe(reply) }
    }

    /// One entry of COMMAND DOCS.
    func document(_ reply: ReplyWriter, heading: StaticString? = nil) {
        let group = command.heading ?? heading ?? command.group
        let syntax = CommandSyntax(command.syntax)
        var texts = [("summary", "\(command.summary)"), ("since", "\(command.since)"), ("group", "\(group)")]
        let complexity = "\(command.complexity)"
        if !complexity.isEmpty { texts.append(("complexity", complexity)) }
        let flags = [(command.deprecated != nil, "deprecated"), (command.isInternal, "syscmd")].filter(\.0).map(\.1)
        reply.map(
            texts.count + (flags.isEmpty ? 0 : 1) + (command.deprecated == nil ? 0 : 2) + (syntax.arguments.isEmpty ? 0 : 1)
                + (subcommands.isEmpty ? 0 : 1))
        for (field, text) in texts {
            reply.bulk(field)
            reply.bulk(text)
        }
        if !flags.isEmpty {
            reply.bulk("doc_flags")
            reply.set(flags.count)
            for flag in flags { reply.simple(flag) }
        }
        if let deprecated = command.deprecated {
            reply.bulk("deprecated_since")
            reply.bulk(deprecated.since)
            reply.bulk("replaced_by")
            reply.bulk(deprecated.replacedBy)
        }
        if !syntax.arguments.isEmpty {
            reply.bulk("arguments")
            syntax.write(reply)
        }
        guard !subcommands.isEmpty else { return }
        reply.bulk("subcommands")
        reply.map(subcommands.count)
        for subcommand in subcommands {
            reply.bulk(subcommand.pointee.fullName)
            subcommand.pointee.document(reply, heading: group)
        }
    }
}

extension Command {
    /// The heading under which Redis documents the command, where its declaration does not name one.
    var group: StaticString {
        let order: [(CommandCategories, StaticString)] = [
            (.transaction, "transactions"), (.pubsub, "pubsub"), (.connection, "connection"), (.string, "string"), (.list, "list"),
            (.sortedSet, "sorted-set"), (.set, "set"), (.hash, "hash"), (.stream, "stream"), (.keyspace, "generic"),
        ]
        return order.first { allCategories.contains($0.0) }?.1 ?? "server"
    }
}

extension Glob {
    static func matches(_ pattern: String, _ text: String) -> Bool {
        Array(pattern.utf8).withUnsafeBytes { pattern in Array(text.utf8).withUnsafeBytes { matches(Argument(pattern), Argument($0)) } }
    }
}
