import CLinux
import Glibc

// Growing and shrinking.
extension Table {
    /// Elements for each bucket beyond which the table grows, in 1/64: five and a half of seven.
    static var fullest: Int { 350 }

    private static func most(_ buckets: UInt64) -> Int { Int(buckets) * fullest / 64 }

    @inline(never)
    func grow() {
        // A table that grows faster than it is moved finishes moving first.
        finishResizing()
        let count = state.pointee.main.count
        resize(to: count < 16 ? max(1, count * 2) : count + count / 4)
    }

    @inline(never)
    func shrink() {
        let count = UInt64(max(1, state.pointee.used * 80 / Table.fullest))
        if count < state.pointee.main.count { resize(to: count) }
    }

    /// Makes room for `expected` elements at once, for loading.
    func reserve(_ expected: Int) {
        guard state.pointee.used == 0 else { return }
        finishResizing()
        let count = UInt64(expected * 64 / Table.fullest + 1)
        if count > state.pointee.main.count { resize(to: count) }
    }

    private func resize(to count: UInt64) {
        precondition(count < 1 << 32, "a table has at most 2^32 buckets")
        guard let buckets = heap.allocateArray(Int(count) * 64) else {
            // The buckets become fuller than they should be until there is memory again.
            state.pointee.most += max(1024, state.pointee.most / 16)
            return
        }
        let array = Array(buckets: buckets, count: count)
        state.pointee.most = Table.most(count)
        // A table of a few buckets stays.
        state.pointee.least = count <= 4 ? 0 : state.pointee.most * 2 / 5
        if state.pointee.used == 0 {
            // Not a bucket has a further one: what has none of its elements is tidied away.
            let old = state.pointee.main
            if let buckets = old.buckets {
                charge(old, from: old.count, to: 0)
                heap.freeArray(buckets, Int(old.count) * 64)
            }
            state.pointee.main = array
            charge(array, from: 0, to: count)
            return
        }
        state.pointee.next = array
        state.pointee.moved = 0
    }

    /// Moves a bounded number of buckets to the new array.
    @inline(never)
    func step(_ buckets: Int = 1) {
        var left = buckets
        while left > 0, isResizing {
            moveBucket()
            left &-= 1
        }
    }

    func finishResizing() {
        while isResizing { moveBucket() }
    }

    private func moveBucket() {
        let main = state.pointee.main
        let next = state.pointee.next
        let index = state.pointee.moved
        let firstPlace = Table.firstPlace(index, main.count)
        let first = main.buckets.unsafelyUnwrapped + Int(truncatingIfNeeded: index) &* 64
        var bucket = first
        while true {
            let presence = bucket.load(as: UInt8.self)
            let isChained = presence & 0x80 != 0
            var held = presence & (isChained ? 0x3F : 0x7F)
            while held != 0 {
                let position = held.trailingZeroBitCount
                held &= held &- 1
                let slot = Slot(bucket, position)
                let tag = bucket.load(fromByteOffset: 1 &+ position, as: UInt8.self)
                let place = place(of: slot, tag, firstPlace, main.count)
                self.place(slot, tag, from: next.buckets.unsafelyUnwrapped + Int(truncatingIfNeeded: Table.index(place, next.count)) &* 64)
            }
            let child = isChained ? Slot(bucket, 6).pointer : nil
            if bucket != first {
                Heap.free(bucket, 64)
                state.pointee.further &-= 1
            }
            guard let child else { break }
            bucket = child
        }
        state.pointee.moved = index &+ 1
        if index & 4095 == 4095 || index &+ 1 == main.count {
            leave(main, upTo: index + 1)
            let entered = Table.filled(next, movedUpTo: index & ~4095, of: main)
            charge(next, from: entered, to: index &+ 1 == main.count ? next.count : Table.filled(next, movedUpTo: index + 1, of: main))
        }
        if index &+ 1 == main.count { dropMain() }
    }

    /// The place of what is in a bucket of an array of `count`.
    @inline(__always)
    func place(of slot: Slot, _ tag: UInt8, _ firstPlace: UInt64, _ count: UInt64) -> UInt64 {
        // In fewer buckets than that the upper bits do not follow from the bucket.
        count >= 256 ? firstPlace &+ (slot.place(tag) &- firstPlace) & 0xFF_FFFF : hash(Element.key(of: slot.pointer)) >> 32
    }

    /// The array that has been left goes, and the next one takes its place.
    private func dropMain() {
        heap.freeArray(state.pointee.main.buckets.unsafelyUnwrapped, Int(state.pointee.main.count) * 64)
        state.pointee.main = state.pointee.next
        state.pointee.next = Array()
        state.pointee.moved = 0
    }

    /// Buckets of the arrays that there is memory for.
    var arrayBuckets: Int {
        let main = state.pointee.main
        let next = state.pointee.next
        let left = isPaged(main) ? main.count - state.pointee.moved & ~4095 : main.count
        return Int(left + (isPaged(next) ? filledOfNext : next.count))
    }

    /// Whether the array has pages of its own, which come and go with its parts.
    private func isPaged(_ array: Array) -> Bool { Int(array.count) * 64 >= Heap.pagesMin }

    /// How many buckets of the next array can hold something.
    var filledOfNext: UInt64 {
        isResizing ? Table.filled(state.pointee.next, movedUpTo: state.pointee.moved, of: state.pointee.main) : 0
    }

    private static func filled(_ next: Array, movedUpTo moved: UInt64, of main: Array) -> UInt64 {
        moved == 0 ? 0 : index(firstPlace(moved, main.count) &- 1, next.count) &+ 1
    }

    // MARK: pages

    /// Gives pages back of buckets that are not needed any more. Comes after each 4096 of them, and after the last.
    private func leave(_ array: Array, upTo index: UInt64) {
        guard isPaged(array) else { return }
        let before = (index - 1) & ~4095
        madvise(array.buckets! + Int(before) * 64, Int(index - before) * 64, Int32(MADV_DONTNEED))
        charge(array, from: index, to: before)
    }

    /// Counts the buckets of an array with pages of its own; backwards when the range is.
    private func charge(_ array: Array, from: UInt64, to: UInt64) {
        if isPaged(array) { heap.chargePages((Int(to) - Int(from)) * 64) }
    }

    // MARK: the end

    /// Comes before `release`: from now on the table is not to be used.
    func beginRelease() {
        guard isResizing else { return }
        let entered = Table.filled(state.pointee.next, movedUpTo: state.pointee.moved & ~4095, of: state.pointee.main)
        charge(state.pointee.next, from: entered, to: state.pointee.next.count)
    }

    /// Frees a part of the table, and at last the table itself.
    /// - Parameters:
    ///   - buckets: how many to free yet, counted down.
    ///   - visit: is handed each element before its bucket goes.
    /// - Returns: whether nothing is left.
    func release(_ buckets: inout Int, _ visit: (Pointer) -> Void) -> Bool {
        while let first = state.pointee.main.buckets {
            let main = state.pointee.main
            while state.pointee.moved < main.count {
                if buckets <= 0 { return false }
                buckets -= 1
                let bucket = first + Int(state.pointee.moved) * 64
                Table.forEach(inChain: bucket, visit)
                Table.releaseChain(bucket)
                state.pointee.moved += 1
                if state.pointee.moved & 4095 == 0 || state.pointee.moved == main.count { leave(main, upTo: state.pointee.moved) }
            }
            dropMain()
        }
        Heap.free(pointer, MemoryLayout<State>.size)
        return true
    }

    private static func releaseChain(_ first: Pointer) {
        var bucket = first
        while true {
            let next = bucket.load(as: UInt8.self) & 0x80 != 0 ? Slot(bucket, 6).pointer : nil
            if bucket != first { Heap.free(bucket, 64) }
            guard let next else { return }
            bucket = next
        }
    }
}
