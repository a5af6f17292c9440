import Glibc
import RESP

/// Look-ups and changes of keys, with all that hangs on them: expiry, statistics, watchers, events, replicas.
extension StoreServer {
    /// Finds a key for reading; an expired one is not there. O(1).
    /// - Parameter touches: whether that counts as a use of the key.
    @inline(__always)
    func lookup(_ db: Database, _ key: Argument, touches: Bool = true) -> Entry? {
        guard let position = db.find(key) else {
            missed(db, key)
            return nil
        }
        let entry = Entry(position.element)
        if entry.hasExpiry, isExpired(db, entry, position) {
            missed(db, key)
            return nil
        }
        statistics.keyspaceHits &+= 1
        if touches { db.touch(entry) }
        return entry
    }

    /// Says that a key was looked for that is not there.
    @inline(__always)
    func missed(_ db: Database, _ key: Argument) {
        statistics.keyspaceMisses &+= 1
        if !configuration.notifiedEvents.isEmpty { notify(.keyMiss, "keymiss", key, db) }
    }

    /// Finds a key for changing it; an expired one is removed. O(1).
    @inline(__always)
    func lookupForWrite(_ db: Database, _ key: Argument, touches: Bool = true) -> Database.Position? {
        guard let position = db.find(key) else { return nil }
        let entry = Entry(position.element)
        if entry.hasExpiry, isExpired(db, entry, position, isForWrite: true) { return nil }
        if touches { db.touch(entry) }
        return position
    }

    /// Finds a key whose value is told before it is changed: counts as a look-up for reading too. O(1).
    func lookupForReadAndWrite(_ db: Database, _ key: Argument) -> Database.Position? {
        guard let position = lookupForWrite(db, key) else {
            missed(db, key)
            return nil
        }
        statistics.keyspaceHits &+= 1
        return position
    }

    /// Whether the entry's time is over. On a master it is removed then, and replicas are told.
    private func isExpired(_ db: Database, _ entry: Entry, _ position: Database.Position, isForWrite: Bool = false) -> Bool {
        guard entry.expiry <= db.now else { return false }
        if gate.contains(.loading) { return false }
        if replication.isReplica {
            // The master decides when a key goes; until then its own stream still finds it. A client of a replica that takes writes puts
            // something else in its place.
            if isApplyingMasterStream { return false }
            if isForWrite, !configuration.isReplicaReadOnly { expire(db, position) }
            return true
        }
        expire(db, position)
        return true
    }

    /// What is executed was decided before, by our master or by ourselves: a time that is over now was not over then.
    var isApplyingMasterStream: Bool { replication.isApplyingStream || gate.contains(.loading) }

    /// Says that a key was changed: watchers, tracking and those who wait for a group hear of it.
    @inline(__always)
    func keyChanged(_ db: Database, _ key: Argument) {
        if db.state.pointee.watchedKeys != 0 { touchWatched(db, key) }
        if blocking.hearingCount != 0 { signalReady(db, key) }
    }

    /// Says that a command changed a key: watchers, events and the count of changes.
    @inline(__always)
    func changed(_ db: Database, _ key: Argument, _ kind: KeyspaceEvent, _ event: StaticString, _ changes: Int64 = 1) {
        keyChanged(db, key)
        if !configuration.notifiedEvents.isEmpty { notify(kind, event, key, db) }
        dirty &+= changes
    }

    /// Says that a key that was not there is made: to be called before the event of the command that makes it.
    @inline(__always)
    func created(_ db: Database, _ key: Argument) {
        if configuration.notifiedEvents.contains(.new) { notify(.new, "new", key, db) }
    }

    /// Says so of a key that is about to be set, if it is not there.
    @inline(__always)
    func willSet(_ db: Database, _ key: Argument) {
        if configuration.notifiedEvents.contains(.new), lookupForWrite(db, key, touches: false) == nil { created(db, key) }
    }

    /// Removes a key that a command deletes.
    /// - Returns: whether it was there.
    @discardableResult
    func delete(_ db: Database, _ key: Argument, event: StaticString = "del") -> Bool {
        guard let position = lookupForWrite(db, key) else { return false }
        db.remove(at: position)
        changed(db, key, .generic, event)
        return true
    }

    /// Removes a key whose collection has become empty; the caller has counted the change already.
    func deleteEmptied(_ db: Database, _ key: Argument) {
        _ = db.remove(key)
        if !configuration.notifiedEvents.isEmpty { notify(.generic, "del", key, db) }
    }

    /// Says that a key exists that a client may be blocked on.
    @inline(__always)
    func keyReady(_ db: Database, _ key: Argument) {
        if db.state.pointee.blockedKeys != 0 { signalReady(db, key) }
    }

    /// Replaces or adds an entry made elsewhere, dropping whatever the key held. The expiry is the new entry's.
    /// - Parameter isNew: whether the key counts as a new one even where it was there, as RESTORE's and COPY's do.
    func put(_ db: Database, _ entry: Entry, isNew: Bool = false) {
        // One whose time is over goes first, and that is told.
        if lookupForWrite(db, entry.key) == nil || isNew { created(db, entry.key) }
        if let position = db.find(entry.key) {
            Entry(position.element).freeValue()
            db.replace(position, with: entry)
        } else {
            db.add(entry)
        }
        keyReady(db, entry.key)
    }
}
