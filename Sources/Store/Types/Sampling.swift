import RESP

/// Choosing several elements of a collection at once, for HRANDFIELD, SRANDMEMBER and ZRANDMEMBER.
extension Array {
    /// Moves `count` elements, chosen with the same chance and in random order, to the front. O(count).
    mutating func shuffleFront(_ count: Int, using generator: inout FastRandom) {
        for i in 0..<Swift.min(count, self.count) {
            swapAt(i, Int.random(in: i..<self.count, using: &generator))
        }
    }
}

extension Table {
    /// `count` different elements, each with the same chance; all when there are not more. O(count), or O(n) when that is most of them.
    func sample(_ count: Int, using generator: inout FastRandom) -> [Pointer] {
        if count * 3 >= self.count {
            var all: [Pointer] = []
            all.reserveCapacity(self.count)
            forEach { all.append($0) }
            all.shuffleFront(count, using: &generator)
            return Swift.Array(all.prefix(count))
        }
        var chosen: Set<Pointer> = []
        while chosen.count < count { chosen.insert(random(using: &generator)!) }
        return Swift.Array(chosen)
    }
}

extension StoreServer {
    /// A step of HSCAN, SSCAN or ZSCAN through a table: the next cursor and the elements found.
    func scanTable<Element>(_ table: Table<Element>, _ cursor: UInt64, _ options: ScanOptions) -> (UInt64, [UnsafeMutableRawPointer]) {
        var found: [UnsafeMutableRawPointer] = []
        var next = cursor
        var seen = 0
        var rounds = options.rounds
        repeat {
            next = table.scan(next) { element in
                seen += 1
                if let pattern = options.pattern, !Glob.matches(pattern, Element.key(of: element)) { return }
                found.append(element)
            }
            rounds -= 1
        } while next != 0 && seen < options.count && rounds > 0
        return (next, found)
    }

    /// What HSCAN, SSCAN and ZSCAN begin with.
    /// - Returns: the collection, the cursor and the options; nil when a reply was made already.
    func beginScan(_ call: borrowing Call, _ type: ValueType) -> (entry: Entry, cursor: UInt64, options: ScanOptions)? {
        guard let cursor = call[2].scanCursor else {
            call.reply.error("ERR invalid cursor")
            return nil
        }
        guard let entry = lookup(call.db, call[1]) else {
            call.reply.array(2)
            call.reply.bulk("0")
            call.reply.array(0)
            return nil
        }
        guard entry.type == type else {
            call.wrongType()
            return nil
        }
        guard let options = ScanOptions(call, from: 3) else { return nil }
        return (entry, cursor, options)
    }
}
