import CLinux
import Glibc
import Reactor

// Slabs: where they come from, what becomes of them when they fill and empty, and giving pages back.
extension Heap {
    /// A heap without any memory yet.
    init(hash: KeyHash = .random()) {
        assert(MemoryLayout<Slab>.stride <= 64, "a slab's record is one cache line")
        let sizes = Heap.classSizes()
        assert(sizes.count == Heap.classCount)
        let classes = UnsafeMutablePointer<SizeClass>.allocate(capacity: sizes.count)
        let numbers = UnsafeMutablePointer<UInt8>.allocate(capacity: 257 + 513)
        var number = 0
        for i in 0...256 {
            while sizes[number] < max(4, i * 4) { number += 1 }
            numbers[i] = UInt8(number)
        }
        number = 0
        for i in 0...512 {
            while sizes[number] < max(4, i * 64) { number += 1 }
            numbers[257 + i] = UInt8(number)
        }
        let full = UnsafeMutablePointer<Slab>.allocate(capacity: sizes.count)
        state = .allocate(capacity: 1)
        state.initialize(to: State(hash: hash, classes: classes, classNumbers: numbers, full: full))
        for (i, size) in sizes.enumerated() {
            (full + i).initialize(to: Slab(
                base: Pointer(full + i), heap: state, size: UInt32(size), used: 0, fresh: 0, limit: 0, wake: -1, free: Heap.none,
                number: UInt8(i), place: .full))
            (classes + i).initialize(to: SizeClass(size: size, capacity: Heap.slabSize / size, current: full + i))
        }
    }

    static let classCount = 111

    static func classSizes() -> [Int] {
        var sizes = Array(stride(from: 4, through: 128, by: 4))
        sizes += stride(from: 136, through: 256, by: 8)
        sizes += stride(from: 272, through: 512, by: 16)
        sizes += stride(from: 544, through: 1024, by: 32)
        let perSlab = [60, 56, 52, 48, 44, 40, 37, 34, 31, 28, 26, 24, 22, 20, 18] + (2...17).reversed()
        return sizes + perSlab.map { slabSize / $0 & ~63 }
    }

    /// Gives all slabs back at once, whatever lies in them. Large blocks and arrays stay their users'.
    func deallocate() {
        while let chunk = state.pointee.chunks.first {
            state.pointee.chunks.remove(chunk)
            munmap(chunk.pointee.base, Heap.chunkSize)
        }
        state.pointee.classes.deallocate()
        state.pointee.classNumbers.deallocate()
        state.pointee.full.deallocate()
        state.deallocate()
    }

    // MARK: filling

    /// The current slab is full: takes another, and a block from it.
    @inline(never)
    func allocateFromNextSlab(_ number: Int) -> Pointer {
        let of = state.pointee.classes + number
        let full = of.pointee.current
        if full.pointee.place == .current { retire(full) }
        let slab: UnsafeMutablePointer<Slab>
        if let roomy = of.pointee.roomy.first {
            of.pointee.roomy.remove(roomy)
            slab = roomy
        } else {
            slab = makeSlab(number)
        }
        slab.pointee.place = .current
        slab.pointee.wake = -1
        of.pointee.current = slab
        // It was counted already.
        state.pointee.used &-= of.pointee.size
        return allocate(class: number)
    }

    /// The slab is not the one that blocks come from any more.
    private func retire(_ slab: UnsafeMutablePointer<Slab>) {
        slab.pointee.place = .full
        // It is worth taking again when so many of its blocks are free that not every further block needs another slab.
        let capacity = Int(slab.pointee.used)
        slab.pointee.wake = Int32(capacity - max(1, min(16, capacity / 64)))
    }

    /// A slab has become roomy, or empty.
    @inline(never)
    func freed(_ slab: UnsafeMutablePointer<Slab>) {
        let of = state.pointee.classes + Int(slab.pointee.number)
        if slab.pointee.used == 0 {
            switch slab.pointee.place {
            case .roomy: of.pointee.roomy.remove(slab)
            case .evacuated: state.pointee.evacuated.remove(slab)
            default: break
            }
            of.pointee.slabs -= 1
            state.pointee.slabs -= 1
            slab.pointee.place = .empty
            slab.pointee.wake = -1
            state.pointee.emptySlabs.add(slab)
        } else {
            slab.pointee.place = .roomy
            slab.pointee.wake = 0
            of.pointee.roomy.add(slab)
        }
    }

    private func makeSlab(_ number: Int) -> UnsafeMutablePointer<Slab> {
        let of = state.pointee.classes + number
        let slab: UnsafeMutablePointer<Slab>
        if let empty = state.pointee.emptySlabs.first {
            state.pointee.emptySlabs.remove(empty)
            slab = empty
        } else {
            if state.pointee.cleanSlabs.first == nil { makeChunk() }
            slab = state.pointee.cleanSlabs.first!
            state.pointee.cleanSlabs.remove(slab)
            Heap.records(of: slab).pointee.used += 1
            // A class that has filled some slabs fills this one too: one system call instead of a fault for each page.
            if of.pointee.slabs >= 4 { populate(slab.pointee.base, Heap.slabSize) }
        }
        of.pointee.slabs += 1
        state.pointee.slabs += 1
        slab.pointee.size = UInt32(of.pointee.size)
        slab.pointee.used = 0
        slab.pointee.fresh = 0
        // Reading a little beyond a block must be harmless (`Table.touch`), at the end of a chunk too.
        let isLast = UInt(bitPattern: slab.pointee.base) >> 16 & 63 == 63
        slab.pointee.limit = UInt32((isLast ? (Heap.slabSize - 32) / of.pointee.size : of.pointee.capacity) * of.pointee.size)
        slab.pointee.free = Heap.none
        slab.pointee.number = UInt8(number)
        return slab
    }

    /// Faults pages in together. A kernel before 5.14 does not know it, and they come one by one.
    private func populate(_ memory: Pointer, _ size: Int) {
        let populateWrite: Int32 = 23
        _ = madvise(memory, size, populateWrite)
    }

    // MARK: chunks

    private func makeChunk() {
        // An address that is a multiple of the size is somewhere in twice the size.
        let whole = SystemMemory.pages(2 * Heap.chunkSize)
        let base = whole.alignedUp(toMultipleOf: Heap.chunkSize)
        if base > whole { munmap(whole, base - whole) }
        let rest = whole + 2 * Heap.chunkSize - (base + Heap.chunkSize)
        if rest > 0 { munmap(base + Heap.chunkSize, rest) }
        // Slab 0 is the records; its own says how the chunk is linked.
        for i in (0..<Heap.chunkSize / Heap.slabSize).reversed() {
            let slab = Heap.slab(of: base + i * Heap.slabSize)
            slab.initialize(to: Slab(
                base: base + i * Heap.slabSize, heap: state, size: 0, used: 0, fresh: 0, limit: 0, wake: -1, free: Heap.none, number: 0,
                place: .clean))
            if i > 0 { state.pointee.cleanSlabs.add(slab) } else { state.pointee.chunks.add(slab) }
        }
        chargePages(4096)
    }

    /// The record of slab 0 of the same chunk.
    private static func records(of slab: UnsafeMutablePointer<Slab>) -> UnsafeMutablePointer<Slab> {
        Heap.slab(of: Pointer(bitPattern: UInt(bitPattern: slab) & ~UInt(chunkSize - 1))!)
    }

    // MARK: giving back

    /// Bytes of slabs that hold blocks, and of those that are kept for the next.
    var held: Int { state.pointee.slabs * Heap.slabSize }
    var kept: Int { state.pointee.emptySlabs.count * Heap.slabSize }
    /// Bytes of blocks in slabs.
    var usedInSlabs: Int { state.pointee.used - state.pointee.outside }

    /// Gives pages of empty slabs back to the system until `keep` slabs with pages are left, but not more than `most`.
    func purge(keep: Int = 0, most: Int = .max) {
        for number in 0..<Heap.classCount { dropIdle(state.pointee.classes + number) }
        var left = most
        while left > 0, state.pointee.emptySlabs.count > keep, let slab = state.pointee.emptySlabs.first {
            state.pointee.emptySlabs.remove(slab)
            madvise(slab.pointee.base, Heap.slabSize, Int32(MADV_DONTNEED))
            slab.pointee.place = .clean
            state.pointee.cleanSlabs.add(slab)
            let chunk = Heap.records(of: slab)
            chunk.pointee.used -= 1
            if chunk.pointee.used == 0, state.pointee.chunks.count > 1 { freeChunk(chunk) }
            left -= 1
        }
    }

    /// A class whose current slab is empty does without one.
    private func dropIdle(_ of: UnsafeMutablePointer<SizeClass>) {
        let slab = of.pointee.current
        guard slab.pointee.place == .current, slab.pointee.used == 0 else { return }
        of.pointee.current = state.pointee.full + Int(slab.pointee.number)
        freed(slab)
    }

    private func freeChunk(_ chunk: UnsafeMutablePointer<Slab>) {
        let base = chunk.pointee.base
        for i in 1..<Heap.chunkSize / Heap.slabSize { state.pointee.cleanSlabs.remove(Heap.slab(of: base + i * Heap.slabSize)) }
        state.pointee.chunks.remove(chunk)
        munmap(base, Heap.chunkSize)
        chargePages(-4096)
    }
}

extension Heap.SlabList {
    mutating func add(_ slab: UnsafeMutablePointer<Heap.Slab>) {
        slab.pointee.previous = nil
        slab.pointee.next = first
        first?.pointee.previous = slab
        first = slab
        count += 1
    }

    mutating func remove(_ slab: UnsafeMutablePointer<Heap.Slab>) {
        if let previous = slab.pointee.previous { previous.pointee.next = slab.pointee.next } else { first = slab.pointee.next }
        slab.pointee.next?.pointee.previous = slab.pointee.previous
        count -= 1
    }
}
