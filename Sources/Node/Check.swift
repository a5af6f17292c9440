import Configuration
import Glibc

/// `vigie check FILE...`: says what is wrong in configurations of any of the five kinds, and changes nothing.
extension Launch {
    /// - Returns: 0 when every file can be used, 1 otherwise.
    public static func check(_ paths: [String]) -> Int32 {
        var isUsable = true
        for path in paths {
            do throws(Refusal) {
                for warning in try check(path) { print("\(warning) (warning)") }
            } catch {
                for line in error.lines { print(line) }
                isUsable = false
            }
        }
        return isUsable ? 0 : 1
    }

    /// - Returns: the warnings.
    private static func check(_ path: String) throws(Refusal) -> [String] {
        let text: [UInt8]
        do throws(ConfigurationFileError) {
            text = try ConfigurationFile.read(path)
        } catch {
            throw Refusal(["\(path):0: \(error.reason)"])
        }
        switch FileKind(path: path, text: String(decoding: text, as: UTF8.self)) {
        case .role(let kind): return try RolePlan.load(kind, path).warnings
        case .node:
            let configuration = try NodeConfiguration.load(path: path)
            return configuration.warnings.map { "\($0)" } + (try configuration.plans()).flatMap(\.warnings)
        }
    }
}

/// Whose file it is, told from what stands in it, and from its name where that leaves it open.
enum FileKind: Equatable {
    case role(RoleKind)
    case node

    init(path: String, text: String) {
        let lines = text.split(whereSeparator: \.isNewline).map { $0.split(whereSeparator: { $0 == " " || $0 == "\t" }).map(String.init) }
            .filter { !$0.isEmpty && !$0[0].hasPrefix("#") && !$0[0].hasPrefix("!") }
        let first = Set(lines.map { $0[0].lowercased() })
        let name = path.split(separator: "/").last.map { $0.lowercased() } ?? path
        let sections: Set = ["frontend", "backend", "listen", "defaults", "global"]
        let blocks: Set = ["vrrp_instance", "vrrp_script", "vrrp_sync_group", "global_defs", "virtual_server", "static_ipaddress"]
        if !first.isDisjoint(with: blocks) {
            self = .role(.vrrp)
        } else if !first.isDisjoint(with: sections) {
            self = .role(.proxy)
        } else if !first.isEmpty, first.isSubset(of: ["store", "sentinel", "proxy", "vrrp", "status", "include"]),
            lines.allSatisfy({ $0[0] != "sentinel" || $0.count == 2 }) {
            self = .node
        } else if first.contains("sentinel") {
            self = .role(.sentinel)
        } else if name.contains("haproxy") || name.hasSuffix(".cfg") {
            self = .role(.proxy)
        } else if name.contains("keepalived") {
            self = .role(.vrrp)
        } else if name.contains("sentinel") {
            self = .role(.sentinel)
        } else if name.contains("node") {
            self = .node
        } else {
            self = .role(.store)
        }
    }
}
