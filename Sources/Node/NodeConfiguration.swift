import Configuration
import Glibc

/// node.conf: which roles run in one process, and where each one's own file is.
///
///     store     /etc/vigie/redis.conf
///     sentinel  /etc/vigie/sentinel.conf
///     proxy     /etc/vigie/haproxy.cfg
///     vrrp      /etc/vigie/keepalived.conf
///
/// Comments, quotes and `include` are redis.conf's. A relative path is relative to node.conf's folder.
public struct NodeConfiguration: Sendable {
    public private(set) var roles: [(kind: RoleKind, path: String, location: ConfigurationLocation)] = []
    public private(set) var warnings: [ConfigurationError] = []

    /// - Throws: `Refusal` with everything that is wrong.
    public static func load(path: String) throws(Refusal) -> NodeConfiguration {
        let directives: [RedisDirective]
        do throws(ConfigurationError) {
            directives = try RedisConfiguration.load(path: path)
        } catch {
            throw Refusal(error)
        }
        return try NodeConfiguration(directives, path: path)
    }

    init(_ directives: [RedisDirective], path: String) throws(Refusal) {
        var problems: [String] = []
        let folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? ""
        for directive in directives {
            let words = directive.arguments
            if directive.name == "status" {
                warnings.append(directive.error("status has no effect: there is no status page yet"))
            } else if let kind = RoleKind(rawValue: directive.name) {
                guard words.count == 1 else {
                    problems.append("\(directive.error("\(kind.rawValue) takes one file, found \(words.count)"))")
                    continue
                }
                if kind != .store, let first = roles.first(where: { $0.kind == kind }) {
                    problems.append("\(directive.error("\(kind.rawValue) is named a second time; the first is at \(first.location)"))")
                    continue
                }
                roles.append((kind, words[0].hasPrefix("/") ? words[0] : folder + words[0], directive.location))
            } else {
                let accepted = RoleKind.allCases.map(\.rawValue).joined(separator: ", ")
                problems.append("\(directive.error("'\(directive.name)' is not a role; accepted are \(accepted), each with its file"))")
            }
        }
        if roles.isEmpty, problems.isEmpty {
            problems.append("\(path):0: no role is named; a line is a role (store, sentinel, proxy, vrrp) and its file")
        }
        guard problems.isEmpty else { throw Refusal(problems) }
    }

    /// Reads the file of every role.
    /// - Throws: `Refusal` with what is wrong in any of them.
    func plans() throws(Refusal) -> [RolePlan] {
        var plans: [RolePlan] = []
        var lines: [String] = []
        for role in roles {
            do throws(Refusal) {
                plans.append(try RolePlan.load(role.kind, role.path))
            } catch {
                lines += error.lines
            }
        }
        guard lines.isEmpty else { throw Refusal(lines) }
        return plans
    }
}
