import Glibc
import Logging
import Observability
import Store

/// The command lines of the four programs that a symbolic link can be named after.
extension Launch {
    /// - Returns: the exit status; nil when the name is none of theirs.
    public static func underAnotherName(_ commandLine: [String]) -> Int32? {
        let name = commandLine.first.map { $0.split(separator: "/").last.map(String.init) ?? $0 } ?? ""
        let arguments = Array(commandLine.dropFirst())
        switch name {
        case "redis-server": return redisServer(arguments, isSentinel: false)
        case "redis-sentinel": return redisServer(arguments, isSentinel: true)
        case "haproxy": return HAProxyArguments.launch(arguments)
        case "keepalived": return KeepalivedArguments.launch(arguments)
        default: return nil
        }
    }

    private static func redisServer(_ arguments: [String], isSentinel: Bool) -> Int32 {
        switch arguments.first {
        case "-v", "--version":
            print("Redis server v=\(StoreVersion.redis) vigie=\(StoreVersion.vigie) bits=\(Int.bitWidth)")
            return 0
        case "-h", "--help":
            print("""
                Usage: redis-server [/path/to/redis.conf] [options] [-]
                       redis-server - (read config from stdin)
                       redis-server -v or --version
                       redis-server -h or --help
                       redis-server /path/to/sentinel.conf --sentinel
                """)
            return 0
        default:
            let words = arguments.filter { $0 != "--sentinel" }
            return redis(isSentinel || words.count < arguments.count ? .sentinel : .store, words)
        }
    }
}

/// The options of one letter that HAProxy and Keepalived take, read one after the other.
private struct Words {
    private var rest: ArraySlice<String>
    init(_ words: [String]) { rest = words[...] }

    mutating func next() -> String? { rest.popFirst() }

    /// The value of an option: what follows.
    /// - Throws: `Refusal` naming the option.
    mutating func value(of option: String, _ program: String) throws(Refusal) -> String {
        guard let value = rest.popFirst() else { throw Refusal(["\(program): option \(option) needs a value"]) }
        return value
    }

    /// The numbers that follow.
    mutating func numbers() -> [Int32] {
        var numbers: [Int32] = []
        while let word = rest.first, let number = Int32(word) {
            numbers.append(number)
            rest.removeFirst()
        }
        return numbers
    }
}

/// `haproxy [-f FILE] [-c] [-D] [-db] [-W] [-Ws] [-p PIDFILE] [-q] [-V] [-sf PID...] [-st PID...] [-v]`
enum HAProxyArguments {
    static func launch(_ arguments: [String]) -> Int32 {
        do throws(Refusal) {
            return try run(arguments)
        } catch {
            return Launch.refuse(error)
        }
    }

    private static func run(_ arguments: [String]) throws(Refusal) -> Int32 {
        var words = Words(arguments)
        var files: [String] = []
        var manner = Launch.Manner()
        var onlyChecks = false
        var isForeground = false
        while let word = words.next() {
            switch word {
            case "-f", "--": files.append(try words.value(of: word, "haproxy"))
            case "-c": onlyChecks = true
            case "-D": manner.isDaemon = true
            case "-db", "-d": isForeground = true
            // One process does a worker's and a master's work: there is nothing to supervise.
            case "-W": break
            case "-Ws":
                isForeground = true
                manner.notifiesSystemd = true
            case "-p": manner.pidFiles.append(try words.value(of: word, "haproxy"))
            case "-q": manner.consoleLevel = .error
            case "-V": manner.consoleLevel = .info
            case "-sf": manner.predecessors.signals += words.numbers().map { ($0, SIGUSR1) }
            case "-st": manner.predecessors.signals += words.numbers().map { ($0, SIGTERM) }
            case "-S", "-L", "-n", "-N", "-m", "-x", "-C":
                let value = try words.value(of: word, "haproxy")
                Launch.report("haproxy: warning: option \(word) \(value) has no effect here")
            case "-v", "-vv":
                print("HAProxy version 2.6 (\(Launch.version))")
                return 0
            default:
                throw Refusal(["haproxy: unknown option '\(word)'; accepted are -f FILE -c -D -db -W -Ws -p FILE -q -V -sf PID... -st PID... -v"])
            }
        }
        guard files.count == 1 else { throw Refusal(["haproxy: expected one configuration file with -f, found \(files.count)"]) }
        if isForeground { manner.isDaemon = false }
        let plan = try RolePlan.load(.proxy, files[0])
        if onlyChecks {
            for warning in plan.warnings { Launch.report(warning) }
            print("Configuration file is valid")
            return 0
        }
        return Launch.serve([plan], manner)
    }
}

/// Keepalived's command line, as `KeepalivedCommandLine` reads it.
enum KeepalivedArguments {
    static func launch(_ arguments: [String]) -> Int32 {
        do throws(Refusal) {
            return try run(KeepalivedCommandLine(arguments))
        } catch {
            return Launch.refuse(error)
        }
    }

    private static func run(_ line: KeepalivedCommandLine) throws(Refusal) -> Int32 {
        if line.showsVersion {
            print("Keepalived v2.2 (\(Launch.version))")
            return 0
        }
        if line.showsHelp {
            print("Usage: keepalived [-f FILE] [-n] [-l] [-D] [-P] [-S FACILITY] [-G] [-p PIDFILE] [-r PIDFILE] [-t] [-v]")
            return 0
        }
        for warning in line.warnings { Launch.report("keepalived: warning: \(warning)") }
        let plan = try RolePlan.load(.vrrp, line.file)
        if line.isCheck {
            for warning in plan.warnings { Launch.report(warning) }
            return 0
        }
        var manner = Launch.Manner()
        manner.isDaemon = line.isDaemon
        manner.logsToConsole = line.logsToConsole
        manner.syslogFacility = line.syslogFacility
        manner.pidFiles = line.pidFiles
        manner.notifiesSystemd = Systemd.isPresent
        return Launch.serve([plan], manner)
    }
}
