import Glibc
import RESP

/// One node of a stream: a listpack as Redis lays it out, so that it goes to disk and replicas as it is.
///
///     | count | deleted | fields n | field 1 | ... | field n | 0 | entry | entry | ...
///
///     entry:             | flags | ms - node's | seq - node's | n | field 1 | value 1 | ... | value n | pieces |
///     with flag 2 set:   | flags | ms - node's | seq - node's | value 1 | ... | value n | pieces |
///
/// `count` entries are there, `deleted` are only marked as such (flag 1). The node's own ID is that of the entry it was made for; an
/// entry with just the node's fields (flag 2) does not repeat them. `pieces` is of how many pieces the entry consists, itself apart:
/// with it the node is read from its end. The 0 before the first entry is what is found there then.
struct StreamNode {
    typealias Pointer = UnsafeMutableRawPointer

    let id: StreamID
    let pack: Listpack

    static let deletedFlag: Int64 = 1
    static let sameFieldsFlag: Int64 = 2

    @inline(__always)
    init(_ id: StreamID, _ base: Pointer) {
        self.id = id
        pack = Listpack(base)
    }

    @inline(__always)
    init(_ place: IDTree.Place) { self.init(place.id, place.value) }

    @inline(__always)
    private static func number(at p: Pointer) -> Int64 { ListpackEntry.value(at: p).integer.unsafelyUnwrapped }
    @inline(__always)
    private static func skip(_ p: Pointer, _ count: Int = 1) -> Pointer {
        var p = p
        for _ in 0..<count { p += ListpackEntry.size(at: p) }
        return p
    }

    /// Entries that are there.
    @inline(__always) var count: Int { Int(StreamNode.number(at: pack.start)) }
    var deleted: Int { Int(StreamNode.number(at: StreamNode.skip(pack.start))) }
    /// How many fields the node's entries have mostly, and where the first is.
    @inline(__always)
    private var fields: (count: Int, first: Pointer) {
        let p = StreamNode.skip(pack.start, 2)
        return (Int(StreamNode.number(at: p)), StreamNode.skip(p))
    }

    // MARK: entries

    /// An entry, good until the node changes.
    struct Entry {
        let id: StreamID
        let start: Pointer
        let flags: Int64
        /// Pairs of field and value.
        let count: Int
        /// The first field, each with its value behind it, unless the entry has the node's fields.
        fileprivate let fields: Pointer
        /// The first value.
        fileprivate let values: Pointer
        /// Behind the entry.
        let end: Pointer

        @inline(__always) var isDeleted: Bool { flags & StreamNode.deletedFlag != 0 }
        @inline(__always) fileprivate var hasNodesFields: Bool { flags & StreamNode.sameFieldsFlag != 0 }

        /// Visits fields and values in turn. O(n).
        @inline(__always)
        func forEach(_ visit: (ListpackValue) -> Void) {
            var p = values
            guard hasNodesFields else {
                for _ in 0..<count * 2 {
                    visit(ListpackEntry.value(at: p))
                    p += ListpackEntry.size(at: p)
                }
                return
            }
            var field = fields
            for _ in 0..<count {
                visit(ListpackEntry.value(at: field))
                visit(ListpackEntry.value(at: p))
                field += ListpackEntry.size(at: field)
                p += ListpackEntry.size(at: p)
            }
        }
    }

    /// The entry that begins at `p`. O(its pieces).
    func entry(at p: Pointer) -> Entry {
        let flags = StreamNode.number(at: p)
        let first = StreamNode.skip(p)
        let second = StreamNode.skip(first)
        let id = StreamID(
            id.milliseconds &+ UInt64(bitPattern: StreamNode.number(at: first)),
            id.sequence &+ UInt64(bitPattern: StreamNode.number(at: second)))
        let rest = StreamNode.skip(second)
        if flags & StreamNode.sameFieldsFlag != 0 {
            let (count, fields) = fields
            return Entry(
                id: id, start: p, flags: flags, count: count, fields: fields, values: rest, end: StreamNode.skip(rest, count + 1))
        }
        let count = Int(StreamNode.number(at: rest))
        let values = StreamNode.skip(rest)
        return Entry(
            id: id, start: p, flags: flags, count: count, fields: values, values: values, end: StreamNode.skip(values, count * 2 + 1))
    }

    /// The first entry, deleted or not; nil when there is none.
    var first: Entry? {
        let (count, first) = fields
        let p = StreamNode.skip(first, count + 1)
        return p == pack.end ? nil : entry(at: p)
    }

    func next(_ entry: Entry) -> Entry? { entry.end == pack.end ? nil : self.entry(at: entry.end) }

    var last: Entry? { entry(before: pack.end) }

    func previous(_ entry: Entry) -> Entry? { self.entry(before: entry.start) }

    private func entry(before end: Pointer) -> Entry? {
        var p = end - ListpackEntry.size(before: end)
        let pieces = StreamNode.number(at: p)
        if pieces == 0 { return nil }
        for _ in 0..<pieces { p -= ListpackEntry.size(before: p) }
        return entry(at: p)
    }

    // MARK: changes

    /// What an entry is made of: fields and values in turn, as a request has them.
    struct Content {
        let words: UnsafeMutablePointer<Argument>
        let pairs: Int

        /// Bytes of all of it.
        var byteCount: Int { (0..<pairs * 2).reduce(0) { $0 + words[$1].count } }
    }

    /// A node for its first entry, without that entry.
    static func make(_ heap: Heap, _ content: Content, room: Int) -> Listpack {
        var pack = Listpack.empty(heap, capacity: room)
        pack.append(0)
        pack.append(0)
        pack.append(Int64(content.pairs))
        for i in 0..<content.pairs { pack.append(content.words[i * 2]) }
        pack.append(0)
        return pack
    }

    private func hasFields(of content: Content) -> Bool {
        let (count, first) = fields
        guard count == content.pairs else { return false }
        var p = first
        for i in 0..<count {
            let field = content.words[i * 2]
            guard ListpackEntry.value(at: p).equals(field, number: field.count <= 20 ? field.integer : nil) else { return false }
            p += ListpackEntry.size(at: p)
        }
        return true
    }

    /// Adds an entry behind all others.
    /// - Returns: the node's listpack, which may have moved.
    func appending(_ newID: StreamID, _ content: Content) -> Listpack {
        let isSame = hasFields(of: content)
        let step = isSame ? 2 : 1
        let flags = ListpackEntry(isSame ? StreamNode.sameFieldsFlag : 0)
        let milliseconds = ListpackEntry(Int64(bitPattern: newID.milliseconds &- id.milliseconds))
        let sequence = ListpackEntry(Int64(bitPattern: newID.sequence &- id.sequence))
        let pairs = ListpackEntry(Int64(content.pairs))
        let count = isSame ? content.pairs + 3 : content.pairs * 2 + 4
        let pieces = ListpackEntry(Int64(count))
        var size = flags.size + milliseconds.size + sequence.size + pieces.size + (isSame ? 0 : pairs.size)
        for i in stride(from: step - 1, to: content.pairs * 2, by: step) { size += ListpackEntry(content.words[i]).size }

        var pack = pack
        var p = pack.extend(by: size, count: count + 1)
        func write(_ entry: ListpackEntry) {
            entry.write(to: p)
            p += entry.size
        }
        write(flags)
        write(milliseconds)
        write(sequence)
        if !isSame { write(pairs) }
        for i in stride(from: step - 1, to: content.pairs * 2, by: step) { write(ListpackEntry(content.words[i])) }
        write(pieces)
        pack.replace(pack.start, with: ListpackEntry(Int64(self.count(in: pack) + 1)))
        return pack
    }

    private func count(in pack: Listpack) -> Int { Int(StreamNode.number(at: pack.start)) }

    /// Marks an entry as deleted, without counting it.
    static func mark(_ entry: Entry) {
        // 0 ... 3 lie in one byte, and in its lowest bits.
        entry.start.storeBytes(of: UInt8(entry.flags | deletedFlag), as: UInt8.self)
    }

    /// Counts entries that were marked.
    /// - Returns: the node's listpack, which may have moved.
    func counting(deleted added: Int) -> Listpack {
        var pack = pack
        pack.replace(pack.start, with: ListpackEntry(Int64(count - added)))
        let p = StreamNode.skip(pack.start)
        pack.replace(p, with: ListpackEntry(StreamNode.number(at: p) + Int64(added)))
        return pack
    }

    // MARK: foreign bytes

    /// Whether a listpack, which `Listpack.validate` has passed, is a node, in all its entries.
    /// - Parameter after: the ID that the first entry that is there must come behind; afterwards that of the last one.
    static func validate(_ pack: Listpack, _ id: StreamID, after: inout StreamID?) -> Bool {
        var p = pack.start
        let end = pack.end
        func number() -> Int64? {
            guard p < end, let value = ListpackEntry.value(at: p).integer else { return nil }
            p += ListpackEntry.size(at: p)
            return value
        }
        func skip(_ count: Int64) -> Bool {
            var left = count
            while left > 0, p < end {
                p += ListpackEntry.size(at: p)
                left -= 1
            }
            return left == 0
        }
        let most = Int64(pack.byteCount)
        guard let count = number(), let deleted = number(), let fields = number(), (0...most).contains(count), (0...most).contains(deleted),
            (0...most).contains(fields), skip(fields), number() == 0
        else { return false }
        var (found, marked) = (Int64(0), Int64(0))
        while p < end {
            // Marking an entry changes this byte.
            guard p.load(as: UInt8.self) <= 3, let flags = number(), let milliseconds = number(), let sequence = number() else { return false }
            let isSame = flags & sameFieldsFlag != 0
            var pieces = fields + 3
            if isSame {
                guard skip(fields) else { return false }
            } else {
                guard let own = number(), (0...most).contains(own), skip(own * 2) else { return false }
                pieces = own * 2 + 4
            }
            guard number() == pieces else { return false }
            if flags & deletedFlag != 0 {
                marked += 1
                continue
            }
            let entry = StreamID(id.milliseconds &+ UInt64(bitPattern: milliseconds), id.sequence &+ UInt64(bitPattern: sequence))
            guard entry >= id, after.map({ $0 < entry }) ?? true else { return false }
            after = entry
            found += 1
        }
        return found == count && marked == deleted
    }
}
