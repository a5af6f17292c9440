import Glibc
import Reactor

/// `show ...`
extension StatsCommands {
    /// The version whose stats socket this is; tools look at it.
    static let haproxyVersion = "2.6.12"

    static var show: [StatsCommand] {
        [
            StatsCommand("show backend", "", "list backends in the current running config") { session, _ in
                "# name\n" + session.node.backends.map { "\($0.name)\n" }.joined()
            },
            StatsCommand("show cli level", "", "display the level of the current CLI session") { session, _ in "\(session.level)\n" },
            StatsCommand("show cli sockets", "", level: .operator, "dump list of cli sockets") { session, _ in
                "# socket lvl processes\n"
                    + session.node.configuration.global.statsSockets.map { "\(socketName($0.address)) \($0.level) all\n" }.joined()
            },
            StatsCommand("show errors", "[<px>] [request|response]", level: .operator, "report last request and/or response errors for each proxy") { session, _ in
                "Total events captured on [\(DateText.accept(milliseconds: session.node.loop.wallMilliseconds))] : 0\n"
            },
            StatsCommand("show info", "[desc|json|typed|float]*", "report information about the running process") { session, words in
                if let word = words.first { return "'show info \(word)' is not supported; only the plain form is.\n" }
                return info(session.node).map { "\($0): \($1)\n" }.joined()
            },
            StatsCommand("show servers conn", "[<backend>]", "dump server connections status (all or for a single backend)") { session, words in
                attempt { () throws(Refusal) in
                    let head = "# bkname/svname bkid/svid addr port - purge_delay used_cur used_max need_est unsafe_nb safe_nb idle_lim idle_cur idle_per_thr[1]\n"
                    return try head + chosenBackends(session.node, words.first).flatMap(\.servers).map {
                        "\($0.path) \($0.backend.id)/\($0.id) \($0.address.host) \($0.address.port) - 5000 \($0.counters.current) \($0.counters.currentMax) "
                            + "\($0.counters.current) 0 0 -1 0 0\n"
                    }.joined()
                }
            },
            StatsCommand("show servers state", "[<backend>]", "dump volatile server information (all or for a single backend)") { session, words in
                attempt { () throws(Refusal) in
                    let head =
                        "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change "
                        + "srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port "
                        + "srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port\n"
                    return try head + chosenBackends(session.node, words.first).flatMap(\.servers).map(stateLine).joined()
                }
            },
            StatsCommand("show sess", "[id]", level: .operator, "report the list of current sessions or dump this exact session") { session, words in
                sessions(session.node, words.first)
            },
            StatsCommand("show startup-logs", "", "report logs emitted during HAProxy startup") { session, _ in
                session.node.configuration.warnings.map { $0.haproxyLine(pid: getpid()) + "\n" }.joined()
            },
            StatsCommand("show stat", "[desc|json|no-maint|typed|up]*", "report counters for each proxy and server") { session, words in
                attempt { () throws(Refusal) in try statistics(session.node, words) }
            },
            StatsCommand("show version", "", "show version of the current process") { _, _ in "\(haproxyVersion)\n" },
            StatsCommand("get weight", "<bk>/<srv>", "report a server's current weight") { session, words in
                attempt { () throws(Refusal) in
                    let server = try server(words.first, in: session.node)
                    return "\(server.weight) (initial \(server.settings.weight))\n"
                }
            },
        ]
    }

    private static func socketName(_ address: SocketAddress) -> String {
        if case .unix(let path) = address { return "unix@\(path)" }
        return "\(address)"
    }

    private static func chosenBackends(_ node: ProxyNode, _ name: String?) throws(Refusal) -> [Backend] {
        guard let name else { return node.backends }
        guard let backend = node.backend(named: name) else { throw Refusal("Can't find backend.\n") }
        return [backend]
    }

    /// `[iid types sid]` numbers select; `up` and `no-maint` leave lines out.
    private static func statistics(_ node: ProxyNode, _ words: ArraySlice<String>) throws(Refusal) -> String {
        var numbers: [Int] = []
        var isUpOnly = false, hidesMaintenance = false
        for word in words {
            if let number = Int(word) { numbers.append(number) } else {
                switch word {
                case "up": isUpOnly = true
                case "no-maint": hidesMaintenance = true
                default: throw Refusal("'show stat \(word)' is not supported; supported: <iid> <type> <sid>, up, no-maint.\n")
                }
            }
        }
        let wanted = (proxy: numbers.first ?? -1, types: numbers.dropFirst().first ?? -1, server: numbers.dropFirst(2).first ?? -1)
        let rows = StatTable(node: node).rows().filter { row in
            let isWanted =
                (wanted.proxy == -1 || row.proxyID == wanted.proxy) && (wanted.types == -1 || wanted.types & (1 << row.type) != 0)
                && (wanted.server == -1 || row.type != 2 || row.serverID == wanted.server)
            let status = row["status"]
            return isWanted && !(hidesMaintenance && status.hasPrefix("MAINT")) && !(isUpOnly && (status.hasPrefix("DOWN") || status.hasPrefix("MAINT")))
        }
        return StatTable.header + rows.map(\.line).joined()
    }

    /// Server state file, version 1 (management manual, "show servers state").
    private static func stateLine(_ server: Server) -> String {
        let operational = server.administration == .maintenance || !server.health.isUp ? 0 : 2
        let administrative = server.isDisabledByFile ? 5 : server.administration == .maintenance ? 1 : server.administration == .drain ? 8 : 0
        let since = (server.backend.node.loop.now - server.lastChange).wholeMilliseconds / 1000
        let result = server.lastResult.map { $0.status.isPass ? 3 : 2 } ?? 0
        let checkState = (server.isChecked ? 6 | (server.checker?.isInProgress == true ? 1 : 0) : 0) | (server.isDisabledByFile ? 8 : 0)
        let status = server.lastResult?.status.rawValue ?? 1
        let checkAddress = server.settings.checkAddress?.host ?? "-"
        return "\(server.backend.id) \(server.backend.name) \(server.id) \(server.name) \(server.address.host) \(operational) \(administrative) "
            + "\(server.weight) \(server.settings.weight) \(since) \(status) \(result) \(server.health.value) \(checkState) 0 0 0 - \(server.address.port) - 0 "
            + "\(server.settings.checkPort ?? 0) \(checkAddress) - 0\n"
    }

    private static func sessions(_ node: ProxyNode, _ which: String?) -> String {
        let all = node.sessions.values.sorted { $0.id < $1.id }
        if let which, which != "all" {
            guard let id = sessionID(which), let session = node.sessions[id] else { return "Session not found.\n" }
            return sessionDetails(session)
        }
        if which == "all" { return all.map(sessionDetails).joined() }
        return all.map { session in
            let age = (node.loop.now - session.acceptedAt).wholeMilliseconds / 1000
            return "\(sessionName(session.id)): proto=\(protocolName(session.peer)) src=\(session.peer) fe=\(session.frontend.name) "
                + "be=\(session.backend.name) srv=\(session.server?.name ?? "<none>") ts=00 epoch=0 age=\(age)s calls=0 rate=0 cpu=0 lat=0 "
                + "rq[f=848000h,i=\(session.client.input.count),an=00h,rx=,wx=,ax=] rp[f=80048202h,i=0,an=00h,rx=,wx=,ax=] "
                + "scf=[8,0h,fd=\(session.client.descriptor)] scb=[8,1h,fd=\(session.upstream?.descriptor ?? -1)] exp= rc=0 c_exp=\n"
        }.joined()
    }

    private static func sessionDetails(_ session: Session) -> String {
        let upstream = session.upstream
        return "\(sessionName(session.id)): [\(DateText.accept(milliseconds: session.acceptedWall))] id=\(session.id) "
            + "proto=\(protocolName(session.peer)) source=\(session.peer)\n"
            + "  frontend=\(session.frontend.name) (id=\(session.frontend.id) mode=tcp), addr=\(session.client.local)\n"
            + "  backend=\(session.backend.name) (id=\(session.backend.id) mode=tcp) addr=\(upstream.map { "\($0.local)" } ?? "<none>")\n"
            + "  server=\(session.server?.name ?? "<NONE>") (id=\(session.server?.id ?? -1)) addr=\(session.server.map { "\($0.address)" } ?? "<none>")\n"
            + "  state=\(session.phase) total_in=\(session.bytesIn) total_out=\(session.bytesOut) "
            + "queued_to_server=\(upstream?.output.count ?? 0) queued_to_client=\(session.client.output.count)\n"
    }

    private static func protocolName(_ address: SocketAddress) -> String {
        switch address {
        case .ipv4: "tcpv4"
        case .ipv6: "tcpv6"
        case .unix: "unix_stream"
        }
    }

    /// HAProxy names sessions by their address in memory; here it is a number in the same clothes.
    static func sessionName(_ id: UInt64) -> String { "0x" + String(id, radix: 16) }
    static func sessionID(_ name: String) -> UInt64? { name.hasPrefix("0x") ? UInt64(name.dropFirst(2), radix: 16) : nil }

    private static func info(_ node: ProxyNode) -> [(String, String)] {
        let loop = node.loop
        let uptime = (loop.now - node.startedAt).wholeMilliseconds / 1000
        let rate = node.sessionRate.value(at: loop.wallMilliseconds)
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        let busy = loop.statistics.busy.wholeMilliseconds
        let idle = uptime > 0 ? max(0, 100 - Int(busy / (uptime * 10))) : 100
        var values: [(String, String)] = []
        func add(_ name: String, _ value: some CustomStringConvertible) { values.append((name, value.description)) }
        add("Name", "HAProxy")
        add("Version", haproxyVersion)
        add("Release_date", "2023/03/28")
        add("Nbthread", 1)
        add("Nbproc", 1)
        add("Process_num", 1)
        add("Pid", getpid())
        add("Uptime", "\(uptime / 86_400)d \(uptime / 3600 % 24)h\(DateText.two(Int32(uptime / 60 % 60)))m\(DateText.two(Int32(uptime % 60)))s")
        add("Uptime_sec", uptime)
        for name in ["Memmax_MB", "PoolAlloc_MB", "PoolUsed_MB", "PoolFailed"] { add(name, 0) }
        add("Ulimit-n", limit.rlim_cur)
        add("Maxsock", limit.rlim_cur)
        add("Maxconn", node.connectionsMax)
        add("Hard_maxconn", node.connectionsMax)
        add("CurrConns", node.currentSessions)
        add("CumConns", node.totalConnections)
        add("CumReq", node.totalSessions)
        for name in ["MaxSslConns", "CurrSslConns", "CumSslConns", "Maxpipes", "PipesUsed", "PipesFree"] { add(name, 0) }
        for name in ["Conn", "Sess"] {
            add("\(name)Rate", rate)
            add("\(name)RateLimit", 0)
            add("Max\(name)Rate", node.sessionRate.highest)
        }
        for name in [
            "SslRate", "SslRateLimit", "MaxSslRate", "SslFrontendKeyRate", "SslFrontendMaxKeyRate", "SslFrontendSessionReuse_pct", "SslBackendKeyRate",
            "SslBackendMaxKeyRate", "SslCacheLookups", "SslCacheMisses", "CompressBpsIn", "CompressBpsOut", "CompressBpsRateLim",
        ] { add(name, 0) }
        add("Tasks", loop.liveTimers)
        add("Run_queue", 0)
        add("Idle_pct", idle)
        add("node", node.configuration.global.node ?? hostName())
        if let text = node.configuration.global.description { add("description", text) }
        add("Stopping", node.isStopping ? 1 : 0)
        add("Jobs", node.currentSessions + node.frontends.count { $0.state == .open } + node.configuration.global.statsSockets.count)
        add("Unstoppable Jobs", 0)
        add("Listeners", node.frontends.reduce(0) { $0 + $1.addresses.count } + node.configuration.global.statsSockets.count)
        add("ActivePeers", 0)
        add("ConnectedPeers", 0)
        add("DroppedLogs", node.log.dropped)
        add("BusyPolling", 0)
        add("FailedResolutions", 0)
        node.countBytes()
        add("TotalBytesOut", node.bytesOut)
        add("TotalSplicdedBytesOut", 0)
        add("BytesOutRate", 0)
        add("DebugCommandsIssued", 0)
        add("CumRecvLogs", 0)
        add("Build info", "vigie")
        for name in ["Memmax_bytes", "PoolAlloc_bytes", "PoolUsed_bytes"] { add(name, 0) }
        add("Start_time_sec", node.startedWall / 1000)
        add("Tainted", 0)
        return values
    }

    private static func hostName() -> String {
        var name = [CChar](repeating: 0, count: 256)
        gethostname(&name, name.count - 1)
        return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
