import Reactor

/// `show stat`: HAProxy 2.6's columns in HAProxy 2.6's places, as hatop and every collector reads them.
///
/// Columns of what this proxy has not (HTTP, TLS, compression) hold what HAProxy shows for a TCP proxy: nothing, or 0.
struct StatTable {
    /// Bits of the second number of `show stat {proxy} {types} {server}`.
    static let frontendType = 1, backendType = 2, serverType = 4

    private static let generalColumns =
        "pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,act,bck,chkfail,chkdown,lastchg,"
        + "downtime,qlimit,pid,iid,sid,throttle,lbtot,tracked,type,rate,rate_lim,rate_max,check_status,check_code,check_duration,hrsp_1xx,hrsp_2xx,"
        + "hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,hanafail,req_rate,req_rate_max,req_tot,cli_abrt,srv_abrt,comp_in,comp_out,comp_byp,comp_rsp,lastsess,"
        + "last_chk,last_agt,qtime,ctime,rtime,ttime,agent_status,agent_code,agent_duration,check_desc,agent_desc,check_rise,check_fall,check_health,"
        + "agent_rise,agent_fall,agent_health,addr,cookie,mode,algo,conn_rate,conn_rate_max,conn_tot,intercepted,dcon,dses,wrew,connect,reuse,"
        + "cache_lookups,cache_hits,srv_icur,src_ilim,qtime_max,ctime_max,rtime_max,ttime_max,eint,idle_conn_cur,safe_conn_cur,used_conn_cur,"
        + "need_conn_est,uweight,agg_server_status,agg_server_check_status,agg_check_status"
    private static let moduleColumns =
        "ssl_sess,ssl_reused_sess,ssl_failed_handshake,h2_headers_rcvd,h2_data_rcvd,h2_settings_rcvd,h2_rst_stream_rcvd,h2_goaway_rcvd,"
        + "h2_detected_conn_protocol_errors,h2_detected_strm_protocol_errors,h2_rst_stream_resp,h2_goaway_resp,h2_open_connections,"
        + "h2_backend_open_streams,h2_total_connections,h2_backend_total_streams,h1_open_connections,h1_open_streams,h1_total_connections,"
        + "h1_total_streams,h1_bytes_in,h1_bytes_out,h1_spliced_bytes_in,h1_spliced_bytes_out"
    static let columns: [String] = (generalColumns + ",-," + moduleColumns).split(separator: ",").map(String.init)
    private static let places: [String: Int] = Dictionary(uniqueKeysWithValues: columns.enumerated().map { ($1, $0) })
    static let header = "# " + columns.joined(separator: ",") + ",\n"

    /// One line of the table.
    struct Row {
        private(set) var values = [String](repeating: "", count: StatTable.columns.count)
        let type: Int
        let proxyID: Int
        let serverID: Int

        init(type: Int, proxyID: Int, serverID: Int) {
            self.type = type
            self.proxyID = proxyID
            self.serverID = serverID
            self["-"] = "-"
        }

        subscript(column: String) -> String {
            get { values[StatTable.places[column]!] }
            set { values[StatTable.places[column]!] = newValue }
        }

        mutating func set(_ column: String, _ value: some BinaryInteger) { self[column] = String(value) }
        mutating func zero(_ columns: String...) { for column in columns { self[column] = "0" } }
        mutating func zeroModules(from first: String, through last: String) {
            for index in StatTable.places[first]!...StatTable.places[last]! { values[index] = "0" }
        }

        /// The line of the table; a value that holds a comma or a quote is quoted (RFC 4180).
        var line: String {
            values.map { value in
                value.contains { ",\"\n".contains($0) } ? "\"\(value.replacing("\"", with: "\"\""))\"" : value
            }.joined(separator: ",") + ",\n"
        }
    }

    let node: ProxyNode

    /// Every line, in the file's order: a frontend before its servers before its backend.
    func rows() -> [Row] {
        node.countBytes()
        var rows: [Row] = []
        for section in node.configuration.sections {
            if section.isFrontend, let frontend = node.frontend(named: section.name) { rows.append(row(frontend)) }
            if section.isBackend, let backend = node.backend(named: section.name) {
                rows += backend.servers.map(row)
                rows.append(row(backend))
            }
        }
        return rows
    }

    private var wall: Int64 { node.loop.wallMilliseconds }
    private func seconds(since moment: Instant) -> Int64 { (node.loop.now - moment).wholeMilliseconds / 1000 }

    private func common(_ row: inout Row, _ counters: inout Counters, name: String, entry: String) {
        row["pxname"] = name
        row["svname"] = entry
        row.set("scur", counters.current)
        row.set("smax", counters.currentMax)
        row.set("stot", counters.total)
        row.set("bin", counters.bytesIn)
        row.set("bout", counters.bytesOut)
        row.set("pid", 1)
        row.set("iid", row.proxyID)
        row.set("sid", row.serverID)
        row.set("type", row.type)
        row.set("rate", counters.rate.value(at: wall))
        row.set("rate_max", counters.rate.highest)
        row["mode"] = "tcp"
        row.zero("dresp", "wrew", "eint", "ssl_sess", "ssl_reused_sess", "ssl_failed_handshake")
    }

    /// What backends and servers have in common.
    private func serving(_ row: inout Row, _ counters: Counters, queued: Int) {
        row.set("qcur", queued)
        row.set("qmax", counters.queueMax)
        row.set("econ", counters.connectErrors)
        row.set("eresp", counters.responseErrors)
        row.set("wretr", counters.retries)
        row.set("wredis", counters.redispatches)
        row.set("lbtot", counters.chosen)
        row.set("cli_abrt", counters.clientAborts)
        row.set("srv_abrt", counters.serverAborts)
        row.set("lastsess", counters.lastSession.map { (wall - $0) / 1000 } ?? -1)
        row.set("qtime", counters.queueTime.value)
        row.set("ctime", counters.connectTime.value)
        row.set("ttime", counters.totalTime.value)
        row.set("qtime_max", counters.queueTime.highest)
        row.set("ctime_max", counters.connectTime.highest)
        row.set("ttime_max", counters.totalTime.highest)
        row.set("connect", counters.connects)
        row.zero("rtime", "rtime_max", "reuse")
    }

    func row(_ frontend: Frontend) -> Row {
        var row = Row(type: 0, proxyID: frontend.id, serverID: 0)
        common(&row, &frontend.counters, name: frontend.name, entry: "FRONTEND")
        row.set("slim", frontend.connectionsMax)
        row["status"] =
            switch frontend.state {
            case .open: "OPEN"
            case .paused: "PAUSED"
            case .stopped: "STOP"
            }
        row["conn_rate"] = row["rate"]
        row["conn_rate_max"] = row["rate_max"]
        row.set("conn_tot", frontend.counters.total)
        row.zero("dreq", "ereq", "rate_lim", "req_rate", "req_rate_max", "req_tot", "comp_in", "comp_out", "comp_byp", "comp_rsp", "dcon", "dses")
        row.zeroModules(from: "ssl_sess", through: "h1_spliced_bytes_out")
        return row
    }

    func row(_ backend: Backend) -> Row {
        var row = Row(type: 1, proxyID: backend.id, serverID: 0)
        common(&row, &backend.counters, name: backend.name, entry: "BACKEND")
        serving(&row, backend.counters, queued: backend.queue.count)
        let fullConnections = node.frontends.filter { $0.backend === backend }.reduce(0) { $0 + $1.connectionsMax }
        row.set("slim", max(1, (fullConnections + 9) / 10))
        row["status"] = backend.isUp ? "UP" : "DOWN"
        let used = backend.candidates
        row.set("weight", used.reduce(0) { $0 + $1.weight })
        row["uweight"] = row["weight"]
        row.set("act", backend.servers.count { $0.isUsable && !$0.settings.isBackup })
        row.set("bck", backend.servers.count { $0.isUsable && $0.settings.isBackup })
        row.set("chkdown", backend.timesDown)
        row.set("lastchg", seconds(since: backend.lastChange))
        row.set("downtime", backend.downtime(at: node.loop.now).wholeMilliseconds / 1000)
        row["algo"] = backend.section.settings.balance.rawValue
        row.zero("dreq", "comp_in", "comp_out", "comp_byp", "comp_rsp", "agg_server_status", "agg_server_check_status", "agg_check_status")
        row.zeroModules(from: "ssl_sess", through: "h1_spliced_bytes_out")
        return row
    }

    func row(_ server: Server) -> Row {
        var row = Row(type: 2, proxyID: server.backend.id, serverID: server.id)
        common(&row, &server.counters, name: server.backend.name, entry: server.name)
        serving(&row, server.counters, queued: 0)
        if let limit = server.connectionsMax { row.set("slim", limit) }
        row["status"] = StatTable.status(of: server)
        row.set("weight", server.weight)
        row.set("uweight", server.weight)
        row.set("act", server.settings.isBackup ? 0 : 1)
        row.set("bck", server.settings.isBackup ? 1 : 0)
        row.set("lastchg", seconds(since: server.lastChange))
        row["addr"] = server.address.port == 0 ? "unix" : "\(server.address)"
        row.zero("srv_icur", "idle_conn_cur", "safe_conn_cur")
        row.set("used_conn_cur", server.counters.current)
        row.set("need_conn_est", server.counters.currentMax)
        if server.isChecked, !server.isCheckSuspended {
            row.set("chkfail", server.checksFailed)
            row.set("chkdown", server.timesDown)
            row.set("downtime", server.downtime(at: node.loop.now).wholeMilliseconds / 1000)
            if server.administration != .maintenance { setCheck(&row, server) }
        }
        return row
    }

    private func setCheck(_ row: inout Row, _ server: Server) {
        let status = server.lastResult?.status ?? .initial
        row["check_status"] = (server.lastResult != nil && server.checker?.isInProgress == true ? "* " : "") + status.code
        row["check_desc"] = status.text
        row.set("check_rise", server.health.rise)
        row.set("check_fall", server.health.fall)
        row.set("check_health", server.health.value)
        guard let result = server.lastResult else { return }
        if result.status == .layer7OK { row.set("check_code", 0) }
        row.set("check_duration", server.lastResultDuration.wholeMilliseconds)
        row["last_chk"] = result.information
    }

    static func status(of server: Server) -> String {
        if server.administration == .maintenance { return "MAINT" }
        let isDraining = server.administration == .drain || server.weight == 0
        if !server.isChecked, server.health.isUp { return isDraining ? "DRAIN" : "no check" }
        if !server.health.isUp { return server.health.isZero ? "DOWN" : "DOWN \(server.health.fraction)" }
        let up = isDraining ? "DRAIN" : "UP"
        // Until the first check has said something HAProxy shows the start value, too: one failure from down.
        return server.health.isFull ? up : "\(up) \(server.health.fraction)"
    }
}
