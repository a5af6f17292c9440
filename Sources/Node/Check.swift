import Configuration
import Glibc

/// Which of the five formats a file has, judged by what is in it.
enum FileKind: Equatable {
    case node
    case role(NodeFile.Kind)

    private static let keepalivedWords: Set<String> = [
        "global_defs", "vrrp_instance", "vrrp_script", "vrrp_sync_group", "vrrp_track_file", "virtual_server", "virtual_server_group",
        "static_ipaddress", "static_routes", "bfd_instance", "net_namespace",
    ]

    init(contents: [UInt8], path: String) {
        let lines = contents.split(separator: UInt8(ascii: "\n")).lazy.map { line in
            String(decoding: line.prefix(200), as: UTF8.self).split(whereSeparator: \.isWhitespace).map(String.init)
        }.filter { words in words.first.map { !$0.hasPrefix("#") && !$0.hasPrefix("!") } ?? false }
        let name = path.split(separator: "/").last.map(String.init) ?? path
        for words in lines {
            if FileKind.keepalivedWords.contains(words[0]) { self = .role(.vrrp); return }
            // `sentinel monitor ...` has more words, `sentinel FILE` of a node.conf has two.
            if NodeFile.Kind(rawValue: words[0]) != nil || words[0] == "status", words.count == 2 { self = .node; return }
            if words[0] == "sentinel" { self = .role(.sentinel); return }
            if HAProxyConfiguration.sectionKeywords.contains(words[0]) { self = .role(.proxy); return }
        }
        self = .role(name.contains("sentinel") ? .sentinel : name.contains("keepalived") ? .vrrp : name.contains("haproxy") ? .proxy : .store)
    }
}

extension Launch {
    /// `vigie check FILE...`: says what is wrong as `file:line: message`, and changes nothing.
    /// - Returns: 0 when every file is usable; warnings do not count.
    public static func check(_ paths: [String]) -> Int32 {
        var status: Int32 = 0
        for path in paths {
            do throws(Refusal) {
                for warning in try check(path) { report(warned(warning)) }
                report("\(path): usable")
            } catch {
                status = refuse(error)
            }
        }
        return status
    }

    private static func check(_ path: String) throws(Refusal) -> [String] {
        let contents: [UInt8]
        do throws(ConfigurationFileError) {
            contents = try ConfigurationFile.read(path)
        } catch {
            throw Refusal(["\(path):0: \(error)"])
        }
        switch FileKind(contents: contents, path: path) {
        case .role(let kind):
            return try PreparedRole.prepare(kind, path).warnings
        case .node:
            let file = try NodeFile.parse(contents, file: path)
            var warnings = file.warnings.map(\.description)
            var problems: [String] = []
            for (kind, path) in file.roles {
                do throws(Refusal) { warnings += try PreparedRole.prepare(kind, path).warnings } catch { problems += error.lines }
            }
            guard problems.isEmpty else { throw Refusal(problems) }
            return warnings
        }
    }

    /// Puts the word behind the place: `file:line: warning: message`.
    private static func warned(_ line: String) -> String {
        guard let end = line.range(of: ": ") else { return "warning: \(line)" }
        return line[..<end.lowerBound] + ": warning: " + line[end.upperBound...]
    }
}

extension String {
    /// The first place where `part` stands.
    fileprivate func range(of part: String) -> Range<String.Index>? { ranges(of: part).first }
}
