import Glibc
import RESP

/// One member of a set, in one allocation.
///
///     0           4
///     | count (4) | bytes |
struct SetMember: TableElement {
    typealias Pointer = UnsafeMutableRawPointer

    let base: Pointer

    @inline(__always) init(_ base: Pointer) { self.base = base }

    @inline(__always)
    static func make(_ heap: Heap, _ member: Argument) -> SetMember {
        let made = SetMember(heap.allocate(4 &+ member.count))
        made.base.storeBytes(of: UInt32(truncatingIfNeeded: member.count), as: UInt32.self)
        memcpy(made.base + 4, member.base, member.count)
        return made
    }

    @inline(__always) private var count: Int { Int(base.load(as: UInt32.self)) }
    @inline(__always)
    var bytes: Argument { Argument(base: UnsafePointer((base + 4).assumingMemoryBound(to: UInt8.self)), count: count) }
    @inline(__always) var value: ListpackValue { ListpackValue(base + 4, count) }

    @inline(__always) static func key(of element: Pointer) -> Argument { SetMember(element).bytes }
    @inline(__always) func free() { Heap.free(base, 4 &+ count) }
    /// Bytes of the block.
    var memory: Int { Heap.capacity(of: base, 4 + count) }
    /// See `Heap.moveIfSparse`.
    func moveIfSparse() -> Pointer? { Heap.moveIfSparse(base, 4 + count) }
}

/// What `set-max-intset-entries`, `set-max-listpack-entries` and `set-max-listpack-value` allow the small encodings to hold.
struct SetLimits {
    let numbers: Int
    let entries: Int
    let value: Int

    @inline(__always)
    init(_ configuration: StoreConfiguration) {
        numbers = min(configuration.setMaxIntsetEntries, 1 << 30)
        entries = configuration.setMaxListpackEntries
        value = configuration.setMaxListpackValue
    }
}

/// A set: an intset while it holds few numbers and nothing else, a listpack while it is small, then a table of `SetMember`.
///
/// A copy of what an entry says; `store(in:)` writes it back after changes.
struct StoredSet {
    private(set) var encoding: Encoding
    private(set) var pointer: UnsafeMutableRawPointer

    @inline(__always)
    init(_ entry: Entry) {
        encoding = entry.encoding
        pointer = entry.pointer
    }

    /// A set of the members of a listpack, which `Listpack.validate` has passed, all of them different.
    init(_ pack: Listpack) {
        encoding = .listpack
        pointer = pack.base
    }

    init(_ numbers: Intset) {
        encoding = .intset
        pointer = numbers.base
    }

    init(_ table: Table<SetMember>) {
        encoding = .table
        pointer = table.pointer
    }

    /// An empty set in the encoding that suits its first member.
    /// - Parameter expected: how many members are about to be added.
    static func empty(for member: Argument, expected: Int, _ limits: SetLimits, _ heap: Heap) -> StoredSet {
        if expected <= limits.numbers, member.integer != nil { return StoredSet(Intset.empty(heap)) }
        if expected <= limits.entries { return StoredSet(Listpack.empty(heap)) }
        let table = Table<SetMember>(heap)
        table.reserve(expected)
        return StoredSet(table)
    }

    @inline(__always)
    func store(in entry: Entry) {
        if entry.encoding != encoding { entry.setEncoding(.set, encoding) }
        entry.pointer = pointer
    }

    func free() {
        switch encoding {
        case .table: table.freeAll { SetMember($0).free() }
        case .intset: intset.free()
        default: pack.free()
        }
    }

    var pack: Listpack { Listpack(pointer) }
    var intset: Intset { Intset(pointer) }
    @inline(__always) var table: Table<SetMember> { Table(adopting: pointer) }

    @inline(__always)
    var count: Int {
        switch encoding {
        case .table: table.count
        case .intset: intset.count
        default: pack.count
        }
    }

    /// O(1); O(log n) in an intset, O(n) in a listpack.
    @inline(__always)
    func contains(_ member: Argument) -> Bool {
        if encoding == .table { return table.find(member) != nil }
        return containsInSmall(member)
    }

    private func containsInSmall(_ member: Argument) -> Bool {
        if encoding == .listpack { return pack.find(member) != nil }
        return member.integer.map { intset.contains($0) } ?? false
    }

    /// Whether a member of another set is in this one too.
    func contains(_ member: ListpackValue) -> Bool {
        if encoding == .intset, let number = member.integer { return intset.contains(number) }
        return member.withText { contains($0) }
    }

    /// Adds a member.
    /// - Returns: whether it is new.
    @inline(__always)
    mutating func add(_ member: Argument, _ limits: SetLimits, _ heap: Heap) -> Bool {
        if encoding == .table { return addToTable(member) }
        return addToSmall(member, limits, heap)
    }

    private func addToTable(_ member: Argument) -> Bool {
        let table = self.table
        let hash = table.hash(member)
        if table.find(member, hash) != nil { return false }
        table.insert(SetMember.make(table.heap, member).base, hash)
        return true
    }

    private mutating func addToSmall(_ member: Argument, _ limits: SetLimits, _ heap: Heap) -> Bool {
        if encoding == .listpack {
            var pack = self.pack
            if pack.find(member) != nil { return false }
            if pack.count < limits.entries, member.count <= limits.value, pack.isSafe(toAdd: member.count + 10) {
                pack.append(member)
                pointer = pack.base
                return true
            }
            convertToTable(heap)
            return addToTable(member)
        }
        var numbers = intset
        if let number = member.integer {
            guard numbers.insert(number) else { return false }
            pointer = numbers.base
            if numbers.count > limits.numbers { convertToTable(heap) }
            return true
        }
        if numbers.count < limits.entries, member.count <= limits.value, longestNumber(numbers) <= limits.value {
            convertToListpack(heap)
            var pack = self.pack
            pack.append(member)
            pointer = pack.base
            return true
        }
        convertToTable(heap)
        return addToTable(member)
    }

    private func longestNumber(_ numbers: Intset) -> Int {
        let n = numbers.count
        return n == 0 ? 0 : max(ListpackValue(numbers[0]).count, ListpackValue(numbers[n - 1]).count)
    }

    /// - Returns: whether it was there.
    @inline(__always)
    mutating func remove(_ member: Argument) -> Bool {
        if encoding == .table {
            guard let element = table.remove(member) else { return false }
            SetMember(element).free()
            return true
        }
        return removeFromSmall(member)
    }

    private mutating func removeFromSmall(_ member: Argument) -> Bool {
        if encoding == .listpack {
            var pack = self.pack
            guard let place = pack.find(member) else { return false }
            pack.remove(place)
            pointer = pack.base
            return true
        }
        var numbers = intset
        guard let number = member.integer, numbers.remove(number) else { return false }
        pointer = numbers.base
        return true
    }

    /// Removes a member that was found in this very set.
    mutating func remove(value: ListpackValue) { _ = value.withText { remove($0) } }

    // MARK: conversion

    private mutating func convertToListpack(_ heap: Heap) {
        var made = Listpack.empty(heap, capacity: intset.count * 6)
        intset.forEach { made.append($0) }
        intset.free()
        encoding = .listpack
        pointer = made.base
    }

    /// Makes a table of whatever it is. O(n).
    /// - Parameter expected: members to make room for.
    mutating func convertToTable(_ heap: Heap, expected: Int = 0) {
        guard encoding != .table else { return }
        let made = Table<SetMember>(heap)
        made.reserve(max(expected, count + 1))
        forEach { value in value.withText { made.insert(SetMember.make(heap, $0).base) } }
        free()
        encoding = .table
        pointer = made.pointer
    }

    /// Makes a table when `added` members are about to be added and cannot all fit otherwise.
    mutating func prepare(toAdd added: Int, _ limits: SetLimits, _ heap: Heap) {
        if (encoding == .listpack && added > limits.entries) || (encoding == .intset && added > limits.numbers) {
            convertToTable(heap, expected: added)
        }
    }

    // MARK: members

    /// Visits every member; the set must not change meanwhile. O(n).
    @inline(__always)
    func forEach(_ visit: (ListpackValue) -> Void) {
        switch encoding {
        case .table: table.forEach { visit(SetMember($0).value) }
        case .intset: intset.forEach { visit(ListpackValue($0)) }
        default: pack.forEach(visit)
        }
    }

    /// A member, each with the same chance; the set is not empty.
    func random(using generator: inout FastRandom) -> ListpackValue {
        if encoding == .table { return SetMember(table.random(using: &generator)!).value }
        let index = Int.random(in: 0..<count, using: &generator)
        return encoding == .intset ? ListpackValue(intset[index]) : pack.value(at: pack.seek(index)!)
    }
}
