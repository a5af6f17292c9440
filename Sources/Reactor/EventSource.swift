/// What epoll reported of a descriptor (epoll_ctl(2)), wrapped once here.
struct Readiness: OptionSet {
    let rawValue: UInt32
    static let readable = Readiness(rawValue: 0x001)
    static let writable = Readiness(rawValue: 0x004)
    static let failed = Readiness(rawValue: 0x008)
    static let hungUp = Readiness(rawValue: 0x010)
    static let peerEnded = Readiness(rawValue: 0x2000)
    static let edgeTriggered = Readiness(rawValue: 1 << 31)
}

/// Something whose descriptor the loop watches.
public class EventSource {
    /// The registration number that events carry beside the descriptor; an event with another one is late and is dropped.
    var registration: UInt32 = 0

    /// What the loop's statistics call the time spent in its callbacks.
    var label: StaticString { "event" }

    func ready(_ events: Readiness) {}

    /// The loop goes away: lets go of the descriptor, tells nobody.
    func abandon() {}
}
