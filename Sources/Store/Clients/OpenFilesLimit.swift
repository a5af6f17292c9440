import Glibc
import Logging
import Reactor

/// Descriptors enough for `maxclients`, or fewer clients.
extension StoreServer {
    /// Descriptors for everything but clients: listeners, files, replicas, the loop's own.
    private static let reservedDescriptors = 32

    /// Raises the process's limit of open files as far as it goes, and lowers `maxclients` to what that allows.
    /// - Throws: when not even a single client could be served.
    func makeRoomForClients() throws(SystemError) {
        let asked = configuration.maxClients
        let wanted = asked + StoreServer.reservedDescriptors
        let allowed = StoreServer.raiseOpenFilesLimit(to: wanted)
        guard allowed < wanted else { return }
        guard allowed > StoreServer.reservedDescriptors else {
            logger.warning("Your current 'ulimit -n' of \(allowed) is not enough for the server to start. Please increase your open file limit to at least \(wanted). Exiting.")
            throw SystemError("ulimit -n is \(allowed); maxclients \(asked) needs \(wanted), the least is \(StoreServer.reservedDescriptors + 1)", code: EMFILE)
        }
        configuration.maxClients = allowed - StoreServer.reservedDescriptors
        logger.warning("You requested maxclients of \(asked) requiring at least \(wanted) max file descriptors.")
        logger.warning("Current maximum open files is \(allowed). maxclients has been reduced to \(configuration.maxClients) to compensate for low ulimit. If you need higher maxclients increase 'ulimit -n'.")
    }

    /// Makes room for a `maxclients` that was set while running.
    /// - Returns: nil, or how many clients there could be room for.
    func clientsAllowed() -> Int? {
        let wanted = configuration.maxClients + StoreServer.reservedDescriptors
        let allowed = StoreServer.raiseOpenFilesLimit(to: wanted)
        return allowed < wanted ? max(0, allowed - StoreServer.reservedDescriptors) : nil
    }

    /// - Returns: the limit that holds then.
    private static func raiseOpenFilesLimit(to wanted: Int) -> Int {
        let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        var limit = rlimit()
        guard getrlimit(resource, &limit) == 0 else { return wanted }
        if limit.rlim_cur >= rlim_t(wanted) { return wanted }
        // Beyond the hard limit only for who may raise that; otherwise as far as it lets us.
        for target in [rlim_t(wanted), limit.rlim_max] {
            var raised = rlimit(rlim_cur: target, rlim_max: max(target, limit.rlim_max))
            if setrlimit(resource, &raised) == 0 { return Int(clamping: target) }
        }
        return Int(clamping: limit.rlim_cur)
    }
}
