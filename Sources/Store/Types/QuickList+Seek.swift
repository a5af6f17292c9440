import RESP

/// An element of a list: its node and where in it. Good until the list changes.
struct ListPosition {
    let node: ListNode
    let entry: UnsafeMutableRawPointer

    @inline(__always) var value: ListpackValue { node.value(at: entry) }

    @inline(__always) var next: ListPosition? {
        if !node.isPlain {
            let next = entry + ListpackEntry.size(at: entry)
            if next < node.bytes + node.end { return ListPosition(node: node, entry: next) }
        }
        return node.next.map { ListPosition(node: $0, entry: $0.firstEntry) }
    }

    @inline(__always) var previous: ListPosition? {
        if !node.isPlain, entry > node.bytes + node.start {
            return ListPosition(node: node, entry: entry - ListpackEntry.size(before: entry))
        }
        return node.previous.map { ListPosition(node: $0, entry: $0.lastEntry) }
    }
}

extension QuickList {
    /// The first or last element.
    func position(_ end: ListEnd) -> ListPosition? {
        end == .head
            ? head.map { ListPosition(node: $0, entry: $0.firstEntry) } : tail.map { ListPosition(node: $0, entry: $0.lastEntry) }
    }

    /// The element of that index, counted from the tail when negative. O(nodes + entries of one node).
    func position(_ index: Int) -> ListPosition? {
        var index = index
        if index < 0 { index += count }
        guard index >= 0, index < count else { return nil }
        if index < count / 2 {
            var node = head!
            while index >= node.count {
                index -= node.count
                node = node.next!
            }
            return ListPosition(node: node, entry: node.seek(index))
        }
        var node = tail!
        var before = count - node.count
        while index < before {
            node = node.previous!
            before -= node.count
        }
        return ListPosition(node: node, entry: node.seek(index - before))
    }

    /// Visits `count` elements that exist, from index `first` on, towards the tail. O(first + count).
    @inline(__always)
    func forEach(from first: Int, count: Int, _ visit: (ListpackValue) -> Void) {
        guard count > 0, let begin = position(first) else { return }
        var left = count
        var node = begin.node
        var p = begin.entry
        while true {
            if node.isPlain {
                visit(node.plainValue)
                left &-= 1
            } else {
                let limit = node.bytes + node.end
                while p < limit, left > 0 {
                    visit(ListpackEntry.value(at: p))
                    p += ListpackEntry.size(at: p)
                    left &-= 1
                }
            }
            guard left > 0, let next = node.next else { return }
            node = next
            p = node.firstEntry
        }
    }

    /// Visits every element from head to tail. O(n).
    func forEach(_ visit: (ListpackValue) -> Void) { forEach(from: 0, count: count, visit) }
}
