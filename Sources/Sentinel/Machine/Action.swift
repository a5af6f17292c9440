/// One link's number: the connections to one watched process.
public struct LinkID: Hashable, Sendable, CustomStringConvertible {
    let number: Int
    public var description: String { "link \(number)" }
}

/// A link's two connections.
public enum Channel: Hashable, Sendable {
    /// Requests and replies.
    case command
    /// Subscribed to `__sentinel__:hello`; stores only.
    case subscription
}

public enum EventLevel: Sendable {
    case debug, verbose, notice, warning
}

/// What the machine wants done, in this order.
///
/// What follows a `persist` happens after the state is on disk: a vote that was given must not be forgotten.
public enum SentinelAction: Equatable, Sendable {
    case open(LinkID, Channel, Endpoint)
    case close(LinkID, Channel)
    /// Its reply, or every reply, comes back through `received`, in order.
    case send(LinkID, Channel, [String])
    /// To subscribers of the event's channel.
    case publish(event: String, message: String)
    case log(EventLevel, String)
    case persist
    case run(script: String, arguments: [String])
}

/// Random numbers from a seed: elections start at different moments on different Sentinels, and the same in the same test.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    /// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014).
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
