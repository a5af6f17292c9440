import Glibc
import RESP

/// A large sorted set: a tree for order and ranks, a table from member to element, one allocation for each element.
struct SortedIndex {
    struct State {
        let tree: SortedTree
        let members: Table<SortedElementKey>
    }

    let state: UnsafeMutablePointer<State>

    init(_ pointer: UnsafeMutableRawPointer) { state = pointer.assumingMemoryBound(to: State.self) }

    /// - Parameter expected: how many members are about to be added.
    init(_ heap: Heap, expected: Int = 0) {
        state = heap.allocate(MemoryLayout<State>.size).bindMemory(to: State.self, capacity: 1)
        state.initialize(to: State(tree: SortedTree(heap), members: Table(heap)))
        if expected > 0 { members.reserve(expected) }
    }

    var pointer: UnsafeMutableRawPointer { UnsafeMutableRawPointer(state) }
    @inline(__always) var tree: SortedTree { state.pointee.tree }
    @inline(__always) var members: Table<SortedElementKey> { state.pointee.members }
    @inline(__always) var count: Int { tree.count }

    @inline(__always)
    func find(_ member: Argument) -> SortedElement? { members.find(member).map { SortedElement($0.element) } }

    /// Adds a member that is not there. O(log n).
    func add(_ member: Argument, _ score: Double) { add(member, score, members.hash(member)) }

    @inline(__always)
    func add(_ member: Argument, _ score: Double, _ hash: UInt64) {
        let element = SortedElement.make(members.heap, member, score: score)
        members.insert(element.base, hash)
        tree.insert(element)
    }

    /// Removes and frees an element that is there. O(log n).
    func remove(_ element: SortedElement) {
        members.remove(element.member)
        tree.remove(element)
        element.free()
    }

    /// Frees everything. O(n).
    func release() {
        members.freeAll { SortedElement($0).free() }
        tree.deallocate()
        freeHead()
    }

    /// Frees the block that leads to the tree and the table, not these.
    func freeHead() { Heap.free(pointer, MemoryLayout<State>.size) }
}

/// A sorted set, small or large: members with scores, ordered by (score, member).
///
/// Small ones are a listpack, `member score member score ...` in order, as Redis has it; large ones a `SortedIndex`. The struct
/// names what an entry holds; a change may move or convert it, so that the entry must then be told (`store`).
///
/// All ranges are ranges of ranks: where one by score or member begins and ends is found by `countPrefix`.
struct SortedSet {
    enum Form {
        case small(Listpack)
        case large(SortedIndex)
    }
    var form: Form

    @inline(__always)
    init(_ entry: Entry) {
        form = entry.encoding == .listpack ? .small(Listpack(entry.pointer)) : .large(SortedIndex(entry.pointer))
    }

    private init(_ form: Form) { self.form = form }

    static func makeSmall(_ heap: Heap) -> SortedSet { SortedSet(.small(Listpack.empty(heap))) }
    static func makeLarge(_ heap: Heap) -> SortedSet { SortedSet(.large(SortedIndex(heap))) }
    /// A listpack that is known to be a sorted set.
    static func adopt(_ pack: Listpack) -> SortedSet { SortedSet(.small(pack)) }
    static func adopt(_ index: SortedIndex) -> SortedSet { SortedSet(.large(index)) }

    var encoding: Encoding {
        if case .small = form { return .listpack }
        return .sortedTree
    }

    var pointer: UnsafeMutableRawPointer {
        switch form {
        case .small(let pack): pack.base
        case .large(let index): index.pointer
        }
    }

    /// Makes the entry hold what this has become.
    @inline(__always)
    func store(in entry: Entry) {
        entry.pointer = pointer
        entry.setEncoding(.sortedSet, encoding)
    }

    func release() {
        switch form {
        case .small(let pack): pack.free()
        case .large(let index): index.release()
        }
    }

    /// O(1); a listpack of more than 65534 entries is counted.
    @inline(__always) var count: Int {
        switch form {
        case .small(let pack): pack.count / 2
        case .large(let index): index.count
        }
    }

    // MARK: members

    /// The member's score. O(1) for a large set, O(n) for a small one.
    func score(of member: Argument) -> Double? {
        switch form {
        case .small(let pack):
            guard let place = pack.find(member, stride: 2) else { return nil }
            return SortedSet.score(pack, behind: place)
        case .large(let index):
            return index.find(member)?.score
        }
    }

    /// The score of the pair whose member is at `place`.
    @inline(__always)
    static func score(_ pack: Listpack, behind place: Listpack.Pointer) -> Double {
        score(pack.value(at: place + ListpackEntry.size(at: place)))
    }

    @inline(__always)
    static func score(_ value: ListpackValue) -> Double {
        if let integer = value.integer { return Double(integer) }
        return value.withText { $0.score ?? .nan }
    }

    /// Adds a member that is not there. O(log n).
    /// - Parameter limits: beyond these a small set becomes a large one.
    mutating func add(_ member: Argument, _ score: Double, _ limits: Limits) {
        if case .small(var pack) = form {
            if member.count <= limits.value, pack.count / 2 < limits.entries, pack.isSafe(toAdd: member.count + 64) {
                SortedSet.insert(&pack, member, score)
                form = .small(pack)
                return
            }
            convert(limits.heap)
        }
        guard case .large(let index) = form else { return }
        index.add(member, score)
    }

    /// What decides the form, and what the large one needs.
    struct Limits {
        let entries: Int
        let value: Int
        let heap: Heap

        init(_ configuration: StoreConfiguration, _ heap: Heap) {
            entries = configuration.sortedSetMaxListpackEntries
            value = configuration.sortedSetMaxListpackValue
            self.heap = heap
        }
    }

    /// Puts the pair where it belongs.
    private static func insert(_ pack: inout Listpack, _ member: Argument, _ score: Double) {
        var place = pack.start
        let end = pack.end
        while place < end {
            let scorePlace = place + ListpackEntry.size(at: place)
            let other = SortedSet.score(pack.value(at: scorePlace))
            if other > score || (other == score && pack.value(at: place).withText { member.isBefore($0) }) { break }
            place = scorePlace + ListpackEntry.size(at: scorePlace)
        }
        let at = pack.insert(member, before: place)
        insert(&pack, score, before: at + ListpackEntry.size(at: at))
    }

    private static func insert(_ pack: inout Listpack, _ score: Double, before place: Listpack.Pointer) {
        if let integer = wholeNumber(score) {
            pack.insert(ListpackEntry(integer), before: place)
            return
        }
        var text = Decimal.shortest(score)
        text.withUTF8 { _ = pack.insert(Argument(UnsafeRawBufferPointer($0)), before: place) }
    }

    /// The score as a whole number, when it is one that a listpack holds as such.
    @inline(__always)
    private static func wholeNumber(_ score: Double) -> Int64? {
        guard abs(score) < 4_503_599_627_370_496 else { return nil }
        let integer = Int64(score)
        return Double(integer) == score ? integer : nil
    }

    /// Gives a member that is there another score.
    mutating func update(_ member: Argument, _ score: Double) {
        switch form {
        case .small(var pack):
            pack.remove(pack.find(member, stride: 2)!, count: 2)
            SortedSet.insert(&pack, member, score)
            form = .small(pack)
        case .large(let index):
            index.tree.update(index.find(member)!, score: score)
        }
    }

    /// - Returns: whether it was there.
    mutating func remove(_ member: Argument) -> Bool {
        switch form {
        case .small(var pack):
            guard let place = pack.find(member, stride: 2) else { return false }
            pack.remove(place, count: 2)
            form = .small(pack)
            return true
        case .large(let index):
            guard let element = index.find(member) else { return false }
            index.remove(element)
            return true
        }
    }

    private mutating func convert(_ heap: Heap) {
        guard case .small(let pack) = form else { return }
        let index = SortedIndex(heap)
        pack.forEachPair { member, score in member.withText { index.add($0, SortedSet.score(score)) } }
        pack.free()
        form = .large(index)
    }

    /// Makes a small one a large one.
    mutating func enlarge(_ heap: Heap) {
        if case .small = form { convert(heap) }
    }

    /// Makes a large set of one that is beyond the limits, as foreign bytes may be.
    mutating func convertIfLarge(_ limits: Limits) {
        if case .small(let pack) = form, pack.count / 2 > limits.entries { convert(limits.heap) }
    }

    /// Whether foreign entries, members and scores in turn, are scores and in order.
    static func isInOrder(_ pack: Listpack) -> Bool {
        var previous: (place: Listpack.Pointer, score: Double)?
        var place = pack.start
        let end = pack.end
        while place < end {
            let score = score(pack, behind: place)
            if score.isNaN { return false }
            if let previous {
                let isBefore = pack.value(at: previous.place).withText { a in pack.value(at: place).withText { a.isBefore($0) } }
                guard previous.score < score || (previous.score == score && isBefore) else { return false }
            }
            previous = (place, score)
            place += ListpackEntry.size(at: place)
            place += ListpackEntry.size(at: place)
        }
        return true
    }

    /// Makes a large set that has become small enough a listpack again, as Redis does with results that it stores.
    /// - Parameter longest: bytes of the longest member.
    mutating func compact(longest: Int, _ limits: Limits) {
        guard case .large(let index) = form, index.count <= limits.entries, longest <= limits.value else { return }
        var pack = Listpack.empty(limits.heap, capacity: index.count * (longest + 12))
        index.tree.forEach { element in
            pack.append(element.member)
            SortedSet.insert(&pack, element.score, before: pack.end)
        }
        index.release()
        form = .small(pack)
    }

    // MARK: ranks

    /// How many members come before one. O(log n) for a large set.
    /// - Returns: nil when it is not there.
    func rank(of member: Argument) -> (rank: Int, score: Double)? {
        switch form {
        case .small(let pack):
            let number = member.integer
            var place = pack.start
            let end = pack.end
            var rank = 0
            while place < end {
                if pack.value(at: place).equals(member, number: number) { return (rank, SortedSet.score(pack, behind: place)) }
                place += ListpackEntry.size(at: place)
                place += ListpackEntry.size(at: place)
                rank += 1
            }
            return nil
        case .large(let index):
            guard let element = index.find(member) else { return nil }
            return (index.tree.rank(of: element), element.score)
        }
    }

    /// How many members there are below a score, or up to it. O(log n) for a large set.
    func count(below score: Double, orEqual: Bool) -> Int {
        switch form {
        case .small(let pack):
            var n = 0
            var place = pack.start
            let end = pack.end
            while place < end {
                let other = SortedSet.score(pack, behind: place)
                guard other < score || (orEqual && other == score) else { break }
                place += ListpackEntry.size(at: place)
                place += ListpackEntry.size(at: place)
                n += 1
            }
            return n
        case .large(let index):
            return index.tree.countPrefix { other, _ in other < score || (orEqual && other == score) }
        }
    }

    /// How many members there are in front of a member, or up to it, among equal scores.
    func count(before member: Argument, orEqual: Bool) -> Int {
        func isInFront(_ other: Argument) -> Bool { orEqual ? !member.isBefore(other) : other.isBefore(member) }
        switch form {
        case .small(let pack):
            var n = 0
            var place = pack.start
            let end = pack.end
            while place < end {
                guard pack.value(at: place).withText({ isInFront($0) }) else { break }
                place += ListpackEntry.size(at: place)
                place += ListpackEntry.size(at: place)
                n += 1
            }
            return n
        case .large(let index):
            return index.tree.countPrefix { _, element in isInFront(element.member) }
        }
    }

    // MARK: ranges

    /// Visits the members of the ranks `first ..< first + count`, which must all be there; from the last to the first when
    /// reversed. O(log n + count).
    @inline(__always)
    func forEach(from first: Int, count: Int, reversed: Bool = false, _ visit: (Argument, Double) -> Void) {
        guard count > 0 else { return }
        switch form {
        case .small(let pack):
            var place = pack.seek(2 * (reversed ? first + count - 1 : first))!
            withUnsafeTemporaryAllocation(byteCount: 24, alignment: 8) { scratch in
                for i in 0..<count {
                    visit(pack.value(at: place).text(scratch.baseAddress!), SortedSet.score(pack, behind: place))
                    if i == count - 1 { break }
                    if reversed {
                        place -= ListpackEntry.size(before: place)
                        place -= ListpackEntry.size(before: place)
                    } else {
                        place += ListpackEntry.size(at: place)
                        place += ListpackEntry.size(at: place)
                    }
                }
            }
        case .large(let index):
            var cursor = index.tree.select(reversed ? first + count - 1 : first)
            for i in 0..<count {
                visit(cursor.element.member, cursor.element.score)
                if i == count - 1 { break }
                _ = reversed ? cursor.retreat() : cursor.advance()
            }
        }
    }

    /// Visits all members in order. O(n).
    @inline(__always)
    func forEach(_ visit: (Argument, Double) -> Void) { forEach(from: 0, count: count, visit) }

    /// Removes the members of the ranks `first ..< first + count`, which must all be there. O(log n + count log n).
    mutating func remove(from first: Int, count: Int) {
        guard count > 0 else { return }
        switch form {
        case .small(var pack):
            pack.remove(pack.seek(2 * first)!, count: 2 * count)
            form = .small(pack)
        case .large(let index):
            for _ in 0..<count { index.remove(index.tree.select(first).element) }
        }
    }
}
