import Glibc
import RESP

/// Changes inside a list.
extension QuickList {
    // MARK: insert and replace

    /// Inserts before the element at `position`, or behind it. O(entries of one node).
    func insert(_ value: Argument, at position: ListPosition, after: Bool, _ limits: ListLimits) {
        var node = position.node
        // The node and the byte of it before which the new one goes.
        var offset = 0
        if !node.isPlain {
            offset = position.entry - node.bytes
            if after { offset += ListpackEntry.size(at: position.entry) }
        }
        let entry = ListpackEntry(value)
        let isLong = value.count > limits.packedMax
        if !isLong, !node.isPlain, node.used + entry.size <= limits.bytes, node.count < limits.count {
            entry.write(to: open(&node, at: offset, entry.size))
            node.count += 1
            state.pointee.count += 1
            return
        }
        // The new one goes between two nodes; these are made of one where it must be.
        let left: ListNode?
        let right: ListNode?
        if node.isPlain ? after : offset == node.end {
            left = node
            right = node.next
        } else if node.isPlain || offset == node.start {
            left = node.previous
            right = node
        } else {
            right = split(node, at: offset)
            left = node
        }
        state.pointee.count += 1
        if isLong { return link(ListNode.plain(heap, value), between: left, and: right) }
        if var left, !left.isPlain, left.used + entry.size <= limits.bytes, left.count < limits.count {
            entry.write(to: open(&left, at: left.end, entry.size))
            left.count += 1
        } else if var right, !right.isPlain, right.used + entry.size <= limits.bytes, right.count < limits.count {
            entry.write(to: open(&right, at: right.start, entry.size))
            right.count += 1
        } else {
            let made = ListNode.packed(heap, capacity: entry.size, pushingAt: .tail)
            entry.write(to: made.bytes)
            made.end = entry.size
            made.count = 1
            link(made, between: left, and: right)
        }
    }

    /// Puts another value in the place of an element that exists. O(nodes + entries of one node).
    func replace(at index: Int, with value: Argument, _ limits: ListLimits) {
        let old = position(index)!
        let entry = ListpackEntry(value)
        if !old.node.isPlain, value.count <= limits.packedMax, entry.size == ListpackEntry.size(at: old.entry) {
            return entry.write(to: old.entry)
        }
        insert(value, at: old, after: false, limits)
        remove(position((index < 0 ? index + count - 1 : index) + 1)!)
    }

    /// Opens a gap of `size` bytes at byte `offset` of the node, in a larger block if it must be. The gap counts as used.
    /// - Returns: where it is.
    private func open(_ node: inout ListNode, at offset: Int, _ size: Int) -> UnsafeMutableRawPointer {
        var offset = offset
        if node.capacity - node.used < size {
            let start = node.start
            node = move(node, capacity: max(node.used + size, min(node.capacity * 2, 1 << 13)), start: 0)
            offset -= start
        }
        if node.capacity - node.end >= size {
            memmove(node.bytes + offset + size, node.bytes + offset, node.end - offset)
            node.end += size
            return node.bytes + offset
        }
        if node.start >= size {
            memmove(node.bytes + node.start - size, node.bytes + node.start, offset - node.start)
            node.start -= size
            return node.bytes + offset - size
        }
        // Both ends together have room.
        let used = node.used
        let before = offset - node.start
        memmove(node.bytes, node.bytes + node.start, used)
        memmove(node.bytes + before + size, node.bytes + before, used - before)
        node.start = 0
        node.end = used + size
        return node.bytes + before
    }

    /// Moves the entries from byte `offset` on into a node of their own behind this one.
    private func split(_ node: ListNode, at offset: Int) -> ListNode {
        let size = node.end - offset
        let made = ListNode.packed(heap, capacity: size, pushingAt: .tail)
        memcpy(made.bytes, node.bytes + offset, size)
        made.end = size
        var before = 0
        var p = node.bytes + node.start
        while p < node.bytes + offset {
            p += ListpackEntry.size(at: p)
            before += 1
        }
        made.count = node.count - before
        node.end = offset
        node.count = before
        link(made, between: node, and: node.next)
        return made
    }

    // MARK: remove

    /// Removes an element. O(entries of one node).
    /// - Returns: its neighbours, where they are now.
    @discardableResult
    func remove(_ position: ListPosition) -> (previous: ListPosition?, next: ListPosition?) {
        let node = position.node
        state.pointee.count -= 1
        if node.count == 1 {
            let previous = node.previous.map { ListPosition(node: $0, entry: $0.lastEntry) }
            let next = node.next.map { ListPosition(node: $0, entry: $0.firstEntry) }
            unlink(node)
            return (previous, next)
        }
        let boundary = close(node, at: position.entry - node.bytes, ListpackEntry.size(at: position.entry), count: 1)
        let previous = boundary > node.start
            ? ListPosition(node: node, entry: node.bytes + boundary - ListpackEntry.size(before: node.bytes + boundary))
            : node.previous.map { ListPosition(node: $0, entry: $0.lastEntry) }
        let next = boundary < node.end
            ? ListPosition(node: node, entry: node.bytes + boundary) : node.next.map { ListPosition(node: $0, entry: $0.firstEntry) }
        return (previous, next)
    }

    /// Removes `count` entries of `size` bytes together at byte `offset` of a node that keeps others.
    /// - Returns: the byte at which the entry behind them is now.
    private func close(_ node: ListNode, at offset: Int, _ size: Int, count: Int) -> Int {
        node.count -= count
        let before = offset - node.start
        let behind = node.end - offset - size
        if before < behind {
            memmove(node.bytes + node.start + size, node.bytes + node.start, before)
            node.start += size
            return offset + size
        }
        memmove(node.bytes + offset, node.bytes + offset + size, behind)
        node.end -= size
        return offset
    }

    /// Removes `count` elements that exist, from index `first` on. O(nodes + entries of two nodes).
    func removeRange(from first: Int, count: Int) {
        guard count > 0, let begin = position(first) else { return }
        var left = count
        state.pointee.count -= count
        var node: ListNode? = begin.node
        var p = begin.entry
        while left > 0, let n = node {
            let next = n.next
            if n.isPlain || (p == n.firstEntry && n.count <= left) {
                left -= n.count
                unlink(n)
            } else {
                var end = p
                var removed = 0
                while removed < left, end < n.bytes + n.end {
                    end += ListpackEntry.size(at: end)
                    removed += 1
                }
                _ = close(n, at: p - n.bytes, end - p, count: removed)
                left -= removed
            }
            node = next
            if let next { p = next.firstEntry }
        }
    }

    /// Removes elements equal to the value.
    /// - Parameter limit: at most so many, 0 for all; counted from the tail when negative.
    /// - Returns: how many were removed. O(n).
    func removeAll(_ value: Argument, limit: Int, _ limits: ListLimits) -> Int {
        let number = value.count <= 20 ? value.integer : nil
        let isBackwards = limit < 0
        var left = limit == 0 ? Int.max : Int(clamping: limit.magnitude)
        var removed = 0
        var position = position(isBackwards ? .tail : .head)
        while left > 0, let here = position {
            if here.value.equals(value, number: number) {
                let neighbours = remove(here)
                position = isBackwards ? neighbours.previous : neighbours.next
                removed += 1
                left -= 1
            } else {
                position = isBackwards ? here.previous : here.next
            }
        }
        if removed > 0 { mergeSmallNodes(limits) }
        return removed
    }

    /// Makes one node of neighbours that together fill at most half of one. O(nodes).
    private func mergeSmallNodes(_ limits: ListLimits) {
        var node = head
        while let n = node {
            if let next = n.next, !n.isPlain, !next.isPlain, n.used + next.used <= limits.bytes / 2, n.count + next.count <= limits.count {
                var merged = n
                let size = next.used
                let place = open(&merged, at: merged.end, size)
                memcpy(place, next.bytes + next.start, size)
                merged.count += next.count
                unlink(next)
                node = merged
            } else {
                node = n.next
            }
        }
    }
}
