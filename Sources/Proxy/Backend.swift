import Observability
import Reactor

/// A backend: its servers, who is next, and who waits.
final class Backend {
    let section: ProxyConfiguration.Section
    unowned let node: ProxyNode
    private(set) var servers: [Server] = []
    var counters = Counters()
    var lastChange: Instant
    private var downSince: Instant?
    private var downtimeBefore: Duration = .zero
    var timesDown = 0
    /// Sessions waiting for a server with room, in order of arrival.
    private(set) var queue: [Session] = []
    let logs: [ProxyConfiguration.LogTarget]

    init(_ section: ProxyConfiguration.Section, node: ProxyNode) {
        self.section = section
        self.node = node
        lastChange = node.loop.now
        logs = node.logTargets(of: section)
        for configured in section.servers {
            let server = Server(configured, backend: self, now: node.loop.now)
            servers.append(server)
            if server.isChecked {
                let checker = ServerChecker(loop: node.loop, server: server, timeouts: section.settings.timeouts)
                checker.onResult = { [unowned self, unowned server] in note($0, took: $1, of: server) }
                server.checker = checker
            }
        }
    }

    var name: String { section.name }
    var id: Int { section.id }
    var options: ProxyConfiguration.Options { section.settings.options }

    func server(named name: String) -> Server? { servers.first { $0.name == name } }

    func startChecks() {
        for server in servers where server.isChecked && server.administration != .maintenance { server.checker?.start() }
    }

    func stopChecks() { for server in servers { server.checker?.stop() } }

    // MARK: who is next

    enum Choice {
        case server(Server)
        /// Every usable server is at its limit.
        case wait
        /// There is none to wait for.
        case none
    }

    /// Servers that new sessions may go to: the active ones, or when there are none, the first backup (all of them with
    /// `option allbackups`).
    var candidates: [Server] {
        let active = servers.filter { $0.isUsable && !$0.settings.isBackup }
        if !active.isEmpty { return active }
        let backups = servers.filter { $0.isUsable && $0.settings.isBackup }
        return options.contains(.allBackups) ? backups : Array(backups.prefix(1))
    }

    /// - Parameter avoided: the server that just failed; taken only when there is no other.
    func choose(avoiding avoided: Server? = nil) -> Choice {
        var candidates = self.candidates
        if candidates.isEmpty { return .none }
        if let avoided, candidates.count > 1 { candidates.removeAll { $0 === avoided } }
        let free = candidates.filter(\.hasRoom)
        guard !free.isEmpty else { return .wait }
        let chosen: Server
        switch section.settings.balance {
        case .roundrobin, .staticRR: chosen = nextInTurn(free)
        case .first: chosen = free.min { $0.id < $1.id }!
        case .leastconn:
            func isLess(_ a: Server, _ b: Server) -> Bool { a.counters.current * b.weight < b.counters.current * a.weight }
            let least = free.min(by: isLess)!
            chosen = nextInTurn(free.filter { !isLess(least, $0) })
        }
        chosen.counters.chosen += 1
        counters.chosen += 1
        return .server(chosen)
    }

    /// Smooth weighted round robin: each server gains its weight every time, the one with most is taken and pays the sum of all.
    private func nextInTurn(_ servers: [Server]) -> Server {
        var sum = 0
        var best = servers[0]
        for server in servers {
            server.turn += server.weight
            sum += server.weight
            if server.turn > best.turn { best = server }
        }
        best.turn -= sum
        return best
    }

    // MARK: who waits

    func enqueue(_ session: Session) {
        queue.append(session)
        counters.queueMax = max(counters.queueMax, queue.count)
    }

    func leaveQueue(_ session: Session) { queue.removeAll { $0 === session } }

    /// Gives room that has come free, or a server that has come up, to those who wait.
    func serveQueue() {
        while let session = queue.first {
            switch choose() {
            case .server(let server):
                queue.removeFirst()
                session.leftQueue(for: server)
            case .wait, .none: return
            }
        }
    }

    // MARK: health

    private func note(_ result: CheckResult, took: Duration, of server: Server) {
        let isPass = result.status.isPass
        let isFirst = server.lastResult == nil
        server.lastResult = result
        server.lastResultDuration = took
        if !isPass, !server.health.isZero { server.checksFailed += 1 }
        let change = server.health.count(passed: isPass)
        // HAProxy reports a check when it moved the counter, and the first one.
        if options.contains(.logHealthChecks), change != .none || isFirst { logCheck(server, result, took) }
        switch change {
        case .none, .counted: break
        case .wentUp: wentUp(server, reason: reason(result, took))
        case .wentDown: wentDown(server, reason: reason(result, took))
        }
        lookForServers()
    }

    /// While no server passes its check, those that are down are checked more often.
    func lookForServers() {
        let isSearching = !servers.contains(where: \.isPassing)
        for server in servers { server.checker?.search(isSearching && !server.health.isUp && server.administration == .ready && !server.isCheckSuspended) }
    }

    private func reason(_ result: CheckResult, _ took: Duration) -> String {
        if options.contains(.logHealthChecks) { return "" }
        return ", " + describe(result, took)
    }

    private func describe(_ result: CheckResult, _ took: Duration) -> String {
        var text = "reason: \(result.status.text)"
        if result.status == .layer7OK { text += ", code: 0" }
        if !result.information.isEmpty { text += ", info: \"\(result.information)\"" }
        return text + ", check duration: \(took.wholeMilliseconds)ms"
    }

    private func logCheck(_ server: Server, _ result: CheckResult, _ took: Duration) {
        let role = server.settings.isBackup ? "backup " : ""
        let verdict = result.status.isPass ? "succeeded" : "failed"
        let state = server.health.isUp ? "UP" : "DOWN"
        log(
            .notice,
            "Health check for \(role)server \(server.path) \(verdict), \(describe(result, took)), status: \(server.health.fraction) \(state).")
    }

    func wentUp(_ server: Server, reason: String) {
        server.noteChange(isUp: true, at: node.loop.now)
        let waiting = queue.count
        updateState()
        log(.notice, "\(title(server)) is UP\(reason). \(serversLeft("online")) \(waiting) sessions requeued, \(queue.count) total in queue.")
        if server.settings.shutsBackupSessionsWhenUp, !server.settings.isBackup {
            for backup in servers where backup.settings.isBackup { node.shutSessions(on: backup, cause: .backupReplaced) }
        }
        serveQueue()
    }

    func wentDown(_ server: Server, reason: String) {
        server.timesDown += 1
        server.noteChange(isUp: false, at: node.loop.now)
        let active = server.counters.current
        log(.alert, "\(title(server)) is DOWN\(reason). \(serversLeft("left")) \(active) sessions active, 0 requeued, \(queue.count) remaining in queue.")
        // Without checks a server only goes down by an administrator's word, whose sessions HAProxy keeps, too.
        if server.settings.shutsSessionsWhenDown { node.shutSessions(on: server, cause: .serverDown) }
        updateState()
    }

    func title(_ server: Server) -> String { "\(server.settings.isBackup ? "Backup " : "")Server \(server.path)" }

    /// `2 active and 0 backup servers left.`
    func serversLeft(_ verb: String) -> String {
        let active = servers.count { $0.isUsable && !$0.settings.isBackup }
        let backup = servers.count { $0.isUsable && $0.settings.isBackup }
        return "\(active) active and \(backup) backup servers \(verb).\(active == 0 && backup > 0 ? " Running on backup." : "")"
    }

    var isUp: Bool { servers.isEmpty || servers.contains(where: \.isUsable) }

    /// Notes that the backend as a whole has gained or lost its last server.
    func updateState() {
        let wasUp = downSince == nil
        guard wasUp != isUp else { return }
        lastChange = node.loop.now
        if isUp {
            if let since = downSince { downtimeBefore += node.loop.now - since }
            downSince = nil
        } else {
            downSince = node.loop.now
            timesDown += 1
            log(.emergency, "backend \(name) has no server available!")
        }
    }

    func downtime(at now: Instant) -> Duration { downtimeBefore + (downSince.map { now - $0 } ?? .zero) }

    func log(_ level: SyslogSeverity, _ message: String) { node.logEvent(level, message, to: logs, tag: section.settings.logTag) }
}
