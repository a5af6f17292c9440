import Configuration
import Glibc
import Observability

extension StoreConfiguration {
    /// Reads a redis.conf and the options of the command line after it.
    ///
    /// - Parameters:
    ///   - path: the file; `-` is standard input; nil for none.
    ///   - overrides: in Redis's style: `["--port", "7000", "--save", ""]`.
    /// - Returns: the configuration, everything that is wrong in it (start with none of that), and what is accepted without
    ///   effect, to be logged.
    /// - Throws: what cannot be read at all.
    public static func load(
        path: String?, overrides: [String] = []
    ) throws(ConfigurationError) -> (configuration: StoreConfiguration, errors: [ConfigurationError], warnings: [ConfigurationError]) {
        let directives = try RedisConfiguration.load(path: path, overrides: overrides)
        let configuration = StoreConfiguration()
        if let path, path != "-" { configuration.file = absolute(path) }
        let errors = configuration.apply(directives)
        return (configuration, errors, configuration.warnings(for: directives))
    }

    /// Finds a directive by its name or alias. O(1).
    static func directive(_ name: String) -> Directive? { byName[name].map { Directive.all[$0] } }

    private static let byName: [String: Int] = {
        var table: [String: Int] = [:]
        for (index, directive) in Directive.all.enumerated() {
            table[directive.name] = index
            if let alias = directive.alias { table[alias] = index }
        }
        return table
    }()

    /// - Returns: what is wrong.
    func apply(_ directives: [RedisDirective]) -> [ConfigurationError] {
        var errors: [ConfigurationError] = []
        var seen: Set<String> = []
        for found in directives {
            do throws(DirectiveError) {
                try apply(found, &seen)
            } catch {
                errors.append(found.error("'\(shown(found))': \(error.message)"))
            }
        }
        return errors
    }

    private func apply(_ found: RedisDirective, _ seen: inout Set<String>) throws(DirectiveError) {
        guard let directive = StoreConfiguration.directive(found.name) else { return try applyFileOnly(found) }
        var words = found.rawArguments
        guard !words.isEmpty else { throw DirectiveError("wrong number of arguments") }
        // One quoted word may hold all of them: `--save "900 1 300 10"`.
        if directive.takesMany, words.count == 1, !words[0].isEmpty { words = StoreConfiguration.words(words[0]) }
        // Several lines add up; the first one replaces what holds without any.
        if directive.isRepeatable, !seen.insert(directive.name).inserted, words != [[]] {
            let before = StoreConfiguration.words(directive.read(self))
            if before != [[]] { words = before + words }
        }
        try directive.set(self, words)
    }

    /// What can stand in a file and is nothing that CONFIG knows.
    private func applyFileOnly(_ found: RedisDirective) throws(DirectiveError) {
        let words = found.arguments
        switch found.name {
        case "rename-command":
            guard words.count == 2 else { throw DirectiveError("wrong number of arguments: expected the command and its new name") }
            try rename(words[0].lowercased(), to: words[1])
        case "list-max-ziplist-entries", "list-max-ziplist-value", "lua-replicate-commands":
            // Redis reads these names of long ago and does nothing with them.
            guard words.count == 1 else { throw DirectiveError("wrong number of arguments") }
        case "user":
            throw DirectiveError("there are no ACL users beside the default one yet; requirepass gives that one a password")
        case "loadmodule":
            throw DirectiveError("there are no modules")
        case "sentinel":
            throw DirectiveError("sentinel directives belong in the file of a Sentinel (vigie sentinel FILE)")
        default:
            throw DirectiveError(StoreConfiguration.unknown(found.name))
        }
    }

    private func rename(_ name: String, to called: String) throws(DirectiveError) {
        let names = Set(StoreServer.allCommands.map(\.lowercasedName))
        guard names.contains(name) else { throw DirectiveError("No such command in rename-command") }
        let taken = names.subtracting(renamedCommands.keys).union(renamedCommands.values.map { $0.lowercased() })
        guard called.isEmpty || !taken.contains(called.lowercased()) else { throw DirectiveError("Target command name already exists") }
        renamedCommands[name] = called
    }

    private static func unknown(_ name: String) -> String {
        let similar = Directive.all.flatMap { [$0.name] + ($0.alias.map { [$0] } ?? []) }.filter { distance($0, name) <= 2 }
        let hint = similar.isEmpty ? "" : "; did you mean \(similar.joined(separator: " or "))?"
        return "Bad directive or wrong number of arguments: there is no '\(name)'\(hint)"
    }

    /// Letters to change, add or drop (Levenshtein). O(n m).
    private static func distance(_ a: String, _ b: String) -> Int {
        let a = Array(a.utf8)
        let b = Array(b.utf8)
        var row = Array(0...b.count)
        for i in 0..<a.count {
            var diagonal = row[0]
            row[0] = i + 1
            for j in 0..<b.count {
                let above = row[j + 1]
                row[j + 1] = a[i] == b[j] ? diagonal : 1 + min(diagonal, above, row[j])
                diagonal = above
            }
        }
        return row[b.count]
    }

    /// The line as a person wrote it, without secrets.
    private func shown(_ found: RedisDirective) -> String {
        if StoreConfiguration.directive(found.name)?.isSecret == true { return "\(found.name) (secret)" }
        return ([found.name] + found.rawArguments.map { RedisConfiguration.quote($0) }).joined(separator: " ")
    }

    /// One warning for each directive that was set to something else than what happens anyway.
    private func warnings(for directives: [RedisDirective]) -> [ConfigurationError] {
        var last: [String: RedisDirective] = [:]
        for found in directives {
            if let name = StoreConfiguration.directive(found.name)?.name { last[name] = found }
        }
        return Directive.all.compactMap { directive in
            guard let found = last[directive.name], let text = directive.warning(self) else { return nil }
            return found.error(text)
        }
    }
}

extension Directive {
    /// What to say about a value that has no effect; nil when it is the default or has one.
    func warning(_ configuration: StoreConfiguration) -> String? {
        switch standing {
        case .applied, .refused: return nil
        case .ineffective(let reason):
            guard !isDefault(configuration) else { return nil }
            let value = isSecret ? "(secret)" : String(decoding: read(configuration), as: UTF8.self)
            return "\(name) '\(value)' has no effect here: \(reason)"
        }
    }
}

extension StoreConfiguration {
    public var isReplica: Bool { replicaOf != nil }

    /// Who supervises the process.
    public var supervisor: Supervision { Supervision.resolve(supervision) }

    /// Whether to go to the background: a supervised process is watched where it is.
    public var goesToBackground: Bool { isDaemon && supervisor == .no }

    /// The log file from the root; empty for standard output.
    public var logPath: String { logFile.isEmpty ? "" : inDirectory(logFile) }

    /// The file for the process id; nil for none. A daemon has one always, as in Redis.
    public var pidPath: String? {
        if !pidFile.isEmpty { return pidFile }
        return isDaemon ? "/var/run/redis.pid" : nil
    }
}
