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

    /// Loads the append-only file where the configuration asks for one, else the snapshot, if there is one. It blocks.
    /// - Throws: an error naming the file, the byte and what was found there.
    public func load() throws(SystemError) {
        if server.configuration.appendsOnly { return try loadAppendOnlyFile() }
        do throws(RDBReader.FileError) {
            try server.persistence.load()
        } catch {
            server.logger.warning("Fatal error loading the DB: \(error). Exiting.")
            if case .system(_, let cause) = error { throw cause }
            throw SystemError("load \(error)", code: EBADMSG)
        }
    }

    private func loadAppendOnlyFile() throws(SystemError) {
        do throws(AOFError) {
            try server.appendOnlyFile.loadAtStart()
        } catch {
            server.logger.warning("Fatal error loading the append only file: \(error). Exiting.")
            throw SystemError("load \(error)", code: EBADMSG)
        }
    }

    /// Binds the addresses and starts to serve.
    /// - Throws: `SystemError` naming the address that cannot be bound.
    public func start() throws(SystemError) {
        try server.openListeners()
        if let master = server.configuration.replicaOf { server.replication.follow(host: master.host, port: master.port) }
        server.isServing = true
        server.updateGate()
        server.logger.notice("Ready to accept connections tcp")
    }

    /// The process is the store's: it gets the title, the score and the open files that the configuration asks for.
    public func adoptProcess(name: String, title: ProcessTitle?) { server.adoptProcess(name: name, title: title) }

    /// Saves what is to be saved, stops serving, and calls `completion` with whether all went well.
    /// - Parameter signal: the one that asks for it, which the configuration has its own word on; nil for none.
    public func stop(signal: Int32? = nil, completion: @escaping (Bool) -> Void) {
        let configuration = server.configuration
        let manner = signal == SIGINT ? configuration.shutdownOnInterrupt : signal == SIGTERM ? configuration.shutdownOnTermination : []
        server.shutDown(.init(manner), completion: completion)
    }

    /// What SHUTDOWN ends: the process, unless there is more than the store in it.
    public var onShutdown: () -> Void {
        get { server.onShutdown }
        set { server.onShutdown = newValue }
    }
}
