import Testing

@testable import VRRP

@Suite("tracking")
struct TrackingTests {
    private func states(_ outcomes: [TrackedScript.Outcome], rise: Int = 2, fall: Int = 4, startsDown: Bool = false) -> [TrackedScript.State?] {
        var script = TrackedScript(name: "chk", rise: rise, fall: fall, startsDown: startsDown)
        return outcomes.map { script.finished($0)?.state }
    }

    private let good = TrackedScript.Outcome.exited(0)
    private let bad = TrackedScript.Outcome.exited(1)

    @Test("the first outcome decides at once, later ones after fall and rise")
    func counting() {
        #expect(states([good, bad, bad, bad, bad, good, good]) == [.up, nil, nil, nil, .down, nil, .up])
        #expect(states([bad, good, good]) == [.down, nil, .up])
    }

    @Test("one success among failures begins the count anew")
    func streaks() {
        #expect(states([good, bad, bad, bad, good, bad, bad, bad, bad]) == [.up, nil, nil, nil, nil, nil, nil, nil, .down])
    }

    @Test("init_fail needs its successes from the beginning")
    func initFail() {
        #expect(states([good, good], startsDown: true) == [nil, .up])
        #expect(states([bad], startsDown: true) == [nil])
    }

    @Test("what cannot be run, hangs or is killed has failed, in Keepalived's words")
    func messages() {
        let outcomes: [(TrackedScript.Outcome, String)] = [
            (.exited(3), "VRRP_Script(chk) failed (exited with status 3)"),
            (.signalled(9), "VRRP_Script(chk) failed (due to signal 9)"),
            (.timedOut, "VRRP_Script(chk) failed (timed out)"),
            (.notRun("cannot run '/x'"), "VRRP_Script(chk) failed (cannot run '/x')"),
            (.exited(0), "VRRP_Script(chk) succeeded"),
        ]
        for (outcome, message) in outcomes {
            var script = TrackedScript(name: "chk", rise: 1, fall: 1, startsDown: false)
            #expect(script.finished(outcome)?.message == message)
        }
    }

    @Test("a positive weight is added by success, a negative one by failure; without weight failure forbids to serve")
    func weights() {
        let plus = TrackingWeight(weight: 20)
        #expect([.unknown, .up, .down].map(plus.adjustment) == [0, 20, 0])
        let minus = TrackingWeight(weight: -20)
        #expect([.unknown, .up, .down].map(minus.adjustment) == [0, 0, -20])
        #expect(TrackingWeight(weight: 20, isReversed: true).adjustment(for: .up) == -20)
        #expect(TrackingWeight(weight: -20, isReversed: true).adjustment(for: .down) == 20)
        #expect([.unknown, .up, .down].map(TrackingWeight(weight: 0).forbids) == [true, false, true])
        #expect([.unknown, .up, .down].map(TrackingWeight(weight: 0, isReversed: true).forbids) == [true, true, false])
        #expect(!plus.forbids(in: .down))
    }
}

@Suite("sync groups")
struct SyncGroupTests {
    private func running() -> SyncGroup {
        var group = SyncGroup(name: "G", members: ["A", "B"])
        _ = group.entered(.backup, "A")
        _ = group.entered(.backup, "B")
        return group
    }

    @Test("members become master together, when the last of them could")
    func takesOver() {
        var group = running()
        #expect(group.isReady("A").isEmpty)
        group.isNotReady("A")
        #expect(group.isReady("B").isEmpty)
        #expect(group.isReady("A") == [.becomeMaster("A"), .becomeMaster("B")])
        #expect(group.entered(.master, "A").changedTo == nil)
        #expect(group.entered(.master, "B").changedTo == .master)
    }

    @Test("one that gives way takes the others along")
    func givesWay() {
        var group = running()
        _ = group.entered(.master, "A")
        _ = group.entered(.master, "B")
        let (orders, _) = group.entered(.backup, "A")
        #expect(orders == [.becomeBackup("B")])
        #expect(group.entered(.backup, "B").changedTo == .backup)
    }

    @Test("one that fails takes the others along, and they come back only with the last that failed")
    func fails() {
        var group = running()
        #expect(group.health(of: "A", isGood: false) == [.fail("B")])
        #expect(group.health(of: "A", isGood: false).isEmpty)
        #expect(!group.permits("B") && group.permits("A"))
        #expect(group.health(of: "B", isGood: false) == [.fail("A")])
        #expect(group.health(of: "A", isGood: true).isEmpty)
        #expect(group.isReady("A").isEmpty && group.isReady("B").isEmpty)
        #expect(group.health(of: "B", isGood: true) == [.recover("A")])
        #expect(group.isReady("A") == [.becomeMaster("A"), .becomeMaster("B")])
    }
}
