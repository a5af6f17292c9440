import RESP

/// Which keyspace events are published (`notify-keyspace-events`).
struct KeyspaceEvent: OptionSet, Sendable {
    let rawValue: UInt32
    init(rawValue: UInt32) { self.rawValue = rawValue }
    static let keyspace = KeyspaceEvent(rawValue: 1 << 0)
    static let keyevent = KeyspaceEvent(rawValue: 1 << 1)
    static let generic = KeyspaceEvent(rawValue: 1 << 2)
    static let string = KeyspaceEvent(rawValue: 1 << 3)
    static let list = KeyspaceEvent(rawValue: 1 << 4)
    static let set = KeyspaceEvent(rawValue: 1 << 5)
    static let hash = KeyspaceEvent(rawValue: 1 << 6)
    static let sortedSet = KeyspaceEvent(rawValue: 1 << 7)
    static let expired = KeyspaceEvent(rawValue: 1 << 8)
    static let evicted = KeyspaceEvent(rawValue: 1 << 9)
    static let stream = KeyspaceEvent(rawValue: 1 << 10)
    static let keyMiss = KeyspaceEvent(rawValue: 1 << 11)
    static let module = KeyspaceEvent(rawValue: 1 << 13)
    static let new = KeyspaceEvent(rawValue: 1 << 14)
    /// What the letter A stands for.
    static let all: KeyspaceEvent = [.generic, .string, .list, .set, .hash, .sortedSet, .expired, .evicted, .stream, .module]

    private static let letters: [(Character, KeyspaceEvent)] = [
        ("A", .all), ("g", .generic), ("$", .string), ("l", .list), ("s", .set), ("h", .hash), ("z", .sortedSet),
        ("x", .expired), ("e", .evicted), ("t", .stream), ("d", .module), ("n", .new), ("K", .keyspace),
        ("E", .keyevent), ("m", .keyMiss),
    ]

    /// - Returns: nil when a letter is none of these.
    init?(letters text: String) {
        var result: KeyspaceEvent = []
        for character in text {
            guard let found = KeyspaceEvent.letters.first(where: { $0.0 == character }) else { return nil }
            result.formUnion(found.1)
        }
        self = result
    }

    /// The letters, in Redis's order.
    var text: String {
        var result = ""
        var rest = self
        for (letter, event) in KeyspaceEvent.letters where rest.isSuperset(of: event) {
            result.append(letter)
            rest.subtract(event)
        }
        return result
    }
}

extension StoreServer {
    /// Publishes an event to the key's and the event's channel.
    @inline(never)
    func notify(_ kind: KeyspaceEvent, _ event: StaticString, _ key: Argument, _ db: Database) {
        let wanted = configuration.notifiedEvents
        guard wanted.contains(kind), !pubsub.isUnused else { return }
        if wanted.contains(.keyspace) {
            let channel = Array("__keyspace@\(db.id)__:".utf8) + key.bytes
            channel.withUnsafeBytes { _ = publish(Argument($0), Argument(event)) }
        }
        if wanted.contains(.keyevent) {
            let channel = Array("__keyevent@\(db.id)__:\(event)".utf8)
            channel.withUnsafeBytes { _ = publish(Argument($0), key) }
        }
    }
}
