import Configuration
import Reactor

/// `server` and `default-server`.
extension ProxyConfigurationReader {
    static let weightMax = 256

    mutating func readServer(_ arguments: [String], _ number: Int, _ proxy: inout ProxyConfiguration.Section) throws(Rejection) {
        guard arguments.count >= 2 else { throw Rejection("'server' expects <name> and <addr>[:<port>] as arguments.") }
        let name = arguments[0]
        if name.isEmpty { throw Rejection("'server' : the name is empty") }
        if let bad = name.unicodeScalars.first(where: { !isNameScalar($0) }) {
            throw Rejection("character '\(bad)' is not permitted in server name '\(name)'.")
        }
        let place = "'server \(proxy.name)/\(name)'"
        var server = ProxyConfiguration.Server(
            name: name, id: proxy.servers.count + 1, address: try address(arguments[1], for: place, defaultPort: 0), line: number)
        var settings = proxy.settings.serverDefaults
        try readServerSettings(arguments.dropFirst(2), place, &settings, &server.id)
        server.settings = settings
        if let twin = proxy.servers.first(where: { $0.name == name }) {
            throw Rejection("backend '\(proxy.name)', another server named '\(name)' was already defined at line \(twin.line), please use distinct names.")
        }
        if let twin = proxy.servers.first(where: { $0.id == server.id }) {
            throw Rejection("\(place) : id \(server.id) is already used by server '\(twin.name)' at line \(twin.line)")
        }
        if server.address.port == 0, !isUnix(server.address) { throw Rejection("\(place) : missing port specification in '\(arguments[1])'") }
        proxy.servers.append(server)
    }

    private func isUnix(_ address: SocketAddress) -> Bool {
        if case .unix = address { true } else { false }
    }

    mutating func readServerSettings(_ words: ArraySlice<String>, _ place: String, _ settings: inout ProxyConfiguration.ServerSettings) throws(Rejection) {
        var noID = 0
        try readServerSettings(words, place, &settings, &noID)
    }

    private mutating func readServerSettings(
        _ words: ArraySlice<String>, _ place: String, _ settings: inout ProxyConfiguration.ServerSettings, _ id: inout Int
    ) throws(Rejection) {
        let plain = ["check", "no-check", "backup", "no-backup", "disabled", "enabled"]
        let valued = [
            "inter", "fastinter", "downinter", "rise", "fall", "weight", "maxconn", "port", "addr", "id", "on-marked-down", "on-marked-up", "source",
        ]
        /// Accepted with a warning: value, and why it does nothing.
        let ignored: [String: String] = [
            "minconn": "there is no dynamic limit", "maxqueue": "the backend's queue has no limit", "slowstart": "a server is used fully at once",
            "observe": "only health checks change a server's state", "on-error": "only health checks change a server's state",
            "error-limit": "only health checks change a server's state", "cookie": "there is no HTTP", "init-addr": "names are looked up once, at start",
            "tcp-ut": "it has no effect here", "pool-max-conn": "there is no connection pool", "pool-purge-delay": "there is no connection pool",
            "max-reuse": "there is no connection pool", "resolve-prefer": "names are looked up once, at start", "log-proto": "it has no effect here",
        ]
        let ignoredPlain: Set = ["tfo", "non-stick", "no-ssl", "no-check-ssl", "no-send-proxy", "no-send-proxy-v2", "no-tfo", "no-agent-check", "no-verifyhost", "stick"]
        var words = words
        while let word = words.popFirst() {
            switch word {
            case "check": settings.isChecked = true
            case "no-check": settings.isChecked = false
            case "backup": settings.isBackup = true
            case "no-backup": settings.isBackup = false
            case "disabled": settings.isDisabled = true
            case "enabled": settings.isDisabled = false
            default:
                if ignoredPlain.contains(word) {
                    warn("\(place) : '\(word)' ignored: it has no effect here")
                    continue
                }
                guard valued.contains(word) || ignored[word] != nil else {
                    throw unsupportedServerWord(word, place, accepted: plain + valued)
                }
                guard let value = words.popFirst() else {
                    throw Rejection("\(place) : '\(word)' expects \(["inter", "fastinter", "downinter"].contains(word) ? "a delay" : "a value") as argument.")
                }
                if let reason = ignored[word] {
                    warn("\(place) : '\(word) \(value)' ignored: \(reason)")
                    continue
                }
                try setServerValue(word, value, place, &settings, &id)
            }
        }
    }

    private func unsupportedServerWord(_ word: String, _ place: String, accepted: [String]) -> Rejection {
        let known = [
            "ssl", "check-ssl", "verify", "ca-file", "crt", "sni", "alpn", "send-proxy", "send-proxy-v2", "check-send-proxy", "agent-check",
            "agent-port", "agent-addr", "agent-inter", "agent-send", "track", "redir", "resolvers", "resolve-opts", "namespace", "proto",
            "check-proto", "check-sni", "check-alpn", "check-via-socks4", "socks4", "usesrc", "shard", "ws", "no-verify",
        ]
        if known.contains(word) {
            return Rejection("\(place) : '\(word)' is not supported (supported: \(accepted.sorted().joined(separator: ", ")))")
        }
        return unknown(word, in: place, accepted: accepted)
    }

    private mutating func setServerValue(
        _ word: String, _ value: String, _ place: String, _ settings: inout ProxyConfiguration.ServerSettings, _ id: inout Int
    ) throws(Rejection) {
        func delay() throws(Rejection) -> Duration {
            let delay: Duration
            do throws(Rejection) { delay = try duration(value, for: word) } catch { throw Rejection("\(place) : \(error.message)") }
            guard delay > .zero else { throw Rejection("\(place) : invalid value \(value) for argument '\(word)' (more than 0)") }
            return delay
        }
        func number(_ range: ClosedRange<Int>) throws(Rejection) -> Int {
            do throws(Rejection) { return try integer(value, for: word, in: range) } catch { throw Rejection("\(place) : \(error.message)") }
        }
        switch word {
        case "inter": settings.interval = try delay()
        case "fastinter": settings.fastInterval = try delay()
        case "downinter": settings.downInterval = try delay()
        case "rise": settings.rise = try number(1...100_000)
        case "fall": settings.fall = try number(1...100_000)
        case "weight": settings.weight = try number(0...Self.weightMax)
        case "maxconn":
            let limit = try number(0...10_000_000)
            settings.connectionsMax = limit == 0 ? nil : limit
        case "port": settings.checkPort = UInt16(try number(1...65_535))
        case "addr": settings.checkAddress = try address(value, for: place, defaultPort: 0)
        case "id": id = try number(1...Int(Int32.max))
        case "source": settings.source = try address(value, for: place, defaultPort: 0)
        case "on-marked-down":
            switch value {
            case "shutdown-sessions": settings.shutsSessionsWhenDown = true
            case "keep-sessions": settings.shutsSessionsWhenDown = false
            default: throw Rejection("\(place) : 'on-marked-down' expects 'shutdown-sessions' or 'keep-sessions' but got '\(value)'")
            }
        case "on-marked-up":
            guard value == "shutdown-backup-sessions" else {
                throw Rejection("\(place) : 'on-marked-up' expects 'shutdown-backup-sessions' but got '\(value)'")
            }
            settings.shutsBackupSessionsWhenUp = true
        default: preconditionFailure("'\(word)' is accepted and has no meaning")
        }
    }
}
