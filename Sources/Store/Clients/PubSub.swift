import Glibc
import RESP

/// What one client is subscribed to.
final class Subscriptions {
    var channels: Set<[UInt8]> = []
    var patterns: Set<[UInt8]> = []
    var shardChannels: Set<[UInt8]> = []
    var count: Int { channels.count + patterns.count }
}

/// Who is subscribed to what, in the order of subscription.
struct PubSub {
    var channels: [[UInt8]: [Client]] = [:]
    var shardChannels: [[UInt8]: [Client]] = [:]
    var patterns: [(pattern: [UInt8], client: Client)] = []
    var isUnused: Bool { channels.isEmpty && patterns.isEmpty && shardChannels.isEmpty }
}

extension StoreServer {
    /// Sends a message to all who are subscribed to the channel or to a pattern that matches it.
    /// - Returns: how many clients it went to.
    @discardableResult
    func publish(_ channel: Argument, _ message: Argument, isShard: Bool = false) -> Int {
        if pubsub.isUnused { return 0 }
        var receivers = 0
        let name = channel.bytes
        for client in (isShard ? pubsub.shardChannels : pubsub.channels)[name] ?? [] {
            say(nil, channel, message, isShard: isShard, to: client)
            receivers += 1
        }
        if isShard { return receivers }
        for (pattern, client) in pubsub.patterns {
            let matches = pattern.withUnsafeBytes { Glob.matches(Argument($0), channel) }
            guard matches else { continue }
            say(pattern, channel, message, isShard: false, to: client)
            receivers += 1
        }
        return receivers
    }

    /// Sends one client a message, or keeps it until it is known what it shows.
    private func say(_ pattern: [UInt8]?, _ channel: Argument, _ message: Argument, isShard: Bool, to client: Client) {
        guard gate.contains(.confirming) else { return client.pushes.message(pattern, channel, message, isShard: isShard) }
        confirmation.collect(.published(pattern: pattern, channel: channel.bytes, text: message.bytes, isShard: isShard), to: client)
    }

    func unsubscribeFromAll(_ client: Client) {
        guard let subscriptions = client.subscriptions else { return }
        for name in subscriptions.channels { remove(client, from: &pubsub.channels, name) }
        for name in subscriptions.shardChannels { remove(client, from: &pubsub.shardChannels, name) }
        pubsub.patterns.removeAll { $0.client === client }
        client.subscriptions = nil
        client.gate.remove(.subscribed)
    }

    private func remove(_ client: Client, from table: inout [[UInt8]: [Client]], _ name: [UInt8]) {
        table[name]?.removeAll { $0 === client }
        if table[name]?.isEmpty == true { table[name] = nil }
    }

    private enum Kind {
        case channel, pattern, shard
        var subscribeWord: StaticString {
            switch self {
            case .channel: "subscribe"
            case .pattern: "psubscribe"
            case .shard: "ssubscribe"
            }
        }
        var unsubscribeWord: StaticString {
            switch self {
            case .channel: "unsubscribe"
            case .pattern: "punsubscribe"
            case .shard: "sunsubscribe"
            }
        }
    }

    private func subscribe(_ call: borrowing Call, _ kind: Kind) {
        let client = call.client
        if kind == .shard, executionDepth > 0 {
            return call.reply.error("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client")
        }
        if client.subscriptions == nil { client.subscriptions = Subscriptions() }
        let subscriptions = client.subscriptions!
        for i in 1..<call.count {
            let name = call[i].bytes
            switch kind {
            case .channel:
                if subscriptions.channels.insert(name).inserted { pubsub.channels[name, default: []].append(client) }
            case .pattern:
                if subscriptions.patterns.insert(name).inserted { pubsub.patterns.append((name, client)) }
            case .shard:
                if subscriptions.shardChannels.insert(name).inserted { pubsub.shardChannels[name, default: []].append(client) }
            }
            client.pushes.push(3)
            client.pushes.bulk(kind.subscribeWord)
            client.pushes.bulk(call[i])
            client.pushes.integer(kind == .shard ? subscriptions.shardChannels.count : subscriptions.count)
        }
        client.gate.insert(.subscribed)
        applyOutputLimit(client)
    }

    private func unsubscribe(_ call: borrowing Call, _ kind: Kind) {
        let client = call.client
        let subscriptions = client.subscriptions
        var names: [[UInt8]] = (1..<max(1, call.count)).map { call[$0].bytes }
        if call.count == 1 {
            switch kind {
            case .channel: names = Array(subscriptions?.channels ?? [])
            case .pattern: names = Array(subscriptions?.patterns ?? [])
            case .shard: names = Array(subscriptions?.shardChannels ?? [])
            }
        }
        func answer(_ name: [UInt8]?, _ reply: ReplyWriter) {
            reply.push(3)
            reply.bulk(kind.unsubscribeWord)
            if let name { reply.bulk(name) } else { reply.null() }
            reply.integer(kind == .shard ? subscriptions?.shardChannels.count ?? 0 : subscriptions?.count ?? 0)
        }
        for name in names {
            switch kind {
            case .channel: if subscriptions?.channels.remove(name) != nil { remove(client, from: &pubsub.channels, name) }
            case .pattern:
                if subscriptions?.patterns.remove(name) != nil { pubsub.patterns.removeAll { $0.client === client && $0.pattern == name } }
            case .shard: if subscriptions?.shardChannels.remove(name) != nil { remove(client, from: &pubsub.shardChannels, name) }
            }
            answer(name, client.pushes)
        }
        if names.isEmpty { answer(nil, client.pushes) }
        if (subscriptions?.count ?? 0) == 0, subscriptions?.shardChannels.isEmpty ?? true {
            client.subscriptions = nil
            client.gate.remove(.subscribed)
        }
    }

    static let pubsubCommands: [Command] = [
        Command(
            "SUBSCRIBE", arity: -2, flags: [.pubsub, .noScript, .loading, .stale], since: "2.0.0",
            syntax: "channel...",
            complexity: "O(N) where N is the number of channels to subscribe to.", summary: "Listens for messages published to channels."
        ) { call in call.server.subscribe(call, .channel) },
        Command(
            "UNSUBSCRIBE", arity: -1, flags: [.pubsub, .noScript, .loading, .stale], since: "2.0.0",
            syntax: "[channel...]",
            complexity: "O(N) where N is the number of channels to unsubscribe.", summary: "Stops listening to messages posted to channels."
        ) { call in call.server.unsubscribe(call, .channel) },
        Command(
            "PSUBSCRIBE", arity: -2, flags: [.pubsub, .noScript, .loading, .stale], since: "2.0.0",
            syntax: "pattern(pattern:pattern)...",
            complexity: "O(N) where N is the number of patterns to subscribe to.",
            summary: "Listens for messages published to channels that match one or more patterns."
        ) { call in call.server.subscribe(call, .pattern) },
        Command(
            "PUNSUBSCRIBE", arity: -1, flags: [.pubsub, .noScript, .loading, .stale], since: "2.0.0",
            syntax: "[pattern:pattern...]",
            complexity: "O(N) where N is the number of patterns to unsubscribe.",
            summary: "Stops listening to messages published to channels that match one or more patterns."
        ) { call in call.server.unsubscribe(call, .pattern) },
        Command(
            "SSUBSCRIBE", arity: -2, flags: [.pubsub, .noScript, .loading, .stale], keys: .all, since: "7.0.0",
            syntax: "shardchannel...", access: "not_key",
            complexity: "O(N) where N is the number of shard channels to subscribe to.",
            summary: "Listens for messages published to shard channels."
        ) { call in call.server.subscribe(call, .shard) },
        Command(
            "SUNSUBSCRIBE", arity: -1, flags: [.pubsub, .noScript, .loading, .stale], keys: .all, since: "7.0.0",
            syntax: "[shardchannel...]", access: "not_key",
            complexity: "O(N) where N is the number of shard channels to unsubscribe.",
            summary: "Stops listening to messages posted to shard channels."
        ) { call in call.server.unsubscribe(call, .shard) },
        Command(
            "PUBLISH", arity: 3, flags: [.pubsub, .loading, .stale, .fast, .mayReplicate], since: "2.0.0",
            syntax: "channel message",
            complexity: "O(N+M) where N is the number of clients subscribed to the receiving channel and M is the total number of subscribed patterns (by any client).",
            summary: "Posts a message to a channel."
        ) { call in
            let receivers = call.server.publish(call[1], call[2])
            // Replicas' subscribers hear it too.
            call.server.propagation.isForced = true
            call.server.propagation.isForReplicasOnly = true
            call.reply.integer(receivers)
        },
        Command(
            "SPUBLISH", arity: 3, flags: [.pubsub, .loading, .stale, .fast, .mayReplicate], keys: .first, since: "7.0.0",
            syntax: "shardchannel message", access: "not_key",
            complexity: "O(N) where N is the number of clients subscribed to the receiving shard channel.",
            summary: "Post a message to a shard channel"
        ) { call in
            let receivers = call.server.publish(call[1], call[2], isShard: true)
            call.server.propagation.isForced = true
            call.server.propagation.isForReplicasOnly = true
            call.reply.integer(receivers)
        },
        Command(
            container: "PUBSUB", since: "2.8.0",
            heading: "pubsub",
            summary: "A container for Pub/Sub commands.",
            subcommands: [
                Command(
                    "CHANNELS", arity: -2, flags: [.pubsub, .loading, .stale], since: "2.8.0",
                    syntax: "[pattern:pattern]",
                    complexity: "O(N) where N is the number of active channels", summary: "Returns the active channels."
                ) { call in call.server.listChannels(call, call.server.pubsub.channels) },
                Command(
                    "NUMSUB", arity: -2, flags: [.pubsub, .loading, .stale], since: "2.8.0",
                    syntax: "[channel...]",
                    complexity: "O(N) for the NUMSUB subcommand, where N is the number of requested channels",
                    summary: "Returns a count of subscribers to channels."
                ) { call in call.server.countSubscribers(call, call.server.pubsub.channels) },
                Command("NUMPAT", arity: 2, flags: [.pubsub, .loading, .stale], since: "2.8.0", summary: "Returns a count of unique pattern subscriptions.") { call in
                    call.reply.integer(Set(call.server.pubsub.patterns.map(\.pattern)).count)
                },
                Command(
                    "SHARDCHANNELS", arity: -2, flags: [.pubsub, .loading, .stale], since: "7.0.0",
                    syntax: "[pattern:pattern]",
                    complexity: "O(N) where N is the number of active shard channels", summary: "Returns the active shard channels."
                ) { call in call.server.listChannels(call, call.server.pubsub.shardChannels) },
                Command(
                    "SHARDNUMSUB", arity: -2, flags: [.pubsub, .loading, .stale], since: "7.0.0",
                    syntax: "[shardchannel...]",
                    complexity: "O(N) for the SHARDNUMSUB subcommand, where N is the number of requested shard channels",
                    summary: "Returns the count of subscribers of shard channels."
                ) { call in call.server.countSubscribers(call, call.server.pubsub.shardChannels) },
                help("PUBSUB", since: "6.2.0", [
                    "CHANNELS [<pattern>]",
                    "    Return the currently active channels matching a <pattern> (default: '*').",
                    "NUMPAT",
                    "    Return number of subscriptions to patterns.",
                    "NUMSUB [<channel> ...]",
                    "    Return the number of subscribers for the specified channels, excluding",
                    "    pattern subscriptions(default: no channels).",
                    "SHARDCHANNELS [<pattern>]",
                    "    Return the currently active shard level channels matching a <pattern> (default: '*').",
                    "SHARDNUMSUB [<shardchannel> ...]",
                    "    Return the number of subscribers for the specified shard level channel(s)",
                ]),
            ]),
    ]

    private func listChannels(_ call: borrowing Call, _ table: [[UInt8]: [Client]]) {
        if call.count > 3 { return call.unknownSubcommandOrArity() }
        let pattern = call.count == 3 ? call[2] : nil
        let names = table.keys.filter { name in pattern.map { pattern in name.withUnsafeBytes { Glob.matches(pattern, Argument($0)) } } ?? true }
        call.reply.array(names.count)
        for name in names { call.reply.bulk(name) }
    }

    private func countSubscribers(_ call: borrowing Call, _ table: [[UInt8]: [Client]]) {
        call.reply.array((call.count - 2) * 2)
        for i in 2..<max(2, call.count) {
            call.reply.bulk(call[i])
            call.reply.integer(table[call[i].bytes]?.count ?? 0)
        }
    }
}

extension ReplyWriter {
    /// A message to a subscriber.
    /// - Parameter pattern: the one that it is subscribed to; nil when it is subscribed to the channel.
    func message(_ pattern: [UInt8]?, _ channel: Argument, _ text: Argument, isShard: Bool) {
        push(pattern == nil ? 3 : 4)
        bulk(pattern != nil ? "pmessage" : isShard ? "smessage" : "message")
        if let pattern { bulk(pattern) }
        bulk(channel)
        bulk(text)
    }
}

/// Glob patterns as KEYS, SCAN and PSUBSCRIBE read them: `*`, `?`, `[abc]`, `[^a-z]`, `\x`.
enum Glob {
    /// O(pattern × text) at worst.
    static func matches(_ pattern: Argument, _ text: Argument, ignoringCase: Bool = false) -> Bool {
        // For Redis no star stands for a text that has nothing in it.
        if text.count == 0 { return pattern.count == 0 }
        var p = 0
        var t = 0
        // Where to go on when what follows the last star does not fit: one byte further.
        var star = -1
        var mark = 0
        while t < text.count {
            if p < pattern.count, pattern[p] == 0x2A {
                star = p
                mark = t
                p += 1
                continue
            }
            if p < pattern.count, let next = step(pattern, p, text[t], ignoringCase) {
                p = next
                t += 1
                continue
            }
            guard star >= 0 else { return false }
            p = star + 1
            mark += 1
            t = mark
        }
        while p < pattern.count, pattern[p] == 0x2A { p += 1 }
        return p == pattern.count
    }

    /// Matches one byte with the pattern's element at `p`.
    /// - Returns: the place behind that element; nil when it does not match.
    private static func step(_ pattern: Argument, _ start: Int, _ byte: UInt8, _ ignoringCase: Bool) -> Int? {
        func fold(_ c: UInt8) -> UInt8 { ignoringCase && c >= 65 && c <= 90 ? c | 0x20 : c }
        var p = start
        switch pattern[p] {
        case 0x3F:
            return p + 1
        case 0x5B:
            p += 1
            let isNegated = p < pattern.count && pattern[p] == 0x5E
            if isNegated { p += 1 }
            var found = false
            while true {
                // A class that is not closed ends with the pattern.
                if p >= pattern.count { return found != isNegated ? p : nil }
                if pattern[p] == 0x5C, p + 1 < pattern.count {
                    p += 1
                    if fold(pattern[p]) == fold(byte) { found = true }
                } else if pattern[p] == 0x5D {
                    return found != isNegated ? p + 1 : nil
                } else if p + 2 < pattern.count, pattern[p + 1] == 0x2D {
                    let low = min(fold(pattern[p]), fold(pattern[p + 2]))
                    let high = max(fold(pattern[p]), fold(pattern[p + 2]))
                    if fold(byte) >= low, fold(byte) <= high { found = true }
                    p += 2
                } else if fold(pattern[p]) == fold(byte) {
                    found = true
                }
                p += 1
            }
        case 0x5C where p + 1 < pattern.count:
            return fold(pattern[p + 1]) == fold(byte) ? p + 2 : nil
        default:
            return fold(pattern[p]) == fold(byte) ? p + 1 : nil
        }
    }
}
