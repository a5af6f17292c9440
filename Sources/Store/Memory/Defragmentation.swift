import Glibc
import RESP

/// Goes through all keys and moves what lies on sparse slabs, a little at a time.
///
/// An entry is known to its table only (and, when it expires, to a second one), so that it can be moved. Members of large sets, hashes
/// and sorted sets are moved too; the nodes of lists, trees and streams are not.
struct Defragmentation {
    private(set) var isRunning = false
    private var database = 0
    private var cursor: UInt64 = 0
    /// All buckets of the database have been visited; large collections of the last one may be left.
    private var isDatabaseDone = false
    /// The large collection that is being gone through, and how far.
    private var inside: (key: [UInt8], cursor: UInt64)?
    /// Large collections of the bucket that was visited last.
    private var pending: [[UInt8]] = []
    private(set) var blocksMoved = 0
    private(set) var runs = 0

    mutating func begin() {
        isRunning = true
        database = 0
        cursor = 0
        isDatabaseDone = false
        inside = nil
        pending = []
        runs += 1
    }

    /// Visits about `buckets` buckets.
    /// - Returns: whether everything has been visited.
    mutating func step(_ databases: UnsafeMutableBufferPointer<Database>, _ buckets: Int) -> Bool {
        var left = buckets
        while left > 0 {
            left -= 1
            if let (key, place) = inside {
                let next = key.withUnsafeBytes { moveMembers(databases[database], Argument($0), place) }
                inside = next == 0 ? nil : (key, next)
            } else if let key = pending.popLast() {
                inside = (key, 0)
            } else if isDatabaseDone {
                isDatabaseDone = false
                database += 1
                if database == databases.count {
                    isRunning = false
                    return true
                }
            } else {
                let db = databases[database]
                cursor = db.entries.scanPositions(cursor) { move(db, $0) }
                // What was found in the last bucket belongs to this database still.
                isDatabaseDone = cursor == 0
            }
        }
        return false
    }

    private mutating func move(_ db: Database, _ position: Database.Position) {
        var entry = Entry(position.element)
        if let made = entry.copyIfSparse() {
            if entry.hasExpiry { db.expiring.find(entry.key)!.element = made.base }
            position.element = made.base
            entry.free()
            entry = made
            blocksMoved += 1
        }
        switch (entry.type, entry.encoding) {
        case (.set, .intset): if let made = StoredSet(entry).intset.moveIfSparse() { moved(entry, to: made) }
        case (.set, .listpack), (.hash, .listpack), (.sortedSet, .listpack):
            if let made = Listpack(entry.pointer).moveIfSparse() { moved(entry, to: made) }
        case (.set, .table), (.hash, .table), (.sortedSet, .sortedTree): pending.append(entry.key.bytes)
        default: break
        }
    }

    private mutating func moved(_ entry: Entry, to block: UnsafeMutableRawPointer) {
        entry.pointer = block
        blocksMoved += 1
    }

    /// - Returns: where to go on; 0 when the collection has been gone through, or is gone.
    private mutating func moveMembers(_ db: Database, _ key: Argument, _ cursor: UInt64) -> UInt64 {
        guard let entry = db.find(key).map({ Entry($0.element) }) else { return 0 }
        switch (entry.type, entry.encoding) {
        case (.set, .table):
            return StoredSet(entry).table.scanPositions(cursor) { move($0, SetMember($0.element).moveIfSparse()) }
        case (.hash, .table):
            return StoredHash(entry).table.scanPositions(cursor) { move($0, HashField($0.element).moveIfSparse()) }
        case (.sortedSet, .sortedTree):
            let index = SortedIndex(entry.pointer)
            return index.members.scanPositions(cursor) { position in
                let element = SortedElement(position.element)
                guard let made = element.copyIfSparse() else { return }
                index.tree.replace(element, with: made)
                position.element = made.base
                element.free()
                blocksMoved += 1
            }
        default: return 0
        }
    }

    private mutating func move<Element>(_ position: Table<Element>.Position, _ made: UnsafeMutableRawPointer?) {
        guard let made else { return }
        position.element = made
        blocksMoved += 1
    }
}
