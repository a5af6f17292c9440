import Configuration
import Glibc
import Reactor

/// Where a watched process is reached: a numeric address and a port.
public struct Endpoint: Hashable, Sendable, CustomStringConvertible {
    public var host: String
    public var port: UInt16

    public init(host: String, port: UInt16) {
        self.host = host
        self.port = port
    }

    public var description: String { "\(host):\(port)" }
}

/// One `sentinel monitor` with everything that is said of that master: options, and the state that survives a restart.
public struct MasterConfiguration: Equatable, Sendable {
    public struct KnownSentinel: Equatable, Sendable {
        public var endpoint: Endpoint
        public var runID: String
    }

    public var name: String
    public var endpoint: Endpoint
    public var quorum: Int
    /// Silence after which an instance is subjectively down, in milliseconds.
    public var downAfter: Int64 = 30_000
    /// In milliseconds; a failover by somebody else is waited for twice as long.
    public var failoverTimeout: Int64 = 180_000
    /// Replicas that are pointed to the new master at the same time.
    public var parallelSyncs = 1
    public var authPassword: String?
    public var authUser: String?
    public var notificationScript: String?
    public var clientReconfigScript: String?
    /// A restarted master that still loads after so many milliseconds is down; 0 for never.
    public var rebootDownAfter: Int64 = 0
    /// Names under which a watched store has its commands (`sentinel rename-command`), by upper-case name.
    public var renamedCommands: [String: String] = [:]

    // What Sentinel itself writes down.
    public var configEpoch: UInt64 = 0
    public var leaderEpoch: UInt64 = 0
    public var knownReplicas: [Endpoint] = []
    public var knownSentinels: [KnownSentinel] = []

    public init(name: String, endpoint: Endpoint, quorum: Int) {
        self.name = name
        self.endpoint = endpoint
        self.quorum = quorum
    }
}

/// A sentinel.conf: how the process runs, what it watches, and the state that it wrote into the file itself.
///
/// The format's document is Debian's /etc/redis/sentinel.conf; a file of Redis Sentinel 6.2 or 7 is read as it stands, and
/// what `rewritten(from:)` makes is read by redis-sentinel.
public struct SentinelConfiguration: Equatable, Sendable {
    /// The file, as an absolute path: state is written into it.
    public var path: String
    public var port: UInt16 = 26379
    /// Addresses to listen on; empty for all.
    public var bind: [String] = []
    public var daemonize = false
    public var pidFile: String?
    /// Empty for standard output.
    public var logFile = ""
    /// `debug`, `verbose`, `notice` or `warning`.
    public var logLevel = "notice"
    public var syslogEnabled = false
    public var syslogIdent = "sentinel"
    public var syslogFacility = "local0"
    /// The folder to change to.
    public var directory: String?
    /// Password that clients, other Sentinels among them, must give.
    public var requirePass: String?
    public var maxClients = 10_000
    /// Seconds after which an idle client is closed; 0 for never.
    public var clientTimeout = 0
    public var tcpKeepAlive = 300
    public var tcpBacklog: Int32 = 511

    /// 40 hexadecimal digits; nil until it is made.
    public var myID: String?
    public var currentEpoch: UInt64 = 0
    public var announceHost: String?
    public var announcePort: UInt16?
    /// How we log in to other Sentinels; without it with `requirePass`.
    public var sentinelUser: String?
    public var sentinelPassword: String?
    /// SENTINEL SET may not change scripts.
    public var denyScriptsReconfig = true
    public var masters: [MasterConfiguration] = []

    /// What was read and has no effect here, with its place.
    public var warnings: [ConfigurationError] = []

    public init(path: String) { self.path = path }

    /// Reads a file and the options of the command line.
    /// - Throws: `ConfigurationError`: file, line, what was found and what is accepted.
    public static func load(path: String, overrides: [String] = []) throws(ConfigurationError) -> SentinelConfiguration {
        guard path != "-" else {
            throw ConfigurationError(
                "Sentinel writes its state into its file and can't be started from standard input",
                at: .init(file: "<standard input>", line: 0))
        }
        let directives = try RedisConfiguration.load(path: path, overrides: overrides)
        return try SentinelConfiguration(directives, path: absolute(path))
    }

    private static func absolute(_ path: String) -> String {
        guard let real = realpath(path, nil) else { return path }
        defer { free(real) }
        return String(cString: real)
    }
}

// MARK: reading

extension SentinelConfiguration {
    /// Directives of redis.conf that a Sentinel's file may have (redis-sentinel itself writes some) and that change nothing.
    private static let withoutMeaning: Set<String> = [
        "latency-tracking-info-percentiles", "latency-tracking", "acllog-max-len", "always-show-logo", "set-proc-title",
        "proc-title-template", "hz", "dynamic-hz", "locale-collate", "supervised", "protected-mode", "crash-log-enabled",
        "crash-memcheck-enabled", "enable-protected-configs", "enable-debug-command", "enable-module-command",
        "disable-thp", "oom-score-adj", "oom-score-adj-values", "jemalloc-bg-thread", "activerehashing",
    ]
    /// Directives of the store: redis-sentinel takes them and does nothing with them.
    private static let ofTheStore: Set<String> = [
        "save", "dbfilename", "rdbcompression", "rdbchecksum", "rdb-del-sync-files", "appendonly", "appendfilename",
        "appenddirname", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory", "maxmemory-policy", "databases",
        "replicaof", "slaveof", "masterauth", "masteruser", "replica-priority", "slave-priority", "replica-read-only",
        "slave-read-only", "repl-backlog-size", "repl-timeout", "slowlog-log-slower-than", "slowlog-max-len",
        "notify-keyspace-events", "client-output-buffer-limit", "stop-writes-on-bgsave-error", "lua-time-limit",
    ]

    /// - Parameter path: where the file is; state is written back there.
    public init(_ directives: [RedisDirective], path: String) throws(ConfigurationError) {
        self.init(path: path)
        var hasPasswordHash: RedisDirective?
        // Masters first: Sentinel's own rewriting does not promise that `sentinel monitor` stands above what refers to it.
        for directive in directives where directive.isSentinel("monitor") { try readMonitor(directive) }
        for directive in directives {
            if directive.name == "sentinel" {
                try readSentinel(directive)
            } else if directive.name == "user" {
                if try readUser(directive) { hasPasswordHash = directive }
            } else {
                try readServer(directive)
            }
        }
        if let directive = hasPasswordHash, requirePass == nil {
            throw directive.error("a password given as a hash is not supported without requirepass: add 'requirepass PASSWORD'")
        }
    }

    private mutating func readServer(_ directive: RedisDirective) throws(ConfigurationError) {
        switch directive.name {
        case "port": port = try directive.port(0)
        case "bind": bind = try SentinelConfiguration.addresses(of: directive)
        case "daemonize": daemonize = try directive.flag(0)
        case "pidfile": pidFile = try directive.text(0)
        case "logfile": logFile = try directive.text(0)
        case "loglevel": logLevel = try directive.choice(0, ["debug", "verbose", "notice", "warning", "nothing"])
        case "syslog-enabled": syslogEnabled = try directive.flag(0)
        case "syslog-ident": syslogIdent = try directive.text(0)
        case "syslog-facility": syslogFacility = try directive.text(0)
        case "dir": directory = try directive.text(0)
        case "requirepass":
            let password = try directive.text(0)
            requirePass = password.isEmpty ? nil : password
        case "maxclients": maxClients = Int(try directive.number(0, 1...1_000_000))
        case "timeout": clientTimeout = Int(try directive.number(0, 0...Int64(Int32.max)))
        case "tcp-keepalive": tcpKeepAlive = Int(try directive.number(0, 0...Int64(Int32.max)))
        case "tcp-backlog": tcpBacklog = Int32(try directive.number(0, 0...Int64(Int32.max)))
        case "aclfile", "unixsocket", "unixsocketperm", "rename-command", "loadmodule":
            throw directive.error("'\(directive.name)' is not supported in a Sentinel")
        case let name where name.hasPrefix("tls-"):
            throw directive.error("'\(name)' is not supported: there is no TLS yet")
        case let name where SentinelConfiguration.withoutMeaning.contains(name): break
        case let name where SentinelConfiguration.ofTheStore.contains(name):
            warnings.append(directive.error("'\(name)' is for a store and has no effect in a Sentinel"))
        default:
            throw directive.error("unknown directive '\(directive.name)'")
        }
    }

    /// `-` before an address means that it may be missing; `*` and `::*` mean all.
    private static func addresses(of directive: RedisDirective) throws(ConfigurationError) -> [String] {
        guard !directive.arguments.isEmpty else { throw directive.error("bind takes at least one address") }
        var addresses: [String] = []
        for word in directive.arguments {
            let address = word.hasPrefix("-") ? String(word.dropFirst()) : word
            if address == "*" || address == "::*" || address.isEmpty { return [] }
            guard SocketAddress(numeric: address, port: 0) != nil else {
                throw directive.error("bind takes numeric addresses, found '\(word)'")
            }
            addresses.append(address)
        }
        return addresses
    }

    /// The default user with all rights, as redis-sentinel writes it down; other users are not supported.
    /// - Returns: whether the password is given as a hash.
    private mutating func readUser(_ directive: RedisDirective) throws(ConfigurationError) -> Bool {
        let words = directive.arguments
        guard words.first == "default" else {
            throw directive.error("user '\(words.first ?? "")' is not supported in a Sentinel: only 'default' with all rights")
        }
        let plain: Set<String> = ["on", "sanitize-payload", "nopass", "resetchannels", "~*", "allkeys", "&*", "allchannels", "+@all", "allcommands"]
        var hasHash = false
        for word in words.dropFirst() where !plain.contains(word) {
            if word.hasPrefix(">") {
                requirePass = String(word.dropFirst())
            } else if word.hasPrefix("#") {
                hasHash = true
            } else {
                throw directive.error("rule '\(word)' for user default is not supported in a Sentinel: only 'on', 'nopass', '>password', '~*', '&*' and '+@all'")
            }
        }
        return hasHash
    }

    private mutating func readMonitor(_ directive: RedisDirective) throws(ConfigurationError) {
        try directive.expect(4, "sentinel monitor NAME ADDRESS PORT QUORUM")
        let name = try directive.text(1)
        let quorum = try directive.number(4, Int64(Int32.min)...Int64(Int32.max))
        guard quorum >= 1 else { throw directive.error("quorum must be 1 or greater, found \(quorum)") }
        guard !masters.contains(where: { $0.name == name }) else { throw directive.error("master '\(name)' is monitored twice") }
        masters.append(MasterConfiguration(name: name, endpoint: try directive.endpoint(2), quorum: Int(quorum)))
    }

    private mutating func readSentinel(_ directive: RedisDirective) throws(ConfigurationError) {
        guard let option = directive.arguments.first?.lowercased() else {
            throw directive.error("sentinel takes an option, for example 'sentinel monitor NAME ADDRESS PORT QUORUM'")
        }
        switch option {
        case "monitor": break
        case "myid":
            let id = try directive.text(1)
            guard isRunID(id) else { throw directive.error("sentinel myid takes 40 hexadecimal digits, found '\(id)'") }
            myID = id
        case "current-epoch": currentEpoch = max(currentEpoch, try directive.epoch(1))
        case "announce-ip":
            let host = try directive.text(1)
            guard SocketAddress(numeric: host, port: 0) != nil else {
                throw directive.error("sentinel announce-ip takes a numeric address, found '\(host)'")
            }
            announceHost = host
        case "announce-port": announcePort = try directive.port(1)
        case "sentinel-user": sentinelUser = try directive.text(1)
        case "sentinel-pass": sentinelPassword = try directive.text(1)
        case "deny-scripts-reconfig": denyScriptsReconfig = try directive.flag(1)
        case "resolve-hostnames", "announce-hostnames":
            if try directive.flag(1) { throw directive.error("'sentinel \(option) yes' is not supported: addresses are numeric") }
        default: try readMasterOption(directive, option)
        }
    }

    private mutating func readMasterOption(_ directive: RedisDirective, _ option: String) throws(ConfigurationError) {
        let known = [
            "down-after-milliseconds", "failover-timeout", "parallel-syncs", "auth-pass", "auth-user", "notification-script",
            "client-reconfig-script", "master-reboot-down-after-period", "rename-command", "config-epoch", "leader-epoch",
            "known-replica", "known-slave", "known-sentinel",
        ]
        guard known.contains(option) else { throw directive.error("unknown option 'sentinel \(option)'") }
        let name = try directive.text(1)
        guard let index = masters.firstIndex(where: { $0.name == name }) else {
            throw directive.error("no such master '\(name)': no 'sentinel monitor \(name) ...' names it")
        }
        switch option {
        case "known-replica", "known-slave": masters[index].knownReplicas.append(try directive.endpoint(2))
        case "known-sentinel":
            let endpoint = try directive.endpoint(2)
            let runID = try directive.text(4)
            guard isRunID(runID) else { throw directive.error("a known Sentinel's id has 40 hexadecimal digits, found '\(runID)'") }
            masters[index].knownSentinels.append(.init(endpoint: endpoint, runID: runID))
        case "config-epoch":
            masters[index].configEpoch = try directive.epoch(2)
            currentEpoch = max(currentEpoch, masters[index].configEpoch)
        case "leader-epoch": masters[index].leaderEpoch = try directive.epoch(2)
        case "rename-command":
            try directive.expect(4 - 1, "sentinel rename-command NAME COMMAND NEWNAME")
            masters[index].renamedCommands[try directive.text(2).uppercased()] = try directive.text(3)
        default:
            try directive.expect(2, "sentinel \(option) NAME VALUE")
            let value = try directive.text(2)
            if let problem = masters[index].set(option, to: value) {
                throw directive.error("sentinel \(option): \(problem)")
            }
            if option.hasSuffix("-script"), access(value, X_OK) != 0 {
                throw directive.error("sentinel \(option): '\(value)' does not exist or can't be executed")
            }
        }
    }
}

extension MasterConfiguration {
    /// Changes an option of one value, as the file and SENTINEL SET name it.
    /// - Returns: what is wrong with the value; nil when it is in force.
    mutating func set(_ option: String, to value: String) -> String? {
        func positive(_ field: WritableKeyPath<MasterConfiguration, Int64>, least: Int64 = 1) -> String? {
            guard let number = Int64(value), number >= least, number <= Int64(Int32.max) * 1000 else {
                return "expected a number of milliseconds from \(least), found '\(value)'"
            }
            self[keyPath: field] = number
            return nil
        }
        func count(_ field: WritableKeyPath<MasterConfiguration, Int>) -> String? {
            guard let number = Int(value), number >= 1, number <= Int(Int32.max) else {
                return "expected a number from 1, found '\(value)'"
            }
            self[keyPath: field] = number
            return nil
        }
        let text = value.isEmpty ? nil : value
        switch option {
        case "down-after-milliseconds": return positive(\.downAfter)
        case "failover-timeout": return positive(\.failoverTimeout)
        case "master-reboot-down-after-period": return positive(\.rebootDownAfter, least: 0)
        case "parallel-syncs": return count(\.parallelSyncs)
        case "quorum": return count(\.quorum)
        case "auth-pass": authPassword = text
        case "auth-user": authUser = text
        case "notification-script": notificationScript = text
        case "client-reconfig-script": clientReconfigScript = text
        default: return "unknown option"
        }
        return nil
    }
}

/// Whether it is a run id: 40 hexadecimal digits.
func isRunID(_ text: String) -> Bool {
    text.utf8.count == 40 && text.utf8.allSatisfy { (48...57).contains($0) || (97...102).contains($0) || (65...70).contains($0) }
}

extension RedisDirective {
    fileprivate func isSentinel(_ option: String) -> Bool { name == "sentinel" && arguments.first?.lowercased() == option }

    fileprivate func expect(_ count: Int, _ usage: String) throws(ConfigurationError) {
        guard arguments.count == count + 1 else { throw error("expected '\(usage)', found \(arguments.count) words after '\(name)'") }
    }

    fileprivate func text(_ index: Int) throws(ConfigurationError) -> String {
        guard index < arguments.count else { throw error("'\(([name] + arguments.prefix(index)).joined(separator: " "))' lacks a value") }
        return arguments[index]
    }

    fileprivate func number(_ index: Int, _ range: ClosedRange<Int64>) throws(ConfigurationError) -> Int64 {
        let word = try text(index)
        guard let value = Int64(word), range.contains(value) else {
            throw error("expected a number from \(range.lowerBound) to \(range.upperBound), found '\(word)'")
        }
        return value
    }

    fileprivate func port(_ index: Int) throws(ConfigurationError) -> UInt16 { UInt16(try number(index, 1...65_535)) }
    fileprivate func epoch(_ index: Int) throws(ConfigurationError) -> UInt64 { UInt64(try number(index, 0...Int64.max)) }

    fileprivate func endpoint(_ index: Int) throws(ConfigurationError) -> Endpoint {
        let host = try text(index)
        guard SocketAddress(numeric: host, port: 0) != nil else {
            throw error("expected a numeric address, found '\(host)': host names are not resolved")
        }
        return Endpoint(host: host, port: try port(index + 1))
    }

    fileprivate func flag(_ index: Int) throws(ConfigurationError) -> Bool { try choice(index, ["yes", "no"]) == "yes" }

    fileprivate func choice(_ index: Int, _ accepted: [String]) throws(ConfigurationError) -> String {
        let word = try text(index).lowercased()
        guard accepted.contains(word) else {
            throw error("expected \(accepted.joined(separator: ", ")), found '\(word)'")
        }
        return word
    }
}

// MARK: writing

extension SentinelConfiguration {
    /// The file's new text: the old one with Sentinel's lines brought up to date; comments, order and all else kept.
    public func rewritten(from old: [UInt8]) -> [UInt8] {
        var file = RedisConfigurationRewriter(old)
        func quote(_ text: String) -> String { RedisConfiguration.quote(text) }
        func perMaster(_ option: String, onlyReplacing: Bool = false, _ lines: (MasterConfiguration) -> [String]) {
            for master in masters {
                let prefix = "sentinel \(option) \(quote(master.name)) "
                file.set("sentinel \(option)", lines: lines(master).map { prefix + $0 }, onlyReplacing: onlyReplacing)
            }
            // An option that no master has any more loses its lines.
            file.set("sentinel \(option)", lines: [])
        }
        func perMasterNumber(_ option: String, _ field: KeyPath<MasterConfiguration, Int64>, standard: Int64) {
            // A default that the file spells out stays spelt out; else it is left out.
            for master in masters {
                let isStandard = master[keyPath: field] == standard
                file.set(
                    "sentinel \(option)", lines: ["sentinel \(option) \(quote(master.name)) \(master[keyPath: field])"],
                    onlyReplacing: isStandard)
            }
            file.set("sentinel \(option)", lines: [])
        }
        file.set("sentinel myid", lines: myID.map { ["sentinel myid \($0)"] } ?? [])
        file.set("sentinel deny-scripts-reconfig", lines: ["sentinel deny-scripts-reconfig \(denyScriptsReconfig ? "yes" : "no")"], onlyReplacing: denyScriptsReconfig)
        perMaster("monitor") { ["\($0.endpoint.host) \($0.endpoint.port) \($0.quorum)"] }
        perMasterNumber("down-after-milliseconds", \.downAfter, standard: 30_000)
        perMasterNumber("failover-timeout", \.failoverTimeout, standard: 180_000)
        perMasterNumber("master-reboot-down-after-period", \.rebootDownAfter, standard: 0)
        for master in masters {
            file.set(
                "sentinel parallel-syncs", lines: ["sentinel parallel-syncs \(quote(master.name)) \(master.parallelSyncs)"],
                onlyReplacing: master.parallelSyncs == 1)
        }
        file.set("sentinel parallel-syncs", lines: [])
        perMaster("notification-script") { $0.notificationScript.map { [quote($0)] } ?? [] }
        perMaster("client-reconfig-script") { $0.clientReconfigScript.map { [quote($0)] } ?? [] }
        perMaster("auth-pass") { $0.authPassword.map { [quote($0)] } ?? [] }
        perMaster("auth-user") { $0.authUser.map { [quote($0)] } ?? [] }
        perMaster("rename-command") { $0.renamedCommands.sorted { $0.key < $1.key }.map { "\(quote($0.key)) \(quote($0.value))" } }
        perMaster("config-epoch") { ["\($0.configEpoch)"] }
        perMaster("leader-epoch") { ["\($0.leaderEpoch)"] }
        // The older name's lines give way to the newer's.
        file.set("sentinel known-slave", lines: [])
        perMaster("known-replica") { $0.knownReplicas.map { "\($0.host) \($0.port)" } }
        perMaster("known-sentinel") { $0.knownSentinels.map { "\($0.endpoint.host) \($0.endpoint.port) \($0.runID)" } }
        file.set("sentinel current-epoch", lines: ["sentinel current-epoch \(currentEpoch)"])
        file.set("sentinel announce-ip", lines: announceHost.map { ["sentinel announce-ip \(quote($0))"] } ?? [])
        file.set("sentinel announce-port", lines: announcePort.map { ["sentinel announce-port \($0)"] } ?? [])
        file.set("sentinel sentinel-user", lines: sentinelUser.map { ["sentinel sentinel-user \(quote($0))"] } ?? [])
        file.set("sentinel sentinel-pass", lines: sentinelPassword.map { ["sentinel sentinel-pass \(quote($0))"] } ?? [])
        return file.finish()
    }
}
