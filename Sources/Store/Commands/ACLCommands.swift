import RESP

/// ACL, with the default user alone: whose password is `requirepass`, and who may do everything.
extension StoreServer {
    private static let flags: CommandFlags = [.admin, .noScript, .loading, .stale]
    private static let openFlags: CommandFlags = [.noScript, .loading, .stale]
    private static let noFile: StaticString = "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users in the Redis configuration."

    static let aclCommands: [Command] = [
        Command(
            container: "ACL", since: "6.0.0", summary: "A container for Access List Control commands.",
            subcommands: [
                Command("WHOAMI", arity: 2, flags: openFlags, since: "6.0.0", summary: "Returns the authenticated username of the current connection.") { call in
                    call.reply.bulk("default")
                },
                Command(
                    "USERS", arity: 2, flags: flags, since: "6.0.0", complexity: "O(N). Where N is the number of configured users.",
                    summary: "Lists all ACL users."
                ) { call in
                    call.reply.array(1)
                    call.reply.bulk("default")
                },
                Command(
                    "LIST", arity: 2, flags: flags, since: "6.0.0", complexity: "O(N). Where N is the number of configured users.",
                    summary: "Dumps the effective rules in ACL file format."
                ) { call in
                    call.reply.array(1)
                    let hash = call.server.passwordHash
                    call.reply.bulk("user default on \(hash.isEmpty ? "nopass" : "#" + hash) ~* &* +@all")
                },
                Command(
                    "GETUSER", arity: 3, flags: flags, since: "6.0.0",
                    syntax: "username",
                    complexity: "O(N). Where N is the number of password, command and pattern rules that the user has.",
                    summary: "Lists the ACL rules of a user."
                ) { call in call.server.describeUser(call) },
                Command(
                    "CAT", arity: -2, flags: openFlags, since: "6.0.0",
                    syntax: "[categoryname]",
                    complexity: "O(1) since the categories and commands are a fixed set.",
                    summary: "Lists the ACL categories, or the commands inside a category."
                ) { call in call.server.listCategories(call) },
                Command(
                    "GENPASS", arity: -2, flags: openFlags, since: "6.0.0",
                    syntax: "[bits:int]",
                    summary: "Generates a pseudorandom, secure password that can be used to identify ACL users."
                ) { call in
                    call.server.generatePassword(call)
                },
                Command(
                    "LOG", arity: -2, flags: flags, since: "6.0.0",
                    syntax: "[operation(count:int|RESET)]",
                    complexity: "O(N) with N being the number of entries shown.",
                    summary: "Lists recent security events generated due to ACL rules."
                ) { call in call.server.accessLog.reply(call) },
                Command(
                    "DRYRUN", arity: -4, flags: flags, since: "7.0.0",
                    syntax: "username command [arg...]",
                    summary: "Simulates the execution of a command by a user, without executing the command."
                ) { call in
                    call.server.tryCommand(call)
                },
                Command(
                    "SETUSER", arity: -3, flags: flags, since: "6.0.0",
                    syntax: "username [rule...]",
                    complexity: "O(N). Where N is the number of rules provided.",
                    summary: "Creates and modifies an ACL user and its rules."
                ) { call in call.reply.error("ERR there are no ACL users beside the default one, whose password is set with CONFIG SET requirepass") },
                Command(
                    "DELUSER", arity: -3, flags: flags, since: "6.0.0",
                    syntax: "username...",
                    complexity: "O(1) amortized time considering the typical user.", summary: "Deletes ACL users, and terminates their connections."
                ) { call in
                    for i in 2..<call.count where call[i] == Argument("default") {
                        return call.reply.error("ERR The 'default' user cannot be removed")
                    }
                    call.reply.integer(0)
                },
                Command("LOAD", arity: 2, flags: flags, since: "6.0.0", complexity: "O(N). Where N is the number of configured users.", summary: "Reloads the rules from the configured ACL file.") { call in
                    call.reply.error(noFile)
                },
                Command("SAVE", arity: 2, flags: flags, since: "6.0.0", complexity: "O(N). Where N is the number of configured users.", summary: "Saves the effective ACL rules in the configured ACL file.") { call in
                    call.reply.error(noFile)
                },
                help(
                    "ACL", since: "6.0.0", flags: [.loading, .stale],
                    [
                        "CAT [<category>]", "    List all commands that belong to <category>, or all command categories",
                        "    when no category is specified.", "DRYRUN <username> <command> [<arg> ...]",
                        "    Returns whether the user can execute the given command without executing the command.", "GETUSER <username>",
                        "    Get the user's details.", "GENPASS [<bits>]",
                        "    Generate a secure 256-bit user password. The optional `bits` argument can", "    be used to specify a different size.",
                        "LIST", "    Show users details in config file format.", "LOG [<count> | RESET]", "    Show the ACL log entries.", "USERS",
                        "    List all the registered usernames.", "WHOAMI", "    Return the current connection username.",
                    ]),
            ])
    ]

    /// SHA-256 of the password in hexadecimal; empty when there is no password.
    private var passwordHash: String {
        configuration.password.isEmpty ? "" : configuration.password.withUnsafeBufferPointer { SHA.hexadecimal(SHA.two256($0)) }
    }

    private func describeUser(_ call: borrowing Call) {
        let reply = call.reply
        guard call[2] == Argument("default") else { return reply.null() }
        let hash = passwordHash
        reply.map(6)
        reply.bulk("flags")
        reply.set(hash.isEmpty ? 2 : 1)
        reply.bulk("on")
        if hash.isEmpty { reply.bulk("nopass") }
        reply.bulk("passwords")
        reply.array(hash.isEmpty ? 0 : 1)
        if !hash.isEmpty { reply.bulk(hash) }
        reply.bulk("commands")
        reply.bulk("+@all")
        reply.bulk("keys")
        reply.bulk("~*")
        reply.bulk("channels")
        reply.bulk("&*")
        reply.bulk("selectors")
        reply.array(0)
    }

    private func listCategories(_ call: borrowing Call) {
        if call.count > 3 { return call.unknownSubcommandOrArity() }
        guard call.count == 3 else {
            call.reply.array(CommandCategories.names.count)
            for (_, name) in CommandCategories.names { call.reply.bulk(String(name.dropFirst())) }
            return
        }
        let wanted = "@" + call[2].lowercased
        guard let category = CommandCategories.names.first(where: { $0.1 == wanted })?.0 else {
            return call.reply.error("ERR Unknown category '\(call[2].text)'")
        }
        let names = commands.all.flatMap { $0.pointee.subcommands.isEmpty ? [$0] : $0.pointee.subcommands }
            .filter { $0.pointee.command.allCategories.contains(category) }.map(\.pointee.fullName)
        call.reply.array(names.count)
        for name in names { call.reply.bulk(name) }
    }

    private func generatePassword(_ call: borrowing Call) {
        if call.count > 3 { return call.unknownSubcommandOrArity() }
        var bits: Int64 = 256
        if call.count == 3 {
            guard let asked = call.integer(2) else { return }
            guard asked > 0, asked <= 4096 else {
                return call.reply.error("ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096")
            }
            bits = asked
        }
        var generator = SystemRandomNumberGenerator()
        let digits = Array("0123456789abcdef".utf8)
        call.reply.bulk((0..<(bits + 3) / 4).map { _ in digits[Int.random(in: 0..<16, using: &generator)] })
    }

    private func tryCommand(_ call: borrowing Call) {
        guard call[2] == Argument("default") else { return call.reply.error("ERR User '\(call[2].text)' not found") }
        guard var slot = commands.find(call[3]) else { return call.reply.error("ERR Command '\(call[3].text)' not found") }
        let count = call.count - 3
        if count > 1, !slot.pointee.subcommands.isEmpty {
            guard let sub = slot.pointee.subcommand(call[4]) else { return call.reply.error("ERR Command '\(call[3].text)' not found") }
            slot = sub
        }
        let arity = slot.pointee.arity
        guard arity >= 0 ? count == arity : count >= -arity else {
            return call.reply.error("ERR wrong number of arguments for '\(slot.pointee.fullName)' command")
        }
        call.reply.ok()
    }
}

/// Who was refused lately (ACL LOG), the latest first.
struct AccessLog {
    private struct Entry {
        let id: Int64
        var count: Int64
        let user: [UInt8]
        let createdAt: Int64
        var updatedAt: Int64
        var client: String
    }

    private var entries: [Entry] = []
    private var lastID: Int64 = 0
    private static let entriesMax = 128
    /// Attempts of the same user within this time are one entry, in milliseconds.
    private static let window: Int64 = 60_000

    /// Notes a wrong name or password.
    mutating func refused(user: [UInt8], client: String, at now: Int64) {
        if let index = entries.firstIndex(where: { $0.user == user && now - $0.createdAt <= AccessLog.window }) {
            var entry = entries.remove(at: index)
            entry.count += 1
            entry.updatedAt = now
            entry.client = client
            entries.insert(entry, at: 0)
            return
        }
        entries.insert(Entry(id: lastID, count: 1, user: user, createdAt: now, updatedAt: now, client: client), at: 0)
        lastID += 1
        if entries.count > AccessLog.entriesMax { entries.removeLast() }
    }

    mutating func reset() { entries.removeAll() }

    func reply(_ call: borrowing Call) {
        if call.count > 3 { return call.unknownSubcommandOrArity() }
        var most: Int64 = 10
        if call.count == 3 {
            if call[2].isWord("reset") {
                call.server.accessLog.reset()
                return call.reply.ok()
            }
            guard let asked = call.integer(2) else { return }
            most = max(0, asked)
        }
        let shown = entries.prefix(Int(min(most, Int64(entries.count))))
        let reply = call.reply
        let now = call.server.loop.wallMilliseconds
        reply.array(shown.count)
        for entry in shown {
            reply.map(10)
            reply.bulk("count")
            reply.integer(entry.count)
            reply.bulk("reason")
            reply.bulk("auth")
            reply.bulk("context")
            reply.bulk("toplevel")
            reply.bulk("object")
            reply.bulk("AUTH")
            reply.bulk("username")
            reply.bulk(entry.user)
            reply.bulk("age-seconds")
            reply.double(Double(now - entry.createdAt) / 1000)
            reply.bulk("client-info")
            reply.bulk(entry.client)
            reply.bulk("entry-id")
            reply.integer(entry.id)
            reply.bulk("timestamp-created")
            reply.integer(entry.createdAt)
            reply.bulk("timestamp-last-updated")
            reply.integer(entry.updatedAt)
        }
    }
}
