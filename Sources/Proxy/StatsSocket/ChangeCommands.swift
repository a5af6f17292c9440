import Reactor

/// What changes something: `set`, `enable`, `disable`, `shutdown`, `clear`.
extension StatsCommands {
    static var change: [StatsCommand] {
        [
            StatsCommand("clear counters", "[all]", level: .operator, "clear max statistics counters (or all counters)") { session, words in
                let all = words.first == "all"
                if all, session.level < .admin { return "Permission denied\n" }
                clearCounters(session.node, all: all)
                return ""
            },
            StatsCommand("disable frontend", "<frontend>", level: .admin, "temporarily disable specific frontend") { session, words in
                attempt { () throws(Refusal) in
                    let frontend = try frontend(words.first, in: session.node)
                    guard frontend.state == .open else {
                        return frontend.state == .stopped ? "Frontend was previously shut down, cannot disable.\n" : "All sockets are already disabled.\n"
                    }
                    frontend.close(.paused)
                    session.node.logEvent(.warning, "Paused frontend \(frontend.name).", to: frontend.logs)
                    return ""
                }
            },
            StatsCommand("disable health", "<bk>/<srv>", level: .admin, "disable health checks") { session, words in
                attempt { () throws(Refusal) in
                    let server = try server(words.first, in: session.node)
                    server.isCheckSuspended = true
                    server.checker?.stop()
                    return ""
                }
            },
            StatsCommand("disable server", "<bk>/<srv>", level: .admin, "disable a server for maintenance (use 'set server' instead)") { session, words in
                attempt { () throws(Refusal) in
                    try server(words.first, in: session.node).administrate(.maintenance)
                    return ""
                }
            },
            StatsCommand("enable frontend", "<frontend>", level: .admin, "re-enable specific frontend") { session, words in
                attempt { () throws(Refusal) in
                    let frontend = try frontend(words.first, in: session.node)
                    switch frontend.state {
                    case .open: return "All sockets are already enabled.\n"
                    case .stopped: return "Frontend was previously shut down, cannot enable.\n"
                    case .paused:
                        do throws(SystemError) {
                            try frontend.listen()
                        } catch {
                            return "Failed to resume frontend, check logs for precise cause (\(error)).\n"
                        }
                        session.node.logEvent(.warning, "Resumed frontend \(frontend.name).", to: frontend.logs)
                        return ""
                    }
                }
            },
            StatsCommand("enable health", "<bk>/<srv>", level: .admin, "enable health checks") { session, words in
                attempt { () throws(Refusal) in
                    let server = try server(words.first, in: session.node)
                    guard server.isChecked else { return "Health checks are not configured on this server.\n" }
                    server.isCheckSuspended = false
                    if server.administration != .maintenance { server.checker?.start() }
                    return ""
                }
            },
            StatsCommand("enable server", "<bk>/<srv>", level: .admin, "enable a disabled server (use 'set server' instead)") { session, words in
                attempt { () throws(Refusal) in
                    try server(words.first, in: session.node).administrate(.ready)
                    return ""
                }
            },
            StatsCommand("set maxconn frontend", "<frontend> <value>", level: .admin, "change a frontend's maxconn setting") { session, words in
                attempt { () throws(Refusal) in
                    let frontend = try frontend(words.first, in: session.node)
                    frontend.connectionsMax = try limit(words.dropFirst().first, "Require <maxconn>.\n")
                    frontend.admitHeld()
                    return ""
                }
            },
            StatsCommand("set maxconn global", "<value>", level: .admin, "change the per-process maxconn setting") { session, words in
                attempt { () throws(Refusal) in
                    session.node.connectionsMax = try limit(words.first, "Expects an integer value.\n")
                    for frontend in session.node.frontends { frontend.admitHeld() }
                    return ""
                }
            },
            StatsCommand("set maxconn server", "<bk>/<srv>", level: .admin, "change a server's maxconn setting") { session, words in
                attempt { () throws(Refusal) in
                    let server = try server(words.first, in: session.node)
                    guard let value = words.dropFirst().first else { throw Refusal("Require <maxconn>.\n") }
                    guard let number = Int(value), number >= 0 else { throw Refusal("maxconn string '\(value)' is not a number.\n") }
                    server.connectionsMax = number == 0 ? nil : number
                    server.backend.serveQueue()
                    return ""
                }
            },
            StatsCommand("set server", "<bk>/<srv> [opts]", level: .admin, "change a server's state, weight, address or health") { session, words in
                attempt { () throws(Refusal) in try setServer(server(words.first, in: session.node), words.dropFirst()) }
            },
            StatsCommand("set severity-output", "[none|number|string]", "set presence of severity level in feedback information") { _, words in
                words.first == "none" ? "" : "only 'none' is supported by 'set severity-output' here.\n"
            },
            StatsCommand("set timeout", "[cli] <delay>", "change a timeout setting") { session, words in
                guard words.first == "cli" else { return "'set timeout' only supports 'cli'.\n" }
                guard let text = words.dropFirst().first else { return "Expects an integer value.\n" }
                // Unlike in the file the default unit is the second.
                guard let delay = try? ProxyConfigurationReader.duration(text, for: "cli", defaultUnit: 1_000_000_000), delay > .zero else { return "Invalid timeout value.\n" }
                session.timeout = delay
                return ""
            },
            StatsCommand("set weight", "<bk>/<srv> <weight>", level: .admin, "change a server's weight (use 'set server' instead)") { session, words in
                attempt { () throws(Refusal) in try setWeight(server(words.first, in: session.node), words.dropFirst().first) }
            },
            StatsCommand("shutdown frontend", "<frontend>", level: .admin, "stop a specific frontend") { session, words in
                attempt { () throws(Refusal) in
                    let frontend = try frontend(words.first, in: session.node)
                    if frontend.state == .stopped { return "Frontend was already shut down.\n" }
                    session.node.stop(frontend)
                    return ""
                }
            },
            StatsCommand("shutdown session", "[id]", level: .admin, "kill a specific session") { session, words in
                guard let name = words.first, let id = sessionID(name) else { return "Session pointer expected (use 'show sess').\n" }
                guard let found = session.node.sessions[id] else { return "No such session (use 'show sess').\n" }
                found.shut(.killed)
                return ""
            },
            StatsCommand("shutdown sessions server", "<bk>/<srv>", level: .admin, "kill sessions on a server") { session, words in
                attempt { () throws(Refusal) in
                    session.node.shutSessions(on: try server(words.first, in: session.node), cause: .killed)
                    return ""
                }
            },
        ]
    }

    private static func limit(_ text: String?, _ missing: String) throws(Refusal) -> Int {
        guard let text else { throw Refusal(missing) }
        guard let value = Int(text), value >= 0 else { throw Refusal("maxconn string '\(text)' is not a number.\n") }
        return value
    }

    private static func clearCounters(_ node: ProxyNode, all: Bool) {
        node.countBytes()
        for frontend in node.frontends { frontend.counters.clear(all: all) }
        for backend in node.backends {
            backend.counters.clear(all: all)
            for server in backend.servers {
                server.counters.clear(all: all)
                if all {
                    server.checksFailed = 0
                    server.timesDown = 0
                }
            }
            if all { backend.timesDown = 0 }
        }
        node.sessionRate.resetHighest()
    }

    private static func setServer(_ server: Server, _ words: ArraySlice<String>) throws(Refusal) -> String {
        let usage = "usage: set server <backend>/<server> addr | health | state | weight\n"
        guard let what = words.first else { return usage }
        let value = words.dropFirst().first
        switch what {
        case "weight": return try setWeight(server, value)
        case "state":
            switch value {
            case "ready": server.administrate(.ready)
            case "drain": server.administrate(.drain)
            case "maint": server.administrate(.maintenance)
            default: return "'set server <srv> state' expects 'ready', 'drain' and 'maint'.\n"
            }
            return ""
        case "health":
            switch value {
            case "up": server.decreeHealth(up: true)
            case "down": server.decreeHealth(up: false)
            case "stopping": server.administrate(.drain)
            default: return "'set server <srv> health' expects 'up', 'stopping', or 'down'.\n"
            }
            return ""
        case "addr": return try setAddress(server, words.dropFirst())
        case "agent", "agent-addr", "agent-port", "agent-send", "check-addr", "check-port", "fqdn", "ssl":
            return "'set server \(what)' is not supported; \(usage)"
        default: return usage
        }
    }

    private static func setAddress(_ server: Server, _ words: ArraySlice<String>) throws(Refusal) -> String {
        guard let host = words.first else { return "set server <b>/<s> addr requires an address and optionally a port.\n" }
        guard let address = SocketAddress(numeric: host, port: server.address.port) else { return "Invalid addr '\(host)' by 'stats socket command'\n" }
        var new = address
        if words.dropFirst().first == "port", let text = words.dropFirst(2).first {
            guard let port = UInt16(text), port > 0 else { return "provided port is not an integer in the range 1 to 65535 by 'stats socket command'\n" }
            new = address.with(port: port)
        }
        let old = server.address
        var changes: [String] = []
        if old.host != new.host { changes.append("IP changed from '\(old.host)' to '\(new.host)'") }
        if old.port != new.port { changes.append("port changed from '\(old.port)' to '\(new.port)'") }
        if old.host == new.host { changes.insert("no need to change the addr", at: 0) }
        guard old != new else { return "no need to change the addr by 'stats socket command'\n" }
        server.address = new
        let text = changes.joined(separator: ", ") + " by 'stats socket command'"
        server.backend.log(.notice, "\(server.path) changed its IP/port: \(text)")
        return text + "\n"
    }

    /// An absolute weight, or `NN%` of the initial one.
    private static func setWeight(_ server: Server, _ text: String?) throws(Refusal) -> String {
        guard let text, !text.isEmpty else { return "Require <weight> or <weight%>.\n" }
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        guard let number = Int(digits) else { return "Empty weight string empty or preceded by garbage" }
        switch text.dropFirst(digits.count) {
        case "":
            guard number <= ProxyConfigurationReader.weightMax else { return "Absolute weight can only be between 0 and 256 inclusive.\n" }
            server.weight = number
        case "%":
            let weight = server.settings.weight * number / 100
            guard weight <= ProxyConfigurationReader.weightMax else { return "Absolute weight can only be between 0 and 256 inclusive.\n" }
            server.weight = weight
        default: return "Trailing garbage in weight string.\n"
        }
        server.backend.updateState()
        server.backend.serveQueue()
        return ""
    }
}

/// What an administrator decrees of a server.
extension Server {
    func administrate(_ wanted: Administration) {
        let before = administration
        guard wanted != before else { return }
        let backend = self.backend
        let wasUsable = isUsable
        administration = wanted
        isDisabledByFile = false
        switch wanted {
        case .maintenance:
            checker?.stop()
            health.set(up: false)
            noteChange(isUp: false, at: backend.node.loop.now)
            backend.log(
                wasUsable ? .alert : .notice,
                "\(backend.title(self)) is going DOWN for maintenance. \(backend.serversLeft("left")) \(counters.current) sessions active, 0 requeued, "
                    + "\(backend.queue.count) remaining in queue.")
        case .drain:
            if before == .maintenance { leaveMaintenance(to: "DRAIN") }
            else { backend.log(.notice, "\(backend.title(self)) enters drain state. \(backend.serversLeft("online")) 0 sessions requeued, \(backend.queue.count) total in queue.") }
        case .ready:
            if before == .maintenance { leaveMaintenance(to: "READY") }
            else { backend.log(.notice, "\(backend.title(self)) is \(health.isUp ? "UP" : "DOWN") (leaving forced drain).") }
        }
        backend.updateState()
        backend.lookForServers()
        backend.serveQueue()
    }

    /// Back from maintenance a server is up, and one failed check from down, as HAProxy has it.
    private func leaveMaintenance(to state: String) {
        health.set(up: true)
        if !isChecked { health.setFull() }
        noteChange(isUp: true, at: backend.node.loop.now)
        backend.log(.notice, "\(backend.title(self)) is UP/\(state) (leaving forced maintenance).")
        lastResult = nil
        if !isCheckSuspended { checker?.start() }
    }

    /// `set server ... health up|down`: until the next check says otherwise.
    func decreeHealth(up: Bool) {
        guard administration != .maintenance, health.isUp != up else { return }
        if up {
            health.setFull()
            backend.wentUp(self, reason: ", changed from CLI")
        } else {
            health.set(up: false)
            backend.wentDown(self, reason: ", changed from CLI")
        }
    }
}
