import Reactor

/// What a server's checks have shown so far: HAProxy's counter from 0 to `rise + fall - 1`.
///
///     0 ...... rise - 1 | rise ............... rise + fall - 1
///     down, going up    | up, going down       up, nothing to complain of
///
/// A pass of a server that is up, and the pass that takes it up, lead straight to the top; a failure that takes it below
/// `rise` leads straight to 0. At start it is at `rise`: up, and one failure from down.
public struct ServerHealth: Sendable, Equatable {
    public enum Change: Sendable, Equatable { case none, counted, wentUp, wentDown }

    public let rise: Int
    public let fall: Int
    public private(set) var value: Int

    public init(rise: Int, fall: Int) {
        self.rise = rise
        self.fall = fall
        value = rise
    }

    public var isUp: Bool { value >= rise }
    /// Nothing to complain of.
    public var isFull: Bool { value == rise + fall - 1 }
    public var isZero: Bool { value == 0 }

    /// `n/m` of `UP n/m` and `DOWN n/m`.
    public var fraction: String { isUp ? "\(value - rise + 1)/\(fall)" : "\(value)/\(rise)" }

    public mutating func count(passed: Bool) -> Change {
        let wasUp = isUp
        let before = value
        if passed {
            if value < rise + fall - 1 {
                value += 1
                if isUp { value = rise + fall - 1 }
            }
        } else if value > 0 {
            value -= 1
            if value < rise { value = 0 }
        }
        if wasUp != isUp { return isUp ? .wentUp : .wentDown }
        return value == before ? .none : .counted
    }

    /// An administrator says so, or a maintenance ends: `up` at `rise`, or at 0.
    public mutating func set(up: Bool) { value = up ? rise : 0 }
    /// Fully up, as after `rise` passes.
    public mutating func setFull() { value = rise + fall - 1 }
}

/// When a server is checked.
///
/// The rhythm is HAProxy's: `inter` from start to start, `fastinter` in transition, `downinter` while down, both `inter`
/// where they are not given. One thing is added. While none of a backend's servers passes its check there is nothing to
/// relay to, and every moment until a server is found is a moment out of service. So then, servers that are down are
/// *searched*: a further check starts every `searchInterval`, without waiting for those still under way, and the first to
/// pass counts. The article's `expect string role:master` shows why overlapping matters: on a replica the expected string
/// never comes, the check waits for it until `inter` is over, and would be told of the promotion that happens meanwhile
/// only by the next check.
///
/// `rise` passes are needed as ever. A server line with `fastinter` or `downinter` states its own rhythm and is not searched.
/// Cost: 10 checks a second per server that is down, of some 0.1 ms each, only while there is no service.
public struct HealthCheckSchedule: Sendable {
    public static let searchInterval: Duration = .milliseconds(100)
    /// Checks of one server under way at a time.
    public static let overlapMax = 16

    public let interval: Duration
    public let fastInterval: Duration?
    public let downInterval: Duration?

    public init(_ settings: ProxyConfiguration.ServerSettings) {
        interval = settings.interval
        fastInterval = settings.fastInterval
        downInterval = settings.downInterval
    }

    public var allowsSearch: Bool { fastInterval == nil && downInterval == nil }

    /// From one regular check's start to the next one's.
    public func delay(for health: ServerHealth) -> Duration {
        if health.isFull { return interval }
        if health.isZero { return downInterval ?? interval }
        return fastInterval ?? interval
    }

    /// The time to connect: HAProxy's min(timeout connect, inter) where `timeout check` is set, else the whole of `inter`.
    public func connectTimeout(_ timeouts: ProxyConfiguration.Timeouts) -> Duration {
        guard timeouts.check != nil, let connect = timeouts.connect else { return interval }
        return min(connect, interval)
    }

    /// The time to answer, from the connection on; nil: until `inter` from the start is over.
    public func answerTimeout(_ timeouts: ProxyConfiguration.Timeouts) -> Duration? { timeouts.check }
}
