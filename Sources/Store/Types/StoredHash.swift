import CLinux
import Glibc
import RESP

/// One field of a hash with its value, in one allocation.
///
///     0           1                2                4             4 or 12
///     | flags (1) | fieldCount (1) | valueCount (2) | [expiry]    | field bytes | value bytes |
///     | flags (1) | 0 (3) | fieldCount (4) | valueCount (4) | [expiry]          | field bytes | value bytes |
///
/// The second layout is for what the first has no room for; `flags` says which it is, and whether `expiry`, milliseconds since 1970, is
/// there; no command sets one yet.
struct HashField: TableElement {
    typealias Pointer = UnsafeMutableRawPointer

    let base: Pointer

    private static let longFlag: UInt8 = 1
    private static let expiryFlag: UInt8 = 2
    private static let shortHead = 4
    private static let longHead = 12

    @inline(__always) init(_ base: Pointer) { self.base = base }

    @inline(__always)
    static func make(_ heap: Heap, _ field: Argument, _ value: Argument) -> HashField {
        let isLong = field.count > Int(UInt8.max) || value.count > Int(UInt16.max)
        let head = isLong ? longHead : shortHead
        let made = HashField(heap.allocate(head &+ field.count &+ value.count))
        if isLong {
            made.base.storeBytes(of: UInt32(longFlag), as: UInt32.self)
            made.base.storeBytes(of: UInt32(truncatingIfNeeded: field.count), toByteOffset: 4, as: UInt32.self)
        } else {
            made.base.storeBytes(of: UInt32(truncatingIfNeeded: field.count << 8), as: UInt32.self)
        }
        made.setValueCount(value.count)
        memcpy(made.base + head, field.base, field.count)
        memcpy(made.base + head + field.count, value.base, value.count)
        return made
    }

    /// A block of its own with the same in it.
    func copied(_ heap: Heap) -> HashField {
        let made = heap.allocate(size)
        memcpy(made, base, size)
        return HashField(made)
    }

    @inline(__always) private var head: UInt32 { base.load(as: UInt32.self) }
    @inline(__always) private var isLong: Bool { head & UInt32(HashField.longFlag) != 0 }
    @inline(__always) private var bytes: Pointer {
        base + (isLong ? HashField.longHead : HashField.shortHead) + (head & UInt32(HashField.expiryFlag) != 0 ? 8 : 0)
    }
    @inline(__always) private var fieldCount: Int {
        isLong ? Int(base.load(fromByteOffset: 4, as: UInt32.self)) : Int(head >> 8 & 0xFF)
    }
    @inline(__always) private var valueCount: Int { isLong ? Int(base.load(fromByteOffset: 8, as: UInt32.self)) : Int(head >> 16) }

    @inline(__always) private func setValueCount(_ count: Int) {
        if isLong {
            base.storeBytes(of: UInt32(truncatingIfNeeded: count), toByteOffset: 8, as: UInt32.self)
        } else {
            base.storeBytes(of: UInt16(truncatingIfNeeded: count), toByteOffset: 2, as: UInt16.self)
        }
    }

    @inline(__always) private var size: Int { bytes - base &+ fieldCount &+ valueCount }
    @inline(__always) func free() { Heap.free(base, size) }
    /// Bytes of the block.
    var memory: Int { Heap.capacity(of: base, size) }
    /// See `Heap.moveIfSparse`.
    func moveIfSparse() -> Pointer? { Heap.moveIfSparse(base, size) }

    @inline(__always)
    var field: Argument { Argument(base: UnsafePointer(bytes.assumingMemoryBound(to: UInt8.self)), count: fieldCount) }
    @inline(__always) var fieldValue: ListpackValue { ListpackValue(bytes, fieldCount) }
    @inline(__always) var value: ListpackValue { ListpackValue(bytes + fieldCount, valueCount) }

    @inline(__always) static func key(of element: Pointer) -> Argument { HashField(element).field }

    /// Loads the whole of a short field and value into the cache: what is written later, without having been read, would be waited for
    /// at the next atomic operation.
    @inline(__always)
    func touch() -> UInt64 {
        let end = bytes + (fieldCount &+ valueCount)
        return end == base ? 0 : UInt64((end - 1).load(as: UInt8.self))
    }

    /// Writes another value over this one when the block has the room and is not mostly wasted by it.
    /// - Returns: whether it was done.
    @inline(__always)
    func overwrite(_ value: Argument) -> Bool {
        if value.count != valueCount {
            let needed = (bytes - base) &+ fieldCount &+ value.count
            let usable = Heap.capacity(of: base, size)
            // Whether the heap sees the block as a large one must not change.
            guard needed <= usable, needed >= usable &- max(8, usable >> 4), isLong || value.count <= Int(UInt16.max),
                (needed > Heap.slabMax) == (size > Heap.slabMax)
            else { return false }
            setValueCount(value.count)
        }
        memcpy(bytes + fieldCount, value.base, value.count)
        return true
    }
}

/// What `hash-max-listpack-entries` and `hash-max-listpack-value` allow a listpack to hold.
struct HashLimits {
    let entries: Int
    let value: Int

    @inline(__always)
    init(_ configuration: StoreConfiguration) {
        entries = configuration.hashMaxListpackEntries
        value = configuration.hashMaxListpackValue
    }
}

/// A hash: a listpack of fields and values in turn while it is small, then a table of `HashField`.
///
/// Where a field's own expiry goes: in a table into its `HashField`, which has the place for it; a small hash of which a field
/// has one becomes a listpack of fields, values and expiries in turn, 0 for none, under an encoding of its own (Redis 7.4's
/// `listpackex`), so that hashes without any stay as they are.
///
/// A copy of what an entry says; `store(in:)` writes it back after changes.
struct StoredHash {
    private(set) var encoding: Encoding
    private(set) var pointer: UnsafeMutableRawPointer

    @inline(__always)
    init(_ entry: Entry) {
        encoding = entry.encoding
        pointer = entry.pointer
    }

    /// A hash with these fields and values, which `Listpack.validate` has passed and which are two by two.
    init(_ pack: Listpack) {
        encoding = .listpack
        pointer = pack.base
    }

    private init(_ table: Table<HashField>) {
        encoding = .table
        pointer = table.pointer
    }

    static func empty(_ heap: Heap) -> StoredHash { StoredHash(Listpack.empty(heap)) }

    /// An empty hash in the encoding that suits as many fields as are about to be added.
    static func empty(expected: Int, _ limits: HashLimits, _ heap: Heap) -> StoredHash {
        if expected <= limits.entries { return empty(heap) }
        let table = Table<HashField>(heap)
        table.reserve(expected)
        return StoredHash(table)
    }

    /// Frees everything. O(n).
    func free() {
        if encoding == .table { table.freeAll { HashField($0).free() } } else { pack.free() }
    }

    @inline(__always)
    func store(in entry: Entry) {
        if entry.encoding != encoding { entry.setEncoding(.hash, encoding) }
        entry.pointer = pointer
    }

    var pack: Listpack { Listpack(pointer) }
    @inline(__always) var table: Table<HashField> { Table(adopting: pointer) }
    @inline(__always) var count: Int { encoding == .table ? table.count : pack.count / 2 }

    /// The value of a field. O(1); O(n) in a listpack.
    @inline(__always)
    func find(_ field: Argument) -> ListpackValue? {
        if encoding == .table { return table.find(field).map { HashField($0.element).value } }
        let pack = self.pack
        return pack.find(field, stride: 2).map { pack.value(at: pack.next($0)!) }
    }

    /// Gives a field a value.
    /// - Returns: whether the field is new.
    @inline(__always)
    mutating func set(_ field: Argument, _ value: Argument, _ limits: HashLimits, _ heap: Heap) -> Bool {
        if encoding == .table { return setInTable(field, value) }
        return setInListpack(field, value, limits, heap)
    }

    private func setInTable(_ field: Argument, _ value: Argument) -> Bool {
        let table = self.table
        let hash = table.hash(field)
        guard let position = table.find(field, hash) else {
            table.insert(HashField.make(table.heap, field, value).base, hash)
            return true
        }
        let old = HashField(position.element)
        if !old.overwrite(value) {
            position.element = HashField.make(table.heap, field, value).base
            old.free()
        }
        return false
    }

    private mutating func setInListpack(_ field: Argument, _ value: Argument, _ limits: HashLimits, _ heap: Heap) -> Bool {
        var pack = self.pack
        if field.count > limits.value || value.count > limits.value || !pack.isSafe(toAdd: field.count + value.count + 20) {
            convertToTable(heap)
            return setInTable(field, value)
        }
        if let place = pack.find(field, stride: 2) {
            pack.replace(pack.next(place)!, with: value)
            pointer = pack.base
            // The threshold may have been lowered.
            if pack.count / 2 > limits.entries { convertToTable(heap) }
            return false
        }
        pack.append(field)
        pack.append(value)
        pointer = pack.base
        if pack.count / 2 > limits.entries { convertToTable(heap) }
        return true
    }

    /// - Returns: whether the field was there.
    mutating func remove(_ field: Argument) -> Bool {
        if encoding == .table {
            guard let element = table.remove(field) else { return false }
            HashField(element).free()
            return true
        }
        var pack = self.pack
        guard let place = pack.find(field, stride: 2) else { return false }
        pack.remove(place, count: 2)
        pointer = pack.base
        return true
    }

    /// Makes a table of the listpack. O(n).
    /// - Parameter expected: fields to make room for.
    mutating func convertToTable(_ heap: Heap, expected: Int = 0) {
        guard encoding == .listpack else { return }
        let made = Table<HashField>(heap)
        made.reserve(max(expected, pack.count / 2 + 1))
        forEach { field, value in
            field.withText { field in value.withText { made.insert(HashField.make(heap, field, $0).base) } }
        }
        pack.free()
        encoding = .table
        pointer = made.pointer
    }

    /// Visits every field with its value; the hash must not change meanwhile. O(n).
    @inline(__always)
    func forEach(_ visit: (ListpackValue, ListpackValue) -> Void) {
        if encoding == .table {
            table.forEach { visit(HashField($0).fieldValue, HashField($0).value) }
        } else {
            pack.forEachPair(visit)
        }
    }

    /// A field with its value, each with the same chance; the hash is not empty.
    func random(using generator: inout FastRandom) -> (field: ListpackValue, value: ListpackValue) {
        if encoding == .table {
            let found = HashField(table.random(using: &generator)!)
            return (found.fieldValue, found.value)
        }
        let place = pack.seek(2 * Int.random(in: 0..<count, using: &generator))!
        return (pack.value(at: place), pack.value(at: pack.next(place)!))
    }
}
