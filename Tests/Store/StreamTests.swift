import RESP
import Reactor
import Testing

@testable import Store

/// Numbers that are the same in every run.
private struct Steps: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return state ^ state >> 29
    }
}

extension Heap {
    /// Bytes of all blocks, without the heap's own records.
    fileprivate var blocks: Int { usedInSlabs + state.pointee.malloced }
}

@Suite struct IDTreeTests {
    private final class Tree {
        let heap = Heap(hash: KeyHash(seed0: 1, seed1: 2))
        let state = UnsafeMutablePointer<IDTree.State>.allocate(capacity: 1)
        var tree: IDTree { IDTree(state) }
        init() { state.initialize(to: IDTree.State(heap: heap)) }
        deinit {
            state.deallocate()
            heap.deallocate()
        }
    }

    private func value(_ n: UInt64) -> UnsafeMutableRawPointer { UnsafeMutableRawPointer(bitPattern: UInt(n) + 1)! }

    @Test("a tree answers as a sorted array does, whatever is added and removed, and leaves no memory behind", arguments: [1, 2, 3, 4])
    func againstAnArray(seed: UInt64) {
        let owner = Tree()
        let tree = owner.tree
        let before = owner.heap.blocks
        var random = Steps(state: seed)
        var model: [StreamID] = []
        for round in 0..<6 {
            // In ascending order, in any order, and mostly removing, in turn.
            for step in 0..<3000 {
                let n = round % 3 == 0 ? UInt64(round * 10_000 + step) : UInt64.random(in: 0..<4000, using: &random)
                let id = StreamID(n / 7, n % 7)
                let place = model.firstIndex { $0 >= id } ?? model.count
                let isThere = place < model.count && model[place] == id
                #expect((tree.find(id) != nil) == isThere)
                if isThere || (round % 3 == 2 && step % 2 == 0) {
                    if isThere, round % 3 != 0 {
                        #expect(tree.remove(id) == value(n))
                        model.remove(at: place)
                    }
                } else if round % 3 != 2 {
                    tree.insert(id, value(n))
                    model.insert(id, at: place)
                }
                #expect(tree.first(from: id)?.id == model.first { $0 >= id })
                #expect(tree.last(upTo: id)?.id == model.last { $0 <= id })
            }
            var seen: [StreamID] = []
            tree.forEach { id, _ in seen.append(id) }
            #expect(seen == model)
            #expect(tree.count == model.count)
            var back: [StreamID] = []
            var at = tree.last
            while let p = at {
                back.append(p.id)
                at = p.previous
            }
            #expect(back == model.reversed())
        }
        for id in model.shuffled(using: &random).dropLast(model.count / 3) { #expect(tree.remove(id) != nil) }
        var leaves = 3
        var freed = 0
        while !tree.release(&leaves, { _ in freed += 1 }) { leaves = 3 }
        #expect(freed == model.count / 3)
        #expect(owner.heap.blocks == before)
    }
}

@Suite struct StreamTests {
    private final class Scene {
        let heap = Heap(hash: KeyHash(seed0: 1, seed1: 2))
        let before: Int
        let stream: Stream
        init() {
            before = heap.blocks
            stream = Stream.make(heap)
        }
        deinit { heap.deallocate() }

        func append(_ id: StreamID, _ words: [String], _ limits: Stream.Limits) {
            let bytes = words.map { Array($0.utf8) }
            var kept: [UnsafeMutableBufferPointer<UInt8>] = []
            for word in bytes {
                let block = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: max(1, word.count))
                _ = block.initialize(from: word)
                kept.append(block)
            }
            defer { kept.forEach { $0.deallocate() } }
            var arguments = zip(kept, bytes).map { Argument(base: $0.baseAddress!, count: $1.count) }
            arguments.withUnsafeMutableBufferPointer {
                stream.append(id, StreamNode.Content(words: $0.baseAddress!, pairs: words.count / 2), limits)
            }
        }
    }

    private struct Item: Equatable {
        let id: StreamID
        let words: [String]
    }

    private func limits(_ bytes: Int, _ entries: Int) -> Stream.Limits {
        let configuration = StoreConfiguration()
        configuration.streamNodeMaxBytes = bytes
        configuration.streamNodeMaxEntries = entries
        return Stream.Limits(configuration)
    }

    private func item(_ entry: StreamNode.Entry) -> Item {
        var words: [String] = []
        entry.forEach { words.append(String(decoding: $0.copy, as: UTF8.self)) }
        return Item(id: entry.id, words: words)
    }

    private func all(_ stream: Stream, from start: StreamID = .zero, to end: StreamID = .max, reversed: Bool = false) -> [Item] {
        var found: [Item] = []
        func visit(_ entry: StreamNode.Entry) -> Bool {
            found.append(item(entry))
            return true
        }
        if reversed { stream.forEachReversed(from: end, to: start, visit) } else { stream.forEach(from: start, to: end, visit) }
        return found
    }

    @Test("entries come and go as in an array", arguments: [(4096, 100), (200, 3), (0, 0), (64, 1), (4096, 7)])
    func againstAnArray(bytes: Int, entries: Int) {
        let scene = Scene()
        let stream = scene.stream
        let limits = limits(bytes, entries)
        var random = Steps(state: UInt64(bytes * 1000 + entries))
        var model: [Item] = []
        var last = StreamID.zero
        var added: UInt64 = 0
        var highestRemoved = StreamID.zero
        for step in 0..<4000 {
            switch Int.random(in: 0..<20, using: &random) {
            case 0..<13:
                last = Bool.random(using: &random) ? StreamID(last.milliseconds + .random(in: 1...5, using: &random), .random(in: 0...3, using: &random)) : last.next!
                let words: [String] = switch Int.random(in: 0..<5, using: &random) {
                case 0: ["a", "\(step)", "b", String(repeating: "x", count: .random(in: 0...200, using: &random))]
                case 1: ["other", "-7"]
                default: ["name", "n\(step)", "age", "\(step % 90)"]
                }
                scene.append(last, words, limits)
                model.append(Item(id: last, words: words))
                added += 1
            case 13..<17:
                guard let victim = model.randomElement(using: &random) else { continue }
                #expect(stream.remove(victim.id))
                #expect(!stream.remove(victim.id))
                stream.updateFirst()
                model.removeAll { $0.id == victim.id }
                highestRemoved = max(highestRemoved, victim.id)
            case 17:
                let most = max(0, model.count - .random(in: 0...20, using: &random))
                let removed = stream.trim(.count(most), isApproximate: false, limit: 0)
                #expect(removed == model.count - most)
                model.removeFirst(removed)
            case 18:
                guard let kept = model.prefix(30).randomElement(using: &random) else { continue }
                let removed = stream.trim(.id(kept.id), isApproximate: false, limit: 0)
                #expect(model.prefix(removed).allSatisfy { $0.id < kept.id })
                model.removeFirst(removed)
                #expect(model.first == kept)
            default:
                let most = max(0, model.count - .random(in: 0...300, using: &random))
                let removed = stream.trim(.count(most), isApproximate: true, limit: 0)
                model.removeFirst(removed)
                #expect(model.count >= most)
            }
            #expect(stream.count == model.count)
            #expect(stream.state.pointee.firstID == model.first?.id ?? .zero)
            if step % 97 == 0 {
                #expect(all(stream) == model)
                #expect(all(stream, reversed: true) == model.reversed())
                let (a, b) = (StreamID(.random(in: 0...last.milliseconds, using: &random), 1), StreamID(.random(in: 0...last.milliseconds, using: &random), 2))
                let between = model.filter { $0.id >= a && $0.id <= b }
                #expect(all(stream, from: a, to: b) == between)
                #expect(all(stream, from: a, to: b, reversed: true) == between.reversed())
                #expect(stream.count(from: a, to: b, most: .max) == between.count)
                #expect(stream.count(from: a, to: b, most: 5) == min(5, between.count))
                #expect(stream.last.map(item) == model.last)
            }
        }
        #expect(stream.state.pointee.entriesAdded == added)
        #expect(stream.state.pointee.maxDeletedID == highestRemoved)
        #expect(stream.state.pointee.lastID == last)
        let copy = stream.copied(scene.heap)
        #expect(all(copy) == model)
        var steps = 64
        while !stream.release(&steps) { steps = 64 }
        #expect(all(copy) == model)
        copy.free()
        #expect(scene.heap.blocks == scene.before)
    }

    @Test("what is pending is the group's and one consumer's, and all of it is freed")
    func pending() {
        let scene = Scene()
        let stream = scene.stream
        let group = stream.addGroup(Argument("g"), lastID: .zero, entriesRead: -1)
        let consumers = ["c", "b", "a"].map { (name: StaticString) in group.addConsumer(Argument(name), now: 1) }
        var random = Steps(state: 5)
        var owners: [UInt64: Int] = [:]
        for _ in 0..<5000 {
            let n = UInt64.random(in: 0..<600, using: &random)
            let id = StreamID(n, 0)
            let who = Int.random(in: 0..<3, using: &random)
            if Int.random(in: 0..<3, using: &random) == 0 {
                #expect(group.acknowledge(id) == (owners.removeValue(forKey: n) != nil))
            } else if let delivery = group.delivery(id) {
                group.move(delivery, id, to: consumers[who])
                owners[n] = who
            } else {
                group.add(id, time: 7, count: 1, consumers[who])
                #expect(owners.updateValue(who, forKey: n) == nil)
            }
        }
        #expect(group.pending.count == owners.count)
        for (who, consumer) in consumers.enumerated() {
            var mine: [UInt64] = []
            consumer.pending.forEach { id, _ in mine.append(id.milliseconds) }
            #expect(mine == owners.filter { $0.value == who }.keys.sorted())
        }
        group.remove(consumers[1])
        #expect(group.pending.count == owners.filter { $0.value != 1 }.count)
        var names: [String] = []
        group.forEachConsumer { names.append($0.name.text) }
        #expect(names == ["a", "c"])
        stream.free()
        #expect(scene.heap.blocks == scene.before)
    }

    @Test("IDs are read as C reads numbers, and the ends of a range have their signs")
    func ids() {
        func parse(_ text: StaticString, isStrict: Bool = true) -> StreamID? {
            StreamID.parse(Argument(text), missing: 9, isStrict: isStrict).flatMap { $0.isPartial ? nil : $0.id }
        }
        #expect(parse("5-3") == StreamID(5, 3))
        #expect(parse("5") == StreamID(5, 9))
        #expect(parse("18446744073709551615-18446744073709551615") == .max)
        #expect(parse("18446744073709551616-0") == nil)
        #expect(parse("-") == nil)
        #expect(parse("-", isStrict: false) == .zero)
        #expect(parse("+", isStrict: false) == .max)
        for text: StaticString in ["", "x", "1-", "-1", "1-1-1", "1-x", "1 -1"] { #expect(parse(text) == nil) }
        #expect(StreamID.parse(Argument("7-*"), missing: 0, isStrict: true)?.isPartial == true)
        #expect(String(decoding: StreamID.max.text, as: UTF8.self) == "18446744073709551615-18446744073709551615")
        #expect(StreamID(1, .max).next == StreamID(2, 0))
        #expect(StreamID.max.next == nil)
        #expect(StreamID(2, 0).previous == StreamID(1, .max))
        #expect(StreamID.zero.previous == nil)
    }
}
