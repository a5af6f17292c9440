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
