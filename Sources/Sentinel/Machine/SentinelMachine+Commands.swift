import RESP
import Reactor

// SENTINEL's subcommands. Texts of replies and errors are Redis 7.0's.
extension SentinelMachine {
    /// A subcommand: its name, the number of words after it (negative: at least), and what it does.
    private struct Subcommand: Sendable {
        let name: String
        let arguments: Int
        let run: @Sendable (SentinelMachine, [String]) -> Reply
    }

    private static let subcommands: [String: Subcommand] = Dictionary(
        uniqueKeysWithValues: [
            Subcommand(name: "masters", arguments: 0) { m, _ in .array(m.groups.map { m.report($0.master) }) },
            Subcommand(name: "master", arguments: 1) { m, a in m.withGroup(a[0]) { m.report($0.master) } },
            Subcommand(name: "replicas", arguments: 1) { m, a in m.reportReplicas(a[0]) },
            Subcommand(name: "slaves", arguments: 1) { m, a in m.reportReplicas(a[0]) },
            Subcommand(name: "sentinels", arguments: 1) { m, a in m.withGroup(a[0]) { .array($0.sentinels.map(m.report)) } },
            Subcommand(name: "get-master-addr-by-name", arguments: 1) { m, a in m.address(of: a[0]) },
            Subcommand(name: "is-master-down-by-addr", arguments: 4) { m, a in m.isMasterDown(a) },
            Subcommand(name: "reset", arguments: 1) { m, a in m.resetMatching(a[0]) },
            Subcommand(name: "failover", arguments: 1) { m, a in m.withGroup(a[0], m.forceFailover) },
            Subcommand(name: "ckquorum", arguments: 1) { m, a in m.withGroup(a[0], m.checkQuorum) },
            Subcommand(name: "flushconfig", arguments: 0) { m, _ in m.flush() },
            Subcommand(name: "monitor", arguments: 4) { m, a in m.monitor(a) },
            Subcommand(name: "remove", arguments: 1) { m, a in m.withGroup(a[0], m.remove) },
            Subcommand(name: "set", arguments: -3) { m, a in m.set(a) },
            Subcommand(name: "myid", arguments: 0) { m, _ in .text(m.myID) },
            Subcommand(name: "info-cache", arguments: -1) { m, a in m.infoCache(a) },
            Subcommand(name: "help", arguments: 0) { _, _ in SentinelMachine.help },
        ].map { ($0.name, $0) })

    /// Runs `SENTINEL words...`. What the actions say comes before the reply leaves.
    public func command(_ words: [String], at now: Instant) -> Reply {
        enter(now)
        guard let name = words.first else { return .error("ERR wrong number of arguments for 'sentinel' command") }
        guard let subcommand = SentinelMachine.subcommands[name.lowercased()] else {
            return .error("ERR unknown subcommand '\(name.prefix(128))'. Try SENTINEL HELP.")
        }
        let arguments = Array(words.dropFirst())
        let expected = subcommand.arguments
        guard expected >= 0 ? arguments.count == expected : arguments.count >= -expected else {
            return .error("ERR wrong number of arguments for 'sentinel|\(subcommand.name)' command")
        }
        let reply = subcommand.run(self, arguments)
        for group in groups where group.nextWake <= now { pass(group) }
        return reply
    }

    public var masterNames: [String] { groups.map(\.name) }

    private func group(_ name: String) -> MasterGroup? { groups.first { $0.name == name } }

    private func withGroup(_ name: String, _ body: (MasterGroup) -> Reply) -> Reply {
        guard let group = group(name) else { return .error("ERR No such master with that name") }
        return body(group)
    }

    private func reportReplicas(_ name: String) -> Reply {
        withGroup(name) { .array($0.replicas.filter(\.isAnnounced).map(report)) }
    }

    private func address(of name: String) -> Reply {
        guard let group = group(name) else { return .nullArray }
        return .texts([group.currentEndpoint.host, "\(group.currentEndpoint.port)"])
    }

    /// Another Sentinel asks for our opinion, and for our vote when it names itself.
    private func isMasterDown(_ words: [String]) -> Reply {
        guard let port = Int64(words[1]), let epoch = Int64(words[2]), epoch >= 0, epoch < 1 << 62 else {
            return .error("ERR value is not an integer or out of range")
        }
        let group = groups.first { $0.master.endpoint.host == words[0] && Int64($0.master.endpoint.port) == port }
        let isDown = group.map { $0.master.isDown && !isTilted } ?? false
        var leader: String?
        var leaderEpoch: UInt64 = 0
        if let group, words[3] != "*" {
            guard isRunID(words[3]) else {
                return .error("ERR a candidate's run id has 40 hexadecimal digits, found \(excerpt(words[3]))")
            }
            (leader, leaderEpoch) = vote(in: group, epoch: UInt64(epoch), for: words[3])
            group.nextWake = now
        }
        return .array([.integer(isDown ? 1 : 0), .text(leader ?? "*"), .integer(Int64(leaderEpoch))])
    }

    private func resetMatching(_ pattern: String) -> Reply {
        let matching = groups.filter { globMatches(Array(pattern.utf8), Array($0.name.utf8)) }
        for group in matching {
            let endpoint = group.master.endpoint
            for sentinel in group.sentinels { release(sentinel) }
            group.sentinels.removeAll()
            reset(group, to: endpoint, replicas: [], announce: false)
            event(.warning, "+reset-master", group.master, "%@")
        }
        if !matching.isEmpty { persist() }
        return .integer(Int64(matching.count))
    }

    private func forceFailover(_ group: MasterGroup) -> Reply {
        if group.state != .none { return .error("INPROG Failover already in progress") }
        guard bestReplica(group) != nil else { return .error("NOGOODSLAVE No suitable replica to promote") }
        log(.notice, "Executing user requested FAILOVER of '\(group.name)'")
        startFailover(group, forced: true)
        group.nextWake = now
        return .ok
    }

    private func checkQuorum(_ group: MasterGroup) -> Reply {
        let usable = 1 + group.sentinels.count(where: \.isUsable)
        let majority = (group.sentinels.count + 1) / 2 + 1
        if usable >= group.settings.quorum, usable >= majority {
            return .simple("OK \(usable) usable Sentinels. Quorum and failover authorization can be reached")
        }
        var text = "NOQUORUM \(usable) usable Sentinels. "
        if usable < group.settings.quorum { text += "Not enough available Sentinels to reach the specified quorum for this master" }
        if usable < majority {
            if usable < group.settings.quorum { text += ". " }
            text += "Not enough available Sentinels to reach the majority and authorize a failover"
        }
        return .error(text)
    }

    private func flush() -> Reply {
        persist()
        return .ok
    }

    // MARK: what is watched

    private func monitor(_ words: [String]) -> Reply {
        guard let quorum = Int(words[3]) else { return .error("ERR Invalid quorum") }
        guard quorum >= 1 else { return .error("ERR Quorum must be 1 or greater.") }
        guard let port = Int64(words[2]) else { return .error("ERR Invalid port") }
        guard SocketAddress(numeric: words[1], port: 1) != nil else { return .error("ERR Invalid IP address or hostname specified") }
        guard let port = UInt16(exactly: port), port > 0 else { return .error("ERR Invalid port number.") }
        guard group(words[0]) == nil else { return .error("ERR Duplicate master name.") }
        guard !words[0].isEmpty, !words[0].contains(where: { $0 == "," || $0.isWhitespace }) else {
            return .error("ERR Invalid master name: it goes into hello messages and can't hold commas or spaces")
        }
        let settings = MasterConfiguration(name: words[0], endpoint: Endpoint(host: words[1], port: port), quorum: quorum)
        let group = addGroup(settings)
        event(.warning, "+monitor", group.master, "%@ quorum \(quorum)")
        persist()
        group.nextWake = now
        return .ok
    }

    private func remove(_ group: MasterGroup) -> Reply {
        event(.warning, "-monitor", group.master, "%@")
        for instance in group.instances { release(instance) }
        groups.removeAll { $0 === group }
        persist()
        return .ok
    }

    private func set(_ words: [String]) -> Reply {
        withGroup(words[0]) { group in
            var index = 1
            while index < words.count {
                let option = words[index].lowercased()
                let isRename = option == "rename-command"
                guard index + (isRename ? 2 : 1) < words.count else { return unknownOption(words[index]) }
                if isRename {
                    group.settings.renamedCommands[words[index + 1].uppercased()] = words[index + 2].isEmpty ? nil : words[index + 2]
                    event(.warning, "+set", group.master, "%@ rename-command \(words[index + 1]) \(words[index + 2])")
                    index += 3
                    continue
                }
                if let refusal = set(option, words[index], to: words[index + 1], in: group) { return refusal }
                index += 2
            }
            persist()
            group.nextWake = now
            return .ok
        }
    }

    /// - Returns: the error; nil when the option is set.
    private func set(_ option: String, _ spelling: String, to value: String, in group: MasterGroup) -> Reply? {
        if option == "notification-script" || option == "client-reconfig-script" {
            guard !configuration.denyScriptsReconfig else {
                return .error("ERR Reconfiguration of scripts path is denied for security reasons. Check the deny-scripts-reconfig configuration directive in your Sentinel configuration")
            }
        }
        let known = [
            "down-after-milliseconds", "failover-timeout", "parallel-syncs", "quorum", "auth-pass", "auth-user", "notification-script",
            "client-reconfig-script", "master-reboot-down-after-period",
        ]
        guard known.contains(option) else { return unknownOption(spelling) }
        guard group.settings.set(option, to: value) == nil else {
            return .error("ERR Invalid argument '\(value)' for SENTINEL SET '\(spelling)'")
        }
        if option == "auth-pass" || option == "auth-user" { reconnectStores(of: group) }
        event(.warning, "+set", group.master, "%@ \(option) \(option == "auth-pass" ? "******" : value)")
        return nil
    }

    /// Logs in anew everywhere.
    private func reconnectStores(of group: MasterGroup) {
        for instance in [group.master!] + group.replicas {
            let link = instance.link
            if link.command != .closed { closeLink(link, .command) }
            if link.subscription != .closed { closeLink(link, .subscription) }
            link.lastCommandAttempt = nil
            link.lastSubscriptionAttempt = nil
        }
    }

    private func unknownOption(_ option: String) -> Reply {
        .error("ERR Unknown option or number of arguments for SENTINEL SET '\(option)'")
    }

    /// Each master's name with the INFO of the master and of its replicas, and their age in milliseconds.
    private func infoCache(_ names: [String]) -> Reply {
        .array(
            groups.filter { names.contains($0.name) }.flatMap { group in
                [
                    .text(group.name),
                    .array(
                        ([group.master] + group.replicas).map { instance in
                            .array([
                                .integer(instance.infoRefreshed.map { (now - $0).wholeMilliseconds } ?? 0),
                                instance.infoRefreshed == nil ? .null : .text(instance.infoText),
                            ])
                        }),
                ]
            })
    }

    private static let help = Reply.array(
        [
            "SENTINEL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "CKQUORUM <master-name>", "    Check if the current Sentinel configuration is able to reach the quorum",
            "    needed to failover a master and the majority needed to authorize the failover.",
            "FAILOVER <master-name>", "    Manually failover a master node without asking for agreement from other Sentinels.",
            "FLUSHCONFIG", "    Force Sentinel to rewrite its configuration on disk.",
            "GET-MASTER-ADDR-BY-NAME <master-name>", "    Return the ip and port number of the master with that name.",
            "INFO-CACHE <master-name>", "    Return last cached INFO output from masters and all its replicas.",
            "IS-MASTER-DOWN-BY-ADDR <ip> <port> <current-epoch> <runid>",
            "    Check if the master specified by ip:port is down from current Sentinel's point of view.",
            "MASTER <master-name>", "    Show the state and info of the specified master.",
            "MASTERS", "    Show a list of monitored masters and their state.",
            "MONITOR <name> <ip> <port> <quorum>", "    Start monitoring a new master with the specified name, ip, port and quorum.",
            "MYID", "    Return the ID of the Sentinel instance.",
            "PENDING-SCRIPTS", "    Get pending scripts information.",
            "REMOVE <master-name>", "    Remove master from Sentinel's monitor list.",
            "REPLICAS <master-name>", "    Show a list of replicas for this master and their state.",
            "RESET <pattern>", "    Reset masters for specific master name matching this pattern.",
            "SENTINELS <master-name>", "    Show a list of Sentinel instances for this master and their state.",
            "SET <master-name> <option> <value> [<option> <value> ...]", "    Set configuration parameters for certain masters.",
            "HELP", "    Print this help.",
        ].map { .simple($0) })
}

/// Whether a name matches a pattern of `*`, `?`, `[a-c]` and `\x`, as Redis's patterns for keys and channels do.
/// O(pattern * text) at most: a `*` goes back only to the last one.
func globMatches(_ pattern: [UInt8], _ text: [UInt8]) -> Bool {
    var p = 0
    var t = 0
    var star: (pattern: Int, text: Int)?
    while t < text.count {
        if p < pattern.count, pattern[p] == UInt8(ascii: "*") {
            star = (p + 1, t)
            p += 1
        } else if let next = matchOne(pattern, p, text[t]) {
            p = next
            t += 1
        } else if let back = star {
            star = (back.pattern, back.text + 1)
            p = back.pattern
            t = back.text + 1
        } else {
            return false
        }
    }
    while p < pattern.count, pattern[p] == UInt8(ascii: "*") { p += 1 }
    return p == pattern.count
}

/// - Returns: where the pattern goes on when its element at `p` matches the byte.
private func matchOne(_ pattern: [UInt8], _ p: Int, _ byte: UInt8) -> Int? {
    guard p < pattern.count else { return nil }
    switch pattern[p] {
    case UInt8(ascii: "?"):
        return p + 1
    case UInt8(ascii: "\\") where p + 1 < pattern.count:
        return pattern[p + 1] == byte ? p + 2 : nil
    case UInt8(ascii: "["):
        var i = p + 1
        let isNegated = i < pattern.count && pattern[i] == UInt8(ascii: "^")
        if isNegated { i += 1 }
        var isMatch = false
        while i < pattern.count, pattern[i] != UInt8(ascii: "]") {
            if pattern[i] == UInt8(ascii: "\\"), i + 1 < pattern.count { i += 1 }
            if i + 2 < pattern.count, pattern[i + 1] == UInt8(ascii: "-"), pattern[i + 2] != UInt8(ascii: "]") {
                let (low, high) = (min(pattern[i], pattern[i + 2]), max(pattern[i], pattern[i + 2]))
                isMatch = isMatch || (low...high).contains(byte)
                i += 3
            } else {
                isMatch = isMatch || pattern[i] == byte
                i += 1
            }
        }
        return isMatch != isNegated ? min(i + 1, pattern.count) : nil
    default:
        return pattern[p] == byte ? p + 1 : nil
    }
}
