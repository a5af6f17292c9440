import Reactor
import Testing

@testable import VRRP

@Suite("the virtual router")
struct VirtualRouterTests {
    typealias Action = VirtualRouter.Action

    let here = ip(192, 168, 0, 2)
    let other = ip(192, 168, 0, 3)
    let start = Instant(nanoseconds: 1_000_000_000_000)

    func parameters(priority: UInt8 = 100, preempts: Bool = true) -> VirtualRouterParameters {
        var result = VirtualRouterParameters(name: "VI_1", virtualRouterID: 51)
        result.priority = priority
        result.intervalCentiseconds = 500
        result.addresses = [ip(192, 168, 0, 1)]
        result.preempts = preempts
        return result
    }

    func advert(_ priority: UInt8, _ change: (inout Advert) -> Void = { _ in }) -> Advert {
        var result = Advert(version: .v2, virtualRouterID: 51, priority: priority, intervalCentiseconds: 500, addresses: [ip(192, 168, 0, 1)])
        change(&result)
        return result
    }

    /// A router that became master at `start`.
    func master(priority: UInt8 = 100) -> VirtualRouter {
        var router = VirtualRouter(parameters(priority: priority))
        _ = router.start(at: start - router.masterDownInterval)
        _ = router.tick(at: start)
        precondition(router.state == .master)
        return router
    }

    func backup(priority: UInt8 = 100, preempts: Bool = true) -> VirtualRouter {
        var router = VirtualRouter(parameters(priority: priority, preempts: preempts))
        _ = router.start(at: start)
        return router
    }

    @discardableResult
    func hear(_ priority: UInt8, _ router: inout VirtualRouter, after delay: Duration = .zero, from sender: UInt32? = nil) -> [Action] {
        router.receive(advert(priority), from: sender ?? other, ourAddress: here, at: start + delay)
    }

    func logs(_ actions: [Action]) -> [String] {
        actions.compactMap { if case .log(_, let text) = $0 { text } else { nil } }
    }

    func acts(_ actions: [Action]) -> [Action] {
        actions.filter { if case .log = $0 { false } else { true } }
    }

    @Test("it waits three intervals and the skew time before it becomes master: 15.605 s with the article's file")
    func masterDown() {
        var router = backup(priority: 101)
        #expect(router.state == .backup)
        #expect(router.nextDeadline == start + .microseconds(15_605_468))
        #expect(router.tick(at: start + .milliseconds(15_605)).isEmpty)
        let actions = router.tick(at: start + .milliseconds(15_606))
        #expect(acts(actions) == [.sendAdvert(priority: 101), .addAddresses, .announceAddresses(repeats: 5), .entered(.master)])
        #expect(logs(actions) == ["(VI_1) Receive advertisement timeout", "(VI_1) Entering MASTER STATE", "(VI_1) setting VIPs."])
    }

    @Test("version 3 counts the skew in the master's interval, which it learns")
    func masterDownVersion3() {
        var settings = parameters(priority: 128)
        settings.version = .v3
        settings.intervalCentiseconds = 100
        var router = VirtualRouter(settings)
        _ = router.start(at: start)
        #expect(router.nextDeadline == start + .milliseconds(3500))
        let fast = advert(200) { $0.version = .v3; $0.intervalCentiseconds = 10 }
        _ = router.receive(fast, from: other, ourAddress: here, at: start)
        #expect(router.nextDeadline == start + .milliseconds(350))
    }

    @Test("a master advertises each interval without drift, and announces its addresses again after five seconds")
    func rhythm() {
        var router = master()
        #expect(acts(router.tick(at: start + .milliseconds(5_200))) == [.announceAddresses(repeats: 5), .sendAdvert(priority: 100)])
        #expect(router.nextDeadline == start + .seconds(10))
        #expect(acts(router.tick(at: start + .seconds(60))) == [.sendAdvert(priority: 100)])
        #expect(router.nextDeadline == start + .seconds(65))
    }

    @Test("an advert of the same or a higher priority keeps a backup waiting")
    func hearsMaster() {
        var router = backup()
        hear(100, &router, after: .seconds(10))
        #expect(router.nextDeadline == start + .seconds(10) + router.masterDownInterval)
    }

    @Test("a better backup takes over from a working master, unless nopreempt is set")
    func preemption() {
        var eager = backup(priority: 150)
        hear(100, &eager, after: .seconds(5))
        #expect(eager.nextDeadline == start + eager.masterDownInterval)
        var patient = backup(priority: 150, preempts: false)
        hear(100, &patient, after: .seconds(5))
        #expect(patient.nextDeadline == start + .seconds(5) + patient.masterDownInterval)
    }

    @Test("preempt_delay holds preemption back only for its time")
    func preemptDelay() {
        var settings = parameters(priority: 150)
        settings.preemptDelay = .seconds(60)
        var router = VirtualRouter(settings)
        _ = router.start(at: start)
        hear(100, &router, after: .seconds(59))
        let deadline = router.nextDeadline
        #expect(deadline == start + .seconds(59) + router.masterDownInterval)
        hear(100, &router, after: .seconds(64))
        #expect(router.nextDeadline == deadline)
    }

    @Test("a master that leaves is replaced within the skew time")
    func priorityZero() {
        var router = backup(priority: 100, preempts: false)
        hear(101, &router)
        #expect(logs(hear(0, &router, after: .seconds(1))) == ["(VI_1) Backup received priority 0 advertisement"])
        #expect(router.nextDeadline == start + .seconds(1) + .microseconds(609_375))
    }

    @Test("nopreempt does not keep a master whose own check failed: one that lowers its priority below ours is replaced")
    func degradedMaster() {
        var router = backup(priority: 120, preempts: false)
        hear(121, &router)
        hear(101, &router, after: .seconds(5))
        #expect(router.nextDeadline == start + .seconds(5) + router.skewTime)
        hear(101, &router, after: .milliseconds(5_100))
        #expect(router.nextDeadline == start + .seconds(5) + router.skewTime)
        // It recovers in time: nothing happens.
        hear(121, &router, after: .milliseconds(5_200))
        #expect(router.nextDeadline == start + .milliseconds(5_200) + router.masterDownInterval)
    }

    @Test("a master that never had more is not taken for degraded, nor one that is still better")
    func notDegraded() {
        var router = backup(priority: 120, preempts: false)
        hear(101, &router)
        hear(101, &router, after: .seconds(5))
        #expect(router.nextDeadline == start + .seconds(5) + router.masterDownInterval)
        hear(150, &router, after: .seconds(10))
        hear(130, &router, after: .seconds(15))
        #expect(router.nextDeadline == start + .seconds(15) + router.masterDownInterval)
    }

    @Test("a master gives way to a higher priority, and to a higher address of the same priority")
    func givesWay() {
        for (priority, sender) in [(UInt8(101), other), (100, other)] {
            var router = master()
            let actions = hear(priority, &router, after: .seconds(1), from: sender)
            #expect(acts(actions) == [.removeAddresses, .entered(.backup)])
            #expect(router.nextDeadline == start + .seconds(1) + router.masterDownInterval)
        }
        var router = master()
        #expect(hear(100, &router, after: .seconds(1), from: ip(192, 168, 0, 1)).isEmpty)
        #expect(router.state == .master)
    }

    @Test("a master answers a lower priority at once, and claims the addresses again")
    func lowerPriority() {
        var router = master()
        let actions = hear(99, &router, after: .seconds(1))
        #expect(acts(actions) == [.sendAdvert(priority: 100), .announceAddresses(repeats: 5)])
        #expect(logs(actions) == ["(VI_1) Received advert from 192.168.0.3 with lower priority 99, ours 100, forcing new election"])
    }

    @Test("tracking changes the priority within 1 and 254, says so at once as master, and never touches an owner's")
    func tracking() {
        var router = master()
        #expect(acts(router.track(adjustment: -20, at: start + .seconds(2))) == [.sendAdvert(priority: 80)])
        #expect(router.track(adjustment: -20, at: start + .seconds(3)).isEmpty)
        _ = router.track(adjustment: -200, at: start + .seconds(3))
        #expect(router.priority == 1)
        _ = router.track(adjustment: 253, at: start + .seconds(3))
        #expect(router.priority == 254)
        var owner = backup(priority: 255)
        #expect(owner.track(adjustment: -100, at: start).isEmpty)
    }

    @Test("a failed master says good-bye, takes the addresses away, and comes back as backup")
    func fault() {
        var router = master()
        let actions = router.fail(at: start + .seconds(1))
        #expect(acts(actions) == [.sendAdvert(priority: 0), .removeAddresses, .entered(.fault)])
        #expect(router.nextDeadline == .distantFuture)
        #expect(hear(50, &router, after: .seconds(2)).isEmpty)
        #expect(acts(router.recover(at: start + .seconds(9))) == [.entered(.backup)])
        #expect(router.nextDeadline == start + .seconds(9) + router.masterDownInterval)
    }

    @Test("only a stopped master has something to say")
    func stopping() {
        var router = master()
        #expect(acts(router.stop()) == [.sendAdvert(priority: 0), .removeAddresses])
        var quiet = backup()
        #expect(quiet.stop().isEmpty)
    }

    @Test("an owner with state MASTER begins as master")
    func owner() {
        var settings = parameters(priority: 255)
        settings.startsAsMaster = true
        var router = VirtualRouter(settings)
        #expect(acts(router.start(at: start)).last == .entered(.master))
    }

    @Test("in a group it only reports that it could take over")
    func group() {
        var settings = parameters()
        settings.waitsForGroup = true
        var router = VirtualRouter(settings)
        _ = router.start(at: start)
        let later = start + router.masterDownInterval
        #expect(acts(router.tick(at: later)) == [.waitsForGroup])
        #expect(router.state == .backup && router.isReadyForMaster)
        _ = router.receive(advert(200), from: other, ourAddress: here, at: later)
        #expect(!router.isReadyForMaster)
    }

    @Test("adverts that are not meant so are dropped with the reason")
    func refusals() {
        let router = backup()
        #expect(router.refusal(of: advert(1), timeToLive: 255) == nil)
        #expect(router.refusal(of: advert(1), timeToLive: 254) == "invalid TTL 254, expected 255")
        #expect(router.refusal(of: advert(1), timeToLive: nil) == nil)
        #expect(router.refusal(of: advert(1) { $0.version = .v3 }, timeToLive: 255) == "VRRP version 3, expected 2")
        #expect(router.refusal(of: advert(1) { $0.password = [1] }, timeToLive: 255) == "a password, where none is configured")
        #expect(router.refusal(of: advert(1) { $0.intervalCentiseconds = 100 }, timeToLive: 255) == "advertisement interval mismatch: mine 5 s, received 1 s")
        #expect(router.refusal(of: advert(1) { $0.addresses = [] }, timeToLive: 255) == "no address 192.168.0.1, which is ours")
        #expect(router.refusal(of: advert(1) { $0.addresses.append(9) }, timeToLive: 255) == "address 0.0.0.9, which is not ours")
        var settings = parameters()
        settings.password = Array("secret".utf8)
        let guarded = VirtualRouter(settings)
        #expect(guarded.refusal(of: advert(1) { $0.password = Advert.padded(Array("secret".utf8)) }, timeToLive: 255) == nil)
        #expect(guarded.refusal(of: advert(1) { $0.password = Advert.padded(Array("Secret".utf8)) }, timeToLive: 255) == "a wrong password")
        #expect(guarded.refusal(of: advert(1), timeToLive: 255) == "no password, where one is configured")
    }
}
