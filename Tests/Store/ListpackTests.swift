import Glibc
import RESP
import Testing

@testable import Store

@Suite struct ListpackTests {
    let heap = testHeap(1, 2)

    func contents(_ pack: Listpack) -> [[UInt8]] {
        var result: [[UInt8]] = []
        pack.forEach { result.append($0.copy) }
        return result
    }

    @Test("random changes leave what an array would hold, and valid bytes")
    func model() {
        for seed in 1...40 {
            var generator = Seeded(UInt64(seed))
            var pack = Listpack.empty(heap)
            defer { pack.free() }
            var model: [[UInt8]] = []
            for _ in 0..<300 {
                let value = randomValue(&generator)
                switch Int.random(in: 0..<10, using: &generator) {
                case 0...1:
                    withArgument(value) { pack.append($0) }
                    model.append(value)
                case 2:
                    withArgument(value) { pack.prepend($0) }
                    model.insert(value, at: 0)
                case 3...4:
                    let index = Int.random(in: 0...model.count, using: &generator)
                    let place = index == model.count ? pack.end : pack.seek(index)!
                    let new = withArgument(value) { pack.insert($0, before: place) }
                    #expect(pack.value(at: new).copy == value)
                    model.insert(value, at: index)
                case 5 where !model.isEmpty:
                    let index = Int.random(in: 0..<model.count, using: &generator)
                    withArgument(value) { _ = pack.insert($0, after: pack.seek(index)!) }
                    model.insert(value, at: index + 1)
                case 6...7 where !model.isEmpty:
                    let index = Int.random(in: -model.count..<model.count, using: &generator)
                    withArgument(value) { _ = pack.replace(pack.seek(index)!, with: $0) }
                    model[index < 0 ? index + model.count : index] = value
                case 8 where !model.isEmpty:
                    let index = Int.random(in: 0..<model.count, using: &generator)
                    let count = Int.random(in: 1...4, using: &generator)
                    pack.remove(pack.seek(index)!, count: count)
                    model.removeSubrange(index..<min(model.count, index + count))
                default:
                    let found = withArgument(value) { pack.find($0) }
                    #expect(found.map { pack.value(at: $0).copy } == (model.contains(value) ? value : nil))
                }
                #expect(pack.count == model.count)
                #expect(Listpack.validate(pack.bytes))
            }
            #expect(contents(pack) == model)
            // Backwards, and by index from both ends.
            var backwards: [[UInt8]] = []
            var place = pack.last
            while let p = place {
                backwards.append(pack.value(at: p).copy)
                place = pack.previous(p)
            }
            #expect(backwards == model.reversed())
            for index in model.indices { #expect(pack.seek(index - model.count).map { pack.value(at: $0).copy } == model[index]) }
            #expect(pack.seek(model.count) == nil && pack.seek(-model.count - 1) == nil)
        }
    }

    @Test("the bytes are those that Redis writes")
    func bytes() {
        // From DUMP of a list `a 1 4095 -4096 32767 -8388608 2147483647 9223372036854775807` on Redis 7.0.15.
        var pack = Listpack.empty(heap)
        defer { pack.free() }
        for value in ["a", "1", "4095", "-4096", "32767", "-8388608", "2147483647", "9223372036854775807"] {
            withArgument(value) { pack.append($0) }
        }
        #expect(Array(pack.bytes) == [
            0x2B, 0, 0, 0, 8, 0, 0x81, 0x61, 2, 1, 1, 0xCF, 0xFF, 2, 0xD0, 0, 2, 0xF1, 0xFF, 0x7F, 3, 0xF2, 0, 0, 0x80, 4,
            0xF3, 0xFF, 0xFF, 0xFF, 0x7F, 5, 0xF4, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 9, 0xFF,
        ])
    }

    @Test("more entries than the header can count are counted")
    func many() {
        var pack = Listpack.empty(heap, capacity: 200_000)
        defer { pack.free() }
        for i in 0..<65_600 { pack.append(Int64(i & 63)) }
        #expect(pack.count == 65_600)
        #expect(Listpack.validate(pack.bytes))
        pack.remove(pack.start, count: 100)
        #expect(pack.count == 65_500)
    }

    @Test("damaged bytes are refused or are another valid listpack, and are never read beyond their end")
    func damaged() {
        var generator = Seeded(7)
        var refused = 0
        for _ in 0..<3000 {
            var pack = Listpack.empty(heap)
            defer { pack.free() }
            for _ in 0..<Int.random(in: 0...6, using: &generator) {
                let value = Array(randomValue(&generator).prefix(200))
                withArgument(value) { pack.append($0) }
            }
            var bytes = Array(pack.bytes)
            #expect(bytes.withUnsafeBytes { Listpack.validate($0) })
            switch Int.random(in: 0..<3, using: &generator) {
            case 0: bytes.removeLast(Int.random(in: 1...bytes.count, using: &generator))
            case 1: bytes.append(UInt8.random(in: 0...255, using: &generator))
            default: bytes[Int.random(in: 0..<bytes.count, using: &generator)] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            }
            withArgument(bytes) { copy in
                let view = UnsafeRawBufferPointer(start: copy.raw, count: copy.count)
                if Listpack.validate(view) {
                    let other = Listpack.copy(heap, view)
                    #expect(other.count >= 0)
                    other.forEach { _ = $0.copy }
                    other.free()
                } else {
                    refused += 1
                }
            }
        }
        #expect(refused > 2000)
    }
}

@Suite struct IntsetTests {
    let heap = testHeap(1, 2)

    @Test("random changes leave what a sorted set would hold, through every width")
    func model() {
        for seed in 1...20 {
            var generator = Seeded(UInt64(seed))
            var set = Intset.empty(heap)
            defer { set.free() }
            var model: Set<Int64> = []
            for step in 0..<600 {
                let shift = step < 200 ? 56 : step < 400 ? 40 : Int64.random(in: 0...60, using: &generator)
                let value = Int64(truncatingIfNeeded: generator.next()) >> shift
                #expect(set.contains(value) == model.contains(value))
                if Bool.random(using: &generator) {
                    #expect(set.insert(value) == model.insert(value).inserted)
                } else {
                    #expect(set.remove(value) == (model.remove(value) != nil))
                }
                #expect(set.count == model.count)
                #expect(model.isEmpty || Intset.validate(set.bytes))
            }
            #expect((0..<set.count).map { set[$0] } == model.sorted())
        }
    }

    @Test("damaged bytes are refused")
    func damaged() {
        func isValid(_ bytes: [UInt8]) -> Bool { bytes.withUnsafeBytes { Intset.validate($0) } }
        let good: [UInt8] = [2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 2, 0]
        #expect(isValid(good))
        #expect(!isValid([]))
        #expect(!isValid(Array(good.dropLast())))
        #expect(!isValid(good + [0]))
        #expect(!isValid([2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 1, 0]), "descending")
        #expect(!isValid([2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 2, 0]), "repeated")
        #expect(!isValid([3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 2, 0]), "unknown width")
        #expect(!isValid([2, 0, 0, 0, 0, 0, 0, 0]), "empty")
    }
}
