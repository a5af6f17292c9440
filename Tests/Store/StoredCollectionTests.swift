import Glibc
import RESP
import Testing

@testable import Store

@Suite struct StoredHashTests {
    let heap = testHeap(1, 2)

    @Test("random changes leave what a dictionary would hold, in both encodings", arguments: [0, 8, 1000])
    func model(entries: Int) {
        let configuration = StoreConfiguration()
        configuration.hashMaxListpackEntries = entries
        let limits = HashLimits(configuration)
        for seed in 1...15 {
            var generator = Seeded(UInt64(seed))
            var stored = StoredHash.empty(heap)
            var model: [[UInt8]: [UInt8]] = [:]
            let names = (0..<200).map { _ in Array(randomValue(&generator).prefix(seed % 3 == 0 ? 300 : 60)) }
            for step in 0..<1200 {
                let field = names[Int.random(in: 0..<(step < 400 ? 12 : 200), using: &generator)]
                if Int.random(in: 0..<(step < 800 ? 3 : 6), using: &generator) < 2 {
                    let value = Array(randomValue(&generator).prefix(seed % 2 == 0 ? 5000 : 60))
                    let isNew = withArgument(field) { field in withArgument(value) { stored.set(field, $0, limits, heap) } }
                    #expect(isNew == (model.updateValue(value, forKey: field) == nil))
                } else {
                    let removed = withArgument(field) { stored.remove($0) }
                    #expect(removed == (model.removeValue(forKey: field) != nil))
                }
                #expect(stored.count == model.count)
                let other = names[Int.random(in: 0..<200, using: &generator)]
                #expect(withArgument(other) { stored.find($0)?.copy } == model[other])
            }
            var contents: [[UInt8]: [UInt8]] = [:]
            stored.forEach { contents[$0.copy] = $1.copy }
            #expect(contents == model)
            if !model.isEmpty {
                var random = FastRandom()
                for _ in 0..<20 {
                    let (field, value) = stored.random(using: &random)
                    #expect(model[field.copy] == value.copy)
                }
            }
            stored.free()
        }
    }

    @Test("a hash becomes a table by its 513th field, or by a field or value of 65 bytes")
    func conversion() {
        let limits = HashLimits(StoreConfiguration())
        var many = StoredHash.empty(heap)
        for i in 0..<512 { withArgument("f\(i)") { _ = many.set($0, Argument("v"), limits, heap) } }
        #expect(many.encoding == .listpack)
        _ = many.set(Argument("f0"), Argument("other"), limits, heap)
        #expect(many.encoding == .listpack)
        _ = many.set(Argument("new"), Argument("v"), limits, heap)
        #expect(many.encoding == .table && many.count == 513)
        #expect(many.find(Argument("f0"))?.copy == Array("other".utf8))
        many.free()
        for (field, value) in [(64, 64), (65, 1), (1, 65)] {
            var one = StoredHash.empty(heap)
            withArgument([UInt8](repeating: 65, count: field)) { field in
                withArgument([UInt8](repeating: 66, count: value)) { _ = one.set(field, $0, limits, heap) }
            }
            #expect((one.encoding == .listpack) == (field <= 64 && value <= 64))
            one.free()
        }
    }
}

@Suite struct StoredSetTests {
    let heap = testHeap(3, 4)

    @Test("random changes leave what a set would hold, in all encodings", arguments: [(0, 0), (16, 8), (512, 128), (16, 1000)])
    func model(numbers: Int, entries: Int) {
        let configuration = StoreConfiguration()
        configuration.setMaxIntsetEntries = numbers
        configuration.setMaxListpackEntries = entries
        let limits = SetLimits(configuration)
        for seed in 1...15 {
            var generator = Seeded(UInt64(seed))
            var stored = StoredSet(Intset.empty(heap))
            var model: Set<[UInt8]> = []
            // Numbers only at first, then anything.
            let names = (0..<200).map { i in
                i < 100 ? Array(String(Int64(truncatingIfNeeded: generator.next()) >> 40).utf8) : Array(randomValue(&generator).prefix(80))
            }
            var seen: Set<UInt8> = []
            for step in 0..<1200 {
                let member = names[Int.random(in: 0..<(step < 400 ? 100 : 200), using: &generator)]
                if Int.random(in: 0..<(step < 800 ? 3 : 6), using: &generator) < 2 {
                    #expect(withArgument(member) { stored.add($0, limits, heap) } == model.insert(member).inserted)
                } else {
                    #expect(withArgument(member) { stored.remove($0) } == (model.remove(member) != nil))
                }
                seen.insert(stored.encoding.rawValue)
                #expect(stored.count == model.count)
                let other = names[Int.random(in: 0..<200, using: &generator)]
                #expect(withArgument(other) { stored.contains($0) } == model.contains(other))
            }
            var contents: Set<[UInt8]> = []
            stored.forEach { contents.insert($0.copy) }
            #expect(contents == model)
            #expect(numbers == 0 || seen.count > 1)
            var random = FastRandom()
            while stored.count > 0 {
                let member = stored.random(using: &random)
                #expect(model.remove(member.copy) != nil)
                stored.remove(value: member)
            }
            #expect(model.isEmpty)
            stored.free()
        }
    }

    @Test("the encodings are those of Redis 7.2, one member before and one beyond each limit")
    func conversion() {
        let limits = SetLimits(StoreConfiguration())
        func set(_ members: [String]) -> Encoding {
            var stored = withArgument(members[0]) { StoredSet.empty(for: $0, expected: 1, limits, heap) }
            defer { stored.free() }
            for member in members { withArgument(member) { _ = stored.add($0, limits, heap) } }
            return stored.encoding
        }
        let numbers = (0..<600).map { String($0) }
        #expect(set(Array(numbers.prefix(512))) == .intset)
        #expect(set(Array(numbers.prefix(513))) == .table)
        #expect(set(["1", "a"]) == .listpack)
        #expect(set(["a"] + numbers.prefix(127)) == .listpack)
        #expect(set(["a"] + numbers.prefix(128)) == .table)
        #expect(set(numbers.prefix(127) + ["a"]) == .listpack)
        #expect(set(numbers.prefix(128) + ["a"]) == .table)
        #expect(set([String(repeating: "x", count: 64)]) == .listpack)
        #expect(set([String(repeating: "x", count: 65)]) == .table)
    }

    @Test("every member of a table is drawn about as often, long chains or not")
    func fairness() {
        for size in [10, 100, 1000] {
            let table = Table<SetMember>(heap)
            for i in 0..<size { withArgument("member \(i)") { table.insert(SetMember.make(heap, $0).base) } }
            var counts: [UnsafeMutableRawPointer: Int] = [:]
            var random = FastRandom()
            let draws = size * 400
            for _ in 0..<draws { counts[table.random(using: &random)!, default: 0] += 1 }
            #expect(counts.count == size)
            #expect(counts.values.min()! > 200, "some members are hardly ever drawn")
            #expect(counts.values.max()! < 700, "some members are drawn far too often")
            table.freeAll { SetMember($0).free() }
        }
    }

    @Test("members are drawn fairly while the table is being resized too, at every stage of it")
    func fairnessWhileResizing() {
        let table = Table<SetMember>(heap)
        var size = 0
        func add() {
            withArgument("member \(size)") { table.insert(SetMember.make(heap, $0).base) }
            size += 1
        }
        while size < 1000 || !table.isResizing { add() }
        var stages = 0
        while table.isResizing {
            var counts: [UnsafeMutableRawPointer: Int] = [:]
            var random = FastRandom()
            for _ in 0..<size * 100 { counts[table.randomPosition(random.next())!.element, default: 0] += 1 }
            #expect(counts.count == size)
            #expect(counts.values.max()! < 190, "some members are drawn far too often")
            stages += 1
            for _ in 0..<20 { add() }
        }
        #expect(stages > 2)
        table.freeAll { SetMember($0).free() }
    }

    @Test("a sample has no member twice, whatever its share of the table")
    func sample() {
        let table = Table<SetMember>(heap)
        for i in 0..<500 { withArgument("member \(i)") { table.insert(SetMember.make(heap, $0).base) } }
        var random = FastRandom()
        for count in [0, 1, 10, 100, 166, 167, 400, 500, 600] {
            let chosen = table.sample(count, using: &random)
            #expect(chosen.count == min(count, 500))
            #expect(Set(chosen).count == chosen.count)
        }
        table.freeAll { SetMember($0).free() }
    }
}
