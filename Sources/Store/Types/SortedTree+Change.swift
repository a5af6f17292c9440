import Glibc
import RESP

// Adding and removing elements.
extension SortedTree {
    /// Adds an element that is not in the tree. O(log n).
    func insert(_ element: SortedElement) {
        withPath { path in
            let score = element.score
            let member = element.member
            var leaf = descend(score, member, path)
            let index = SortedTree.lowerBound(leaf.scores, leaf.elements, 0, leaf.count, score, member)
            state.pointee.count &+= 1
            if leaf.count < SortedTree.leafMax {
                if leaf.count == leaf.capacity { leaf = move(leaf, path) }
                leaf.insert(score, element.base, at: index)
                count(path, from: 1, 1)
            } else {
                split(leaf, score, element.base, at: index, path)
            }
        }
    }

    /// Adds to the count of every subtree on the way, from a level upwards.
    @inline(__always)
    private func count(_ path: Path, from level: Int, _ change: Int) {
        var level = level
        while level <= state.pointee.height {
            path[level].inner.counts[path[level].index] &+= change
            level &+= 1
        }
    }

    /// Moves a leaf into a block with a little more room than its elements need.
    /// - Parameter more: elements that will be added at once.
    @inline(never)
    private func move(_ leaf: Leaf, more: Int = 0, _ path: Path) -> Leaf {
        state.pointee.height == 0
            ? move(leaf, more: more, slot: &state.pointee.root) : move(leaf, more: more, slot: path[1].inner.children + path[1].index)
    }

    private func move(_ leaf: Leaf, more: Int, slot: UnsafeMutablePointer<Pointer>) -> Leaf {
        let made = Leaf.make(heap, capacity: Swift.min(SortedTree.leafMax, leaf.count + more + SortedTree.leafSpare))
        made.previous = leaf.previous
        made.next = leaf.next
        leaf.move(from: 0, to: made)
        if let previous = made.previous { previous.next = made } else { state.pointee.first = made }
        if let next = made.next { next.previous = made } else { state.pointee.last = made }
        slot.pointee = made.base
        leaf.free()
        return made
    }

    private func split(_ full: Leaf, _ score: Double, _ element: Pointer, at index: Int, _ path: Path) {
        var leaf = full
        let isAscending = index == leaf.count && leaf.next == nil
        let half = leaf.count / 2
        let right = Leaf.make(heap, capacity: (isAscending ? 1 : leaf.count - half) + SortedTree.leafSpare)
        right.previous = leaf
        right.next = leaf.next
        if let next = leaf.next { next.previous = right } else { state.pointee.last = right }
        leaf.next = right
        if isAscending {
            // What comes next will most likely go behind it too: the leaf stays full.
            right.insert(score, element, at: 0)
        } else {
            leaf.move(from: half, to: right)
            leaf = move(leaf, path)
            if index <= half { leaf.insert(score, element, at: index) } else { right.insert(score, element, at: index - half) }
        }
        insert(NewNode(base: right.base, score: right.scores[0], element: right.elements[0], count: right.count), isAscending, path)
    }

    /// Puts a new leaf, and what further splits make, into the inner nodes on the way.
    private func insert(_ leaf: NewNode, _ isAscending: Bool, _ path: Path) {
        var node = leaf
        var level = 1
        while level <= state.pointee.height {
            let inner = path[level].inner
            let index = path[level].index
            inner.counts[index] += 1 - node.count
            if inner.count < SortedTree.innerMax {
                inner.insert(node, at: index + 1)
                count(path, from: level + 1, 1)
                return
            }
            node = split(inner, node, at: index + 1, isAscending)
            level += 1
        }
        let root = Inner.make(heap)
        let old = NewNode(base: state.pointee.root, score: 0, element: node.element, count: state.pointee.count - node.count)
        root.insert(old, at: 0)
        root.insert(node, at: 1)
        state.pointee.root = root.base
        state.pointee.height += 1
        precondition(state.pointee.height < SortedTree.levelsMax)
    }

    private func split(_ inner: Inner, _ node: NewNode, at index: Int, _ isAscending: Bool) -> NewNode {
        let right = Inner.make(heap)
        if isAscending {
            right.insert(node, at: 0)
            return NewNode(base: right.base, score: node.score, element: node.element, count: node.count)
        }
        let half = inner.count / 2
        let score = inner.scores[half]
        let element = inner.elements[half]
        inner.move(from: half, to: right)
        if index <= half { inner.insert(node, at: index) } else { right.insert(node, at: index - half) }
        return NewNode(base: right.base, score: score, element: element, count: right.total)
    }

    /// Takes an element out that is in the tree; it is the caller's to free. O(log n).
    func remove(_ element: SortedElement) {
        withPath { path in
            let leaf = descend(element.score, element.member, path)
            remove(leaf, leaf.index(of: element), path)
        }
    }

    /// Puts a copy of an element where the element is. O(log n).
    func replace(_ element: SortedElement, with copy: SortedElement) {
        withPath { path in
            let leaf = descend(element.score, element.member, path)
            leaf.elements[leaf.index(of: element)] = copy.base
            var level = 1
            while level <= state.pointee.height {
                let step = path[level]
                if step.index > 0, step.inner.elements[step.index] == element.base { step.inner.elements[step.index] = copy.base }
                level += 1
            }
        }
    }

    /// Gives an element another score. O(log n); cheaper when it stays within its leaf.
    func update(_ element: SortedElement, score: Double) {
        withPath { path in
            let member = element.member
            let leaf = descend(element.score, member, path)
            let n = leaf.count
            let index = leaf.index(of: element)
            let isInside = leaf.scores[0] < score && score < leaf.scores[n &- 1]
            if isInside, index > 0 {
                leaf.remove(at: index)
                let place = SortedTree.lowerBound(leaf.scores, leaf.elements, 0, n &- 1, score, member)
                leaf.insert(score, element.base, at: place)
                element.score = score
                return
            }
            remove(leaf, index, path)
            element.score = score
            insert(element)
        }
    }

    private func remove(_ leaf: Leaf, _ index: Int, _ path: Path) {
        leaf.remove(at: index)
        state.pointee.count &-= 1
        count(path, from: 1, -1)
        if leaf.count == 0 {
            if state.pointee.height > 0 { removeEmpty(leaf, path) }
        } else {
            if index == 0 { separate(path, above: 1, leaf.scores[0], leaf.elements[0]) }
            let isSmall = leaf.count <= SortedTree.leafMax / 4 && state.pointee.height > 0
            if !(isSmall && mergeLeaf(path)), leaf.capacity >= leaf.count + 2 * SortedTree.leafSpare { _ = move(leaf, path) }
        }
    }

    /// Renews the separator in front of the subtree on the way whose first element has changed, if it has one.
    private func separate(_ path: Path, above level: Int, _ score: Double, _ element: Pointer) {
        var level = level
        while level <= state.pointee.height {
            let step = path[level]
            if step.index > 0 {
                step.inner.scores[step.index] = score
                step.inner.elements[step.index] = element
                return
            }
            level &+= 1
        }
    }

    private func unlink(_ leaf: Leaf) {
        if let previous = leaf.previous { previous.next = leaf.next } else { state.pointee.first = leaf.next! }
        if let next = leaf.next { next.previous = leaf.previous } else { state.pointee.last = leaf.previous! }
        leaf.free()
    }

    private func removeEmpty(_ leaf: Leaf, _ path: Path) {
        unlink(leaf)
        removeChild(path, level: 1, at: path[1].index)
    }

    /// Takes a child without elements, already freed, out of its node, and the node too when it was the last.
    private func removeChild(_ path: Path, level: Int, at index: Int) {
        let inner = path[level].inner
        inner.remove(at: index)
        if inner.count == 0 {
            inner.free()
            // The tree holds something still, so that a node above has further children.
            removeChild(path, level: level + 1, at: path[level + 1].index)
            return
        }
        // What is first in the node now lies behind what separated it from the child that is gone.
        if index == 0 { separate(path, above: level + 1, inner.scores[0], inner.elements[0]) }
        shrink(path, level)
    }

    /// An inner node has lost a child: merges it with a neighbour, or drops a root that leads to one node only.
    private func shrink(_ path: Path, _ level: Int) {
        let inner = path[level].inner
        if level == state.pointee.height {
            if inner.count == 1 {
                state.pointee.root = inner.children[0]
                state.pointee.height -= 1
                inner.free()
                if state.pointee.height > 0, Inner(state.pointee.root).count == 1 {
                    path[level - 1] = Step(inner: Inner(state.pointee.root), index: 0)
                    shrink(path, level - 1)
                }
            }
            return
        }
        guard inner.count <= SortedTree.innerMax / 4 else { return }
        let parent = path[level + 1].inner
        let index = path[level + 1].index
        let left = index > 0 && Inner(parent.children[index - 1]).count + inner.count <= SortedTree.innerMergedMax ? index - 1 : index
        guard left + 1 < parent.count else { return }
        let a = Inner(parent.children[left])
        let b = Inner(parent.children[left + 1])
        guard a.count + b.count <= SortedTree.innerMergedMax else { return }
        b.scores[0] = parent.scores[left + 1]
        b.elements[0] = parent.elements[left + 1]
        b.move(from: 0, to: a)
        b.free()
        parent.counts[left] += parent.counts[left + 1]
        parent.remove(at: left + 1)
        shrink(path, level + 1)
    }

    /// - Returns: whether the leaf was merged with a neighbour.
    private func mergeLeaf(_ path: Path) -> Bool {
        let parent = path[1].inner
        let index = path[1].index
        let count = Leaf(parent.children[index]).count
        let left = index > 0 && Leaf(parent.children[index - 1]).count + count <= SortedTree.leafMergedMax ? index - 1 : index
        guard left + 1 < parent.count else { return false }
        var a = Leaf(parent.children[left])
        let b = Leaf(parent.children[left + 1])
        guard a.count + b.count <= SortedTree.leafMergedMax else { return false }
        if a.capacity < a.count + b.count { a = move(a, more: b.count, slot: parent.children + left) }
        b.move(from: 0, to: a)
        unlink(b)
        parent.counts[left] += parent.counts[left + 1]
        parent.remove(at: left + 1)
        shrink(path, 1)
        return true
    }
}
