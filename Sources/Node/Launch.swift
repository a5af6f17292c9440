import Configuration
import Glibc
import Logging
import Observability
import Proxy
import Reactor
import Store

/// From a command line to a running node. Each function returns the exit status.
public enum Launch {
    public static let version = "vigie \(StoreVersion.vigie) (Redis \(StoreVersion.redis))"

    /// How the process is run, where the command line decides it and not the files.
    struct Manner {
        /// Background or not; nil: as the files say.
        var isDaemon: Bool?
        var pidFiles: [String] = []
        /// What the terminal is told: HAProxy's `-q` makes it less.
        var consoleLevel = Logger.Level.notice
        var syslogFacility: SyslogFacility? = .daemon
        /// The daemon's messages go to the terminal until it serves.
        var logsToConsole = true
        /// The processes that this one takes the place of.
        var predecessors = Predecessors()
        /// Tells systemd that everything is up.
        var notifiesSystemd = false
    }

    /// `vigie run node.conf`
    public static func run(_ path: String) -> Int32 {
        let plans: [RolePlan]
        do throws(Refusal) {
            let configuration = try NodeConfiguration.load(path: path)
            for warning in configuration.warnings { report("vigie: warning: \(warning)") }
            plans = try configuration.plans()
        } catch {
            return refuse(error)
        }
        return serve(plans)
    }

    /// `vigie store [redis.conf | -] [--port 7000 ...]`, which is redis-server's own way; `vigie sentinel FILE [--port ...]` likewise.
    public static func redis(_ kind: RoleKind, _ arguments: [String]) -> Int32 {
        // A lone `-` is standard input, which comes behind the file and the options wherever it stands.
        let hasFile = arguments.first.map { !$0.hasPrefix("-") || $0 == "-" } ?? false
        if kind == .sentinel, !hasFile { return refuse(Refusal(["vigie: sentinel needs its file: vigie sentinel FILE [--port 26379 ...]"])) }
        do throws(Refusal) {
            return serve([try RolePlan.load(kind, hasFile ? arguments[0] : nil, options: Array(arguments.dropFirst(hasFile ? 1 : 0)))])
        } catch {
            report("\n*** FATAL CONFIG FILE ERROR (Redis \(StoreVersion.redis)) ***")
            return refuse(error)
        }
    }

    /// `vigie proxy FILE`, `vigie vrrp FILE`
    public static func file(_ kind: RoleKind, _ path: String) -> Int32 {
        do throws(Refusal) {
            return serve([try RolePlan.load(kind, path)])
        } catch {
            return refuse(error)
        }
    }

    /// Says what is wrong in a configuration.
    static func refuse(_ refusal: Refusal) -> Int32 {
        report("\(refusal)")
        return 1
    }

    /// One line for the terminal.
    static func report(_ line: String) {
        let bytes = Array("\(line)\n".utf8)
        _ = write(STDERR_FILENO, bytes, bytes.count)
    }

    /// Goes to the background if asked to, makes the roles, binds, gives privileges away, and serves until the end.
    static func serve(_ plans: [RolePlan], _ manner: Manner = Manner()) -> Int32 {
        do throws(SystemError) {
            // Before anything else exists: a fork takes no threads and no epoll registrations along.
            let daemon: Daemon? = manner.isDaemon ?? plans.contains(where: \.isDaemon) ? try Daemon.detach() : nil
            let console = Logger.standardError(level: manner.consoleLevel)
            let node = Node(logger: console)
            for plan in plans { node.add(try makeRole(plan, node, console, manner, isAlone: plans.count == 1)) }
            try prepare(plans)
            try node.start()
            for path in plans.compactMap(\.pidFile) + manner.pidFiles {
                do throws(SystemError) { try node.writePIDFile(path) } catch { console.warning("\(error)") }
            }
            try dropPrivileges(plans, console)
            if manner.notifiesSystemd {
                do throws(SystemError) { try Systemd.notifyReady(node.loop) } catch { console.warning("systemd could not be told: \(error)") }
            }
            if let daemon { node.whenServing(within: Daemon.loadingMax) { daemon.ready() } }
            return node.run()
        } catch {
            report("vigie: \(error)")
            return 1
        }
    }

    private static func makeRole(_ plan: RolePlan, _ node: Node, _ console: Logger, _ manner: Manner, isAlone: Bool) throws(SystemError) -> any Role {
        switch plan {
        case .store(let configuration, let warnings):
            let role = try StoreRole(loop: node.loop, configuration: configuration, warnings: warnings, isAlone: isAlone)
            role.onShutdown = { [unowned node] in node.stop(because: "SHUTDOWN") }
            role.onFailure = { [unowned node, unowned role] error in
                report("vigie: \(error)")
                node.fail(role)
            }
            return role
        case .sentinel(let configuration):
            let role = try SentinelRole(loop: node.loop, configuration: configuration)
            role.onShutdown = { [unowned node] in node.stop(because: "SHUTDOWN") }
            return role
        case .proxy(let configuration):
            return ProxyRole(loop: node.loop, configuration: configuration, logger: console, predecessors: manner.predecessors)
        case .vrrp(let configuration):
            // What Keepalived says at its console is all said at syslog's level "info".
            let console: Logger? = manner.logsToConsole ? .standardError(level: min(manner.consoleLevel, .info)) : nil
            return try VRRPRole(loop: node.loop, configuration: configuration, facility: manner.syslogFacility, console: console)
        }
    }

    private static func prepare(_ plans: [RolePlan]) throws(SystemError) {
        for case .proxy(let configuration) in plans {
            if let count = configuration.global.descriptorsMax { try Privileges.allowDescriptors(count) }
        }
    }

    /// A process that only proxies keeps nothing that it does not need. With other roles beside it, which write files and set
    /// addresses, it has to keep what it has, and says so.
    private static func dropPrivileges(_ plans: [RolePlan], _ console: Logger) throws(SystemError) {
        for case .proxy(let configuration) in plans {
            let global = configuration.global
            guard global.chroot != nil || global.user != nil || global.group != nil else { continue }
            if plans.count == 1 {
                try Privileges.drop(global)
            } else {
                console.warning("\(configuration.path): chroot, user and group have no effect in a process that has other roles; for them start `vigie proxy` by itself")
            }
        }
    }
}
