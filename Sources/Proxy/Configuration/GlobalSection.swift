import Configuration
import Reactor

/// The `global` section.
extension ProxyConfigurationReader {
    private static let accepted = [
        "log", "log-tag", "stats", "chroot", "user", "group", "uid", "gid", "daemon", "pidfile", "maxconn", "nbthread", "ulimit-n",
        "hard-stop-after", "node", "description", "quiet", "zero-warning", "strict-limits", "tune.bufsize",
    ]

    /// Known to HAProxy and without effect here; the reason is part of the warning.
    private static let ignored: [String: String] = [
        "nbproc": "there is one process", "cpu-map": "there is one thread", "master-worker": "there is one process",
        "thread-groups": "there is one thread", "thread-group": "there is one thread", "numa-cpu-mapping": "there is one thread",
        "ca-base": "there is no TLS", "crt-base": "there is no TLS", "spread-checks": "checks keep their own rhythm",
        "max-spread-checks": "checks keep their own rhythm", "noepoll": "epoll is all there is", "nopoll": "epoll is all there is",
        "nosplice": "splice is not used", "noevports": "epoll is all there is", "nokqueue": "epoll is all there is",
        "nogetaddrinfo": "names are looked up once, at start", "noreuseport": "SO_REUSEPORT is not used", "busy-polling": "the loop sleeps",
        "localpeer": "there are no peers", "set-dumpable": "core dumps are left to the system", "server-state-base": "states are not loaded",
        "server-state-file": "states are not loaded", "default-path": "paths are taken as they are", "maxpipes": "pipes are not used",
        "maxsslconn": "there is no TLS", "maxsslrate": "there is no TLS", "maxzlibmem": "there is no compression",
        "maxcompcpuusage": "there is no compression", "maxcomprate": "there is no compression", "profiling.tasks": "there is no profiling",
        "h1-case-adjust": "there is no HTTP", "h1-case-adjust-file": "there is no HTTP", "pp2-never-send-local": "there is no PROXY protocol",
        "insecure-fork-wanted": "nothing is forked", "insecure-setuid-wanted": "nothing is forked",
        "grace": "a soft stop waits for the sessions (hard-stop-after bounds it)", "debug": "run it in the foreground instead",
        "log-send-hostname": "log lines carry no host name",
    ]

    mutating func readGlobal(_ section: HAProxyConfiguration.Section) {
        currentLine = section.opening.number
        if let extra = section.opening.arguments.first { alert("'global' cannot handle unexpected argument '\(extra.text)'.") }
        for line in section.lines { note(line) { reader throws(Rejection) in try reader.readGlobal(line) } }
    }

    private mutating func readGlobal(_ line: Line) throws(Rejection) {
        let keyword = line.keyword
        let arguments = line.arguments.map(\.text)
        func one(_ what: String) throws(Rejection) -> String {
            guard let first = arguments.first, !first.isEmpty else { throw Rejection("'\(keyword)' expects \(what) as an argument.") }
            if arguments.count > 1 { throw Rejection("'\(keyword)' cannot handle unexpected argument '\(arguments[1])'.") }
            return first
        }
        func none() throws(Rejection) {
            if let extra = arguments.first { throw Rejection("'\(keyword)' cannot handle unexpected argument '\(extra)'.") }
        }
        switch keyword {
        case "log":
            if arguments == ["global"] { throw Rejection("log : 'global' is not supported for a global section") }
            configuration.global.logs.append(try logTarget(arguments))
        case "log-tag": configuration.global.logTag = try one("a tag")
        case "stats": try readStats(arguments)
        case "chroot": configuration.global.chroot = try one("a directory")
        case "user":
            let name = try one("a user name")
            configuration.global.user = (name, try userID(name))
        case "group":
            let name = try one("a group name")
            configuration.global.group = (name, try groupID(name))
        case "uid":
            let text = try one("a user id")
            configuration.global.user = (text, UInt32(try integer(text, for: "uid", in: 0...0xFFFF_FFFE)))
        case "gid":
            let text = try one("a group id")
            configuration.global.group = (text, UInt32(try integer(text, for: "gid", in: 0...0xFFFF_FFFE)))
        case "daemon":
            try none()
            configuration.global.daemonize = true
        case "pidfile": configuration.global.pidFile = try one("a file name")
        case "maxconn": configuration.global.connectionsMax = try integer(try one("a number"), for: "maxconn", in: 1...10_000_000)
        case "ulimit-n": configuration.global.descriptorsMax = try integer(try one("a number"), for: "ulimit-n", in: 16...100_000_000)
        case "hard-stop-after": configuration.global.hardStopAfter = try duration(try one("a delay"), for: "hard-stop-after")
        case "node": configuration.global.node = try one("a name")
        case "description": configuration.global.description = arguments.joined(separator: " ")
        case "tune.bufsize": configuration.global.bufferSize = try integer(try one("a size"), for: "tune.bufsize", in: 1024...1 << 26)
        case "nbthread":
            let count = try integer(try one("a number"), for: "nbthread", in: 1...64)
            if count > 1 { warn("'nbthread \(count)' ignored: there is one thread, on one event loop") }
        case "quiet", "strict-limits", "zero-warning": try none()
        case "no":
            guard let what = arguments.first else { throw Rejection("'no' expects a keyword as an argument.") }
            warn("'no \(what)' ignored: it is off, or has no effect here")
        default:
            if let reason = Self.ignored[keyword] {
                warn("'\(keyword)' ignored: \(reason)")
            } else if keyword.hasPrefix("tune.") {
                warn("'\(keyword)' ignored: HAProxy's internals are not tuned here (supported: tune.bufsize)")
            } else if keyword.hasPrefix("ssl-") || keyword.hasPrefix("issuers-") {
                warn("'\(keyword)' ignored: there is no TLS")
            } else if ["setenv", "presetenv", "resetenv", "unsetenv", "lua-load", "lua-load-per-thread", "external-check", "unix-bind",
                "deviceatlas-json-file", "51degrees-data-file", "wurfl-data-file", "httpclient.resolvers.id"].contains(keyword)
            {
                throw Rejection("'\(keyword)' is not supported; remove it (supported in 'global': \(Self.accepted.sorted().joined(separator: ", ")))")
            } else {
                throw unknown(keyword, in: "'global' section", accepted: Self.accepted)
            }
        }
    }

    private mutating func readStats(_ arguments: [String]) throws(Rejection) {
        switch arguments.first {
        case "socket":
            guard arguments.count >= 2 else { throw Rejection("'stats socket' in global section expects an address or a path to a UNIX socket") }
            var socket = ProxyConfiguration.StatsSocket(address: try address(arguments[1], for: "'stats socket'", defaultPort: nil))
            try readSocket(arguments.dropFirst(2), &socket)
            configuration.global.statsSockets.append(socket)
        case "timeout":
            guard arguments.count == 2 else { throw Rejection("'stats timeout' expects a delay") }
            configuration.global.statsTimeout = try duration(arguments[1], for: "stats timeout")
            if configuration.global.statsTimeout == .zero { throw Rejection("'stats timeout' expects a positive value") }
        case "maxconn":
            guard arguments.count == 2 else { throw Rejection("'stats maxconn' expects a positive value") }
            configuration.global.statsConnectionsMax = try integer(arguments[1], for: "stats maxconn", in: 1...1_000_000)
        case "bind-process":
            warn("'stats bind-process' ignored: there is one process")
        default:
            throw Rejection("'stats' only supports 'socket', 'maxconn', 'bind-process' and 'timeout' (got '\(arguments.first ?? "")')")
        }
    }

    private mutating func readSocket(_ words: ArraySlice<String>, _ socket: inout ProxyConfiguration.StatsSocket) throws(Rejection) {
        let accepted = ["mode", "user", "group", "uid", "gid", "level", "name", "id", "expose-fd", "process", "thread", "maxconn", "backlog"]
        var words = words
        while let word = words.popFirst() {
            guard accepted.contains(word) else { throw unknown(word, in: "'stats socket'", accepted: accepted) }
            guard let value = words.popFirst() else { throw Rejection("'stats socket' : '\(word)' expects a value") }
            switch word {
            case "mode": socket.mode = try fileMode(value, for: "'stats socket'")
            case "user": socket.user = try userID(value)
            case "group": socket.group = try groupID(value)
            case "uid": socket.user = UInt32(try integer(value, for: "'stats socket' : uid", in: 0...0xFFFF_FFFE))
            case "gid": socket.group = UInt32(try integer(value, for: "'stats socket' : gid", in: 0...0xFFFF_FFFE))
            case "level":
                switch value {
                case "user": socket.level = .user
                case "operator": socket.level = .operator
                case "admin": socket.level = .admin
                default: throw Rejection("'stats socket' : 'level' only supports 'user', 'operator', and 'admin' (got '\(value)')")
                }
            case "name", "id": break
            default: warn("'stats socket' : '\(word) \(value)' ignored: it has no effect here")
            }
        }
    }
}
