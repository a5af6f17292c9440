import Glibc
import Logging
import Reactor
import RESP

/// `appendfsync`: when what was written is brought to the disk.
enum AppendSync: String, CaseIterable {
    case everysec, always, no
}

/// The append-only file: what commands change is written to it before their replies leave.
///
///     command --> buffer --(once an iteration, before replies are sent)--> increment --(fsync, as `appendfsync` says)--> disk
///
/// The files are those of Redis 7: a base that a child writes (`AOFRewrite.swift`) and increments, listed in a manifest.
final class AppendOnlyFile {
    enum State {
        case off
        /// The first base is still to be written: what is appended meanwhile goes to a file that the manifest does not name yet.
        case waiting
        case on
    }

    unowned let server: StoreServer
    var state = State.off
    /// What is on the disk; nil until it was looked at.
    var manifest: AOFManifest?
    /// The increment that is being appended to.
    private(set) var file: AppendedFile?
    /// Where the files are, fixed while the file is on.
    var folder = ""
    /// The bytes of the base and the increments before the last one.
    var sizeBefore = 0
    /// `currentSize` after the last rewrite, or the start.
    var baseSize = 0
    var rewrite = AOFRewrite()

    private(set) var buffer = CommandBuffer()
    /// The database that the file has selected; -1 for none.
    private var selected: Int32 = -1
    /// The last second that the file was told (`aof-timestamp-enabled`).
    private var lastTimestamp: Int64 = 0

    // Writing and syncing.
    /// Why the last write failed; 0 when it succeeded.
    private(set) var writeFailure: Int32 = 0
    private var lastAttempt: Int64 = 0
    private var lastComplaint: Int64 = 0
    /// Since when a write waits for an fsync that is running, in milliseconds since 1970; 0 for none.
    private var postponedSince: Int64 = 0
    /// Written bytes that no fsync was begun for.
    private var unsynced = 0
    private var lastSync: Int64 = 0
    /// Files being synced by helper threads (`aof_pending_bio_fsync`).
    private(set) var pendingSyncs = 0
    /// Writes that had to be made while an fsync was running (`aof_delayed_fsync`).
    var delayedSyncs = 0
    /// The fsync that replies wait for under `always`.
    private enum Commit {
        case none, running, done
    }
    private var commit = Commit.none
    /// How long the last one took.
    private var commitNanoseconds: UInt64 = .max
    /// An fsync failed: what the kernel had taken may be lost, and no later fsync tells. Only a new base heals that.
    private(set) var syncFailure: SystemError?

    /// The replication offset of the last command that a finished fsync covers.
    private var lastSyncedOffset: Int64 = 0

    /// Milliseconds that a write waits for an fsync at most, and between two attempts after a failure; as Redis has them.
    private static let postponementMax: Int64 = 2000
    private static let syncInterval: Int64 = 1000
    private static let retryInterval: Int64 = 100
    private static let complaintInterval: Int64 = 30_000
    /// A disk that is as fast as this is waited for where only one client waits: a helper thread would cost more than it saves.
    private static let quickSyncNanoseconds: UInt64 = 1_000_000

    init(server: StoreServer) { self.server = server }

    var configuration: StoreConfiguration { server.configuration }
    private var now: Int64 { server.loop.wallMilliseconds }
    var logger: Logger { server.logger }

    /// What commands change is taken.
    var isTaking: Bool { state != .off && file != nil }
    var currentSize: Int { sizeBefore + (file?.size ?? 0) }

    /// Why commands that write are refused, in the words behind MISCONF; nil while they are not.
    var refusal: String? {
        if writeFailure != 0 { return String(cString: strerror(writeFailure)) }
        return syncFailure?.reason
    }

    /// How far the replication stream is on our disk; nil without a file.
    var syncedOffset: Int64? {
        guard state == .on, isTaking else { return nil }
        let isAllThere = buffer.count == 0 && unsynced == 0 && pendingSyncs == 0 && refusal == nil
        return isAllThere ? server.replication.offset : lastSyncedOffset
    }

    private func synced(to offset: Int64) {
        lastSyncedOffset = max(lastSyncedOffset, offset)
        server.replication.serveWaiting()
    }

    // MARK: taking commands

    /// Takes one command. O(bytes).
    func feed(_ db: Int, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) {
        guard isTaking else { return }
        if configuration.stampsAppendOnlyFile { stamp() }
        if Int32(db) != selected {
            selected = Int32(db)
            server.withArguments([Array("SELECT".utf8), Array(number: Int64(db))]) { _ = buffer.append($0, $1) }
        }
        buffer.append(arguments, count)
    }

    /// Notes the time, once a second.
    private func stamp() {
        let second = now / 1000
        guard second > lastTimestamp else { return }
        lastTimestamp = second
        Array(AppendOnlyFile.timestamp(second).utf8).withUnsafeBytes { buffer.append($0) }
    }

    static func timestamp(_ second: Int64) -> String { "#TS:\(second)\r\n" }

    // MARK: writing

    /// Writes what this iteration has changed, and syncs it where replies have to wait for that.
    func beforeFlush() {
        if commit == .done {
            commit = .none
            server.loop.releaseSealedOutput()
        }
        if buffer.count > 0 || unsynced > 0 { flush() }
        if commit == .running {
            // What was executed since it began has changed more, or may have seen what is not on the disk yet.
            server.loop.holdOutput()
        } else if server.loop.isHoldingOutput {
            server.loop.releaseOutput()
        }
    }

    /// - Parameter isForced: neither waits for an fsync that is running nor for the time of another attempt.
    func flush(isForced: Bool = false) {
        guard let file else { return }
        if buffer.count > 0 {
            if isForced || !isPostponed { write(to: file) }
            if buffer.count > 0 { return }
        }
        if unsynced > 0 { syncAsConfigured(file, isForced: isForced) }
    }

    /// While an fsync is running a write may block: it is put off for a while, and made then all the same.
    private var isPostponed: Bool {
        if writeFailure != 0, now - lastAttempt < AppendOnlyFile.retryInterval { return true }
        guard pendingSyncs > 0, configuration.appendSync == .everysec else {
            postponedSince = 0
            return false
        }
        if postponedSince == 0 {
            postponedSince = now
            return true
        }
        if now - postponedSince < AppendOnlyFile.postponementMax { return true }
        postponedSince = 0
        delayedSyncs += 1
        logger.notice("Asynchronous AOF fsync is taking too long (disk is busy?). Writing the AOF buffer without waiting for fsync to complete, this may slow down Redis.")
        return false
    }

    private func write(to file: AppendedFile) {
        lastAttempt = now
        let before = file.size
        let failure = file.append(buffer.bytes)
        if failure == 0 {
            unsynced += buffer.count
            buffer.removeAll()
            if writeFailure != 0 {
                logger.warning("AOF write error looks solved. The server can write again.")
                writeFailure = 0
                server.updateGate()
            }
            return
        }
        let written = file.size - before
        complain("Error writing to the AOF file \(file.path): \(String(cString: strerror(failure))) (\(written) of \(buffer.count) bytes were written at byte \(before))")
        if written > 0, !file.truncate(to: before) {
            logger.warning("Could not remove the short write from the AOF file \(file.path): \(String(cString: strerror(errno))). The file ends in the middle of a command until the rest is written.")
            unsynced += written
            buffer.dropFirst(written)
        }
        if configuration.appendSync == .always {
            endProcess("Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting...")
        }
        if server.replication.isReplica, !configuration.replicaIgnoresDiskErrors {
            endProcess("A replica cannot refuse its master's writes, and this one could not be written to the AOF. Exiting... (replica-ignore-disk-write-errors yes goes on without)")
        }
        writeFailure = failure
        server.updateGate()
    }

    /// Says what fails, not more often than twice a minute.
    private func complain(_ text: String) {
        guard writeFailure == 0 || now - lastComplaint >= AppendOnlyFile.complaintInterval else { return }
        lastComplaint = now
        logger.warning("\(text)")
    }

    /// Ends at once: nothing that was not brought to the disk may be acknowledged.
    private func endProcess(_ text: String) -> Never {
        logger.critical("\(text)")
        exit(1)
    }

    // MARK: syncing

    private func syncAsConfigured(_ file: AppendedFile, isForced: Bool) {
        if configuration.skipsSyncOnRewrite, server.hasWritingChild { return }
        // Once it has failed it says nothing any more: the kernel may count pages as written that are not.
        if syncFailure != nil { return }
        switch configuration.appendSync {
        case .always:
            if isForced {
                unsynced = 0
                lastSync = now
                committed(file.sync())
            } else if commit != .running {
                beginCommit(file)
            }
        case .everysec:
            if now - lastSync >= AppendOnlyFile.syncInterval, pendingSyncs == 0 { syncInBackground(file) }
        case .no: break
        }
    }

    /// One fsync for everybody (group commit). The loop goes on meanwhile, so that a slow disk holds up nobody but the store's
    /// clients; replies that were queued so far leave when it is done, and what comes in between is covered by the next one.
    ///
    /// Tried and left out, as they gained nothing over 50 connections on a disk that takes 0.15 ms: to wait for more clients before
    /// the fsync, and room allocated ahead.
    private func beginCommit(_ file: AppendedFile) {
        unsynced = 0
        lastSync = now
        let outcome = SyncOutcome()
        if server.loop.holdOutput() <= 1, commitNanoseconds < AppendOnlyFile.quickSyncNanoseconds {
            outcome.sync(file)
            commit = .none
            commitNanoseconds = outcome.nanoseconds
            return committed(outcome.error)
        }
        commit = .running
        pendingSyncs += 1
        let offset = server.replication.offset
        server.loop.sealOutput()
        server.loop.runInBackground({ outcome.sync(file) }) { [weak self] in
            guard let self else { return }
            commit = .done
            pendingSyncs -= 1
            commitNanoseconds = outcome.nanoseconds
            committed(outcome.error)
            synced(to: offset)
        }
    }

    private func committed(_ error: SystemError?) {
        if let error { endProcess("Can't persist AOF for fsync error when the AOF fsync policy is 'always': \(error). Exiting...") }
        if configuration.latencyMonitorThreshold > 0 { server.addLatencySample("aof-fsync-always", nanoseconds: commitNanoseconds) }
    }

    /// Lets a helper thread bring to the disk what has been written so far.
    private func syncInBackground(_ file: AppendedFile) {
        let from = file.size - unsynced
        unsynced = 0
        lastSync = now
        pendingSyncs += 1
        let outcome = SyncOutcome()
        let to = file.size
        let offset = server.replication.offset
        server.loop.runInBackground({ outcome.sync(file) }) { [weak self] in
            guard let self else { return }
            pendingSyncs -= 1
            if let error = outcome.error { syncFailed(error, file, from, to) } else { synced(to: offset) }
        }
    }

    private func syncFailed(_ error: SystemError, _ file: AppendedFile, _ from: Int, _ to: Int) {
        logger.critical("\(error). Bytes \(from) to \(to) of \(file.path) may not be on the disk. Writes are refused until a rewrite has brought the whole data set to the disk.")
        if configuration.appendSync == .always { endProcess("The AOF fsync policy is 'always'. Exiting...") }
        syncFailure = error
        rewrite.isScheduled = true
        server.updateGate()
    }

    // MARK: files

    /// Appends to another file from now on. What was written to the one before is brought to the disk by a helper thread.
    /// - Parameter isWorthless: nobody is going to read the one before.
    func switchTo(_ next: AppendedFile?, isWorthless: Bool = false) {
        if let file, unsynced > 0, syncFailure == nil, !isWorthless {
            if next == nil { syncNow(file) } else { syncInBackground(file) }
        }
        unsynced = 0
        file = next
        selected = -1
        lastTimestamp = 0
        lastSync = now
        server.updatePropagation()
    }

    /// Syncs, and waits for it.
    private func syncNow(_ file: AppendedFile) {
        guard syncFailure == nil else { return }
        if let error = file.sync() { syncFailed(error, file, file.size - unsynced, file.size) }
        unsynced = 0
        lastSync = now
    }

    /// Drops what was taken and not written.
    func forgetBuffer() { buffer.removeAll() }

    /// All data is on the disk in new files: what failed before matters no more.
    func healed() {
        guard syncFailure != nil || writeFailure != 0 else { return }
        if syncFailure != nil { logger.notice("The data set is on the disk again after an fsync that had failed; writes are accepted.") }
        syncFailure = nil
        server.updateGate()
    }

    /// What failed concerns a file that is given up.
    func forgetFailures() {
        writeFailure = 0
        syncFailure = nil
        server.updateGate()
    }

    /// Brings everything to the disk, before the process ends.
    /// - Returns: what failed; nil when all is there.
    func finish() -> SystemError? {
        guard state != .off, let file else { return nil }
        flush(isForced: true)
        if writeFailure != 0 { return SystemError("write \(file.path)", code: writeFailure) }
        logger.notice("Calling fsync() on the AOF file.")
        syncNow(file)
        if syncFailure == nil { server.loop.releaseOutput() }
        return syncFailure
    }
}

/// What a helper thread found out; read in the loop when the thread is done with it.
private final class SyncOutcome: @unchecked Sendable {
    // Written before the completion is queued and read after, and the queue's mutex lies between.
    private(set) var error: SystemError?
    private(set) var nanoseconds: UInt64 = 0

    func sync(_ file: AppendedFile) {
        let start = StoreServer.nanoseconds()
        error = file.sync()
        nanoseconds = StoreServer.nanoseconds() - start
    }
}

/// A file that is appended to. It is closed when nobody has it any more, so that a helper thread that syncs it never meets
/// another file under its number.
final class AppendedFile: @unchecked Sendable {
    let path: String
    private let descriptor: Int32
    /// Used by the loop's thread only.
    private(set) var size: Int

    /// - Parameter truncates: begins an empty file; else what is there is kept.
    init(path: String, truncates: Bool) throws(SystemError) {
        self.path = path
        descriptor = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | (truncates ? O_TRUNC : 0), 0o644)
        guard descriptor >= 0 else { throw SystemError("open \(path)") }
        var status = stat()
        size = fstat(descriptor, &status) == 0 ? Int(status.st_size) : 0
    }

    deinit { close(descriptor) }

    /// Appends bytes; `size` says how many have got there.
    /// - Returns: 0, or the errno.
    func append(_ bytes: UnsafeRawBufferPointer) -> Int32 {
        var rest = bytes
        while rest.count > 0 {
            let n = Glibc.write(descriptor, rest.baseAddress!, rest.count)
            if n >= 0 {
                size += n
                rest = UnsafeRawBufferPointer(rebasing: rest[n...])
            } else if errno != EINTR {
                return errno
            }
        }
        return 0
    }

    /// - Returns: whether the file ends there now; else errno says why not.
    func truncate(to length: Int) -> Bool {
        guard ftruncate(descriptor, off_t(length)) == 0 else { return false }
        size = length
        return true
    }

    /// Brings what was written to the disk. It blocks.
    func sync() -> SystemError? { fdatasync(descriptor) == 0 ? nil : SystemError("fsync of \(path)") }
}
