import RESP

// Finding entries and going through them.
extension Stream {
    typealias Item = (node: IDTree.Place, entry: StreamNode.Entry)

    /// The entry of that ID. O(log n + size of a node).
    func find(_ id: StreamID) -> Item? {
        guard let place = nodes.last(upTo: id) else { return nil }
        let node = StreamNode(place)
        var entry = node.first
        while let e = entry {
            if e.id == id, !e.isDeleted { return (place, e) }
            entry = node.next(e)
        }
        return nil
    }

    /// The first entry. O(size of a node).
    var first: StreamNode.Entry? {
        var found: StreamNode.Entry?
        forEach(from: .zero, to: .max) {
            found = $0
            return false
        }
        return found
    }

    var last: StreamNode.Entry? {
        var found: StreamNode.Entry?
        forEachReversed(from: .max, to: .zero) {
            found = $0
            return false
        }
        return found
    }

    /// Visits the entries whose IDs lie in a range, ends included, until the visitor says false. O(log n + entries).
    @inline(__always)
    func forEach(from start: StreamID, to end: StreamID, _ visit: (StreamNode.Entry) -> Bool) {
        var place = nodes.last(upTo: start) ?? nodes.first
        while let p = place {
            if p.id > end { return }
            let node = StreamNode(p)
            var entry = node.first
            while let e = entry {
                if !e.isDeleted, e.id >= start {
                    if e.id > end { return }
                    if !visit(e) { return }
                }
                entry = node.next(e)
            }
            place = p.next
        }
    }

    /// The same from the highest ID to the lowest.
    @inline(__always)
    func forEachReversed(from start: StreamID, to end: StreamID, _ visit: (StreamNode.Entry) -> Bool) {
        var place = nodes.last(upTo: start)
        while let p = place {
            let node = StreamNode(p)
            var entry = node.last
            while let e = entry {
                if !e.isDeleted, e.id <= start {
                    if e.id < end { return }
                    if !visit(e) { return }
                }
                entry = node.previous(e)
            }
            place = p.previous
        }
    }

    /// How many entries there are in a range, `most` at most. O(log n + nodes + size of a node).
    func count(from start: StreamID, to end: StreamID, most: Int) -> Int {
        var count = 0
        var place = nodes.last(upTo: start) ?? nodes.first
        while let p = place, count < most, p.id <= end {
            let node = StreamNode(p)
            let next = p.next
            if p.id >= start, let next, next.id <= end {
                count += node.count
            } else {
                var entry = node.first
                while let e = entry, count < most {
                    if !e.isDeleted, e.id >= start, e.id <= end { count += 1 }
                    entry = node.next(e)
                }
            }
            place = next
        }
        return min(count, most)
    }

    /// The ID of the last of so many entries behind an ID. O(log n + entries).
    func id(behind id: StreamID, entries: Int) -> StreamID {
        guard let start = id.next else { return id }
        var last = id
        var left = entries
        forEach(from: start, to: .max) { entry in
            last = entry.id
            left -= 1
            return left > 0
        }
        return last
    }

    // MARK: what groups need to know

    /// Whether an entry from this ID on was removed by XDEL, as far as that is known: what a group has read cannot be counted then.
    func hasGaps(from id: StreamID) -> Bool {
        guard count > 0, state.pointee.maxDeletedID != .zero, state.pointee.maxDeletedID >= state.pointee.firstID else { return false }
        return id <= state.pointee.maxDeletedID
    }

    /// How many entries had been added up to an ID, that one included; nil when it cannot be told.
    func entriesAdded(upTo id: StreamID) -> Int64? {
        let s = state.pointee
        let added = Int64(truncatingIfNeeded: s.entriesAdded)
        if added == 0 { return 0 }
        if s.count == 0, id <= s.lastID { return added }
        if id == s.lastID { return added }
        if id > s.lastID { return nil }
        if s.maxDeletedID == .zero || s.maxDeletedID < s.firstID {
            if id < s.firstID { return added &- Int64(s.count) }
            if id == s.firstID { return added &- Int64(s.count) &+ 1 }
        }
        return nil
    }
}
