import Configuration
import Glibc
import Reactor
import Store

/// From a command line to a running node. Each function returns the exit status.
public enum Launch {
    public static let version = "vigie \(StoreVersion.vigie) (Redis \(StoreVersion.redis))"

    /// `vigie store [redis.conf | -] [--port 7000 ...]`, which is redis-server's own way.
    public static func store(_ arguments: [String]) -> Int32 {
        let (path, overrides) = fileAndOptions(arguments)
        do throws(Refusal) {
            return serve([try .store(path, overrides: overrides)])
        } catch {
            report("\n*** FATAL CONFIG FILE ERROR (Redis \(StoreVersion.redis)) ***")
            return refuse(error)
        }
    }

    /// `vigie sentinel sentinel.conf [--port 26380 ...]`, which is redis-sentinel's own way.
    public static func sentinel(_ arguments: [String]) -> Int32 {
        let (path, overrides) = fileAndOptions(arguments)
        guard let path else {
            report("vigie: Sentinel needs a configuration file that it can write its state into: vigie sentinel sentinel.conf")
            return 1
        }
        do throws(Refusal) {
            return serve([try .sentinel(path, overrides: overrides)])
        } catch {
            report("\n*** FATAL CONFIG FILE ERROR (Redis \(StoreVersion.redis)) ***")
            return refuse(error)
        }
    }

    /// `vigie proxy haproxy.cfg`.
    public static func proxy(_ path: String) -> Int32 { serveOne { () throws(Refusal) in try .proxy(path) } }

    /// `vigie vrrp keepalived.conf`.
    public static func vrrp(_ path: String) -> Int32 { serveOne { () throws(Refusal) in try .vrrp(path) } }

    /// `vigie run node.conf`: every role that the file names, on one loop.
    /// - Parameter inForeground: whatever the files say of daemons.
    public static func run(_ path: String, inForeground: Bool) -> Int32 {
        do throws(Refusal) {
            let file = try NodeFile.load(path)
            var problems: [String] = []
            var prepared: [PreparedRole] = []
            for (kind, path) in file.roles {
                do throws(Refusal) {
                    prepared.append(try .prepare(kind, path))
                } catch {
                    problems += error.lines
                }
            }
            guard problems.isEmpty else { throw Refusal(problems) }
            for warning in file.warnings { report("vigie: warning: \(warning)") }
            keepPrivileges(&prepared)
            return serve(prepared, isDaemon: inForeground ? false : nil)
        } catch {
            return refuse(error)
        }
    }

    /// VRRP sets addresses and runs programs as root as long as it serves, so a process that has it keeps root's rights.
    private static func keepPrivileges(_ roles: inout [PreparedRole]) {
        guard roles.count > 1 else { return }
        for index in roles.indices {
            guard let given = roles[index].privileges else { continue }
            roles[index].privileges = nil
            let asked = [given.chroot.map { _ in "chroot" }, given.user.map { _ in "user" }, given.group.map { _ in "group" }].compactMap(\.self)
            report("vigie: warning: \(asked.joined(separator: ", ")) of the \(roles[index].kind.rawValue)'s file: not applied to a process with other roles")
        }
    }

    static func serveOne(_ prepare: () throws(Refusal) -> PreparedRole) -> Int32 {
        do throws(Refusal) {
            return serve([try prepare()])
        } catch {
            return refuse(error)
        }
    }

    private static func fileAndOptions(_ arguments: [String]) -> (path: String?, options: [String]) {
        let hasFile = arguments.first.map { !$0.hasPrefix("--") } ?? false
        return (hasFile ? arguments[0] : nil, Array(arguments.dropFirst(hasFile ? 1 : 0)))
    }

    /// Says what is wrong in a configuration.
    static func refuse(_ refusal: Refusal) -> Int32 {
        for line in refusal.lines { report(line) }
        return 1
    }

    /// One line for the terminal.
    static func report(_ line: String) {
        let bytes = Array("\(line)\n".utf8)
        _ = write(STDERR_FILENO, bytes, bytes.count)
    }

    /// Goes to the background if asked to, makes the roles, starts them, gives up privileges, and serves until the end.
    /// - Parameter isDaemon: nil leaves it to the roles' files.
    static func serve(_ roles: [PreparedRole], isDaemon: Bool? = nil, pidFiles: [String] = []) -> Int32 {
        for role in roles where !role.logsWarnings {
            for warning in role.warnings { report("vigie: warning: \(warning)") }
        }
        do throws(SystemError) {
            ParentWatch.begin()
            let daemon: Daemon? = isDaemon ?? roles.contains(where: \.isDaemon) ? try Daemon.detach() : nil
            let node = Node()
            for role in roles { node.add(try role.make(node)) }
            try node.start()
            for path in roles.flatMap(\.pidFiles) + pidFiles {
                do throws(SystemError) { try node.writePIDFile(path) } catch { report("vigie: warning: \(error)") }
            }
            for role in roles { try role.privileges?.drop() }
            daemon?.ready()
            return node.run()
        } catch {
            report("vigie: \(error)")
            return 1
        }
    }
}
