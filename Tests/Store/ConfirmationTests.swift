import Reactor
import RESP
@testable import Store
import Testing

@Suite("reply-after-replicas: what is remembered")
struct ConfirmationTests {
    @Test("the table of unconfirmed keys finds what was noted until it is confirmed, and stays as large as what is in flight")
    func unconfirmedKeys() {
        var generator = Seeded(11)
        var keys = UnconfirmedKeys()
        defer { keys.deallocate() }
        var model: [UInt64: Int64] = [:]
        var offset: Int64 = 1
        var confirmed: Int64 = 1
        for step in 0..<40_000 {
            offset += Int64.random(in: 1...50, using: &generator)
            // Names that share their lower bits collide.
            let name = UInt64.random(in: 1...3000, using: &generator) << (Bool.random(using: &generator) ? 0 : 20)
            let isNoted = keys.note(name, at: offset, confirmed: confirmed)
            #expect(isNoted)
            model[name] = offset
            // Replicas lag by some hundred writes at most.
            if step % 7 == 0 { confirmed = max(confirmed, offset - Int64.random(in: 0...9000, using: &generator)) }
            let asked = UInt64.random(in: 1...3000, using: &generator) << (Bool.random(using: &generator) ? 0 : 20)
            let expected = model[asked] ?? 0
            let found = keys.offset(of: asked)
            #expect(expected > confirmed ? found == expected : found == 0 || found == expected, "of \(asked) at step \(step)")
        }
        #expect(keys.count(above: confirmed) == model.values.count { $0 > confirmed })
        #expect(keys.count(above: offset) == 0)
    }

    @Test("too many keys in flight are refused, and none that was noted is lost by it")
    func tooManyKeys() {
        var keys = UnconfirmedKeys()
        defer { keys.deallocate() }
        var noted: UInt64 = 0
        while keys.note(noted + 1, at: Int64(noted + 1), confirmed: 0) { noted += 1 }
        #expect(noted >= UnconfirmedKeys.countMax && noted < UnconfirmedKeys.countMax * 3)
        #expect((1...noted).allSatisfy { keys.offset(of: $0) == Int64($0) })
        let isNoted = keys.note(noted + 1, at: 1, confirmed: Int64(noted))
        #expect(isNoted, "there is room when they are confirmed")
    }

    @Test("the ring of barriers is a queue, whatever is done in between")
    func barriers() {
        var generator = Seeded(5)
        var ring = ReplyBarriers()
        defer { ring.deallocate() }
        var model: [(start: Int, offset: Int64)] = []
        for step in 0..<20_000 {
            switch Int.random(in: 0..<10, using: &generator) {
            case 0...5:
                for _ in 0..<(step % 5000 == 0 ? 3000 : 1) {
                    ring.append(ReplyBarrier(start: step, end: step + 1, offset: Int64(step), since: .zero, isWrite: true))
                    model.append((step, Int64(step)))
                }
            case 6...8:
                let number = Int.random(in: 0...min(3 + step % 50, model.count), using: &generator)
                ring.removeFirst(number)
                model.removeFirst(number)
            default:
                let growth = Int.random(in: -5...5, using: &generator)
                ring.shift(by: growth)
                for i in model.indices { model[i].start += growth }
            }
            #expect(ring.count == model.count && ring.isEmpty == model.isEmpty)
            #expect(ring.first?.start == model.first?.start && ring.first?.offset == model.first?.offset)
            if let last = model.last { #expect(ring[model.count - 1].start == last.start && ring[model.count - 1].end == last.start + 1) }
        }
    }
}
