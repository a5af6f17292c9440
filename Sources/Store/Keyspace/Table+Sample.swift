extension Table {
    /// Visits at least `wanted` elements, whole buckets of them in a row from a random one on: nearly independent draws for the price of
    /// one or two cache lines, because what shares a bucket has nothing else in common.
    ///
    /// Fewer come from a table that has fewer, or that is nearly empty for its size. Expected O(wanted).
    func sample(_ bits: UInt64, atLeast wanted: Int, _ visit: (Pointer) -> Void) {
        guard count > 0 else { return }
        let main = state.pointee.main
        let next = state.pointee.next
        // While resizing, nothing is left in the buckets that have been moved.
        let moved = Swift.max(0, state.pointee.moved)
        let left = main.count - moved
        let total = left + next.count
        var index = Int(truncatingIfNeeded: UInt64(total).multipliedFullWidth(by: bits).high)
        var found = 0
        for _ in 0..<Swift.min(total, wanted * 32) {
            let bucket = index < left ? main.buckets.unsafelyUnwrapped + (moved + index) * 64 : next.buckets.unsafelyUnwrapped + (index - left) * 64
            Table.forEach(inChain: bucket) { element in
                found += 1
                visit(element)
            }
            if found >= wanted { return }
            index = index + 1 == total ? 0 : index + 1
        }
        if found == 0 { randomPosition(bits).map { visit($0.element) } }
    }

    /// Finds an element by its hash alone. O(1).
    func find(hash: UInt64) -> Position? {
        for (array, isNext) in [(state.pointee.main, false), (state.pointee.next, true)] where array.used > 0 {
            var bucket = Table.bucket(array, Int(truncatingIfNeeded: hash))
            while true {
                let head = bucket.load(as: UInt64.self)
                let isChained = head & 0x80 != 0
                for index in 0..<(isChained ? 6 : 7)
                where head >> UInt64(index) & 1 != 0 && UInt8(truncatingIfNeeded: head >> UInt64(8 + index * 8)) == UInt8(truncatingIfNeeded: hash >> 56) {
                    let position = Position(bucket: bucket, index: index, isInNext: isNext)
                    if self.hash(Element.key(of: position.element)) == hash { return position }
                }
                if !isChained { break }
                bucket = bucket.load(fromByteOffset: 56, as: Pointer.self)
            }
        }
        return nil
    }
}
