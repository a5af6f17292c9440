import Configuration
import Glibc
import Reactor

/// The lines of `defaults`, `frontend`, `backend` and `listen`.
extension ProxyConfigurationReader {
    private static let accepted = [
        "bind", "default_backend", "mode", "balance", "server", "default-server", "timeout", "option", "no", "default", "tcp-check", "maxconn",
        "retries", "log", "log-tag", "source", "backlog", "description", "disabled", "enabled", "id",
    ]
    private static let frontendOnly: Set = ["bind", "default_backend", "maxconn", "backlog"]
    private static let backendOnly: Set = ["balance", "server", "default-server", "tcp-check", "retries", "source"]

    /// Refused: what they ask would be missed if it did not happen.
    private static let unsupported: Set = [
        "acl", "use_backend", "use-server", "cookie", "appsession", "capture", "declare", "dispatch", "transparent", "redirect",
        "http-request", "http-response", "http-after-response", "http-check", "http-send-name-header", "tcp-request", "tcp-response",
        "stick", "stick-table", "filter", "compression", "stats", "server-template", "rate-limit", "monitor", "external-check",
        "log-format", "log-format-sd", "error-log-format", "force-persist", "ignore-persist", "persist", "email-alert",
        "load-server-state-from-file", "use-fcgi-app", "unique-id-format", "monitor-uri", "retry-on",
    ]
    /// Ignored with a warning: of HTTP, or of how HAProxy itself runs.
    private static let ignored: [String: String] = [
        "errorfile": "there is no HTTP", "errorfiles": "there is no HTTP", "errorloc": "there is no HTTP", "errorloc302": "there is no HTTP",
        "errorloc303": "there is no HTTP", "http-error": "there is no HTTP", "http-reuse": "there is no HTTP",
        "unique-id-header": "there is no HTTP", "max-keep-alive-queue": "there is no HTTP", "bind-process": "there is one process",
        "fullconn": "there is no dynamic limit (minconn)", "hash-type": "there is no balancing by hash",
        "server-state-file-name": "states are not loaded", "clitcpka-cnt": "the kernel's default is used",
        "clitcpka-idle": "the kernel's default is used", "clitcpka-intvl": "the kernel's default is used",
        "srvtcpka-cnt": "the kernel's default is used", "srvtcpka-idle": "the kernel's default is used",
        "srvtcpka-intvl": "the kernel's default is used",
    ]

    mutating func readLine(_ line: Line, _ kind: String, _ proxy: inout ProxyConfiguration.Section) throws(Rejection) {
        let keyword = line.keyword
        let arguments = line.arguments.map(\.text)
        if keyword != "option", kind == "backend", Self.frontendOnly.contains(keyword) {
            let hint = keyword == "maxconn" ? " Maybe you want 'fullconn' instead ?" : ""
            warn("'\(keyword)' ignored because backend '\(proxy.name)' has no frontend capability.\(hint)")
            return
        }
        if kind == "frontend", Self.backendOnly.contains(keyword) {
            warn("'\(keyword)' ignored because frontend '\(proxy.name)' has no backend capability.")
            return
        }
        if kind == "defaults", ["bind", "server", "id", "description"].contains(keyword) {
            throw Rejection("'\(keyword)' not allowed in 'defaults' section.")
        }
        func one(_ what: String) throws(Rejection) -> String {
            guard let first = arguments.first, !first.isEmpty else { throw Rejection("'\(keyword)' expects \(what) as argument.") }
            if arguments.count > 1 { throw Rejection("'\(keyword)' cannot handle unexpected argument '\(arguments[1])'.") }
            return first
        }
        switch keyword {
        case "mode":
            switch try one("a mode") {
            case "tcp": break
            case "http", "health": throw Rejection("'mode \(arguments[0])' is not supported (supported: tcp)")
            default: throw Rejection("unknown proxy mode '\(arguments[0])'. (supported: tcp)")
            }
        case "bind": try readBind(arguments, line.number, &proxy)
        case "default_backend":
            proxy.settings.defaultBackend = try one("a backend name")
            proxy.settings.defaultBackendLine = line.number
        case "balance": try readBalance(arguments, &proxy)
        case "server": try readServer(arguments, line.number, &proxy)
        case "default-server":
            try readServerSettings(arguments[...], "'default-server'", &proxy.settings.serverDefaults)
        case "timeout": try readTimeout(arguments, kind, &proxy)
        case "option": try readOption(arguments, on: true, kind, &proxy)
        case "no":
            switch arguments.first {
            case "option": try readOption(Array(arguments.dropFirst()), on: false, kind, &proxy)
            case "log": proxy.settings.logs = []
            default: throw Rejection("'no' is only supported with 'option' and 'log' (got '\(arguments.first ?? "")')")
            }
        case "default":
            guard arguments.first == "option" else { throw Rejection("'default' is only supported with 'option' (got '\(arguments.first ?? "")')") }
            try readOption(Array(arguments.dropFirst()), on: false, kind, &proxy)
        case "tcp-check":
            proxy.settings.checkRules.append(try checkRule(Array(line.arguments)))
        case "maxconn": proxy.settings.connectionsMax = try integer(try one("a number"), for: "maxconn", in: 1...10_000_000)
        case "retries": proxy.settings.retries = try integer(try one("an integer"), for: "retries", in: 0...100)
        case "backlog": proxy.settings.backlog = try integer(try one("a number"), for: "backlog", in: 1...65_535)
        case "log":
            if arguments == ["global"] {
                proxy.settings.logs = (proxy.settings.logs ?? []) + configuration.global.logs
            } else {
                proxy.settings.logs = (proxy.settings.logs ?? []) + [try logTarget(arguments)]
            }
        case "log-tag": proxy.settings.logTag = try one("a tag")
        case "source":
            guard let text = arguments.first else { throw Rejection("'source' expects <addr>[:<port>] as argument.") }
            if arguments.count > 1 { throw Rejection("'source' : '\(arguments[1])' is not supported (only <addr>[:<port>])") }
            proxy.settings.source = try address(text, for: "'source'", defaultPort: 0)
        case "description": break
        case "id": proxy.id = try integer(try one("an integer"), for: "id", in: 1...Int(Int32.max))
        case "disabled": proxy.settings.isDisabled = true
        case "enabled": proxy.settings.isDisabled = false
        default:
            if Self.unsupported.contains(keyword) {
                throw Rejection("'\(keyword)' is not supported in '\(kind)' section (supported: \(Self.accepted.sorted().joined(separator: ", ")))")
            } else if let reason = Self.ignored[keyword] {
                warn("'\(keyword)' ignored: \(reason)")
            } else {
                throw unknown(keyword, in: "'\(kind)' section", accepted: Self.accepted)
            }
        }
    }

    // MARK: bind

    private mutating func readBind(_ arguments: [String], _ number: Int, _ proxy: inout ProxyConfiguration.Section) throws(Rejection) {
        guard let list = arguments.first, !list.isEmpty else {
            throw Rejection("'bind' expects {<path>|[addr1]:port1[-end1]}{,[addr]:port[-end]}... as arguments.")
        }
        var binds: [ProxyConfiguration.Bind] = []
        for part in list.split(separator: ",", omittingEmptySubsequences: true) {
            binds += try expandPorts(String(part)) .map { .init(address: $0, line: number) }
        }
        let place = "'bind \(list)' in section '\(proxy.isBackend ? "listen" : "frontend")'"
        let valued = ["name", "id", "backlog", "mode", "user", "group", "uid", "gid", "maxconn", "nice", "process", "thread", "mss", "tcp-ut", "interface", "namespace", "level"]
        let plain = ["transparent", "v4v6", "v6only", "defer-accept", "tfo"]
        var words = arguments.dropFirst()
        while let word = words.popFirst() {
            if plain.contains(word) {
                // Transparent binding is what IP_FREEBIND gives, and that is always asked for.
                if word == "v4v6" || word == "defer-accept" || word == "tfo" { warn("\(place) : '\(word)' ignored: it has no effect here") }
                continue
            }
            if ["ssl", "crt", "accept-proxy", "accept-netscaler-cip", "ca-file", "alpn", "proto", "verify"].contains(word) {
                throw Rejection("\(place) : '\(word)' is not supported (supported: \((valued + plain).sorted().joined(separator: ", ")))")
            }
            guard valued.contains(word) else { throw unknown(word, in: place, accepted: valued + plain) }
            guard let value = words.popFirst() else { throw Rejection("\(place) : '\(word)' expects a value") }
            if word == "interface" || word == "namespace" { throw Rejection("\(place) : '\(word)' is not supported; bind to the interface's address") }
            let backlog = word == "backlog" ? try integer(value, for: "backlog", in: 1...65_535) : nil
            let mode = word == "mode" ? try fileMode(value, for: place) : nil
            let user: UInt32? =
                if word == "user" { try userID(value) }
                else if word == "uid" { UInt32(try integer(value, for: "uid", in: 0...0xFFFF_FFFE)) } else { nil }
            let group: UInt32? =
                if word == "group" { try groupID(value) }
                else if word == "gid" { UInt32(try integer(value, for: "gid", in: 0...0xFFFF_FFFE)) } else { nil }
            if ["maxconn", "nice", "process", "thread", "mss", "tcp-ut"].contains(word) {
                warn("\(place) : '\(word) \(value)' ignored: it has no effect here")
            }
            for index in binds.indices {
                if word == "name" { binds[index].name = value }
                if let backlog { binds[index].backlog = backlog }
                if let mode { binds[index].mode = mode }
                if let user { binds[index].user = user }
                if let group { binds[index].group = group }
            }
        }
        proxy.binds += binds
    }

    /// `host:1000-1009` is ten addresses.
    private func expandPorts(_ text: String) throws(Rejection) -> [SocketAddress] {
        guard !text.hasPrefix("/"), !text.contains("@"), let colon = text.lastIndex(of: ":"), let dash = text[colon...].firstIndex(of: "-") else {
            return [try address(text, for: "'bind'", defaultPort: nil)]
        }
        let first = try address(String(text[..<dash]), for: "'bind'", defaultPort: nil)
        guard let last = UInt16(text[text.index(after: dash)...]), last >= first.port, last - first.port < 1000 else {
            throw Rejection("'bind' : invalid port range '\(text[text.index(after: colon)...])' in '\(text)' (at most 1000 ports, in order)")
        }
        return (first.port...last).map { first.with(port: $0) }
    }

    // MARK: balance, timeout, option

    private mutating func readBalance(_ arguments: [String], _ proxy: inout ProxyConfiguration.Section) throws(Rejection) {
        let supported = ProxyConfiguration.Balance.allCases.map(\.rawValue).joined(separator: ", ")
        guard let name = arguments.first else { throw Rejection("'balance' expects an algorithm (supported: \(supported))") }
        if let algorithm = ProxyConfiguration.Balance(rawValue: name) {
            if arguments.count > 1 { throw Rejection("'balance \(name)' cannot handle unexpected argument '\(arguments[1])'.") }
            proxy.settings.balance = algorithm
        } else if ["source", "uri", "url_param", "hash", "random"].contains(name) || name.hasPrefix("hdr") || name.hasPrefix("rdp-cookie") || name.hasPrefix("random") {
            throw Rejection("'balance \(name)' is not supported (supported: \(supported))")
        } else {
            throw Rejection("balance : unknown algorithm '\(name)' (supported: \(supported))")
        }
    }

    private mutating func readTimeout(_ arguments: [String], _ kind: String, _ proxy: inout ProxyConfiguration.Section) throws(Rejection) {
        let supported = "'timeout' supports 'client', 'server', 'connect', 'check', 'queue', 'tunnel', 'client-fin' and 'server-fin'"
        guard let name = arguments.first else { throw Rejection(supported) }
        let http = ["http-keep-alive", "http-request", "tarpit"]
        let paths: [String: WritableKeyPath<ProxyConfiguration.Timeouts, Duration?>] = [
            "client": \.client, "server": \.server, "connect": \.connect, "check": \.check, "queue": \.queue, "tunnel": \.tunnel,
            "client-fin": \.clientFin, "server-fin": \.serverFin,
        ]
        if http.contains(name) {
            warn("'timeout \(name)' ignored: there is no HTTP")
            return
        }
        guard let path = paths[name] else { throw Rejection("\(supported) (got '\(name)')") }
        guard arguments.count == 2 else { throw Rejection("'timeout \(name)' expects one value (got \(arguments.count - 1))") }
        if kind == "frontend", ["server", "connect", "check", "queue", "tunnel", "server-fin"].contains(name) {
            warn("'timeout \(name)' will be ignored because frontend '\(proxy.name)' has no backend capability")
        }
        if kind == "backend", ["client", "client-fin"].contains(name) {
            warn("'timeout \(name)' will be ignored because backend '\(proxy.name)' has no frontend capability")
        }
        let value = try duration(arguments[1], for: "timeout \(name)")
        // HAProxy: a timeout of 0 is none.
        proxy.settings.timeouts[keyPath: path] = value == .zero ? nil : value
    }

    private mutating func readOption(_ arguments: [String], on: Bool, _ kind: String, _ proxy: inout ProxyConfiguration.Section) throws(Rejection) {
        let flags: [String: ProxyConfiguration.Options] = [
            "tcplog": .tcpLog, "log-health-checks": .logHealthChecks, "dontlognull": .dontLogNull, "dontlog-normal": .dontLogNormal,
            "log-separate-errors": .logSeparateErrors, "redispatch": .redispatch, "abortonclose": .abortOnClose, "allbackups": .allBackups,
            "clitcpka": .clientKeepAlive, "srvtcpka": .serverKeepAlive, "tcpka": [.clientKeepAlive, .serverKeepAlive],
            "independent-streams": .independentStreams, "contstats": .accepted, "splice-auto": .accepted, "splice-request": .accepted,
            "splice-response": .accepted, "tcp-smart-accept": .accepted, "tcp-smart-connect": .accepted, "http-ignore-probes": .accepted,
        ]
        let supported = (flags.keys + ["tcp-check", "redis-check", "httplog"]).sorted().joined(separator: ", ")
        guard let name = arguments.first else { throw Rejection("'option' expects a name (supported: \(supported))") }
        switch name {
        case "tcp-check":
            proxy.settings.checkKind = on ? .sequence : .connect
        case "redis-check":
            proxy.settings.checkKind = on ? .sequence : .connect
            proxy.settings.checkRules = on ? CheckRule.redisPing : []
        case "httplog", "httpslog":
            warn("'option \(name)' not usable with proxy '\(proxy.name)' (needs 'mode http'). Falling back to 'option tcplog'.")
            proxy.settings.options.insert(.tcpLog)
        case "logasap", "nolinger", "socket-stats", "prefer-last-server", "persist", "forwardfor", "originalto", "http-server-close", "http-keep-alive",
            "httpclose", "http-no-delay", "http-buffer-request", "http-pretend-keepalive", "http-use-proxy-header", "http-use-htx",
            "accept-invalid-http-request", "accept-invalid-http-response", "checkcache", "disable-h2-upgrade", "h1-case-adjust-bogus-client",
            "h1-case-adjust-bogus-server", "http-restrict-req-hdr-names", "idle-close-on-response":
            warn("'option \(name)' ignored: it has no effect here")
        case "httpchk", "mysql-check", "pgsql-check", "ldap-check", "smtpchk", "ssl-hello-chk", "spop-check", "external-check", "transparent":
            throw Rejection("'option \(name)' is not supported (supported: \(supported))")
        default:
            guard let flag = flags[name] else {
                throw Rejection("unknown option '\(name)'. (supported: \(supported))")
            }
            if name == "tcplog", kind == "backend", on {
                notice(
                    "backend '\(proxy.name)' : 'option tcplog' : sessions that this backend serves are logged in the TCP format "
                        + "(HAProxy ignores this option in backends)", line: currentLine)
            }
            if on { proxy.settings.options.insert(flag) } else { proxy.settings.options.subtract(flag) }
        }
    }
}
