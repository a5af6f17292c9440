import Configuration
import Proxy
import Sentinel
import Store
import VRRP

/// The four kinds of work, by the names that `vigie` and node.conf use.
public enum RoleKind: String, CaseIterable, Sendable {
    case store, sentinel, proxy, vrrp
}

/// What is wrong in configuration files: everything that was found, a line each, `file:line: message`.
public struct Refusal: Error, CustomStringConvertible, Sendable {
    public let lines: [String]
    public var description: String { lines.joined(separator: "\n") }

    init(_ lines: [String]) { self.lines = lines }
    init(_ error: ConfigurationError) { lines = ["\(error)"] }
}

/// One role with its checked configuration, before anything is made of it.
public enum RolePlan {
    case store(StoreConfiguration, warnings: [ConfigurationError])
    case sentinel(SentinelConfiguration)
    case proxy(ProxyConfiguration)
    case vrrp(VRRPConfiguration)

    /// Reads a role's own file.
    /// - Parameter options: the command line behind it, for those whose programs take their directives there too.
    /// - Throws: `Refusal` with everything that is wrong.
    public static func load(_ kind: RoleKind, _ path: String?, options: [String] = []) throws(Refusal) -> RolePlan {
        switch kind {
        case .store: return try store(path, options)
        case .sentinel:
            do throws(ConfigurationError) {
                return .sentinel(try SentinelConfiguration.load(path: path ?? "", overrides: options))
            } catch {
                throw Refusal(error)
            }
        case .proxy:
            do throws(ProxyConfiguration.Refused) {
                return .proxy(try ProxyConfiguration.load(path: path ?? ""))
            } catch {
                throw Refusal(error.problems.map { "\($0)" })
            }
        case .vrrp:
            do throws(VRRPConfigurationProblems) {
                return .vrrp(try VRRPConfiguration.load(path: path ?? ""))
            } catch {
                throw Refusal(error.problems.map { "\($0)" })
            }
        }
    }

    private static func store(_ path: String?, _ options: [String]) throws(Refusal) -> RolePlan {
        let loaded: (configuration: StoreConfiguration, errors: [ConfigurationError], warnings: [ConfigurationError])
        do throws(ConfigurationError) {
            loaded = try StoreConfiguration.load(path: path, overrides: options)
        } catch {
            throw Refusal(error)
        }
        guard loaded.errors.isEmpty else { throw Refusal(loaded.errors.map { "\($0)" }) }
        return .store(loaded.configuration, warnings: loaded.warnings)
    }

    public var kind: RoleKind {
        switch self {
        case .store: .store
        case .sentinel: .sentinel
        case .proxy: .proxy
        case .vrrp: .vrrp
        }
    }

    /// What is accepted and does not do what its author may expect.
    var warnings: [String] {
        switch self {
        case .store(_, let warnings): warnings.map { "\($0)" }
        case .sentinel(let configuration): configuration.warnings.map { "\($0)" }
        case .proxy(let configuration): configuration.warnings.map { "\($0)" }
        case .vrrp(let configuration): configuration.warnings.map { "\($0)" }
        }
    }

    /// Whether the file sends the process to the background.
    var isDaemon: Bool {
        switch self {
        case .store(let configuration, _): configuration.goesToBackground
        case .sentinel(let configuration): configuration.daemonize
        case .proxy(let configuration): configuration.global.daemonize
        case .vrrp: false
        }
    }

    var pidFile: String? {
        switch self {
        case .store(let configuration, _): configuration.pidPath
        case .sentinel(let configuration): configuration.pidFile
        case .proxy(let configuration): configuration.global.pidFile
        case .vrrp: nil
        }
    }
}
