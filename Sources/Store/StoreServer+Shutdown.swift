import Glibc
import Reactor

/// Ending the store in order.
extension StoreServer {
    /// What SHUTDOWN and a signal ask for.
    struct ShutdownOptions {
        /// Whether to take a snapshot; nil: when `save` asks for snapshots at all.
        var save: Bool?
        /// Does not wait for replicas that lag behind.
        var isImmediate = false
        /// Goes although the snapshot failed.
        var isForced = false
        static let `default` = ShutdownOptions()

        init() {}

        /// What a signal asks for.
        init(_ signal: SignalShutdown) {
            save = signal.contains(.save) ? true : signal.contains(.noSave) ? false : nil
            isImmediate = signal.contains(.now)
            isForced = signal.contains(.force)
        }
    }

    /// An end that waits for replicas: writes wait meanwhile.
    struct PendingShutdown {
        let options: ShutdownOptions
        /// The stream up to here is what replicas must have.
        let target: Int64
        let deadline: Instant
        var completions: [(Bool) -> Void]
        /// The wait is over, and the rest under way.
        var isEnding = false
    }

    /// Waits until replicas have what was written, for `shutdown-timeout` seconds at most; then saves if asked for, stops listening and
    /// lets the last replies out.
    /// - Parameter completion: called once, with false when the store serves on: the snapshot failed, or SHUTDOWN ABORT came.
    func shutDown(_ options: ShutdownOptions, completion: @escaping (Bool) -> Void) {
        // SHUTDOWN has done its work when it asks the process to end.
        if hasEnded { return completion(true) }
        logger.warning("User requested shutdown...")
        if pendingShutdown != nil {
            pendingShutdown!.completions.append(completion)
            if options.isImmediate { endPendingShutdown() }
            return
        }
        guard !options.isImmediate, configuration.shutdownTimeout > 0, !gate.contains(.loading), !replication.isReplica,
            replication.lagging(behind: replication.offset).count > 0
        else { return end(options, completion: completion) }
        logger.notice("Waiting for replicas before shutting down.")
        pendingShutdown = PendingShutdown(
            options: options, target: replication.offset, deadline: loop.now + .seconds(configuration.shutdownTimeout),
            completions: [completion])
        gate.insert(.paused)
        replication.wantsAcknowledgements = true
    }

    /// A replica has acknowledged something, or time has gone by.
    func continueShutdown() {
        guard let pending = pendingShutdown, !pending.isEnding else { return }
        guard loop.now >= pending.deadline || replication.lagging(behind: pending.target).isEmpty else { return }
        endPendingShutdown()
    }

    private func endPendingShutdown() {
        guard let pending = pendingShutdown, !pending.isEnding else { return }
        pendingShutdown!.isEnding = true
        let lagging = replication.lagging(behind: pending.target)
        for client in lagging {
            let replica = client.replica!
            logger.notice("Lagging replica \(replication.name(of: client)) reported offset \(pending.target - replica.acknowledgedOffset) behind master, lag=\((loop.now.milliseconds - replica.acknowledgedAt) / 1000), state=\(replica.stateName).")
        }
        logger.notice("\(replication.replicas.count - lagging.count) of \(replication.replicas.count) replicas are in sync when shutting down.")
        // Not within the command of a client that is about to be closed.
        loop.schedule(after: .zero, label: "store shutdown") { [self] in
            end(pending.options) { [self] isDone in settleShutdown(isDone) }
        }
    }

    /// SHUTDOWN ABORT.
    /// - Returns: whether there was anything to abort.
    func abortShutdown() -> Bool {
        guard let pending = pendingShutdown, !pending.isEnding else { return false }
        logger.notice("Shutdown manually aborted.")
        settleShutdown(false)
        return true
    }

    private func settleShutdown(_ isDone: Bool) {
        let completions = pendingShutdown?.completions ?? []
        if !isDone {
            pendingShutdown = nil
            unpauseIfOver()
        }
        for completion in completions { completion(isDone) }
    }

    /// Saves if asked for, stops listening, lets the last replies and the replicas' bytes out.
    private func end(_ options: ShutdownOptions, completion: @escaping (Bool) -> Void) {
        // What is there is not the data set: to save it would be to lose the rest.
        let isLoading = gate.contains(.loading)
        loading?.cancel()
        if appendOnlyFile.state == .waiting, !options.isForced {
            logger.warning("Writing initial AOF. Can't exit.")
            return completion(false)
        }
        appendOnlyFile.stopRewrite()
        if let error = appendOnlyFile.finish(), !options.isForced {
            logger.warning("Error trying to bring the AOF to the disk, can't exit: \(error)")
            return completion(false)
        }
        if !isLoading, options.save ?? !configuration.savePoints.isEmpty, !saveBeforeExit(), !options.isForced {
            logger.warning("Error trying to save the DB, can't exit.")
            return completion(false)
        }
        persistence.stopChild()
        replication.isEnding = true
        stopListening()
        confirmation.end(.shutdown)
        for client in clients.values { client.connection.closeAfterFlush() }
        // The loop sends what is queued at the end of this iteration.
        loop.schedule(after: .milliseconds(1), label: "store shutdown") { [self] in
            hasEnded = true
            logger.warning("Redis is now ready to exit, bye bye...")
            completion(true)
        }
    }

    /// - Returns: whether the snapshot is on disk.
    private func saveBeforeExit() -> Bool {
        logger.notice("Saving the final RDB snapshot before exiting.")
        return persistence.saveBeforeExit()
    }
}
