import Reactor

/// One command of the stats socket, declared once: how it begins, its line in `help`, who may use it, what it does.
struct StatsCommand {
    typealias Level = ProxyConfiguration.StatsSocket.Level

    /// The words it begins with.
    let words: [String]
    /// Arguments and explanation, the two columns of `help`.
    let usage: String
    let explanation: String
    /// Below this level it does not exist.
    let level: Level
    let run: (inout StatsSession, ArraySlice<String>) -> String

    init(_ words: String, _ arguments: String = "", level: Level = .user, _ explanation: String, run: @escaping (inout StatsSession, ArraySlice<String>) -> String) {
        self.words = words.split(separator: " ").map(String.init)
        usage = arguments.isEmpty ? words : "\(words) \(arguments)"
        self.explanation = explanation
        self.level = level
        self.run = run
    }

    var helpLine: String { "  \(usage)\(String(repeating: " ", count: max(0, 40 - usage.utf8.count))): \(explanation)\n" }
}

/// What a command may look at and change of the connection it came in on.
struct StatsSession {
    unowned let node: ProxyNode
    var level: StatsCommand.Level
    var hasPrompt = false
    var wantsEnd = false
    /// An idle connection is closed after it.
    var timeout: Duration

    /// Runs one command line that holds no more `;`.
    /// - Returns: the answer without the empty line that ends every answer.
    mutating func run(_ line: String) -> String {
        let words = StatsSession.words(of: line)
        guard let first = words.first else { return hasPrompt ? "" : unknown(words) }
        let known = StatsCommands.all.filter { level >= $0.level && words.starts(with: $0.words) }
        // The one with most words: `show stat` is not `show`.
        if let command = known.max(by: { $0.words.count < $1.words.count }) {
            return command.run(&self, words.dropFirst(command.words.count))
        }
        if StatsCommands.all.contains(where: { words.starts(with: $0.words) }) { return "Permission denied\n" }
        if let reason = StatsCommands.unsupported(first, words.dropFirst().first) { return reason }
        return unknown(words)
    }

    private func unknown(_ words: [String]) -> String {
        guard let first = words.first else { return "Unknown command. Please enter one of the following commands only:\n" + help(StatsCommands.all) }
        let near = StatsCommands.all.filter { $0.words[0] == first }
        return near.isEmpty
            ? "Unknown command: '\(words.joined(separator: " "))'. Please enter one of the following commands only:\n" + help(StatsCommands.all)
            : "Unknown command: '\(words.joined(separator: " "))', but maybe one of the following ones is a better match:\n" + help(near)
    }

    func help(_ commands: [StatsCommand]) -> String {
        commands.filter { level >= $0.level }.map(\.helpLine).joined()
    }

    /// Words at blanks; a backslash takes the next character as it is.
    static func words(of line: String) -> [String] {
        var words: [String] = []
        var word = ""
        var isEscaped = false
        for character in line {
            if isEscaped {
                word.append(character)
                isEscaped = false
            } else if character == "\\" {
                isEscaped = true
            } else if character == " " || character == "\t" || character == "\r" {
                if !word.isEmpty { words.append(word) }
                word = ""
            } else {
                word.append(character)
            }
        }
        if !word.isEmpty { words.append(word) }
        return words
    }

    /// Cuts a line at each `;` that no backslash protects.
    static func commands(of line: String) -> [String] {
        var parts = [""]
        var isEscaped = false
        for character in line {
            if isEscaped {
                parts[parts.count - 1] += "\\\(character)"
                isEscaped = false
            } else if character == "\\" {
                isEscaped = true
            } else if character == ";" {
                parts.append("")
            } else {
                parts[parts.count - 1].append(character)
            }
        }
        if parts.count > 1 { parts.removeAll { $0.allSatisfy { $0 == " " || $0 == "\t" } } }
        return parts
    }
}

/// All commands of the stats socket.
enum StatsCommands {
    static var all: [StatsCommand] { show + change + session }

    /// Known to HAProxy, and why they are not here.
    static func unsupported(_ first: String, _ second: String?) -> String? {
        let topics: [String: String] = [
            "acl": "there are no ACLs", "map": "there are no maps", "table": "there are no stick tables", "ssl": "there is no TLS",
            "tls-keys": "there is no TLS", "cache": "there is no HTTP cache", "peers": "there are no peers", "resolvers": "names are looked up once, at start",
            "agent": "there are no agent checks", "dynamic-cookie": "there is no HTTP", "rate-limit": "there are no rate limits",
            "pools": "there are no memory pools", "threads": "there is one thread", "profiling": "there is no profiling",
            "activity": "'show info' has the loop's figures", "fd": "there is no table of descriptors to show", "libs": "see /proc/PID/maps",
            "server": "servers come from the configuration file", "events": "events go to the log", "trace": "there are no traces",
            "tasks": "there are no tasks", "env": "the environment is not shown",
        ]
        guard ["show", "add", "del", "set", "get", "clear", "commit", "abort", "new", "prepare", "trace", "enable", "disable"].contains(first),
            let second, let reason = topics[second]
        else { return nil }
        return "'\(first) \(second)' is not supported: \(reason).\n"
    }

    static var session: [StatsCommand] {
        [
            StatsCommand("operator", "", level: .operator, "lower the level of the current CLI session to operator") { session, _ in
                session.level = min(session.level, .operator)
                return ""
            },
            StatsCommand("user", "", "lower the level of the current CLI session to user") { session, _ in
                session.level = .user
                return ""
            },
            StatsCommand("help", "[<command>]", "list matching or all commands") { session, words in
                let matching = all.filter { words.isEmpty || $0.words.starts(with: words) }
                return matching.isEmpty
                    ? "Unknown command. Please enter one of the following commands only:\n" + session.help(all)
                    : "The following commands are valid at this level:\n" + session.help(matching)
            },
            StatsCommand("prompt", "", "toggle interactive mode with prompt") { session, _ in
                session.hasPrompt.toggle()
                return ""
            },
            StatsCommand("quit", "", "disconnect") { session, _ in
                session.wantsEnd = true
                return ""
            },
        ]
    }

    // MARK: naming things

    struct Refusal: Error {
        let message: String
        init(_ message: String) { self.message = message }
    }

    /// Runs what may refuse, and gives the refusal's words.
    static func attempt(_ body: () throws(Refusal) -> String) -> String {
        do throws(Refusal) { return try body() } catch { return error.message }
    }

    static func server(_ path: String?, in node: ProxyNode) throws(Refusal) -> Server {
        let parts = path?.split(separator: "/", maxSplits: 1).map(String.init) ?? []
        guard parts.count == 2 else { throw Refusal("Require 'backend/server'.\n") }
        guard let backend = node.backend(named: parts[0]) else { throw Refusal("No such backend.\n") }
        guard let server = backend.server(named: parts[1]) else { throw Refusal("No such server.\n") }
        return server
    }

    static func frontend(_ name: String?, in node: ProxyNode) throws(Refusal) -> Frontend {
        guard let name else { throw Refusal("A frontend name is expected.\n") }
        guard let frontend = node.frontend(named: name) else { throw Refusal("No such frontend.\n") }
        return frontend
    }
}
