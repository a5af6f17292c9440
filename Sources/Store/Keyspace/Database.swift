import Glibc
import Reactor
import RESP

/// One numbered database: the table of its entries, and a second one of those that expire.
///
/// What is here neither propagates nor notifies; `StoreServer+Keyspace.swift` adds that.
struct Database {
    struct State {
        let id: Int
        let entries: Table<EntryElement>
        let expiring: Table<EntryElement>
        /// Where active expiry goes on.
        var expiryCursor: UInt64 = 0
        /// Keys that a client watches are counted here, so that writes look no further when there are none; `reply-after-replicas` counts
        /// as one more.
        var watchedKeys = 0
        /// Keys that a client is blocked on.
        var blockedKeys = 0
        let heap: Heap
        let clock: KeyspaceClock
    }

    let state: UnsafeMutablePointer<State>

    init(id: Int, heap: Heap, clock: KeyspaceClock) {
        state = .allocate(capacity: 1)
        state.initialize(to: State(id: id, entries: Table(heap), expiring: Table(heap), heap: heap, clock: clock))
    }

    @inline(__always) var id: Int { state.pointee.id }
    @inline(__always) var entries: Table<EntryElement> { state.pointee.entries }
    @inline(__always) var expiring: Table<EntryElement> { state.pointee.expiring }
    @inline(__always) var heap: Heap { state.pointee.heap }
    @inline(__always) var count: Int { entries.count }
    @inline(__always) var clock: KeyspaceClock { state.pointee.clock }
    @inline(__always) var now: Int64 { clock.milliseconds }
    /// The access clock of a new entry.
    @inline(__always) var accessClock: UInt32 { clock.initial }

    /// Takes note of a use of an entry.
    @inline(__always)
    func touch(_ entry: Entry) {
        let before = entry.clock
        let after = clock.used(before)
        if before != after { entry.clock = after }
    }

    typealias Position = Table<EntryElement>.Position

    /// Finds an entry, expired or not. O(1).
    @inline(__always) func find(_ key: Argument) -> Position? { entries.find(key) }

    /// Adds an entry whose key is not there. O(1) amortised.
    func add(_ entry: Entry) {
        entries.insert(entry.base)
        if entry.hasExpiry { expiring.insert(entry.base) }
    }

    /// Puts another entry with the same key where the old one is; the old block is freed, its value is the caller's.
    func replace(_ position: Position, with entry: Entry) {
        let old = Entry(position.element)
        if old.hasExpiry {
            let slot = expiring.find(old.key)!
            if entry.hasExpiry { slot.element = entry.base } else { expiring.remove(at: slot) }
        } else if entry.hasExpiry {
            expiring.insert(entry.base)
        }
        position.element = entry.base
        old.free()
    }

    /// Removes and frees the entry and its value. O(1).
    func remove(at position: Position) {
        let entry = take(at: position)
        entry.freeValue()
        entry.free()
    }

    /// Takes an entry out of the tables; it is then the caller's.
    func take(at position: Position) -> Entry {
        let entry = Entry(position.element)
        if entry.hasExpiry { expiring.remove(entry.key) }
        entries.remove(at: position)
        return entry
    }

    /// - Returns: whether the key was there.
    func remove(_ key: Argument) -> Bool {
        guard let position = find(key) else { return false }
        remove(at: position)
        return true
    }

    /// Sets the key to a string, whatever was there.
    /// - Parameters:
    ///   - expiry: milliseconds since 1970, nil for none.
    ///   - keepExpiry: keeps that of the key as it is.
    /// - Returns: whether the time of what was there before was over.
    @discardableResult
    func setString(_ key: Argument, _ value: Argument, expiry: Int64?, keepExpiry: Bool = false) -> Bool {
        let hash = entries.hash(key)
        guard let position = entries.find(key, hash) else {
            let entry = Entry.makeString(heap, key, value, expiry: expiry, clock: accessClock)
            entries.insert(entry.base, hash)
            if expiry != nil { expiring.insert(entry.base, hash) }
            return false
        }
        let old = Entry(position.element)
        let wanted = keepExpiry ? (old.hasExpiry ? old.expiry : nil) : expiry
        touch(old)
        if wanted == nil, !old.hasExpiry, old.type == .string, old.encoding != .raw, value.count <= Entry.embeddedMax {
            if value.count <= 20, let number = value.integer {
                if old.encoding == .integer {
                    old.integer = number
                    return false
                }
            } else if old.encoding == .embedded, old.hasRoom(forEmbedded: value.count) {
                old.writeEmbedded(value)
                return false
            }
        }
        let wasOver = old.hasExpiry && old.expiry <= now
        let entry = Entry.makeString(heap, key, value, expiry: wanted, clock: old.clock)
        old.freeValue()
        replace(position, with: entry)
        return wasOver
    }

    /// Sets the key to a string whose block is handed over.
    /// - Returns: whether the time of what was there before was over.
    func setString(_ key: Argument, blob: Blob, expiry: Int64?, keepExpiry: Bool) -> Bool {
        let position = entries.find(key)
        let old = position.map { Entry($0.element) }
        let wanted = keepExpiry ? old.flatMap { $0.hasExpiry ? $0.expiry : nil } : expiry
        let entry = Entry.make(heap, key, .string, .raw, expiry: wanted, clock: old.map { clock.used($0.clock) } ?? accessClock, pointer: blob.base)
        guard let position, let old else {
            add(entry)
            return false
        }
        let wasOver = old.hasExpiry && old.expiry <= now
        old.freeValue()
        replace(position, with: entry)
        return wasOver
    }

    /// Makes the string at `position` a block of its own with room for `capacity` bytes, for commands that change it in place.
    func makeBlob(_ position: Position, capacity: Int) -> Blob {
        let entry = Entry(position.element)
        if entry.encoding == .raw {
            let blob = Blob(entry.pointer).reserving(heap, capacity)
            entry.pointer = blob.base
            return blob
        }
        return withUnsafeTemporaryAllocation(byteCount: 24, alignment: 8) { scratch in
            let blob = Blob.make(heap, entry.string(scratch.baseAddress!), capacity: capacity)
            let made = Entry.make(
                heap, entry.key, .string, .raw, expiry: entry.hasExpiry ? entry.expiry : nil, clock: entry.clock, pointer: blob.base)
            replace(position, with: made)
            return blob
        }
    }

    /// Sets or removes the expiry. O(1); the entry may move.
    /// - Returns: the entry where it is now.
    @discardableResult
    func setExpiry(_ position: Position, _ expiry: Int64?) -> Entry {
        let entry = Entry(position.element)
        if entry.hasExpiry, let expiry {
            entry.expiry = expiry
            return entry
        }
        if !entry.hasExpiry, expiry == nil { return entry }
        let valueSize = entry.valueSize
        let made = Entry.make(heap, entry.key, entry.type, entry.encoding, expiry: expiry, clock: entry.clock, valueSize: valueSize)
        memcpy(made.valueBase, entry.valueBase, valueSize)
        replace(position, with: made)
        return made
    }

    /// Empties the database; the entries are left to `Heap.reclaim`. O(1).
    func removeAll() {
        let old = state.pointee
        state.initialize(to: State(
            id: old.id, entries: Table(heap), expiring: Table(heap), watchedKeys: old.watchedKeys, blockedKeys: old.blockedKeys,
            heap: heap, clock: old.clock))
        Database.release(old)
    }

    /// Leaves the entries of a database that nobody can reach any more to `Heap.reclaim`. O(1).
    static func release(_ state: State) {
        state.entries.beginRelease()
        state.expiring.beginRelease()
        state.heap.bury(.entries, state.entries.pointer)
        state.heap.bury(.places, state.expiring.pointer)
    }
}

extension Entry {
    /// Frees the blocks that the value owns; the entry itself stays.
    @inline(__always)
    func freeValue() {
        if type == .string {
            if encoding == .raw { Blob(pointer).free(heap) }
            return
        }
        freeCollection()
    }
}
