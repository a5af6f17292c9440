import Testing

@testable import Reactor

/// Clients that ask again as soon as they are answered, seen through the waits of a loop: a model of the time between requests.
private struct Load {
    var coalescing = WakeupCoalescing()
    var now: UInt64 = 0
    var requests = 0

    /// Serves for `nanoseconds`. `gap` is the time between requests that come one by one, `gathered` what waits after a pause,
    /// `batchCost` how long such a batch keeps the loop busy.
    mutating func serve(for nanoseconds: UInt64, gap: UInt64, gathered: Int, batchCost: UInt64) -> (pauses: Int, requests: Int) {
        let end = now + nanoseconds, before = requests
        var pauses = 0
        while now < end {
            let paused = coalescing.isOn
            let took = paused ? WakeupCoalescing.pause : gap
            let events = paused ? gathered : 1
            pauses += paused ? 1 : 0
            coalescing.waited(from: now, to: now + took, events: events, paused: paused)
            now += took + (paused ? batchCost : 0)
            requests += events
        }
        return (pauses, requests - before)
    }
}

@Suite struct WakeupCoalescingTests {
    @Test("many clients at once: the loop pauses nearly always, and is put to the test again")
    func manyClients() {
        var load = Load()
        let (pauses, requests) = load.serve(for: 1_000_000_000, gap: 12_000, gathered: 16, batchCost: 100_000)
        #expect(requests > 100_000, "1 s / 12 us is 83 000")
        #expect(pauses > 6000, "1 s / (pause and batch) is 6667")
        #expect(requests < pauses * 16 + requests / 10, "some of them without a pause")
    }

    @Test("many clients at a pace of their own, which leaves the loop idle for half of the time: they are not made to wait")
    func ownPace() {
        var load = Load()
        let (pauses, _) = load.serve(for: 1_000_000_000, gap: 14_000, gathered: 7, batchCost: 48_000)
        #expect(pauses > 0)
        #expect(pauses < 32 * 12)
    }

    @Test("few clients, who all wait out every pause: they lose no more than one per cent")
    func fewClients() {
        var load = Load()
        let (_, requests) = load.serve(for: 1_000_000_000, gap: 12_000, gathered: 5, batchCost: 40_000)
        #expect(requests > 82_500, "1 s / 12 us is 83 333")
    }

    @Test("one client that waits for every answer: the trials end soon and become rare")
    func oneClient() {
        var load = Load()
        let (pauses, _) = load.serve(for: 1_000_000_000, gap: 25_000, gathered: 1, batchCost: 0)
        #expect(pauses > 0)
        #expect(pauses < 32 * 12)
    }

    @Test("waits longer than a pause are never made longer")
    func quiet() {
        var load = Load()
        let (pauses, _) = load.serve(for: 1_000_000_000, gap: 60_000, gathered: 3, batchCost: 0)
        #expect(pauses == 0)
    }

    @Test("when the many become few, the pauses end")
    func fewerClients() {
        var load = Load()
        #expect(load.serve(for: 100_000_000, gap: 12_000, gathered: 16, batchCost: 100_000).pauses > 500)
        #expect(load.serve(for: 100_000_000, gap: 12_000, gathered: 2, batchCost: 10_000).pauses < 1024)
    }
}
