import Glibc
import RESP
import Reactor
import Testing

@testable import Store

@Suite("The heap")
struct HeapTests {
    let heap = testHeap(1, 2)

    /// A block with what was written into it.
    private struct Block {
        var pointer: UnsafeMutableRawPointer
        var size: Int
        var mark: UInt8

        func fill() { memset(pointer, Int32(mark), size) }
        /// Every byte is the one before it, and the first is the mark.
        var isWhole: Bool {
            size == 0 || (pointer.load(as: UInt8.self) == mark && memcmp(pointer, pointer + 1, size - 1) == 0)
        }
    }

    private func randomSize(_ generator: inout Seeded) -> Int {
        switch Int.random(in: 0..<20, using: &generator) {
        case 0: Int.random(in: 1025...Heap.slabMax, using: &generator)
        case 1: Int.random(in: Heap.slabMax - 2...100_000, using: &generator)
        case 2...5: Int.random(in: 129...1024, using: &generator)
        default: Int.random(in: 0...128, using: &generator)
        }
    }

    @Test("blocks keep what is written into them, whatever is allocated, resized and freed around them", arguments: [1, 2, 3] as [UInt64])
    func model(seed: UInt64) {
        var generator = Seeded(seed)
        var blocks: [Block] = []
        for step in 0..<40_000 {
            let isGrowing = step / 10_000 % 2 == 0
            switch Int.random(in: 0..<10, using: &generator) {
            case 0...(isGrowing ? 5 : 2):
                let size = randomSize(&generator)
                let block = Block(pointer: heap.allocate(size), size: size, mark: UInt8.random(in: 0...255, using: &generator))
                if Heap.capacity(of: block.pointer, size) < size { Issue.record("\(size) bytes do not fit") }
                block.fill()
                blocks.append(block)
            case 6 where !blocks.isEmpty:
                let i = Int.random(in: 0..<blocks.count, using: &generator)
                let old = blocks[i]
                let size = randomSize(&generator)
                blocks[i].pointer = Heap.resize(old.pointer, from: old.size, to: size)
                blocks[i].size = min(size, old.size)
                if !blocks[i].isWhole { Issue.record("\(old.size) to \(size) bytes: the contents have changed") }
                blocks[i].size = size
                blocks[i].fill()
            default:
                guard !blocks.isEmpty else { continue }
                let i = Int.random(in: 0..<blocks.count, using: &generator)
                if !blocks[i].isWhole { Issue.record("\(blocks[i].size) bytes: the contents have changed") }
                Heap.free(blocks[i].pointer, blocks[i].size)
                blocks.swapAt(i, blocks.count - 1)
                blocks.removeLast()
            }
            if step % 5000 == 0 { heap.purge(keep: 2, most: 10) }
        }
        let expected = blocks.reduce(0) { $0 + ($1.size > Heap.slabMax ? 0 : Heap.capacity(of: $1.pointer, $1.size)) }
        #expect(heap.usedInSlabs == expected)
        for block in blocks {
            #expect(block.isWhole)
            Heap.free(block.pointer, block.size)
        }
        #expect(heap.usedInSlabs == 0)
        #expect(heap.state.pointee.malloced == 0)
        heap.purge()
        #expect(heap.held == 0)
        #expect(heap.kept == 0)
        #expect(heap.state.pointee.chunks.count == 1, "empty chunks are given back")
    }

    @Test("no two blocks overlap, each lies in its slab, and those of multiples of 64 bytes at multiples of 64")
    func places() {
        for size in Heap.classSizes() {
            var blocks: [UnsafeMutableRawPointer] = []
            for _ in 0..<200 { blocks.append(heap.allocate(size)) }
            let sorted = blocks.sorted()
            #expect(zip(sorted, sorted.dropFirst()).allSatisfy { $1 - $0 >= size })
            let alignment: UInt = size % 64 == 0 ? 64 : 4
            #expect(blocks.allSatisfy { UInt(bitPattern: $0) % alignment == 0 && UInt(bitPattern: $0) & 0xFFFF + UInt(size) <= 0x10000 })
            #expect(blocks.allSatisfy { Heap.of($0, size).state == heap.state && Heap.capacity(of: $0, size) == size })
            for block in blocks { Heap.free(block, size) }
        }
        #expect(heap.used == heap.state.pointee.chunks.count * 4096)
    }

    @Test("a size class wastes at most an eighth, and little of a slab is left over")
    func sizes() {
        let sizes = Heap.classSizes()
        #expect(sizes == sizes.sorted())
        for (a, b) in zip(sizes, sizes.dropFirst()) where a >= 32 && a < Heap.slabMax / 5 { #expect(Double(b - a) / Double(b) <= 0.17, "\(a), \(b)") }
        for size in sizes where size < Heap.slabMax / 4 { #expect(Heap.slabSize % size <= max(size / 2, 64 * (Heap.slabSize / size)), "\(size)") }
    }

    @Test("after three quarters of the keys have gone, defragmentation gives back what is not needed, and every key is as it was")
    func defragmentation() {
        let loop = EpollLoop()
        let databases = UnsafeMutableBufferPointer<Database>.allocate(capacity: 2)
        for id in 0..<2 { databases.initializeElement(at: id, to: Database(id: id, heap: heap, clock: KeyspaceClock(loop.clock))) }
        let configuration = StoreConfiguration()
        let db = databases[1]
        let count = 50_000
        func key(_ i: Int) -> [UInt8] { Array("key:\(i)".utf8) }
        func value(_ i: Int) -> [UInt8] { Array(String(repeating: "v", count: i % 4 * 20).utf8) + Array("\(i)x".utf8) }
        for i in 0..<count {
            withArgument(key(i)) { key in
                withArgument(value(i)) { value in
                    switch i % 4 {
                    case 0: db.setString(key, value, expiry: 1 << 50)
                    case 1: db.setString(key, value, expiry: nil)
                    case 2:
                        var hash = StoredHash.empty(heap)
                        _ = hash.set(value, key, HashLimits(configuration), heap)
                        db.add(Entry.make(heap, key, .hash, hash.encoding, expiry: nil, clock: 0, pointer: hash.pointer))
                    default:
                        var set = StoredSet(Intset.empty(heap))
                        withArgument("\(i)") { _ = set.add($0, SetLimits(configuration), heap) }
                        db.add(Entry.make(heap, key, .set, set.encoding, expiry: nil, clock: 0, pointer: set.pointer))
                    }
                }
            }
        }
        // Large collections, whose members lie among the other blocks.
        var set = StoredSet(Table<SetMember>(heap))
        let sorted = SortedIndex(heap)
        var hash = StoredHash.empty(heap)
        for i in 0..<count {
            withArgument(key(i)) { key in
                _ = set.add(key, SetLimits(configuration), heap)
                sorted.add(key, Double(i % 1000))
                withArgument(value(i)) { _ = hash.set(key, $0, HashLimits(configuration), heap) }
            }
        }
        withArgument("set") { db.add(Entry.make(heap, $0, .set, set.encoding, expiry: nil, clock: 0, pointer: set.pointer)) }
        withArgument("zset") { db.add(Entry.make(heap, $0, .sortedSet, .sortedTree, expiry: nil, clock: 0, pointer: sorted.pointer)) }
        withArgument("hash") { db.add(Entry.make(heap, $0, .hash, hash.encoding, expiry: nil, clock: 0, pointer: hash.pointer)) }
        func isKept(_ i: Int) -> Bool { i % 13 < 3 }
        for i in 0..<count where !isKept(i) {
            withArgument(key(i)) { key in
                #expect(db.remove(key))
                _ = set.remove(key)
                _ = hash.remove(key)
                sorted.remove(sorted.find(key)!)
            }
        }
        let used = heap.used
        let before = heap.held
        #expect(heap.beginEvacuation())
        var defragmentation = Defragmentation()
        defragmentation.begin()
        while !defragmentation.step(databases, 7) {}
        heap.endEvacuation()
        #expect(heap.used == used, "moving changes nothing but places")
        // What is left is, for the most part, the one slab that each class is filling.
        #expect(heap.held * 10 < before * 8, "\(before) bytes were held, \(heap.held) are: \(heap)")
        #expect(defragmentation.blocksMoved > 1000)
        var previous = -1.0
        sorted.tree.forEach { element in
            #expect(element.score >= previous)
            previous = element.score
        }
        for i in 0..<count {
            withArgument(key(i)) { key in
                let position = db.find(key)
                #expect((position != nil) == isKept(i))
                #expect(set.contains(key) == isKept(i))
                #expect((sorted.find(key) != nil) == isKept(i))
                if let element = sorted.find(key) { #expect(sorted.tree.select(sorted.tree.rank(of: element)).element.base == element.base) }
                #expect(hash.find(key).map { $0.copy } == (isKept(i) ? value(i) : nil))
                guard let position else { return }
                let entry = Entry(position.element)
                switch i % 4 {
                case 0:
                    #expect(entry.string(entry.base).bytes == value(i))
                    #expect(db.expiring.find(key)?.element == entry.base)
                case 1: #expect(entry.string(entry.base).bytes == value(i))
                case 2: withArgument(value(i)) { #expect(StoredHash(entry).find($0)?.copy == key.bytes) }
                default: #expect(StoredSet(entry).intset.contains(Int64(i)))
                }
            }
        }
        RDBReader.release(databases)
        var steps = 0
        while heap.isReclaiming {
            heap.reclaim(50)
            steps += 1
        }
        #expect(steps > 20, "large things are freed in steps")
        #expect(heap.usedInSlabs == 0)
        #expect(heap.state.pointee.malloced == 0)
    }
}
