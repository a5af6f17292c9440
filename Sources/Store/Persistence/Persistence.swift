import CLinux
import Glibc
import Logging
import Reactor

/// Snapshots: when they are taken, by whom, and how they went.
final class Persistence {
    unowned let server: StoreServer

    /// The last snapshot that succeeded, or the start; seconds since 1970.
    private(set) var lastSave: Int64
    /// The last snapshot in the background succeeded.
    private(set) var isHealthy = true
    /// Seconds that the last one in the background took; -1 for none.
    private(set) var lastDuration: Int64 = -1
    private(set) var lastCopiedBytes = 0
    /// Snapshots that were asked for by a command or a save point.
    private(set) var saves = 0
    private(set) var keysLoaded = 0
    private(set) var keysExpired = 0
    /// What the file that was loaded says of replication.
    private(set) var loadedInfo: SnapshotInfo?

    /// A snapshot being written by a child.
    private(set) var child: BackgroundSave?
    private var lastAttempt: Int64 = 0
    private var isScheduled = false

    /// Seconds to wait after a failure before a save point is tried again.
    private static let retrySeconds: Int64 = 5

    init(server: StoreServer) {
        self.server = server
        lastSave = server.loop.wallMilliseconds / 1000
    }

    private var now: Int64 { server.loop.wallMilliseconds / 1000 }
    private var path: String { server.configuration.inDirectory(server.configuration.dbFilename) }
    var isSaving: Bool { child != nil }
    /// Seconds since the running snapshot was begun; -1 for none.
    var currentDuration: Int64 { child.map { now - $0.startedAt } ?? -1 }

    /// A failed snapshot forbids writes (`stop-writes-on-bgsave-error`).
    var stopsWrites: Bool {
        !isHealthy && server.configuration.stopsWritesOnSnapshotError && !server.configuration.savePoints.isEmpty
    }

    /// Looks whether a save point is reached or a snapshot was asked for.
    func cron() {
        guard !server.hasWritingChild, !server.gate.contains(.loading) else { return }
        guard isHealthy || now - lastAttempt > Persistence.retrySeconds else { return }
        if isScheduled {
            isScheduled = startBackgroundSave() != nil
            return
        }
        for point in server.configuration.savePoints
        where server.dirty >= Int64(point.changes) && now - lastSave > Int64(point.seconds) {
            server.logger.notice("\(point.changes) changes in \(point.seconds) seconds. Saving...")
            _ = startBackgroundSave()
            return
        }
    }

    // MARK: saving

    /// Writes a snapshot; nothing else happens meanwhile. O(n).
    /// - Returns: nil, or what failed.
    func save() -> SystemError? {
        let configuration = server.configuration
        let total = server.databases.reduce(0) { $0 + $1.count }
        let progress = SaveProgress { [server, path] in server.logger.notice("Saving \(path): \($0) of \(total) keys are written") }
        let error = SnapshotFile.write(
            path: path, temporary: configuration.inDirectory("temp-\(getpid()).rdb"), databases: server.databases, info: server.replication.snapshotInfo,
            now: server.loop.wallMilliseconds, configuration, progress: progress.note)
        if let error {
            server.logger.warning("Failed saving the DB: \(error)")
            return error
        }
        server.logger.notice("DB saved on disk")
        succeeded(dirtyBefore: server.dirty)
        return nil
    }

    /// SAVE.
    /// - Returns: nil, or what failed.
    func saveAsAsked() -> SystemError? {
        let error = save()
        if error == nil { saves += 1 }
        return error
    }

    private func succeeded(dirtyBefore: Int64) {
        server.dirty -= dirtyBefore
        lastSave = now
        isHealthy = true
        server.updateGate()
    }

    /// Lets a child write a snapshot.
    /// - Parameter onEnd: called with whether it is there, when the child has ended.
    /// - Returns: nil, or why there is none.
    func startBackgroundSave(onEnd: @escaping (Bool) -> Void = { _ in }) -> SystemError? {
        lastAttempt = now
        let configuration = server.configuration
        let (path, directory) = (path, configuration.inDirectory(""))
        let (databases, info, wall) = (server.databases, server.replication.snapshotInfo, server.loop.wallMilliseconds)
        let save = BackgroundSave(startedAt: now, dirtyBefore: server.dirty)
        save.onEnd = onEnd
        do throws(SystemError) {
            let pid = try server.forkWriter(named: "redis-rdb-bgsave", save, { progress in
                SnapshotFile.write(
                    path: path, temporary: "\(directory)temp-\(getpid()).rdb", databases: databases, info: info, now: wall, configuration,
                    progress: progress)
            }) { [weak self] status in self?.childEnded(status) }
            save.pid = pid
            save.temporary = "\(directory)temp-\(pid).rdb"
            child = save
            server.logger.notice("Background saving started by pid \(pid)")
            return nil
        } catch {
            server.logger.warning("Can't save in background: \(error)")
            failed()
            return error
        }
    }

    private func failed() {
        isHealthy = false
        server.updateGate()
    }

    private func childEnded(_ status: ChildStatus) {
        guard let save = child else { return }
        child = nil
        lastDuration = now - save.startedAt
        lastCopiedBytes = save.copiedPeak
        if save.isStopped {
            // Not a failure, nor a success where it was done before it could be ended: what it holds is not wanted.
            unlink(save.temporary)
            server.logger.notice("Background saving ended, as it was told to")
            return save.onEnd(false)
        }
        switch status {
        case .exited(0):
            server.logger.notice("Background saving terminated with success")
            saves += 1
            succeeded(dirtyBefore: save.dirtyBefore)
        case .exited:
            server.logger.warning("Background saving error: \(save.error)")
            failed()
        case .signalled(let signal):
            unlink(save.temporary)
            server.logger.warning("Background saving terminated by signal \(signal)")
            failed()
        }
        save.onEnd(status == .exited(0))
    }

    /// Ends a child that is writing a snapshot.
    func stopChild() {
        guard let save = child else { return }
        server.logger.warning("There is a child saving an .rdb. Killing it!")
        save.isStopped = true
        server.loop.sendSignal(SIGKILL, toChild: save.pid)
        unlink(save.temporary)
    }

    /// FLUSHALL: neither a snapshot that is being written nor the one on the disk may bring back what is gone.
    func dataWasFlushed() {
        stopChild()
        if !server.configuration.savePoints.isEmpty { _ = save() }
    }

    /// BGSAVE SCHEDULE while something else is writing.
    func schedule() { isScheduled = true }

    /// Writes a snapshot now, before the process ends.
    /// - Returns: whether it is on disk.
    func saveBeforeExit() -> Bool {
        stopChild()
        return save() == nil
    }

    // MARK: loading

    /// The snapshot, ready to be read.
    /// - Returns: nil when there is none.
    func openSnapshot() throws(RDBReader.FileError) -> SnapshotLoad? {
        var options = RDBReader.Options()
        options.dropsExpired = !server.replication.isReplica
        options.verifiesChecksum = server.configuration.checksumsSnapshots
        options.now = server.loop.wallMilliseconds
        do throws(RDBReader.FileError) {
            return try SnapshotLoad(path: path, reader: server.makeReader(options))
        } catch {
            if case .missing = error { return nil }
            throw error
        }
    }

    /// Loads the snapshot if there is one. It blocks. O(n).
    /// - Parameters:
    ///   - flushes: what was there goes first (all of it at once, when the whole file has been read).
    ///   - merges: otherwise, a key of the snapshot replaces one that is there.
    /// - Returns: false when nothing was loaded because a key is there that may not be replaced.
    /// - Throws: what is wrong with the file, and at which byte; the data set is as it was.
    func load(flushes: Bool, merges: Bool) throws(RDBReader.FileError) -> Bool {
        guard let load = try openSnapshot() else { return true }
        while try !load.read(until: .max) {}
        if !flushes, !merges, server.hasKey(of: load.snapshot.databases) { return false }
        use(load, flushes: flushes)
        return true
    }

    /// Puts what was read in the place of the data set, or into it.
    func use(_ load: SnapshotLoad, flushes: Bool = true) {
        let reader = load.snapshot
        logLoaded(reader)
        loadedInfo = reader.info
        if flushes { server.adopt(reader) } else { server.merge(reader) }
        server.dirty = 0
        let took = ContinuousClock.now - load.began
        let seconds = Double(took.components.seconds) + Double(took.components.attoseconds) / 1e18
        server.logger.notice("DB loaded from disk: \(InfoSection.fixed(seconds, places: 3)) seconds")
    }

    /// Says in log and INFO what a snapshot has brought.
    func logLoaded(_ reader: RDBReader) {
        keysLoaded = reader.keysLoaded
        keysExpired = reader.keysExpired
        if let creator = reader.creator { server.logger.notice("Loading RDB produced by version \(creator)") }
        if let createdAt = reader.createdAt {
            server.logger.notice("RDB age \(max(0, server.loop.wallMilliseconds - createdAt) / 1000) seconds")
        }
        if let used = reader.usedMemory {
            server.logger.notice("RDB memory usage when created \(InfoSection.fixed(Double(used) / 1024 / 1024)) Mb")
        }
        for warning in reader.warnings { server.logger.warning("\(warning)") }
        server.logger.notice("Done loading RDB, keys loaded: \(reader.keysLoaded), keys expired: \(reader.keysExpired).")
    }
}

extension StoreServer {
    /// A reader whose databases can take the place of this server's.
    func makeReader(_ options: RDBReader.Options) -> RDBReader {
        RDBReader(databaseCount: databases.count, heap: heap, clock: clock, configuration: configuration, options: options)
    }

    func hasKey(of others: UnsafeMutableBufferPointer<Database>) -> Bool {
        others.contains { other in
            var isThere = false
            other.entries.forEach { if databases[other.id].find(Entry($0).key) != nil { isThere = true } }
            return isThere
        }
    }

    /// Puts what a reader has read beside what is there. O(n).
    func merge(_ reader: RDBReader) {
        let fresh = reader.takeDatabases()
        for other in fresh {
            var elements: [UnsafeMutableRawPointer] = []
            other.entries.forEach { elements.append($0) }
            for element in elements {
                let entry = other.take(at: other.find(Entry(element).key)!)
                put(databases[other.id], entry)
                keyChanged(databases[other.id], entry.key)
            }
        }
        RDBReader.release(fresh)
        for code in reader.info.functions { functions.keep(code) }
        noteFunctions()
    }

    /// Puts what a reader has read in place of the data set, all at once, and leaves the old one to be freed.
    func adopt(_ reader: RDBReader) {
        let fresh = reader.takeDatabases()
        for db in databases {
            touchAllWatched(db, replacedBy: fresh[db.id])
            db.swapContents(with: fresh[db.id])
        }
        RDBReader.release(fresh)
        adopt(functions: reader.info.functions)
    }
}
