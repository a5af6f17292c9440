/// How a session ended: the two characters of the TCP log (configuration manual §8.5).
struct Termination: Equatable {
    /// The first event that led to the end.
    enum Cause: Character {
        case none = "-"
        case clientAbort = "C", clientTimeout = "c"
        case serverAbort = "S", serverTimeout = "s"
        case serverDown = "D", backupReplaced = "U", killed = "K"
        case proxy = "P", resource = "R"
    }

    /// What the session was doing then.
    enum Moment: Character {
        case none = "-"
        case queue = "Q", connecting = "C", data = "D"
    }

    var cause = Cause.none
    var moment = Moment.none

    var isNormal: Bool { cause == .none }
    var text: String { String([cause.rawValue, moment.rawValue]) }
}
