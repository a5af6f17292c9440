import RESP

// Ranks, and going along the elements.
extension SortedTree {
    /// A place between the first element and the end; good until the tree changes.
    struct Cursor {
        var leaf: Leaf
        var index: Int

        @inline(__always) var element: SortedElement { SortedElement(leaf.elements[index]) }

        /// - Returns: false behind the last element.
        @inline(__always)
        mutating func advance() -> Bool {
            index &+= 1
            if index < leaf.count { return true }
            guard let next = leaf.next else { return false }
            leaf = next
            index = 0
            return true
        }

        /// - Returns: false in front of the first element.
        @inline(__always)
        mutating func retreat() -> Bool {
            if index > 0 {
                index &-= 1
                return true
            }
            guard let previous = leaf.previous else { return false }
            leaf = previous
            index = previous.count &- 1
            return true
        }
    }

    /// How many elements come before one that is in the tree. O(log n).
    func rank(of element: SortedElement) -> Int {
        withPath { path in
            let leaf = descend(element.score, element.member, path)
            var rank = leaf.index(of: element)
            for level in stride(from: 1, through: state.pointee.height, by: 1) {
                for i in 0..<path[level].index { rank += path[level].inner.counts[i] }
            }
            return rank
        }
    }

    /// The element of that rank, which must be there. O(log n).
    func select(_ rank: Int) -> Cursor {
        var rest = rank
        var node = state.pointee.root
        for _ in 0..<state.pointee.height {
            let inner = Inner(node)
            var i = 0
            while rest >= inner.counts[i] {
                rest -= inner.counts[i]
                i += 1
            }
            node = inner.children[i]
        }
        return Cursor(leaf: Leaf(node), index: rest)
    }

    /// How many elements `isBefore` holds for, which it does for a beginning of the order and for nothing behind it. O(log n).
    func countPrefix(_ isBefore: (_ score: Double, _ element: SortedElement) -> Bool) -> Int {
        var rank = 0
        var node = state.pointee.root
        func firstNotBefore(_ scores: UnsafeMutablePointer<Double>, _ elements: UnsafeMutablePointer<Pointer>, _ from: Int, _ to: Int) -> Int {
            var low = from
            var high = to
            while low < high {
                let middle = (low + high) / 2
                if isBefore(scores[middle], SortedElement(elements[middle])) { low = middle + 1 } else { high = middle }
            }
            return low
        }
        for _ in 0..<state.pointee.height {
            let inner = Inner(node)
            let child = firstNotBefore(inner.scores, inner.elements, 1, inner.count) - 1
            for i in 0..<child { rank += inner.counts[i] }
            node = inner.children[child]
        }
        let leaf = Leaf(node)
        return rank + firstNotBefore(leaf.scores, leaf.elements, 0, leaf.count)
    }
}

extension SortedTree {
    /// Goes along the elements from one end inwards, without looking at them.
    struct EndCursor {
        private var leaf: Leaf?
        private var index: Int
        private let isDescending: Bool

        init(lowestOf tree: SortedTree) {
            leaf = tree.state.pointee.first
            index = 0
            isDescending = false
        }

        init(highestOf tree: SortedTree) {
            leaf = tree.state.pointee.last
            index = tree.state.pointee.last.count - 1
            isDescending = true
        }

        /// The next element; nil behind the last. O(1).
        mutating func next() -> Pointer? {
            while let here = leaf {
                if isDescending ? index >= 0 : index < here.count {
                    defer { index += isDescending ? -1 : 1 }
                    return here.elements[index]
                }
                leaf = isDescending ? here.previous : here.next
                index = isDescending ? (leaf?.count ?? 0) - 1 : 0
            }
            return nil
        }
    }
}
