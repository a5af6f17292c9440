import Configuration
import Observability
import Reactor

/// Everything that a haproxy.cfg asks of the proxy, checked and with defaults filled in.
///
/// What HAProxy knows and this proxy does not is an error or a warning in words, never silence; `load` reports all of
/// them at once. What only the process can do (chroot, user, group, daemon, pidfile) is kept as values for the node.
public struct ProxyConfiguration: Sendable {
    public typealias Problem = HAProxyConfiguration.Problem

    /// The file cannot be used: every alert, with the warnings found on the way.
    public struct Refused: Error, CustomStringConvertible, Sendable {
        public let problems: [Problem]
        public var description: String { problems.map(\.description).joined(separator: "\n") }
    }

    /// Where a log line goes (`log ADDRESS [len N] FACILITY [LEVEL [MINLEVEL]]`).
    public struct LogTarget: Sendable, Equatable {
        public var target: Syslog.Target
        public var facility: SyslogFacility
        /// What is less grave is not sent.
        public var level: SyslogSeverity = .debug
        /// What is graver is sent as this.
        public var minimumLevel: SyslogSeverity = .emergency
        /// Longer lines are cut to so many bytes.
        public var lengthMax = 1024
    }

    public struct StatsSocket: Sendable, Equatable {
        public enum Level: Int, Sendable, Comparable {
            case user, `operator`, admin
            public static func < (a: Level, b: Level) -> Bool { a.rawValue < b.rawValue }
        }
        public var address: SocketAddress
        public var mode: UInt32?
        public var user: UInt32?
        public var group: UInt32?
        public var level = Level.operator
    }

    public struct Global: Sendable {
        public var logs: [LogTarget] = []
        /// The program name in log lines.
        public var logTag = "haproxy"
        public var statsSockets: [StatsSocket] = []
        /// An idle connection to the stats socket is closed after it.
        public var statsTimeout: Duration = .seconds(10)
        /// Connections to the stats socket at a time.
        public var statsConnectionsMax = 10
        /// Connections of all frontends together; nil: as many as the descriptors allow.
        public var connectionsMax: Int?
        /// Bytes a session may hold for each direction before reading pauses (`tune.bufsize`).
        public var bufferSize = 16_384
        /// A soft stop closes what is left after it (`hard-stop-after`).
        public var hardStopAfter: Duration?
        public var node: String?
        public var description: String?

        /// For the node, after every socket is bound: directory to chroot(2) into.
        public var chroot: String?
        /// For the node, after chroot: names as the file gives them, and what they resolved to.
        public var user: (name: String, id: UInt32)?
        public var group: (name: String, id: UInt32)?
        /// For the node: go to the background (`daemon`).
        public var daemonize = false
        /// For the node, before chroot: file that gets the process id.
        public var pidFile: String?
        /// For the node: RLIMIT_NOFILE to ask for (`ulimit-n`).
        public var descriptorsMax: Int?
    }

    /// The timeouts that a proxy section may set; nil means none (HAProxy: infinite), except where said otherwise.
    public struct Timeouts: Sendable, Equatable {
        public var connect: Duration?
        public var client: Duration?
        public var server: Duration?
        /// A session's wait for a free server; nil: as `connect`.
        public var queue: Duration?
        /// The time to answer a health check once connected; nil: what is left of `inter`.
        public var check: Duration?
        /// Replaces `client` and `server` once both sides are connected.
        public var tunnel: Duration?
        /// Replaces `client` once the client's half is closed.
        public var clientFin: Duration?
        /// Replaces `server` once the server's half is closed.
        public var serverFin: Duration?
    }

    public struct Options: OptionSet, Sendable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }
        public static let tcpLog = Options(rawValue: 1 << 0)
        public static let logHealthChecks = Options(rawValue: 1 << 1)
        public static let dontLogNull = Options(rawValue: 1 << 2)
        public static let dontLogNormal = Options(rawValue: 1 << 3)
        public static let logSeparateErrors = Options(rawValue: 1 << 4)
        public static let redispatch = Options(rawValue: 1 << 5)
        public static let abortOnClose = Options(rawValue: 1 << 6)
        public static let allBackups = Options(rawValue: 1 << 7)
        public static let clientKeepAlive = Options(rawValue: 1 << 8)
        public static let serverKeepAlive = Options(rawValue: 1 << 9)
        public static let independentStreams = Options(rawValue: 1 << 10)
        /// Accepted because they have no effect that could be missed: counters are continuous, there is no HTTP.
        public static let accepted = Options(rawValue: 1 << 11)
    }

    public enum Balance: String, Sendable, CaseIterable {
        case roundrobin, staticRR = "static-rr", leastconn, first
    }

    /// A `server` line.
    public struct Server: Sendable {
        public var name = ""
        public var id = 0
        public var address = SocketAddress.anyIPv4(port: 0)
        public var line = 0
        public var settings = ServerSettings()
    }

    /// What `server` and `default-server` lines may say besides name and address.
    public struct ServerSettings: Sendable {
        public var isChecked = false
        public var interval: Duration = .seconds(2)
        /// Between checks of a server in transition; nil: as `interval` (but see `HealthCheckSchedule`).
        public var fastInterval: Duration?
        /// Between checks of a server that is down; nil: as `interval` (but see `HealthCheckSchedule`).
        public var downInterval: Duration?
        public var rise = 2
        public var fall = 3
        public var weight = 1
        /// Sessions at a time; nil: no limit.
        public var connectionsMax: Int?
        public var isBackup = false
        public var isDisabled = false
        public var checkPort: UInt16?
        public var checkAddress: SocketAddress?
        /// `on-marked-down shutdown-sessions`.
        ///
        /// HAProxy's default is to keep the sessions of a server that went down. Here it is to close them, even where the
        /// file does not say so: a client that keeps a session to a demoted master has its writes refused, or loses them,
        /// while reconnecting would take it to the new one. `on-marked-down keep-sessions`, a word of this proxy's own,
        /// gives HAProxy's default back. The log says so at start.
        public var shutsSessionsWhenDown = true
        /// `on-marked-up shutdown-backup-sessions`.
        public var shutsBackupSessionsWhenUp = false
        /// Where connections to the server start from (`source`).
        public var source: SocketAddress?
    }

    /// A `bind` line's single address.
    public struct Bind: Sendable {
        public var address: SocketAddress
        public var name: String?
        public var line: Int
        public var backlog: Int?
        public var mode: UInt32?
        public var user: UInt32?
        public var group: UInt32?
    }

    /// What `defaults` can preset.
    public struct Settings: Sendable {
        public var timeouts = Timeouts()
        /// Times to try again when a server cannot be reached.
        public var retries = 3
        public var options: Options = []
        public var balance = Balance.roundrobin
        /// nil: the section says nothing of `log`; empty: `no log`.
        public var logs: [LogTarget]?
        public var logTag: String?
        public var connectionsMax: Int?
        public var backlog: Int?
        public var checkRules: [CheckRule] = []
        public var checkKind = CheckKind.connect
        public var serverDefaults = ServerSettings()
        public var defaultBackend: String?
        public var source: SocketAddress?
        public var isDisabled = false
        var defaultBackendLine = 0
    }

    public enum CheckKind: Sendable, Equatable {
        /// Only that the connection is accepted (`check` alone).
        case connect
        /// The rules of `tcp-check` (`option tcp-check`).
        case sequence
    }

    /// A `frontend`, `backend` or `listen` section; the last is both.
    public struct Section: Sendable {
        public var name: String
        /// HAProxy's `iid`.
        public var id: Int
        public var line: Int
        public var isFrontend: Bool
        public var isBackend: Bool
        public var settings: Settings
        public var binds: [Bind] = []
        public var servers: [Server] = []
    }

    public var path: String
    public var global = Global()
    public var sections: [Section] = []
    /// Warnings and notices for the start of the program.
    public var warnings: [Problem] = []

    /// - Throws: `Refused` with every problem of the file.
    public static func load(path: String) throws(Refused) -> ProxyConfiguration {
        try ProxyConfigurationReader.read(HAProxyConfiguration(path: path))
    }

    /// Reads a file's contents that are in memory already; `path` is for messages.
    /// - Throws: `Refused` with every problem of the text.
    public static func parse(_ text: String, path: String = "haproxy.cfg", environment: [String: String] = [:]) throws(Refused) -> ProxyConfiguration {
        try ProxyConfigurationReader.read(HAProxyConfiguration(path: path, contents: Array(text.utf8), environment: environment))
    }
}
