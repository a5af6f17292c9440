import Configuration

/// A node.conf: the roles of one process, each with its own familiar file.
///
///     store     /etc/redis/redis.conf
///     sentinel  /etc/redis/sentinel.conf
///     proxy     /etc/haproxy/haproxy.cfg
///     vrrp      /etc/keepalived/keepalived.conf
struct NodeFile: Equatable {
    enum Kind: String, CaseIterable { case store, sentinel, proxy, vrrp }

    /// In the order in which they start: who is asked comes before who asks.
    var roles: [(kind: Kind, path: String)] = []
    var warnings: [ConfigurationError] = []

    static func == (a: NodeFile, b: NodeFile) -> Bool {
        a.roles.map(\.kind) == b.roles.map(\.kind) && a.roles.map(\.path) == b.roles.map(\.path) && a.warnings == b.warnings
    }

    /// - Throws: everything that is wrong.
    static func load(_ path: String) throws(Refusal) -> NodeFile {
        do {
            return try parse(ConfigurationFile.read(path), file: path)
        } catch let refusal as Refusal {
            throw refusal
        } catch {
            throw Refusal(["\(path): \(error)"])
        }
    }

    static func parse(_ text: [UInt8], file: String) throws(Refusal) -> NodeFile {
        var paths: [Kind: String] = [:]
        var problems: [ConfigurationError] = []
        var result = NodeFile()
        for (index, line) in text.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated() {
            let location = ConfigurationLocation(file: file, line: index + 1)
            let words = String(decoding: line.prefix { $0 != UInt8(ascii: "#") }, as: UTF8.self).split(whereSeparator: \.isWhitespace).map(String.init)
            guard let name = words.first else { continue }
            if name == "status" {
                result.warnings.append(ConfigurationError("'status' is ignored: there is no status page yet", at: location))
            } else if let kind = Kind(rawValue: name) {
                if words.count != 2 {
                    problems.append(ConfigurationError("'\(name)' takes the path of one file, not \(words.count - 1) words", at: location))
                } else if paths.updateValue(resolve(words[1], beside: file), forKey: kind) != nil {
                    problems.append(ConfigurationError("'\(name)' is there twice", at: location))
                }
            } else {
                problems.append(ConfigurationError("unknown role '\(name)'; accepted: store, sentinel, proxy, vrrp, status", at: location))
            }
        }
        if paths.isEmpty, problems.isEmpty {
            problems.append(ConfigurationError("no role; accepted: store, sentinel, proxy, vrrp", at: ConfigurationLocation(file: file, line: 0)))
        }
        guard problems.isEmpty else { throw Refusal(problems.map(\.description)) }
        result.roles = Kind.allCases.compactMap { kind in paths[kind].map { (kind, $0) } }
        return result
    }

    /// A relative path counts from the folder of the node.conf.
    private static func resolve(_ path: String, beside file: String) -> String {
        guard !path.hasPrefix("/"), let slash = file.lastIndex(of: "/") else { return path }
        return file[...slash] + path
    }
}

/// A configuration that cannot be used: one line for each thing that is wrong, its place first.
struct Refusal: Error, Equatable {
    let lines: [String]
    init(_ lines: [String]) { self.lines = lines }
}
