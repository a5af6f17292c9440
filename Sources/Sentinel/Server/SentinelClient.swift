import RESP
import Reactor

/// A client of this Sentinel: redis-cli, an application's Sentinel client, another Sentinel.
final class SentinelClient: ConnectionHandler {
    static let inputMax = 1 << 20
    static let outputMax = 32 << 20
    static let bulkMax = 65_536
    static let argumentsMax = 1024
    static let subscriptionsMax = 10_000

    let id: Int64
    let connection: Connection
    private unowned let node: SentinelNode
    private var parser: RequestParser
    private(set) var protocolVersion = 2
    private var isAuthenticated: Bool
    private var name = ""
    private let openedAt: Instant
    private var lastActive: Instant
    private var lastCommand = "NULL"
    private var channels: Set<String> = []
    private var patterns: Set<String> = []
    private var idleTimer: TimerID?

    init(node: SentinelNode, id: Int64, connection: Connection) {
        self.node = node
        self.id = id
        self.connection = connection
        parser = RequestParser(area: node.argumentArea)
        isAuthenticated = node.configuration.requirePass == nil
        openedAt = node.loop.now
        lastActive = openedAt
        watchIdleness()
    }

    var isSubscriber: Bool { !channels.isEmpty || !patterns.isEmpty }
    private var subscriptions: Int { channels.count + patterns.count }

    func write(_ reply: Reply) {
        guard connection.isOpen else { return }
        connection.output.append(reply, protocol: protocolVersion)
    }

    // MARK: connection

    func connectionReceived(_ connection: Connection) {
        lastActive = node.loop.now
        while !connection.isClosing {
            switch parser.next(
                connection.input, bulkMax: SentinelClient.bulkMax, argumentsMax: SentinelClient.argumentsMax,
                isAuthenticated: isAuthenticated)
            {
            case .incomplete: return
            case .failure(let text):
                node.reply(.error(String(decoding: text, as: UTF8.self)), to: self)
                node.closeAfterReplies(self)
                return
            case .request:
                let words = (0..<parser.count).map { parser.arguments[$0].text }
                parser.finish(connection.input)
                if !words.isEmpty { handle(words) }
            }
        }
    }

    func connectionClosed(_ connection: Connection, _ reason: CloseReason) {
        if let idleTimer { node.loop.cancel(idleTimer) }
        node.clientClosed(self)
    }

    /// Closes without telling the node, which is stopping.
    func abandon() {
        if let idleTimer { node.loop.cancel(idleTimer) }
        connection.handler = nil
        connection.close()
    }

    /// `timeout`: subscribers are left in peace, as in Redis.
    private func watchIdleness() {
        let limit = Duration.seconds(node.configuration.clientTimeout)
        guard limit > .zero else { return }
        idleTimer = node.loop.schedule(at: lastActive + limit, label: "sentinel client") { [weak self] in
            guard let self else { return }
            if node.loop.now - lastActive >= limit, !isSubscriber {
                connection.close()
            } else {
                lastActive = max(lastActive, isSubscriber ? node.loop.now : lastActive)
                watchIdleness()
            }
        }
    }

    // MARK: commands

    private func handle(_ words: [String]) {
        node.commandsProcessed += 1
        let command = words[0].lowercased()
        lastCommand = command
        let arguments = Array(words.dropFirst())
        guard isAuthenticated || ["auth", "hello"].contains(command) else {
            return node.reply(.error("NOAUTH Authentication required."), to: self)
        }
        if isSubscriber, protocolVersion == 2, !["subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ping", "quit"].contains(command) {
            return node.reply(
                .error("ERR Can't execute '\(command.prefix(128))': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"),
                to: self)
        }
        switch command {
        case "subscribe", "psubscribe": return subscribe(arguments, isPattern: command == "psubscribe", command)
        case "unsubscribe", "punsubscribe": return unsubscribe(arguments, isPattern: command == "punsubscribe")
        case "quit":
            node.reply(.ok, to: self)
            return node.closeAfterReplies(self)
        case "shutdown": return shutdown(arguments)
        default: node.reply(answer(command, arguments, words[0]), to: self)
        }
    }

    private func answer(_ command: String, _ arguments: [String], _ spelling: String) -> Reply {
        switch command {
        case "ping": return ping(arguments)
        case "sentinel":
            if arguments.first?.lowercased() == "pending-scripts", arguments.count == 1 { return node.pendingScripts }
            return node.machine.command(arguments, at: node.loop.now)
        case "info": return .verbatim(format: "txt", text: Array(node.info(arguments.map { $0.lowercased() }).utf8))
        case "publish": return publish(arguments)
        case "auth": return authenticate(arguments)
        case "hello": return hello(arguments)
        case "client": return client(arguments)
        case "role": return .array([.text("sentinel"), .texts(node.machine.masterNames)])
        case "command": return commandTable(arguments)
        case "acl" where arguments.map({ $0.lowercased() }) == ["whoami"]: return .text("default")
        default:
            let shown = arguments.map { "'\($0.prefix(128))' " }.joined().prefix(128)
            return .error("ERR unknown command '\(spelling.prefix(128))', with args beginning with: \(shown)")
        }
    }

    private func wrongArity(_ command: String) -> Reply { .error("ERR wrong number of arguments for '\(command)' command") }

    private func ping(_ arguments: [String]) -> Reply {
        guard arguments.count <= 1 else { return wrongArity("ping") }
        if isSubscriber, protocolVersion == 2 { return .texts(["pong", arguments.first ?? ""]) }
        return arguments.first.map { .text($0) } ?? .simple("PONG")
    }

    /// Other Sentinels greet us this way too, besides the stores' channel.
    private func publish(_ arguments: [String]) -> Reply {
        guard arguments.count == 2 else { return wrongArity("publish") }
        guard arguments[0] == HelloMessage.channel else {
            return .error("ERR Only HELLO messages are accepted by Sentinel instances.")
        }
        if let refusal = node.machine.heard(arguments[1], at: node.loop.now) { return .error("ERR refused: \(refusal)") }
        return .integer(1)
    }

    private func shutdown(_ arguments: [String]) {
        let known: Set<String> = ["save", "nosave", "now", "force"]
        guard arguments.allSatisfy({ known.contains($0.lowercased()) }) else { return node.reply(.error("ERR syntax error"), to: self) }
        node.shutdown(self)
    }

    // MARK: who it is

    private func authenticate(_ arguments: [String]) -> Reply {
        guard (1...2).contains(arguments.count) else { return wrongArity("auth") }
        guard node.configuration.requirePass != nil else {
            if arguments.count == 2, arguments[0] == "default" { return .ok }
            guard arguments.count == 1 else { return .error("WRONGPASS invalid username-password pair or user is disabled.") }
            return .error("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?")
        }
        return login(user: arguments.count == 2 ? arguments[0] : "default", password: arguments.last!)
            ?? .ok
    }

    /// - Returns: the error; nil when it may pass.
    private func login(user: String, password: String) -> Reply? {
        let expected = node.configuration.requirePass
        guard user == "default", expected.map({ isEqual($0, password) }) ?? true else {
            return .error("WRONGPASS invalid username-password pair or user is disabled.")
        }
        isAuthenticated = true
        return nil
    }

    /// Takes as long for a wrong password as for the right one.
    private func isEqual(_ a: String, _ b: String) -> Bool {
        let (x, y) = (Array(a.utf8), Array(b.utf8))
        var difference = x.count ^ y.count
        for i in 0..<y.count { difference |= Int((x.isEmpty ? 0 : x[i % x.count]) ^ y[i]) }
        return difference == 0
    }

    private func hello(_ arguments: [String]) -> Reply {
        var version = protocolVersion
        var rest = arguments[...]
        if let first = rest.popFirst() {
            guard let number = Int(first) else { return .error("ERR Protocol version is not an integer or out of range") }
            guard number == 2 || number == 3 else { return .error("NOPROTO unsupported protocol version") }
            version = number
        }
        var newName: String?
        while let option = rest.popFirst() {
            switch option.lowercased() {
            case "auth" where rest.count >= 2:
                let user = rest.popFirst()!
                if let error = login(user: user, password: rest.popFirst()!) { return error }
            case "setname" where !rest.isEmpty:
                newName = rest.popFirst()!
            default: return .error("ERR Syntax error in HELLO option '\(option.prefix(64))'")
            }
        }
        guard isAuthenticated else {
            return .error("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time")
        }
        if let newName {
            if let error = rename(newName) { return error }
        }
        protocolVersion = version
        return .map([
            .text("server"), .text("redis"), .text("version"), .text(SentinelNode.redisVersion), .text("proto"), .integer(Int64(version)),
            .text("id"), .integer(id), .text("mode"), .text("sentinel"), .text("modules"), .array([]),
        ])
    }

    private func rename(_ newName: String) -> Reply? {
        guard newName.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            return .error("ERR Client names cannot contain spaces, newlines or special characters.")
        }
        name = newName
        return nil
    }

    // MARK: CLIENT and COMMAND

    private func client(_ arguments: [String]) -> Reply {
        guard let subcommand = arguments.first?.lowercased() else { return wrongArity("client") }
        switch (subcommand, arguments.count) {
        case ("id", 1): return .integer(id)
        case ("getname", 1): return name.isEmpty ? .null : .text(name)
        case ("setname", 2): return rename(arguments[1]) ?? .ok
        case ("setinfo", 3): return .ok
        case ("info", 1): return .text(description + "\n")
        case ("list", 1): return .text(node.clientsByAge.map { $0.description + "\n" }.joined())
        case ("kill", 3...): return kill(Array(arguments.dropFirst()))
        case ("no-evict", 2), ("no-touch", 2): return .ok
        case ("id", _), ("getname", _), ("setname", _), ("setinfo", _), ("info", _), ("list", _), ("kill", _):
            return wrongArity("client|\(subcommand)")
        default: return .error("ERR unknown subcommand '\(arguments[0].prefix(128))'. Try CLIENT HELP.")
        }
    }

    /// CLIENT KILL TYPE normal|pubsub, ID n, ADDR a; the caller is spared unless it says SKIPME no.
    private func kill(_ arguments: [String]) -> Reply {
        guard arguments.count % 2 == 0 else { return .error("ERR syntax error") }
        var skipsSelf = true
        var victims = node.clientsByAge
        for i in stride(from: 0, to: arguments.count, by: 2) {
            let value = arguments[i + 1]
            switch arguments[i].lowercased() {
            case "type":
                switch value.lowercased() {
                case "normal": victims.removeAll { $0.isSubscriber }
                case "pubsub": victims.removeAll { !$0.isSubscriber }
                case "master", "replica", "slave": victims.removeAll()
                default: return .error("ERR Unknown client type '\(value.prefix(64))'")
                }
            case "id":
                guard let number = Int64(value) else { return .error("ERR client-id should be greater than 0") }
                victims.removeAll { $0.id != number }
            case "addr": victims.removeAll { $0.connection.peer.description != value }
            case "skipme":
                guard ["yes", "no"].contains(value.lowercased()) else { return .error("ERR syntax error") }
                skipsSelf = value.lowercased() == "yes"
            default: return .error("ERR syntax error")
            }
        }
        if skipsSelf { victims.removeAll { $0 === self } }
        for victim in victims { node.closeAfterReplies(victim) }
        return .integer(Int64(victims.count))
    }

    private var description: String {
        let now = node.loop.now
        return "id=\(id) addr=\(connection.peer) laddr=\(connection.local) fd=\(connection.descriptor) name=\(name)"
            + " age=\((now - openedAt).wholeMilliseconds / 1000) idle=\((now - lastActive).wholeMilliseconds / 1000)"
            + " flags=\(isSubscriber ? "P" : "N") db=0 sub=\(channels.count) psub=\(patterns.count) ssub=0 multi=-1"
            + " qbuf=\(connection.input.count) obl=\(connection.output.count) cmd=\(lastCommand) user=default resp=\(protocolVersion)"
    }

    private static let commandNames = [
        "acl", "auth", "client", "command", "hello", "info", "ping", "psubscribe", "publish", "punsubscribe", "quit", "role",
        "sentinel", "shutdown", "subscribe", "unsubscribe",
    ]

    /// Enough for clients that ask which commands there are; what each of them takes is in Redis's own documentation.
    private func commandTable(_ arguments: [String]) -> Reply {
        switch arguments.first?.lowercased() {
        case nil, "list": return .texts(SentinelClient.commandNames)
        case "count": return .integer(Int64(SentinelClient.commandNames.count))
        case "docs": return .map([])
        default: return .error("ERR unknown subcommand '\(arguments[0].prefix(128))'. Try COMMAND HELP.")
        }
    }

    // MARK: events

    private func subscribe(_ names: [String], isPattern: Bool, _ command: String) {
        guard !names.isEmpty else { return node.reply(wrongArity(command), to: self) }
        for name in names {
            guard subscriptions < SentinelClient.subscriptionsMax else {
                return node.reply(.error("ERR more than \(SentinelClient.subscriptionsMax) subscriptions"), to: self)
            }
            if isPattern { patterns.insert(name) } else { channels.insert(name) }
            node.reply(.push([.text(command), .text(name), .integer(Int64(subscriptions))]), to: self)
        }
    }

    private func unsubscribe(_ names: [String], isPattern: Bool) {
        let kind = isPattern ? "punsubscribe" : "unsubscribe"
        let leaving = names.isEmpty ? (isPattern ? patterns : channels).sorted() : names
        if leaving.isEmpty { return node.reply(.push([.text(kind), .null, .integer(Int64(subscriptions))]), to: self) }
        for name in leaving {
            if isPattern { patterns.remove(name) } else { channels.remove(name) }
            node.reply(.push([.text(kind), .text(name), .integer(Int64(subscriptions))]), to: self)
        }
    }

    /// Hands over an event if it was subscribed to, once for the channel and once for each pattern.
    func deliver(_ event: String, _ message: String) {
        if channels.contains(event) { write(.push([.text("message"), .text(event), .text(message)])) }
        for pattern in patterns.sorted() where globMatches(Array(pattern.utf8), Array(event.utf8)) {
            write(.push([.text("pmessage"), .text(pattern), .text(event), .text(message)]))
        }
    }
}
