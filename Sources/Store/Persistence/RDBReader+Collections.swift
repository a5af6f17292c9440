import Glibc
import RESP

/// A collection that is being made of the elements read for it. Whoever holds it frees it or finishes it, once.
enum CollectionBuilder {
    case list(QuickList)
    /// nil until the first member says what it will be.
    case set(StoredSet?)
    case hash(StoredHash)
    /// The elements, in the order of the file, are not yet in the tree; the last ones, fewer than `batch`, not yet in the table.
    case sortedSet(SortedIndex, elements: [UnsafeMutableRawPointer], longest: Int)
    /// A small one that came as a whole.
    case smallSortedSet(Listpack)
    case stream(StreamBuilder)

    /// So many members of a sorted set are looked for together: their buckets are waited for together then.
    static let batch = 32

    var count: Int {
        switch self {
        case .list(let list): list.count
        case .set(let set): set?.count ?? 0
        case .hash(let hash): hash.count
        case .sortedSet(_, let elements, _): elements.count
        case .smallSortedSet(let pack): pack.count / 2
        case .stream(let builder): builder.stream.count
        }
    }

    /// What is empty is no value; a stream may be.
    var isValue: Bool {
        if case .stream = self { return true }
        return count > 0
    }

    func free() {
        switch self {
        case .list(let list): list.free()
        case .set(let set): set?.free()
        case .hash(let hash): hash.free()
        case .sortedSet(let index, let elements, _):
            for element in elements.suffix(elements.count % CollectionBuilder.batch) { SortedElement(element).free() }
            index.release()
        case .smallSortedSet(let pack): pack.free()
        case .stream(let builder): builder.stream.free()
        }
    }

    /// What the entry is to hold, in the encoding that the configuration asks for. O(n) at most, O(n log n) for a sorted set.
    func finish(_ configuration: StoreConfiguration, _ heap: Heap) -> (type: ValueType, encoding: Encoding, pointer: UnsafeMutableRawPointer) {
        switch self {
        case .list(let list):
            let limits = ListLimits(configuration.listMaxListpackSize)
            let isShort = list.listpackSize.map { $0 <= limits.packedMax && (!limits.isByCount || list.count <= limits.count) } ?? false
            return (.list, isShort ? .listpack : .quicklist, list.pointer)
        case .set(var set):
            let limits = SetLimits(configuration)
            if set!.encoding == .intset ? set!.count > limits.numbers : set!.encoding == .listpack && set!.count > limits.entries {
                set!.convertToTable(heap)
            }
            return (.set, set!.encoding, set!.pointer)
        case .hash(var fields):
            if fields.encoding == .listpack, fields.count > configuration.hashMaxListpackEntries { fields.convertToTable(heap) }
            return (.hash, fields.encoding, fields.pointer)
        case .sortedSet(let index, let elements, let longest):
            // Ascending order fills the tree best, and a file has it descending mostly.
            if let first = elements.first, let last = elements.last, SortedElement(first).score > SortedElement(last).score {
                for element in elements.reversed() { index.tree.insert(SortedElement(element)) }
            } else {
                for element in elements { index.tree.insert(SortedElement(element)) }
            }
            var set = SortedSet.adopt(index)
            set.compact(longest: longest, SortedSet.Limits(configuration, heap))
            return (.sortedSet, set.encoding, set.pointer)
        case .smallSortedSet(let pack):
            var set = SortedSet.adopt(pack)
            set.convertIfLarge(SortedSet.Limits(configuration, heap))
            return (.sortedSet, set.encoding, set.pointer)
        case .stream(let builder): return (.stream, .sortedTree, builder.stream.pointer)
        }
    }
}

/// How lists, sets, hashes and sorted sets are read.
extension RDBReader {
    func startCollection(_ kind: RDB.Kind) throws(Stop) -> Building {
        let isWhole: Bool
        switch kind {
        case .hashZipmap, .listZiplist, .setIntset, .sortedSetZiplist, .hashZiplist, .hashListpack, .sortedSetListpack, .setListpack:
            isWhole = true
        default: isWhole = false
        }
        let elements = isWhole ? 1 : try takeLength()
        switch kind {
        case .stream1, .stream2, .stream3:
            // Behind its nodes there is always something.
            let builder = StreamBuilder(stream: .make(heap), part: elements > 0 ? .nodes(left: elements) : .state)
            return Building(kind: kind, builder: .stream(builder), remaining: 1, total: 1)
        default: break
        }
        return Building(kind: kind, builder: emptyBuilder(kind, expected: believable(elements)), remaining: elements, total: elements)
    }

    private func emptyBuilder(_ kind: RDB.Kind, expected: Int) -> CollectionBuilder {
        switch kind {
        case .list, .listZiplist, .quicklist, .quicklist2: .list(.make(heap))
        case .set, .setIntset, .setListpack: .set(nil)
        case .sortedSet, .sortedSetText: .sortedSet(SortedIndex(heap, expected: expected), elements: [], longest: 0)
        case .hash: .hash(.empty(expected: expected, HashLimits(configuration), heap))
        case .sortedSetListpack, .sortedSetZiplist: .smallSortedSet(.empty(heap))
        default: .hash(.empty(heap))
        }
    }

    /// Reads one element: a member, a pair, a node, or the whole of a compact encoding.
    func readElements() throws(Stop) {
        switch building!.kind {
        case .list: try readListElement()
        case .set: try readSetMember()
        case .hash: try readField()
        case .sortedSet, .sortedSetText: try readScoredMember()
        case .quicklist: try appendNode(try readZiplist())
        case .quicklist2: try readNode()
        case .listZiplist: try appendNode(try readZiplist())
        case .setIntset: try readIntset()
        case .setListpack: try adoptSet(try readListpack())
        case .hashListpack: try adoptHash(try readListpack())
        case .hashZiplist: try adoptHash(try readZiplist())
        case .hashZipmap: try adoptHash(try readZipmap())
        case .sortedSetListpack: try adoptSortedSet(try readListpack())
        case .sortedSetZiplist: try adoptSortedSet(try readZiplist())
        case .stream1, .stream2, .stream3:
            if try !readStreamPart() { return }
        default: preconditionFailure("kind \(building!.kind) is not read element by element")
        }
        building!.remaining -= 1
    }

    // MARK: element by element

    private func readListElement() throws(Stop) {
        guard case .list(let list) = building!.builder else { return }
        let limits = ListLimits(configuration.listMaxListpackSize)
        try withString { list.push($0, at: .tail, limits) }
    }

    private func readSetMember() throws(Stop) {
        guard case .set(let begun) = building!.builder else { return }
        let limits = SetLimits(configuration)
        let expected = believable(building!.total)
        let (set, isNew) = try withString { member in
            var set = begun ?? StoredSet.empty(for: member, expected: expected, limits, heap)
            let isNew = set.add(member, limits, heap)
            return (set, isNew)
        }
        building!.builder = .set(set)
        guard isNew else { throw bad("the set holds a member twice") }
    }

    private func readField() throws(Stop) {
        guard case .hash(var fields) = building!.builder else { return }
        let name = try takeString()
        let limits = HashLimits(configuration)
        let isNew = try withString { value in
            name.withUnsafeBytes { name in
                let isNew = fields.set(Argument(name), value, limits, heap)
                return isNew
            }
        }
        building!.builder = .hash(fields)
        guard isNew else { throw bad("the hash holds a field twice") }
    }

    private func readScoredMember() throws(Stop) {
        guard case .sortedSet(let index, var elements, let longest) = building!.builder else { return }
        let member = try takeString()
        let score = building!.kind == .sortedSet ? Double(bitPattern: try takeNumber(UInt64.self)) : try takeTextDouble()
        guard !score.isNaN else { throw bad("a score is not a number") }
        let element = member.withUnsafeBytes { SortedElement.make(heap, Argument($0), score: score) }
        // The array must not be shared while it grows.
        building!.builder = .hash(StoredHash(Listpack(UnsafeMutableRawPointer(bitPattern: 8)!)))
        elements.append(element.base)
        building!.builder = .sortedSet(index, elements: elements, longest: max(longest, member.count))
        if elements.count % CollectionBuilder.batch == 0 { try insertMembers(index, elements, CollectionBuilder.batch) }
    }

    /// Puts the members that are not in the table yet there, at the end of the collection.
    func insertLastMembers() throws(Stop) {
        guard case .sortedSet(let index, let elements, _) = building!.builder else { return }
        try insertMembers(index, elements, elements.count % CollectionBuilder.batch)
    }

    /// Puts the last `count` elements into the table.
    private func insertMembers(_ index: SortedIndex, _ elements: [UnsafeMutableRawPointer], _ count: Int) throws(Stop) {
        let members = index.members
        if members.bucketCount > 0 {
            touched = elements.suffix(count).reduce(0) { $0 &+ members.touchBucket(members.hash(SortedElement($1).member)) }
        }
        for (i, element) in elements.suffix(count).enumerated() {
            let member = SortedElement(element).member
            let code = members.hash(member)
            guard members.find(member, code) == nil else {
                for left in elements.suffix(count - i) { SortedElement(left).free() }
                building!.builder = .sortedSet(index, elements: [], longest: 0)
                throw bad("the sorted set holds a member twice")
            }
            members.insert(element, code)
        }
    }

    /// A double as text behind its length; 253, 254 and 255 stand for NaN and the infinities.
    private func takeTextDouble() throws(Stop) -> Double {
        let size = try takeByte()
        switch size {
        case 253: return .nan
        case 254: return .infinity
        case 255: return -.infinity
        default:
            guard let value = Argument(try take(Int(size))).double else { throw bad("a score is no number") }
            return value
        }
    }

    private func readNode() throws(Stop) {
        guard case .list(let list) = building!.builder else { return }
        let form = try takeLength()
        switch RDB.NodeForm(rawValue: form) {
        case .plain: try withString { list.appendPlain($0) }
        case .packed: try appendPacked(list)
        case nil: throw bad("a node of a list in form \(form); 1 and 2 are known")
        }
    }

    /// Adds a node; the listpack is freed.
    private func appendNode(_ pack: Listpack) throws(Stop) {
        defer { pack.free() }
        guard case .list(let list) = building!.builder else { return }
        guard !pack.isEmpty else { throw bad("a node of a list is empty") }
        list.append(pack)
    }

    // MARK: compact encodings

    private func readIntset() throws(Stop) {
        let numbers: Intset? = try withString { bytes in
            let raw = UnsafeRawBufferPointer(start: bytes.raw, count: bytes.count)
            return Intset.validate(raw) ? Intset.copy(heap, raw) : nil
        }
        guard let numbers else { throw bad("what should be an intset is none") }
        building!.builder = .set(StoredSet(numbers))
    }

    /// A copy of the next string, which must be a listpack.
    /// A node's listpack, straight into the list.
    private func appendPacked(_ list: QuickList) throws(Stop) {
        let isPack = try withString { bytes in
            let raw = UnsafeRawBufferPointer(start: bytes.raw, count: bytes.count)
            guard let count = Listpack.validCount(raw), count > 0 else { return false }
            list.append(entries: UnsafeRawBufferPointer(rebasing: raw[Listpack.headerSize..<raw.count - 1]), count: count)
            return true
        }
        guard isPack else { throw bad("what should be a listpack with entries is none") }
    }

    private func readListpack() throws(Stop) -> Listpack {
        let pack: Listpack? = try withString { bytes in
            let raw = UnsafeRawBufferPointer(start: bytes.raw, count: bytes.count)
            return Listpack.validate(raw) ? Listpack.copy(heap, raw) : nil
        }
        guard let pack else { throw bad("what should be a listpack is none") }
        return pack
    }

    private func readZiplist() throws(Stop) -> Listpack {
        guard let pack = try withString({ OldEncodings.listpack(heap, ofZiplist: UnsafeRawBufferPointer(start: $0.raw, count: $0.count)) })
        else { throw bad("what should be a ziplist is none") }
        return pack
    }

    private func readZipmap() throws(Stop) -> Listpack {
        guard let pack = try withString({ OldEncodings.listpack(heap, ofZipmap: UnsafeRawBufferPointer(start: $0.raw, count: $0.count)) })
        else { throw bad("what should be a zipmap is none") }
        return pack
    }

    /// Whether no two of every `stride`-th entries are equal.
    private func isDistinct(_ pack: Listpack, stride: Int) -> Bool {
        var seen = Set<[UInt8]>()
        var index = 0
        var isDistinct = true
        pack.forEach { value in
            if index % stride == 0, !seen.insert(value.copy).inserted { isDistinct = false }
            index += 1
        }
        return isDistinct
    }

    private func adoptSet(_ pack: Listpack) throws(Stop) {
        guard isDistinct(pack, stride: 1) else {
            pack.free()
            throw bad("the set holds a member twice")
        }
        building!.builder = .set(StoredSet(pack))
    }

    private func adoptHash(_ pack: Listpack) throws(Stop) {
        guard pack.count % 2 == 0, isDistinct(pack, stride: 2) else {
            pack.free()
            throw bad("the hash holds a field twice, or one without a value")
        }
        building!.builder.free()
        building!.builder = .hash(StoredHash(pack))
    }

    private func adoptSortedSet(_ pack: Listpack) throws(Stop) {
        guard pack.count % 2 == 0, isDistinct(pack, stride: 2), SortedSet.isInOrder(pack) else {
            pack.free()
            throw bad("the sorted set holds a member twice, or one without a score, or is not in order")
        }
        building!.builder.free()
        building!.builder = .smallSortedSet(pack)
    }
}
