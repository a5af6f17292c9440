import Configuration
import Glibc
import Proxy
import Reactor
import Sentinel
import Store
import VRRP

/// A role whose configuration has been read and found usable, and what it asks of its process.
struct PreparedRole {
    let kind: NodeFile.Kind
    var isDaemon = false
    var pidFiles: [String] = []
    var privileges: Privileges?
    /// `file:line: message` for what was read and has no effect.
    var warnings: [String] = []
    /// The role itself writes its warnings to its log.
    var logsWarnings = false
    /// Makes the role, after the process has gone to the background.
    let make: (Node) throws(SystemError) -> any Role

    /// - Parameter overrides: the command line, in Redis's style.
    static func store(_ path: String?, overrides: [String] = []) throws(Refusal) -> PreparedRole {
        let loaded: (configuration: StoreConfiguration, errors: [ConfigurationError], warnings: [ConfigurationError])
        do throws(ConfigurationError) {
            loaded = try StoreConfiguration.load(path: path, overrides: overrides)
        } catch {
            throw Refusal([error.description])
        }
        guard loaded.errors.isEmpty else { throw Refusal(loaded.errors.map(\.description)) }
        let configuration = loaded.configuration
        var prepared = PreparedRole(kind: .store) { node throws(SystemError) in
            let role = try StoreRole(loop: node.loop, configuration: configuration, warnings: loaded.warnings)
            role.onShutdown = { [unowned node] in node.stop(because: "SHUTDOWN") }
            return role
        }
        prepared.isDaemon = configuration.isDaemon
        prepared.pidFiles = configuration.pidPath.map { [$0] } ?? []
        prepared.warnings = loaded.warnings.map(\.description)
        prepared.logsWarnings = true
        return prepared
    }

    static func sentinel(_ path: String, overrides: [String] = []) throws(Refusal) -> PreparedRole {
        let configuration: SentinelConfiguration
        do throws(ConfigurationError) {
            configuration = try SentinelConfiguration.load(path: path, overrides: overrides)
        } catch {
            throw Refusal([error.description])
        }
        var prepared = PreparedRole(kind: .sentinel) { node throws(SystemError) in
            if let folder = configuration.directory, chdir(folder) != 0 { throw SystemError("change to the folder '\(folder)'") }
            let role = try SentinelRole(loop: node.loop, configuration: configuration)
            role.onShutdown = { [unowned node] in node.stop(because: "SHUTDOWN") }
            return role
        }
        prepared.isDaemon = configuration.daemonize
        prepared.pidFiles = configuration.pidFile.map { [$0] } ?? (configuration.daemonize ? ["/var/run/redis.pid"] : [])
        prepared.warnings = configuration.warnings.map(\.description)
        prepared.logsWarnings = true
        return prepared
    }

    static func proxy(_ path: String, predecessors: Predecessors = Predecessors(), connectionsMax: Int? = nil) throws(Refusal) -> PreparedRole {
        var configuration: ProxyConfiguration
        do throws(ProxyConfiguration.Refused) {
            configuration = try ProxyConfiguration.load(path: path)
        } catch {
            throw Refusal(error.problems.filter { $0.severity == .alert }.map(\.description))
        }
        if let connectionsMax { configuration.global.connectionsMax = connectionsMax }
        let final = configuration
        var prepared = PreparedRole(kind: .proxy) { node throws(SystemError) in
            try ProxyRole(loop: node.loop, configuration: final, predecessors: predecessors)
        }
        prepared.isDaemon = configuration.global.daemonize
        prepared.pidFiles = configuration.global.pidFile.map { [$0] } ?? []
        prepared.privileges = Privileges(configuration.global)
        prepared.warnings = configuration.warnings.filter { $0.severity == .warning }.map(\.description)
        return prepared
    }

    static func vrrp(_ path: String, logging: VRRPLogging = VRRPLogging()) throws(Refusal) -> PreparedRole {
        let configuration: VRRPConfiguration
        do throws(VRRPConfigurationProblems) {
            configuration = try VRRPConfiguration.load(path: path)
        } catch {
            throw Refusal(error.problems.map(\.description))
        }
        var prepared = PreparedRole(kind: .vrrp) { node throws(SystemError) in
            try VRRPRole(loop: node.loop, configuration: configuration, logging: logging)
        }
        prepared.warnings = configuration.warnings.map(\.description)
        prepared.logsWarnings = true
        return prepared
    }

    /// A role from its file, as node.conf names it.
    static func prepare(_ kind: NodeFile.Kind, _ path: String) throws(Refusal) -> PreparedRole {
        switch kind {
        case .store: try store(path)
        case .sentinel: try sentinel(path)
        case .proxy: try proxy(path)
        case .vrrp: try vrrp(path)
        }
    }
}
