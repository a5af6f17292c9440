import Glibc

/// What the store does to the process that it runs in.
extension StoreServer {
    /// Lets the store decide about the whole process: its title, its score, its open files.
    /// - Parameter name: what the title calls it.
    func adoptProcess(name: String, title: ProcessTitle?) {
        processName = name
        processTitle = title
        showTitle()
        applyOutOfMemoryScore()
        switch OpenFiles.allow(clients: configuration.maxClients) {
        case .enough: break
        case .raised(let before, let files):
            logger.notice("Increased maximum number of open files to \(files) (it was originally set to \(before)).")
        case .tooFew(let clients, let files, let reason):
            logger.warning("You requested maxclients of \(configuration.maxClients) requiring at least \(configuration.maxClients + OpenFiles.reserved) max file descriptors.")
            logger.warning("Server can't set maximum open files to \(configuration.maxClients + OpenFiles.reserved) because of OS error: \(reason).")
            configuration.maxClients = max(1, clients)
            logger.warning("""
                Current maximum open files is \(files). maxclients has been reduced to \(configuration.maxClients) to compensate for low ulimit. \
                If you need higher maxclients increase 'ulimit -n'.
                """)
        }
    }

    func showTitle() { processTitle?.set(TitleTemplate.title(processName, configuration)) }

    /// Tells the kernel our score, which depends on whether we are a master.
    /// - Returns: 0, or the errno.
    @discardableResult
    func applyOutOfMemoryScore() -> Int32 {
        let problem = outOfMemoryScore.apply(configuration, replication.isReplica ? .replica : .master)
        if problem != 0 { logger.warning("Unable to write oom_score_adj: \(String(cString: strerror(problem)))") }
        return problem
    }

    /// To be called first in a forked child: it has a title and a score of its own.
    func becomeChild(_ name: String) {
        processTitle?.set(TitleTemplate.title(name, configuration))
        _ = outOfMemoryScore.apply(configuration, .child)
    }
}
