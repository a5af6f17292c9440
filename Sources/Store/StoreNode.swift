import Configuration
import Glibc
import Logging
import Observability
import Reactor

/// The store as a role on a loop.
public final class StoreNode {
    let server: StoreServer
    private let loop: Loop

    /// - Parameters:
    ///   - configuration: what the files and the command line say.
    ///   - log: Redis's own log, whose level CONFIG SET changes and whose role letter follows ours; nil for another logger.
    public init(loop: Loop, configuration: StoreConfiguration, logger: Logger, log: RedisLog? = nil) {
        self.loop = loop
        server = StoreServer(loop: loop, configuration: configuration, logger: logger)
        server.log = log
    }

    /// Loads the snapshot, if there is one. It blocks.
    /// - Throws: an error naming the file, the byte and what was found there.
    public func load() throws(SystemError) {
        do throws(RDBReader.FileError) {
            try server.persistence.load()
        } catch {
            server.logger.warning("Fatal error loading the DB: \(error). Exiting.")
            if case .system(_, let cause) = error { throw cause }
            throw SystemError("load \(error)", code: EBADMSG)
        }
    }

    /// Binds the addresses and starts to serve.
    /// - Throws: `SystemError` naming the address that cannot be bound.
    public func start() throws(SystemError) {
        try server.openListeners()
        if let master = server.configuration.replicaOf { server.replication.follow(host: master.host, port: master.port) }
        server.logger.notice("Ready to accept connections tcp")
    }

    /// Saves what `save` asks to be saved, stops serving, and calls `completion` with whether all went well.
    public func stop(completion: @escaping (Bool) -> Void) { server.shutDown(.default, completion: completion) }

    /// What SHUTDOWN ends: the process, unless there is more than the store in it.
    public var onShutdown: () -> Void {
        get { server.onShutdown }
        set { server.onShutdown = newValue }
    }
}
