/// Instances that are master together or not at all.
///
/// A value: what happens to one member goes in, what the others must do comes out. A group of one orders nothing.
struct SyncGroup {
    enum Order: Equatable {
        case becomeMaster(String)
        case becomeBackup(String)
        case fail(String)
        case recover(String)
    }

    let name: String
    let members: [String]
    private(set) var state = VirtualRouter.State.initialize
    private var states: [String: VirtualRouter.State] = [:]
    private var ready: Set<String> = []
    /// Members that have failed by themselves, not because the group told them.
    private var failed: Set<String> = []

    init(name: String, members: [String]) {
        self.name = name
        self.members = members
        for member in members { states[member] = .initialize }
    }

    /// Whether a member may serve for all that the group knows.
    func permits(_ member: String) -> Bool { failed.subtracting([member]).isEmpty }

    /// A member's master is silent; once that is so for all that are not master themselves, all take over.
    mutating func isReady(_ member: String) -> [Order] {
        ready.insert(member)
        guard failed.isEmpty, members.allSatisfy({ ready.contains($0) || states[$0] == .master }) else { return [] }
        let waiting = members.filter { states[$0] != .master }
        ready.removeAll()
        return waiting.map(Order.becomeMaster)
    }

    /// A member's master has been heard again.
    mutating func isNotReady(_ member: String) { ready.remove(member) }

    /// A member may not serve any more, or may again, for its own reasons.
    mutating func health(of member: String, isGood: Bool) -> [Order] {
        let had = failed
        if isGood { failed.remove(member) } else { failed.insert(member) }
        if failed == had { return [] }
        if !isGood { return members.filter { $0 != member }.map(Order.fail) }
        return failed.isEmpty ? members.filter { $0 != member }.map(Order.recover) : []
    }

    /// A member has changed state.
    /// - Returns: what the others have to do, and whether the group as a whole is in a new state now.
    mutating func entered(_ next: VirtualRouter.State, _ member: String) -> (orders: [Order], changedTo: VirtualRouter.State?) {
        states[member] = next
        ready.remove(member)
        var orders: [Order] = []
        if next == .backup {
            orders = members.filter { $0 != member && states[$0] == .master }.map(Order.becomeBackup)
        }
        let common = members.allSatisfy { states[$0] == next } ? next : next == .fault ? .fault : state
        guard common != state else { return (orders, nil) }
        state = common
        return (orders, common)
    }
}
