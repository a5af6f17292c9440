import Configuration
import Glibc
import Logging
import Observability
import Reactor
import Store

/// From a command line to a running node. Each function returns the exit status.
public enum Launch {
    public static let version = "vigie \(StoreVersion.vigie) (Redis \(StoreVersion.redis))"

    /// `vigie store [redis.conf | -] [--port 7000 ...]`, which is redis-server's own way.
    public static func store(_ arguments: [String]) -> Int32 {
        let hasFile = arguments.first.map { !$0.hasPrefix("--") } ?? false
        let path = hasFile ? arguments[0] : nil
        let loaded: (configuration: StoreConfiguration, errors: [ConfigurationError], warnings: [ConfigurationError])
        do throws(ConfigurationError) {
            loaded = try StoreConfiguration.load(path: path, overrides: Array(arguments.dropFirst(hasFile ? 1 : 0)))
        } catch {
            return refuse([error])
        }
        guard loaded.errors.isEmpty else { return refuse(loaded.errors) }
        let configuration = loaded.configuration
        return serve(isDaemon: configuration.isDaemon, pidFiles: configuration.pidPath.map { [$0] } ?? []) { node throws(SystemError) in
            let role = try StoreRole(loop: node.loop, configuration: configuration, warnings: loaded.warnings)
            role.onShutdown = { [unowned node] in node.stop(because: "SHUTDOWN") }
            node.add(role)
        }
    }

    /// Says what is wrong in a configuration, in Redis's frame, with the place.
    private static func refuse(_ errors: [ConfigurationError]) -> Int32 {
        report("\n*** FATAL CONFIG FILE ERROR (Redis \(StoreVersion.redis)) ***")
        for error in errors { report("\(error)") }
        return 1
    }

    /// One line for the terminal.
    static func report(_ line: String) {
        let bytes = Array("\(line)\n".utf8)
        _ = write(STDERR_FILENO, bytes, bytes.count)
    }

    /// Goes to the background if asked to, makes the roles, starts them, and serves until the end.
    static func serve(isDaemon: Bool, pidFiles: [String], _ makeRoles: (Node) throws(SystemError) -> Void) -> Int32 {
        do throws(SystemError) {
            let daemon: Daemon? = isDaemon ? try Daemon.detach() : nil
            let node = Node()
            try makeRoles(node)
            try node.start()
            for path in pidFiles {
                do throws(SystemError) { try node.writePIDFile(path) } catch { report("vigie: warning: \(error)") }
            }
            daemon?.ready()
            return node.run()
        } catch {
            report("vigie: \(error)")
            return 1
        }
    }

    /// Started through a symbolic link named as one of the four programs: takes that program's command line.
    /// - Returns: the exit status; nil when the name is none of theirs.
    public static func underAnotherName(_ commandLine: [String]) -> Int32? {
        let name = commandLine.first.map { $0.split(separator: "/").last.map(String.init) ?? $0 } ?? ""
        let arguments = Array(commandLine.dropFirst())
        switch name {
        case "redis-server": return redisServer(arguments)
        default: return nil
        }
    }

    private static func redisServer(_ arguments: [String]) -> Int32 {
        switch arguments.first {
        case "-v", "--version":
            print("Redis server v=\(StoreVersion.redis) vigie=\(StoreVersion.vigie)")
            return 0
        case "-h", "--help":
            print("Usage: redis-server [/path/to/redis.conf] [options] [-]\n       redis-server - (read config from stdin)\n       redis-server -v or --version\n       redis-server -h or --help")
            return 0
        default:
            return store(arguments)
        }
    }
}
