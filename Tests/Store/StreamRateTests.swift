@testable import Store
import Testing

@Suite("what a replica may have missed")
struct StreamRateTests {
    @Test("a steady stream is known after a second, and forgotten a second after it has ended")
    func steady() {
        var rate = StreamRate()
        var end: Int64 = 5_000_000
        rate.add(end)
        #expect(rate.bytes(in: 1000) == 0, "where it begins says nothing")
        for _ in 0..<30 {
            end += 1000
            rate.add(end)
        }
        #expect((9_000...10_000).contains(rate.bytes(in: 1000)))
        #expect((18_000...20_000).contains(rate.bytes(in: 2000)))
        for _ in 0..<10 { rate.add(end) }
        #expect((2_500...4_000).contains(rate.bytes(in: 1000)))
        for _ in 0..<40 { rate.add(end) }
        #expect(rate.bytes(in: 1000) < 100)
    }

    @Test("a stream that begins anew, at a lower offset, is no negative one")
    func restarted() {
        var rate = StreamRate()
        rate.add(1_000_000)
        rate.add(1)
        #expect(rate.bytes(in: 60_000) == 0)
    }
}
