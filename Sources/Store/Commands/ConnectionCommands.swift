import Glibc
import RESP

/// Who is at the other end, which protocol is spoken, which database is used.
extension StoreServer {
    static let connectionCommands: [Command] = [
        Command(
            "AUTH", arity: -2, flags: [.noScript, .loading, .stale, .fast, .noAuth, .allowBusy], categories: [.connection], since: "1.0.0",
            syntax: "[username]@6.0.0 password",
            complexity: "O(N) where N is the number of passwords defined for the user", summary: "Authenticates the connection."
        ) { call in call.server.authenticate(call) },
        Command(
            "HELLO", arity: -1, flags: [.noScript, .loading, .stale, .fast, .noAuth, .allowBusy], categories: [.connection],
            since: "6.0.0",
            syntax: "[arguments(protover:int [AUTH username_password(username password)] [SETNAME clientname])]",
            summary: "Handshakes with the Redis server."
        ) { call in call.server.hello(call) },
        Command(
            "PING", arity: -1, flags: [.fast], categories: [.connection], since: "1.0.0",
            syntax: "[message]", tips: "request_policy:all_shards response_policy:all_succeeded",
            summary: "Returns the server's liveliness response."
        ) { call in
            if call.count > 2 { return call.wrongArity() }
            if call.client.gate.contains(.subscribed), !call.client.isRESP3 {
                call.reply.array(2)
                call.reply.bulk("pong")
                if call.count == 2 { call.reply.bulk(call[1]) } else { call.reply.bulk("") }
            } else if call.count == 2 {
                call.reply.bulk(call[1])
            } else {
                call.reply.raw("+PONG\r\n")
            }
        },
        Command(
            "ECHO", arity: 2, flags: [.loading, .stale, .fast], categories: [.connection], since: "1.0.0",
            syntax: "message",
            summary: "Returns the given string."
        ) { call in call.reply.bulk(call[1]) },
        Command(
            "QUIT", arity: -1, flags: [.noScript, .loading, .stale, .fast, .noAuth, .allowBusy], categories: [.connection], since: "1.0.0",
            summary: "Closes the connection."
        ) { call in
            call.reply.ok()
            call.client.closeAfterReplies()
        },
        Command(
            "RESET", arity: 1, flags: [.noScript, .loading, .stale, .fast, .noAuth, .allowBusy], categories: [.connection], since: "6.2.0",
            summary: "Resets the connection."
        ) { call in
            call.server.reset(call.client)
            call.client.reply.simple("RESET")
        },
        Command(
            "SELECT", arity: 2, flags: [.loading, .stale, .fast], categories: [.connection], since: "1.0.0",
            syntax: "index:int",
            summary: "Changes the selected database."
        ) { call in
            guard let db = call.server.databaseIndex(call, 1) else { return }
            call.client.db = db
            call.reply.ok()
        },
    ]

    // MARK: passwords

    /// Whether the user exists and the password is his: there is the default user only.
    private func isValid(user: Argument, password: Argument) -> Bool {
        guard user == Argument("default") else { return false }
        return configuration.password.isEmpty || isPassword(password)
    }

    /// Compares without ending at the first difference: how long it takes tells nothing about how much was right.
    private func isPassword(_ given: Argument) -> Bool {
        let password = configuration.password
        var difference = UInt8(truncatingIfNeeded: password.count == given.count ? 0 : 1)
        for i in 0..<given.count { difference |= given[i] ^ password[i % password.count] }
        return difference == 0
    }

    private func authenticate(_ call: borrowing Call) {
        if call.count > 3 { return call.syntaxError() }
        if call.count == 2, configuration.password.isEmpty {
            return call.reply.error("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?")
        }
        let isRight = call.count == 2 ? isPassword(call[1]) : isValid(user: call[1], password: call[2])
        guard isRight else { return wrongPassword(call, user: call.count == 2 ? Argument("default") : call[1]) }
        call.client.gate.remove(.unauthenticated)
        call.reply.ok()
    }

    private func wrongPassword(_ call: borrowing Call, user: Argument) {
        statistics.authenticationsFailed += 1
        accessLog.refused(user: user.bytes, client: describe(call.client), at: loop.wallMilliseconds)
        call.reply.error("WRONGPASS invalid username-password pair or user is disabled.")
    }

    // MARK: HELLO

    private func hello(_ call: borrowing Call) {
        let client = call.client
        var version = client.isRESP3 ? 3 : 2
        if call.count > 1 {
            guard let asked = call[1].integer else { return call.reply.error("ERR Protocol version is not an integer or out of range") }
            guard asked == 2 || asked == 3 else { return call.reply.error("NOPROTO unsupported protocol version") }
            version = Int(asked)
        }
        var name: Argument?
        var isAuthenticated = client.isAuthenticated
        var i = 2
        while i < call.count {
            let left = call.count - 1 - i
            if call[i].isWord("auth"), left >= 2 {
                guard isValid(user: call[i + 1], password: call[i + 2]) else { return wrongPassword(call, user: call[i + 1]) }
                isAuthenticated = true
                i += 3
            } else if call[i].isWord("setname"), left >= 1 {
                guard StoreServer.isValidName(call[i + 1]) else { return StoreServer.badName(call.reply) }
                name = call[i + 1]
                i += 2
            } else {
                return call.reply.error("ERR Syntax error in HELLO option '\(call[i].text)'")
            }
        }
        guard isAuthenticated else {
            return call.reply.error("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time")
        }
        client.gate.remove(.unauthenticated)
        if let name { client.name = name.bytes }
        client.isRESP3 = version == 3
        let reply = client.reply
        reply.map(7)
        reply.bulk("server")
        reply.bulk("redis")
        reply.bulk("version")
        reply.bulk(StoreVersion.redis)
        reply.bulk("proto")
        reply.integer(version)
        reply.bulk("id")
        reply.integer(client.id)
        reply.bulk("mode")
        reply.bulk("standalone")
        reply.bulk("role")
        reply.bulk(replication.isReplica ? "replica" : "master")
        reply.bulk("modules")
        reply.array(0)
    }

    /// Names of clients and libraries have no spaces, line ends or other characters that would break CLIENT LIST.
    static func isValidName(_ name: Argument) -> Bool { name.buffer.allSatisfy { $0 > 0x20 && $0 < 0x7F } }

    static func badName(_ reply: ReplyWriter) {
        reply.error("ERR Client names cannot contain spaces, newlines or special characters.")
    }

    // MARK: RESET

    /// Makes a session what it was when it began; the connection stays.
    private func reset(_ client: Client) {
        if client.transaction != nil { endTransaction(client) }
        unwatch(client)
        unsubscribeFromAll(client)
        if client.gate.contains(.monitor) {
            client.gate.remove(.monitor)
            monitors.removeAll { $0 === client }
            updateGate()
        }
        client.gate.remove([.repliesOff, .skipsNextReply, .skipsReply])
        client.output = client.connection.output
        client.db = databases[0]
        client.name = []
        client.isRESP3 = false
        client.isNoEvict = false
        client.isNoTouch = false
        if configuration.password.isEmpty {
            client.gate.remove(.unauthenticated)
        } else {
            client.gate.insert(.unauthenticated)
        }
        applyOutputLimit(client)
    }
}
