import CLinux
import Glibc
import Logging
import Reactor

/// How the rewriting of the append-only file goes.
struct AOFRewrite {
    /// The child that writes the next base.
    var child: BackgroundSave?
    var isScheduled = false
    /// The last one succeeded.
    var isHealthy = true
    /// Seconds that the last one took; -1 for none.
    var lastDuration: Int64 = -1
    var lastCopiedBytes = 0
    var count = 0
    var consecutiveFailures = 0
    /// Seconds since 1970.
    var lastAttempt: Int64 = 0
    /// Whether the base being written is a snapshot.
    var writesSnapshot = true

    var isRunning: Bool { child != nil }

    /// After so many failures in a row the next automatic attempt waits, ever longer: each leaves an increment behind.
    private static let failuresMax = 3

    /// Writes are refused until one succeeds, so that waiting costs more than trying does.
    private static let pauseWhileRefusing: Int64 = 5

    /// Seconds to wait after failures before it is tried again by itself.
    /// - Parameter isRefusing: writes are refused until there is a new base.
    func pause(isRefusing: Bool) -> Int64 {
        if consecutiveFailures == 0 { return 0 }
        if consecutiveFailures < AOFRewrite.failuresMax { return 1 }
        if isRefusing { return AOFRewrite.pauseWhileRefusing }
        return min(3600, 60 << Int64(min(6, consecutiveFailures - AOFRewrite.failuresMax)))
    }
}

/// The rewrite: a child writes a new base while what comes in goes to a new increment.
extension AppendOnlyFile {
    private var seconds: Int64 { server.loop.wallMilliseconds / 1000 }
    var prefix: String { configuration.appendFilename }
    var manifestPath: String { "\(folder)/\(prefix).manifest" }
    private func path(_ name: String) -> String { "\(folder)/\(name)" }
    private var temporaryIncrement: String { path("temp-\(prefix).incr") }
    private func temporaryBase(_ pid: Int32) -> String { path("temp-rewriteaof-bg-\(pid).aof") }

    // MARK: when

    private var pause: Int64 { rewrite.pause(isRefusing: syncFailure != nil) }

    /// Looks whether a rewrite was asked for, or the file has grown enough.
    func cron() {
        guard !server.hasWritingChild, server.executionDepth == 0, !server.gate.contains(.loading) else { return }
        if rewrite.isScheduled {
            if seconds - rewrite.lastAttempt >= pause { _ = startRewrite() }
            return
        }
        guard state == .on, configuration.rewritePercentage > 0, currentSize > configuration.rewriteSizeLeast,
            seconds - rewrite.lastAttempt >= pause else { return }
        let growth = currentSize * 100 / max(1, baseSize) - 100
        guard growth >= configuration.rewritePercentage else { return }
        logger.notice("Starting automatic rewriting of AOF on \(growth)% growth")
        _ = startRewrite()
    }

    /// BGREWRITEAOF while another child is writing.
    func scheduleRewrite() {
        rewrite.isScheduled = true
        rewrite.consecutiveFailures = 0
    }

    // MARK: beginning

    /// Begins a rewrite.
    /// - Returns: nil, or why there is none.
    func startRewrite() -> SystemError? {
        rewrite.isScheduled = false
        rewrite.lastAttempt = seconds
        do throws(SystemError) {
            try prepare()
            if state != .off { try beginIncrement() }
            try fork()
            return nil
        } catch {
            logger.warning("Can't rewrite append only file in background: \(error)")
            failed()
            return error
        }
    }

    /// Reads what the folder holds, and makes it where it is not there.
    private func prepare() throws(SystemError) {
        if state == .off || folder.isEmpty { folder = configuration.inDirectory(configuration.appendFolder) }
        if let error = DurableFile.makeFolder(folder) { throw error }
        if manifest == nil { manifest = try readManifest() ?? AOFManifest() }
    }

    /// Lets what comes from now on go to another file: the child has all that came before.
    private func beginIncrement() throws(SystemError) {
        flush(isForced: true)
        if state == .waiting {
            // Only what comes from here on is needed beside the base.
            forgetBuffer()
            switchTo(try AppendedFile(path: temporaryIncrement, truncates: true))
            sizeBefore = 0
            return
        }
        // What could not be written is in the child's base; until that is there nothing is lost but what was refused.
        guard buffer.count == 0 else { throw SystemError("write \(file?.path ?? folder)", code: writeFailure != 0 ? writeFailure : EAGAIN) }
        // An attempt that failed left an increment that nothing has come into: many attempts need only that one.
        if rewrite.consecutiveFailures > 0, let file, file.size == 0, manifest?.increments.last.map({ path($0.name) }) == file.path { return }
        var next = manifest!
        let name = next.addIncrement(prefix: prefix)
        let opened = try AppendedFile(path: path(name), truncates: true)
        try write(next)
        sizeBefore += file?.size ?? 0
        switchTo(opened)
    }

    private func fork() throws(SystemError) {
        let configuration = server.configuration
        let (databases, wall) = (server.databases, server.loop.wallMilliseconds)
        let save = BackgroundSave(startedAt: seconds, dirtyBefore: server.dirty)
        let writesSnapshot = configuration.usesSnapshotPreamble
        let functions = server.functions.codes
        let base = folder
        rewrite.writesSnapshot = writesSnapshot
        save.pid = try server.forkWriter(named: "redis-aof-rewrite", save, { [self] progress in
            let temporary = "\(base)/temp-rewriteaof-\(getpid()).aof"
            return AOFBase.write(
                temporaryBase(getpid()), temporary: temporary, databases: databases, functions: functions, now: wall,
                asSnapshot: writesSnapshot, configuration, progress: progress)
        }) { [weak self] status in self?.ended(status) }
        save.temporary = "\(base)/temp-rewriteaof-\(save.pid).aof"
        rewrite.child = save
        logger.notice("Background append only file rewriting started by pid \(save.pid)")
    }

    // MARK: ending

    private func ended(_ status: ChildStatus) {
        guard let save = rewrite.child else { return }
        rewrite.child = nil
        rewrite.lastDuration = seconds - save.startedAt
        rewrite.lastCopiedBytes = save.copiedPeak
        if save.isStopped {
            unlink(save.temporary)
            unlink(temporaryBase(save.pid))
            return logger.notice("Background AOF rewrite ended, as it was told to")
        }
        switch status {
        case .exited(0):
            do throws(SystemError) {
                try adoptBase(temporaryBase(save.pid))
            } catch {
                logger.warning("The rewritten append only file could not take its place: \(error)")
                return failed()
            }
            logger.notice("Background AOF rewrite finished successfully")
            rewrite.count += 1
            rewrite.consecutiveFailures = 0
            rewrite.isHealthy = true
            healed()
        case .exited:
            logger.warning("Background AOF rewrite terminated with error: \(save.error)")
            failed()
        case .signalled(let signal):
            unlink(save.temporary)
            unlink(temporaryBase(save.pid))
            logger.warning("Background AOF rewrite terminated by signal \(signal)")
            failed()
        }
    }

    private func failed() {
        rewrite.isHealthy = false
        rewrite.consecutiveFailures += 1
        if state == .waiting { dropIncrement() }
        // Without the first base there is no file at all, and with an fsync that failed no writes.
        if state == .waiting || syncFailure != nil { rewrite.isScheduled = true }
    }

    /// Gives up the increment of a first base that does not come.
    private func dropIncrement() {
        forgetBuffer()
        switchTo(nil, isWorthless: true)
        unlink(temporaryIncrement)
    }

    /// Puts the child's base into the manifest, and what it makes superfluous out of it.
    private func adoptBase(_ written: String) throws(SystemError) {
        var next = manifest!
        let kept = state == .on ? 1 : 0
        let name = next.replaceBase(prefix: prefix, isSnapshot: rewrite.writesSnapshot, keepingIncrements: kept)
        if let error = DurableFile.move(written, to: path(name)) {
            unlink(written)
            throw error
        }
        if state == .waiting {
            flush(isForced: true)
            let increment = next.addIncrement(prefix: prefix)
            if let error = DurableFile.move(temporaryIncrement, to: path(increment)) {
                unlink(path(name))
                throw error
            }
        }
        do throws(SystemError) {
            try write(next)
        } catch {
            unlink(path(name))
            // It is still written to: its name is what a later attempt looks for.
            if state == .waiting { rename(path(next.increments.last!.name), temporaryIncrement) }
            throw error
        }
        if state == .waiting { state = .on }
        sizeBefore = DurableFile.size(of: path(name)) ?? 0
        baseSize = currentSize
        removeHistory()
    }

    /// Ends a child that is rewriting.
    func stopRewrite() {
        guard let save = rewrite.child else { return }
        logger.warning("Killing running AOF rewrite child: \(save.pid)")
        save.isStopped = true
        server.loop.sendSignal(SIGKILL, toChild: save.pid)
        // Nobody may be there any more when it has ended: the process may be about to end itself.
        unlink(save.temporary)
        unlink(temporaryBase(save.pid))
    }

    // MARK: the manifest

    /// Puts a manifest on the disk and in force.
    func write(_ next: AOFManifest) throws(SystemError) {
        let text = next.text
        let error = DurableFile.replace(manifestPath, temporary: path("temp-\(prefix).manifest")) { descriptor in
            var text = text
            return text.withUTF8 { DurableFile.write(UnsafeRawBufferPointer($0), to: descriptor) }
        }
        if let error { throw error }
        manifest = next
    }

    /// - Returns: nil when there is none.
    func readManifest() throws(SystemError) -> AOFManifest? {
        guard let bytes = try DurableFile.read(manifestPath) else { return nil }
        do throws(AOFManifestError) {
            return try AOFManifest(parsing: bytes)
        } catch {
            throw SystemError("the manifest \(manifestPath): \(error)", code: EBADMSG)
        }
    }

    /// Removes files of the past on a helper thread, and then their names.
    func removeHistory() {
        guard let manifest, !manifest.history.isEmpty, !configuration.keepsHistory else { return }
        let paths = manifest.history.map { path($0.name) }
        server.loop.runInBackground({ for path in paths { unlink(path) } }) { [weak self] in
            guard let self, var next = self.manifest else { return }
            next.history.removeAll { file in paths.contains(self.path(file.name)) }
            do throws(SystemError) {
                try write(next)
            } catch {
                logger.warning("The manifest still names files that are gone: \(error)")
            }
        }
    }

    // MARK: switching on and off

    /// CONFIG SET appendonly yes: what is there becomes the first base.
    func switchOn() -> SystemError? {
        guard state == .off else { return nil }
        // A rewrite that was asked for meanwhile knows nothing of an increment.
        stopRewrite()
        folder = configuration.inDirectory(configuration.appendFolder)
        manifest = nil
        state = .waiting
        if server.hasWritingChild || server.executionDepth > 0 {
            rewrite.isScheduled = true
            logger.notice("AOF was enabled but there is already another background operation. An AOF background was scheduled to start when possible.")
            return nil
        }
        if let error = startRewrite() {
            state = .off
            rewrite.isScheduled = false
            return error
        }
        return nil
    }

    /// CONFIG SET appendonly no: everything so far is brought to the disk.
    func switchOff() {
        guard state != .off else { return }
        stopRewrite()
        if state == .waiting {
            dropIncrement()
        } else {
            flush(isForced: true)
            forgetBuffer()
            switchTo(nil)
        }
        state = .off
        rewrite.isScheduled = false
        sizeBefore = 0
        forgetFailures()
    }

    /// The data set was replaced by a master's: what the files hold has nothing to do with it.
    func dataWasReplaced() {
        guard state != .off else { return }
        switchOff()
        if let error = switchOn() {
            // Tried again until it works; without a file the configuration's promise is not kept.
            logger.warning("Can't start the AOF anew after a full synchronisation: \(error). It is tried again.")
            state = .waiting
            rewrite.isScheduled = true
        }
    }
}

extension StoreServer {
    /// A child is writing: only one does at a time.
    var hasWritingChild: Bool { hasSnapshotChild || appendOnlyFile.rewrite.isRunning }

    /// A child is writing a snapshot, to a file or to replicas.
    var hasSnapshotChild: Bool { persistence.isSaving || replication.transfer?.hasChild == true }

    /// What a child that writes a file adds to its niceness: a third of the weight that the server has (sched(7)).
    private static let writerNiceness: Int32 = 5

    /// Forks a child that writes a file, and measures how long that stops us.
    /// - Parameters:
    ///   - title: what `ps` calls it.
    ///   - save: takes the child's report.
    ///   - body: the child's work, which says now and then how many keys it has written; nil for success.
    /// - Returns: the child's process id.
    func forkWriter(
        named title: String, _ save: BackgroundSave, _ body: (_ progress: @escaping (Int) -> Void) -> SystemError?, onExit: @escaping (ChildStatus) -> Void
    ) throws(SystemError) -> Int32 {
        save.keysTotal = databases.reduce(0) { $0 + $1.count }
        save.onProgress = { [unowned self] save in
            logger.notice("\(title): \(save.keysWritten) of \(save.keysTotal) keys are written, \(save.copied >> 20) MB of memory copied")
        }
        let before = ContinuousClock.now
        let (connection, pid) = try loop.forkWriter({ [self] report in
            becomeChild(title)
            // Where the two share a processor, who is served comes before what is saved.
            _ = nice(StoreServer.writerNiceness)
            let progress = SaveProgress { BackgroundSave.report(keys: $0, to: report) }
            let error = body(progress.note)
            BackgroundSave.report(error, to: report)
            return error == nil ? 0 : 1
        }, handler: save, onExit: onExit)
        let took = ContinuousClock.now - before
        statistics.latestForkMicroseconds = Int(took.components.attoseconds / 1_000_000_000_000)
        statistics.forks += 1
        addLatencySample("fork", nanoseconds: UInt64(statistics.latestForkMicroseconds) * 1000)
        connection.role = "snapshot"
        return pid
    }
}
