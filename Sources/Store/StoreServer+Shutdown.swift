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

    /// Saves if asked for, stops listening, lets the last replies and the replicas' bytes out.
    /// - Parameter completion: called once, with false when the snapshot failed and the store serves on.
    func shutDown(_ options: ShutdownOptions, completion: @escaping (Bool) -> Void) {
        logger.warning("User requested shutdown...")
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
