import RESP
import Reactor
import Testing

@testable import Store

@Suite("use of keys and the choice of those that go")
struct EvictionTests {
    @Test("idle time survives the clock's coming round")
    func idle() {
        #expect(AccessClock.idle(5, now: 10) == 5)
        #expect(AccessClock.idle(AccessClock.mask, now: 4) == 5)
        #expect(AccessClock.idle(AccessClock.clock(idle: 1000, now: 7), now: 7) == 1000)
        // Further back than the clock reaches: as far as it can.
        #expect(AccessClock.idle(AccessClock.clock(idle: .max, now: 7), now: 7) == AccessClock.mask)
    }

    @Test("a counter loses one for each decay time, down to nothing, across the end of the minutes")
    func decay() {
        let clock = AccessClock.clock(frequency: 100, minutes: 65_530)
        #expect(AccessClock.frequency(clock, minutes: 65_530, decay: 1) == 100)
        #expect(AccessClock.frequency(clock, minutes: 4, decay: 1) == 90)
        #expect(AccessClock.frequency(clock, minutes: 4, decay: 5) == 98)
        #expect(AccessClock.frequency(clock, minutes: 1000, decay: 1) == 0)
        #expect(AccessClock.frequency(clock, minutes: 1000, decay: 0) == 100)
    }

    @Test("hits needed for a count are those of the documented table", arguments: [(0, 100, 105.0), (1, 1000, 49.0), (10, 1000, 18.0), (100, 1000, 9.8)])
    func growth(factor: Int, hits: Int, expected: Double) {
        // As the sum of the chances says; redis.conf shows 104, 49, 18 and 11 of one run.
        var random = FastRandom()
        var sum = 0.0
        for _ in 0..<200 {
            var clock = AccessClock.clock(frequency: AccessClock.initialFrequency, minutes: 9)
            for _ in 0..<hits { clock = AccessClock.used(clock, minutes: 9, decay: 1, logFactor: factor, random: random.next()) }
            sum += Double(AccessClock.frequency(clock, minutes: 9, decay: 1))
        }
        #expect(abs(sum / 200 - expected) < expected * 0.1, "\(sum / 200)")
    }

    @Test("a counter ends at 255")
    func most() {
        var clock = AccessClock.clock(frequency: 254, minutes: 0)
        for _ in 0..<10 { clock = AccessClock.used(clock, minutes: 0, decay: 1, logFactor: 0, random: 0) }
        #expect(AccessClock.frequency(clock, minutes: 0, decay: 1) == 255)
    }

    @Test("the pool keeps the best sixteen of any number of candidates, each once, and gives them best first")
    func pool() {
        var pool = EvictionPool()
        defer { pool.deallocate() }
        var random = FastRandom()
        for _ in 0..<50 {
            pool.removeAll()
            var scores: [Int: UInt64] = [:]
            for _ in 0..<200 {
                let key = Int(random.next() % 60)
                // A key's score changes only for the better, as idle time does.
                let score = (scores[key] ?? 0) + random.next() % 100
                scores[key] = score
                let name = Array("key:\(key)".utf8)
                name.withUnsafeBytes { pool.offer(Argument($0), db: 0, score: score) }
            }
            #expect(pool.count == EvictionPool.capacity)
            var last = UInt64.max
            var seen: Set<String> = []
            while let best = pool.takeBest() {
                #expect(best.score <= last)
                last = best.score
                #expect(seen.insert(best.key.text).inserted)
            }
            // The very best is always among them.
            let best = scores.max { $0.value < $1.value }!
            #expect(seen.contains { scores[Int($0.dropFirst(4))!] == best.value })
        }
    }

    @Test("the time that eviction may take grows with its tenacity, up to without end")
    func tenacity() {
        #expect(Eviction.nanosecondsMax(tenacity: 0) == 0)
        #expect(Eviction.nanosecondsMax(tenacity: 10) == 500_000)
        #expect((20_000_000...25_000_000).contains(Eviction.nanosecondsMax(tenacity: 37)))
        #expect(Eviction.nanosecondsMax(tenacity: 100) == .max)
    }

    @Test("what a title may hold, and what becomes of it")
    func titles() {
        #expect(TitleTemplate.isValid(TitleTemplate.standard))
        for wrong in ["", "{", "{title", "{nosuch}", "a {title} {"] { #expect(!TitleTemplate.isValid(wrong), "\(wrong)") }
        let configuration = StoreConfiguration()
        configuration.port = 7000
        #expect(TitleTemplate.title("vigie store", configuration) == "vigie store *:7000")
        configuration.titleTemplate = "{port}-{config-file}-{unixsocket}{tls-port}"
        #expect(TitleTemplate.title("x", configuration) == "7000--0")
        configuration.port = 0
        configuration.unixSocket = "/run/s"
        configuration.titleTemplate = TitleTemplate.standard
        #expect(TitleTemplate.title("x", configuration) == "x /run/s")
    }

    @Test("a score for the kernel is within its bounds")
    func scores() {
        let configuration = StoreConfiguration()
        configuration.outOfMemoryScores = [-2000, 200, 900]
        #expect(OutOfMemoryScore.wanted(configuration, .master, original: 5) == nil)
        configuration.outOfMemoryAdjustment = .relative
        #expect(OutOfMemoryScore.wanted(configuration, .master, original: 5) == -1000)
        #expect(OutOfMemoryScore.wanted(configuration, .replica, original: 5) == 205)
        #expect(OutOfMemoryScore.wanted(configuration, .child, original: 500) == 1000)
        configuration.outOfMemoryAdjustment = .absolute
        #expect(OutOfMemoryScore.wanted(configuration, .replica, original: 5) == 200)
    }
}
