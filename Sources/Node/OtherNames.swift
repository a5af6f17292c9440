import Glibc
import Store

/// Started through a symbolic link named as one of the four programs: that program's command line is taken.
extension Launch {
    /// - Returns: the exit status; nil when the name is none of theirs.
    public static func underAnotherName(_ commandLine: [String]) -> Int32? {
        let name = commandLine.first.map { $0.split(separator: "/").last.map(String.init) ?? $0 } ?? ""
        let arguments = Array(commandLine.dropFirst())
        do throws(Refusal) {
            switch name {
            case "redis-server": return redisServer(arguments)
            case "redis-sentinel": return redisSentinel(arguments)
            case "haproxy": return try haproxy(HAProxyCommandLine(arguments))
            case "keepalived": return try keepalived(KeepalivedCommandLine(arguments))
            default: return nil
            }
        } catch {
            return refuse(error)
        }
    }

    private static func redisServer(_ arguments: [String]) -> Int32 {
        if let status = redisInformation(arguments, program: "redis-server") { return status }
        // `redis-server sentinel.conf --sentinel` is a Sentinel.
        if arguments.contains("--sentinel") { return sentinel(arguments.filter { $0 != "--sentinel" }) }
        return store(arguments)
    }

    private static func redisSentinel(_ arguments: [String]) -> Int32 {
        redisInformation(arguments, program: "redis-sentinel") ?? sentinel(arguments.filter { $0 != "--sentinel" })
    }

    private static func redisInformation(_ arguments: [String], program: String) -> Int32? {
        switch arguments.first {
        case "-v", "--version":
            print("Redis server v=\(StoreVersion.redis) vigie=\(StoreVersion.vigie)")
            return 0
        case "-h", "--help":
            print("""
                Usage: \(program) [/path/to/redis.conf] [options] [-]
                       \(program) - (read config from stdin)
                       \(program) -v or --version
                       \(program) -h or --help
                """)
            return 0
        default:
            return nil
        }
    }

    private static func haproxy(_ line: HAProxyCommandLine) throws(Refusal) -> Int32 {
        if line.showsVersion {
            print("vigie \(StoreVersion.vigie), as HAProxy version 2.6")
            return 0
        }
        if line.showsHelp {
            print("Usage: haproxy -f FILE [-c] [-D | -db] [-p PIDFILE] [-n MAX] [-C DIR] [-sf | -st PID...] [-q] [-v]")
            return 0
        }
        guard let file = line.files.first else { throw Refusal(["haproxy: no configuration file: -f FILE"]) }
        if line.files.count > 1 { throw Refusal(["haproxy: several configuration files are not supported: \(line.files.joined(separator: " "))"]) }
        if let folder = line.folder, chdir(folder) != 0 { throw Refusal(["haproxy: -C '\(folder)': no such folder"]) }
        if !line.isQuiet { for warning in line.warnings { report("haproxy: warning: \(warning)") } }
        let prepared = try PreparedRole.proxy(file, predecessors: line.predecessors, connectionsMax: line.connectionsMax)
        if line.isCheck {
            if !line.isQuiet {
                for warning in prepared.warnings { report(warning) }
                print("Configuration file is valid")
            }
            return 0
        }
        return serve([prepared], isDaemon: line.isDaemon, pidFiles: line.pidFile.map { [$0] } ?? [])
    }

    private static func keepalived(_ line: KeepalivedCommandLine) throws(Refusal) -> Int32 {
        if line.showsVersion {
            report("vigie \(StoreVersion.vigie), as Keepalived v2.2.7")
            return 0
        }
        if line.showsHelp {
            print("Usage: keepalived [-f FILE] [-n] [-l] [-D] [-P] [-S FACILITY] [-G] [-p PIDFILE] [-r PIDFILE] [-t] [-v]")
            return 0
        }
        for warning in line.warnings { report("keepalived: warning: \(warning)") }
        let prepared = try PreparedRole.vrrp(line.file, logging: line.logging)
        if line.isCheck {
            for warning in prepared.warnings { report(warning) }
            return 0
        }
        return serve([prepared], isDaemon: line.isDaemon, pidFiles: [line.pidFile] + (line.vrrpPIDFile.map { [$0] } ?? []))
    }
}
