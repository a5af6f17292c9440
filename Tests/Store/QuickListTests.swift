import Glibc
import RESP
import Testing

@testable import Store

@Suite struct QuickListTests {
    let heap = testHeap(1, 2)

    /// The chain is whole, counts and bounds agree, and each node's entries are a valid listpack.
    func check(_ list: QuickList, _ limits: ListLimits, sourceLocation: SourceLocation = #_sourceLocation) {
        var count = 0
        var nodes = 0
        var previous: ListNode?
        list.forEachNode { node in
            #expect(node.previous?.header == previous?.header, sourceLocation: sourceLocation)
            previous = node
            nodes += 1
            count += node.count
            #expect(node.count > 0, sourceLocation: sourceLocation)
            if !node.isPlain {
                #expect(node.start >= 0 && node.start <= node.end && node.end <= node.capacity, sourceLocation: sourceLocation)
                let pack = node.makeListpack()
                #expect(Listpack.validate(pack.bytes) && pack.count == node.count, sourceLocation: sourceLocation)
                #expect(node.count == 1 || (pack.byteCount <= limits.bytes + Listpack.overhead && node.count <= limits.count), sourceLocation: sourceLocation)
                pack.free()
            }
        }
        #expect(list.tail?.header == previous?.header, sourceLocation: sourceLocation)
        #expect(count == list.count && nodes == list.state.pointee.nodes, sourceLocation: sourceLocation)
    }

    @Test("random changes leave what an array would hold", arguments: [-2, -1, 1, 3, 40])
    func model(setting: Int) {
        let limits = ListLimits(setting)
        for seed in 1...12 {
            var generator = Seeded(UInt64(seed))
            let list = QuickList.make(heap)
            defer { list.free() }
            var model: [[UInt8]] = []
            for step in 0..<1500 {
                var value = randomValue(&generator)
                if Int.random(in: 0..<60, using: &generator) == 0 { value = [UInt8](repeating: 98, count: 5000 + step * 8) }
                // Long runs of growth and of decline, so that lists of many nodes and empty ones both occur.
                let isGrowing = step / 250 % 2 == 0
                switch Int.random(in: 0..<(isGrowing ? 12 : 16), using: &generator) {
                case 0...2:
                    withArgument(value) { list.push($0, at: .head, limits) }
                    model.insert(value, at: 0)
                case 3...6:
                    withArgument(value) { list.push($0, at: .tail, limits) }
                    model.append(value)
                case 7 where !model.isEmpty:
                    let index = Int.random(in: 0..<model.count, using: &generator)
                    let after = Bool.random(using: &generator)
                    withArgument(value) { list.insert($0, at: list.position(index)!, after: after, limits) }
                    model.insert(value, at: index + (after ? 1 : 0))
                case 8 where !model.isEmpty:
                    let index = Int.random(in: -model.count..<model.count, using: &generator)
                    withArgument(value) { list.replace(at: index, with: $0, limits) }
                    model[index < 0 ? index + model.count : index] = value
                case 9 where !model.isEmpty:
                    let index = Int.random(in: 0..<model.count, using: &generator)
                    let neighbours = list.remove(list.position(index)!)
                    #expect(neighbours.previous?.value.copy == (index > 0 ? model[index - 1] : nil))
                    model.remove(at: index)
                    #expect(neighbours.next?.value.copy == (index < model.count ? model[index] : nil))
                case 10:
                    let limit = Int.random(in: -2...2, using: &generator)
                    let wanted = model.randomElement(using: &generator) ?? value
                    let removed = withArgument(wanted) { list.removeAll($0, limit: limit, limits) }
                    var left = limit == 0 ? Int.max : abs(limit)
                    var expected = 0
                    for index in limit < 0 ? Array(model.indices.reversed()) : Array(model.indices) where left > 0 {
                        let at = limit < 0 ? index : index - expected
                        if model[at] == wanted {
                            model.remove(at: at)
                            expected += 1
                            left -= 1
                        }
                    }
                    #expect(removed == expected)
                case 11 where !model.isEmpty && Int.random(in: 0..<4, using: &generator) == 0:
                    let first = Int.random(in: 0..<model.count, using: &generator)
                    let count = Int.random(in: 0...min(20, model.count - first), using: &generator)
                    list.removeRange(from: first, count: count)
                    model.removeSubrange(first..<first + count)
                default:
                    guard !model.isEmpty else { continue }
                    let end: ListEnd = Bool.random(using: &generator) ? .head : .tail
                    #expect(list.outermost(end).copy == (end == .head ? model.first : model.last))
                    list.removeOutermost(end)
                    if end == .head { model.removeFirst() } else { model.removeLast() }
                }
                #expect(list.count == model.count)
                if step % 20 == 0 { check(list, limits) }
                if !model.isEmpty {
                    let index = Int.random(in: -model.count..<model.count, using: &generator)
                    #expect(list.position(index)!.value.copy == model[index < 0 ? index + model.count : index])
                }
            }
            check(list, limits)
            var contents: [[UInt8]] = []
            list.forEach { contents.append($0.copy) }
            #expect(contents == model)
            var backwards: [[UInt8]] = []
            var position = list.position(.tail)
            while let p = position {
                backwards.append(p.value.copy)
                position = p.previous
            }
            #expect(backwards == model.reversed())
        }
    }

    @Test("queues in both directions keep their order and stay in few nodes", arguments: [ListEnd.head, .tail])
    func queue(end: ListEnd) {
        let limits = ListLimits(-2)
        let list = QuickList.make(heap)
        defer { list.free() }
        for depth in [1, 5, 60, 110, 500] {
            while list.count < depth { withArgument(String(repeating: "x", count: 64)) { list.push($0, at: end, limits) } }
            for i in 0..<2000 {
                withArgument("\(i)" + String(repeating: "y", count: 60)) { list.push($0, at: end, limits) }
                list.removeOutermost(end.other)
            }
            #expect(list.count == depth)
            #expect(list.state.pointee.nodes <= depth / 60 + 2)
            check(list, limits)
        }
    }

    @Test("nodes that are filled from one end are full", arguments: [ListEnd.head, .tail])
    func fill(end: ListEnd) {
        let limits = ListLimits(-2)
        let list = QuickList.make(heap)
        defer { list.free() }
        for _ in 0..<10_000 { withArgument(String(repeating: "x", count: 100)) { list.push($0, at: end, limits) } }
        #expect(list.state.pointee.nodes == (10_000 + 78) / 79)
    }
}
