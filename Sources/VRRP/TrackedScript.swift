/// One check of the host's health that is run again and again: its verdicts, counted.
///
/// A value: outcomes of runs go in, changes come out. As in Keepalived the first outcome decides at once; later ones have
/// to repeat `fall` or `rise` times.
struct TrackedScript {
    enum State: Sendable { case unknown, up, down }

    enum Outcome: Equatable, Sendable {
        case exited(Int32)
        case signalled(Int32)
        case timedOut
        /// It could not be started at all.
        case notRun(String)

        var isSuccess: Bool { self == .exited(0) }

        var description: String {
            switch self {
            case .exited(let status): "exited with status \(status)"
            case .signalled(let signal): "due to signal \(signal)"
            case .timedOut: "timed out"
            case .notRun(let reason): reason
            }
        }
    }

    struct Change: Equatable {
        var state: State
        var message: String
    }

    let name: String
    let rise: Int
    let fall: Int
    private(set) var state: State
    private var streak = 0

    init(name: String, rise: Int, fall: Int, startsDown: Bool) {
        self.name = name
        self.rise = rise
        self.fall = fall
        state = startsDown ? .down : .unknown
    }

    /// - Returns: the change of state that the outcome makes, nil for none.
    mutating func finished(_ outcome: Outcome) -> Change? {
        let agrees = outcome.isSuccess == (state == .up)
        if state != .unknown, agrees {
            streak = 0
            return nil
        }
        streak += 1
        let needed = state == .unknown ? 1 : outcome.isSuccess ? rise : fall
        guard streak >= needed else { return nil }
        streak = 0
        state = outcome.isSuccess ? .up : .down
        let verdict = outcome.isSuccess ? "succeeded" : "failed (\(outcome.description))"
        return Change(state: state, message: "VRRP_Script(\(name)) \(verdict)")
    }
}

/// What a tracked script or interface means to an instance.
struct TrackingWeight: Equatable, Sendable {
    /// 0: failure forbids to serve at all. Positive: success adds it. Negative: failure subtracts it.
    var weight: Int
    /// With a weight: what would be added is subtracted and the other way round. Without: success forbids to serve.
    var isReversed = false

    /// What the state adds to the priority; while it is unknown, nothing.
    func adjustment(for state: TrackedScript.State) -> Int {
        guard state == (weight > 0 ? .up : .down) else { return 0 }
        return isReversed ? -weight : weight
    }

    /// Whether the state forbids to serve. What is not known yet does.
    func forbids(in state: TrackedScript.State) -> Bool {
        guard weight == 0 else { return false }
        return state == .unknown || (state == .up) == isReversed
    }
}
