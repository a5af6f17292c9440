import Glibc

// Adding, removing and freeing.
extension IDTree {
    /// The inner nodes on the way to a leaf, from the lowest up, and which child was taken of each.
    private typealias Path = UnsafeMutablePointer<(inner: Inner, index: Int)>

    private func withPath<R>(_ id: StreamID, _ body: (Leaf, Path) -> R) -> R {
        withUnsafeTemporaryAllocation(of: (inner: Inner, index: Int).self, capacity: IDTree.levelsMax) { area in
            let path = area.baseAddress!
            var node = state.pointee.root!
            var level = state.pointee.height
            while level > 0 {
                level -= 1
                let inner = Inner(node)
                let index = inner.index(of: id)
                (path + level).initialize(to: (inner, index))
                node = inner.children[index]
            }
            return body(Leaf(node), path)
        }
    }

    // MARK: adding

    /// Adds a value whose ID is not there. O(log n).
    func insert(_ id: StreamID, _ value: Pointer) {
        state.pointee.count += 1
        guard state.pointee.root != nil else {
            let leaf = Leaf.make(heap, capacity: 1)
            leaf.insert(id, value, at: 0)
            state.pointee.root = leaf.base
            state.pointee.first = leaf.base
            state.pointee.last = leaf.base
            return
        }
        withPath(id) { leaf, path in
            let index = IDTree.lowerBound(leaf, id)
            if leaf.count < leaf.capacity {
                leaf.insert(id, value, at: index)
            } else if leaf.count < IDTree.leafMax {
                resize(leaf, capacity: min(IDTree.leafMax, leaf.count + max(1, leaf.count / 2)), path).insert(id, value, at: index)
            } else {
                split(leaf, id, value, at: index, path)
            }
        }
    }

    /// Moves a leaf into a block of another capacity.
    private func resize(_ leaf: Leaf, capacity: Int, _ path: Path) -> Leaf {
        let made = Leaf.make(heap, capacity: capacity)
        made.previous = leaf.previous
        made.next = leaf.next
        leaf.move(from: 0, to: made)
        if let previous = made.previous { previous.next = made } else { state.pointee.first = made.base }
        if let next = made.next { next.previous = made } else { state.pointee.last = made.base }
        if state.pointee.height == 0 { state.pointee.root = made.base } else { path[0].inner.children[path[0].index] = made.base }
        leaf.free()
        return made
    }

    private func split(_ leaf: Leaf, _ id: StreamID, _ value: Pointer, at index: Int, _ path: Path) {
        // What comes next will most likely go behind it too: the leaf stays full.
        let isAscending = index == leaf.count && leaf.next == nil
        let half = isAscending ? leaf.count : leaf.count / 2
        let right = Leaf.make(heap, capacity: isAscending ? 4 : IDTree.leafMax)
        right.previous = leaf
        right.next = leaf.next
        if let next = leaf.next { next.previous = right } else { state.pointee.last = right.base }
        leaf.next = right
        leaf.move(from: half, to: right)
        if index < half || (index == half && !isAscending) {
            leaf.insert(id, value, at: index)
        } else {
            right.insert(id, value, at: index - half)
        }
        insert(right.ids[0], right.base, isAscending, path)
    }

    /// Puts a new node behind the one on the way into the inner nodes, and what further splits make.
    private func insert(_ id: StreamID, _ child: Pointer, _ isAscending: Bool, _ path: Path) {
        var (id, child) = (id, child)
        for level in 0..<state.pointee.height {
            let (inner, index) = path[level]
            if inner.count < IDTree.innerMax { return inner.insert(id, child, at: index + 1) }
            let half = isAscending && index + 1 == inner.count ? inner.count : inner.count / 2
            let right = Inner.make(heap)
            // The ID that separates the two is that of the first child on the right.
            let separator = half == inner.count ? id : inner.ids[half]
            inner.move(from: half, to: right)
            if index + 1 <= half, half < IDTree.innerMax {
                inner.insert(id, child, at: index + 1)
            } else {
                right.insert(id, child, at: index + 1 - half)
            }
            (id, child) = (separator, right.base)
        }
        let root = Inner.make(heap)
        root.insert(.zero, state.pointee.root!, at: 0)
        root.insert(id, child, at: 1)
        state.pointee.root = root.base
        state.pointee.height += 1
        precondition(state.pointee.height < IDTree.levelsMax)
    }

    // MARK: removing

    /// Takes a value out. O(log n).
    /// - Returns: nil when it is not there.
    @discardableResult
    func remove(_ id: StreamID) -> Pointer? {
        guard state.pointee.root != nil else { return nil }
        return withPath(id) { leaf, path in
            let index = IDTree.lowerBound(leaf, id)
            guard index < leaf.count, leaf.ids[index] == id else { return nil }
            let value = leaf.values[index]
            leaf.remove(at: index)
            state.pointee.count -= 1
            if leaf.count == 0 {
                unlink(leaf)
                drop(level: 0, path)
            } else if leaf.count * 4 <= leaf.capacity {
                if !merge(leaf, path) { _ = resize(leaf, capacity: leaf.count * 2, path) }
            }
            return value
        }
    }

    /// Takes a leaf out of the row and frees it.
    private func unlink(_ leaf: Leaf) {
        if let previous = leaf.previous { previous.next = leaf.next } else { state.pointee.first = leaf.next?.base }
        if let next = leaf.next { next.previous = leaf.previous } else { state.pointee.last = leaf.previous?.base }
        leaf.free()
    }

    /// Takes the child on the way out of its parent; what is empty by that goes too.
    private func drop(level start: Int, _ path: Path) {
        var level = start
        while level < state.pointee.height {
            let (inner, index) = path[level]
            inner.remove(at: index)
            if inner.count > 0 {
                mend(level, path)
                return
            }
            inner.free()
            level += 1
        }
        state.pointee.root = nil
        state.pointee.height = 0
    }

    /// Merges an inner node that has become small with a neighbour; a root with one child goes.
    private func mend(_ level: Int, _ path: Path) {
        if level + 1 == state.pointee.height {
            while state.pointee.height > 0, Inner(state.pointee.root!).count == 1 {
                let root = Inner(state.pointee.root!)
                state.pointee.root = root.children[0]
                state.pointee.height -= 1
                root.free()
            }
            return
        }
        let inner = path[level].inner
        guard inner.count <= IDTree.innerMax / 4 else { return }
        let (parent, index) = path[level + 1]
        let left = index > 0 ? index - 1 : index
        guard left + 1 < parent.count else { return }
        let (a, b) = (Inner(parent.children[left]), Inner(parent.children[left + 1]))
        guard a.count + b.count <= IDTree.innerMergedMax else { return }
        // Inside the merged node the parent's ID is what separates the two halves.
        b.ids[0] = parent.ids[left + 1]
        b.move(from: 0, to: a)
        b.free()
        parent.remove(at: left + 1)
        mend(level + 1, path)
    }

    /// - Returns: whether the leaf could be merged with a neighbour of the same parent.
    private func merge(_ leaf: Leaf, _ path: Path) -> Bool {
        guard state.pointee.height > 0 else { return false }
        let (parent, index) = path[0]
        let left = index > 0 ? index - 1 : index
        guard left + 1 < parent.count else { return false }
        let (a, b) = (Leaf(parent.children[left]), Leaf(parent.children[left + 1]))
        let count = a.count + b.count
        guard count <= IDTree.leafMergedMax else { return false }
        let target: Leaf
        if a.capacity >= count {
            target = a
        } else {
            // The path leads to one of the two; the left one is what is moved.
            (path + 0).pointee.index = left
            target = resize(a, capacity: min(IDTree.leafMax, count + count / 2), path)
        }
        b.move(from: 0, to: target)
        unlink(b)
        parent.remove(at: left + 1)
        mend(0, path)
        return true
    }

    // MARK: freeing

    /// Frees a part of the tree, and at last all of it. From the first time on it is not to be used.
    /// - Parameter leaves: how many to free yet, counted down.
    /// - Returns: whether nothing is left.
    func release(_ leaves: inout Int, _ free: (Pointer) -> Void) -> Bool {
        while let base = state.pointee.first {
            if leaves <= 0 { return false }
            leaves -= 1
            let leaf = Leaf(base)
            for i in 0..<leaf.count { free(leaf.values[i]) }
            state.pointee.first = leaf.next?.base
            leaf.free()
        }
        // Inner nodes are few: one for each forty leaves or so.
        if let root = state.pointee.root { releaseInner(root, state.pointee.height) }
        state.pointee.root = nil
        state.pointee.height = 0
        state.pointee.last = nil
        state.pointee.count = 0
        return true
    }

    func release(_ free: (Pointer) -> Void) {
        var all = Int.max
        _ = release(&all, free)
    }

    private func releaseInner(_ node: Pointer, _ height: Int) {
        guard height > 0 else { return }
        let inner = Inner(node)
        if height > 1 { for i in 0..<inner.count { releaseInner(inner.children[i], height - 1) } }
        inner.free()
    }

    /// Bytes of the tree's own blocks, going by the first 64 leaves, and how many nodes there are.
    var extent: (bytes: Int, nodes: Int) {
        var (seen, values, bytes) = (0, 0, 0)
        var leaf = state.pointee.first.map { Leaf($0) }
        while let l = leaf, seen < 64 {
            seen += 1
            values += l.count
            bytes += l.memory
            leaf = l.next
        }
        guard seen > 0 else { return (0, 0) }
        let leaves = leaf == nil ? seen : count * seen / values
        let inner = state.pointee.height == 0 ? 0 : max(1, leaves / (IDTree.innerMax * 3 / 4))
        return (bytes / seen * leaves + inner * Inner.size, leaves + inner)
    }
}
