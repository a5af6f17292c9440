import Glibc

// Moving blocks from sparse slabs to denser ones, so that the sparse ones can be given back.
extension Heap {
    /// Bytes of slabs that hold blocks, less the blocks.
    var waste: Int { held - usedInSlabs }

    /// Chooses the emptiest slabs of each class, so many that what they hold fits into the class's others. No block will be had from them
    /// until `endEvacuation`. O(slabs).
    /// - Returns: whether any were chosen.
    func beginEvacuation() -> Bool {
        for number in 0..<Heap.classCount { chooseSlabs(state.pointee.classes + number) }
        return state.pointee.evacuated.first != nil
    }

    private func chooseSlabs(_ of: UnsafeMutablePointer<SizeClass>) {
        let count = of.pointee.roomy.count
        guard count > 2 else { return }
        // How many slabs there are of each fullness, in 1/64.
        var counts = [Int](repeating: 0, count: 65)
        var used = 0
        func fullness(_ slab: UnsafeMutablePointer<Slab>) -> Int { Int(slab.pointee.used) * 64 / of.pointee.capacity }
        forEach(of.pointee.roomy) { slab in
            counts[fullness(slab)] += 1
            used += Int(slab.pointee.used)
        }
        let needed = (used + of.pointee.capacity - 1) / of.pointee.capacity
        var wanted = count - needed - 1
        guard wanted > count / 16 else { return }
        var limit = 0
        var below = 0
        while limit < 64, below + counts[limit] < wanted {
            below += counts[limit]
            limit += 1
        }
        forEach(of.pointee.roomy) { slab in
            guard wanted > 0, fullness(slab) <= limit else { return }
            wanted -= 1
            of.pointee.roomy.remove(slab)
            slab.pointee.place = .evacuated
            state.pointee.evacuated.add(slab)
        }
    }

    private func forEach(_ list: SlabList, _ visit: (UnsafeMutablePointer<Slab>) -> Void) {
        var slab = list.first
        while let s = slab {
            slab = s.pointee.next
            visit(s)
        }
    }

    /// Slabs that still hold something are used again.
    func endEvacuation() {
        forEach(state.pointee.evacuated) { slab in
            state.pointee.evacuated.remove(slab)
            slab.pointee.place = .roomy
            state.pointee.classes[Int(slab.pointee.number)].roomy.add(slab)
        }
    }

    /// A copy of a block that lies on a slab to be emptied; nil for one that may stay. The block is still to be freed.
    static func copyIfSparse(_ block: Pointer, _ size: Int) -> Pointer? {
        if size > slabMax { return nil }
        let slab = slab(of: block)
        guard slab.pointee.place == .evacuated else { return nil }
        let made = Heap(state: slab.pointee.heap).allocate(class: Int(slab.pointee.number))
        memcpy(made, block, Int(slab.pointee.size))
        return made
    }

    /// Moves a block that lies on a slab to be emptied.
    /// - Returns: where it is now; nil when it has stayed.
    static func moveIfSparse(_ block: Pointer, _ size: Int) -> Pointer? {
        guard let made = copyIfSparse(block, size) else { return nil }
        free(block, size)
        return made
    }
}
