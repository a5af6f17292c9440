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

    /// Binds the addresses. Nobody is served before `load`.
    /// - Throws: `SystemError` naming the address that cannot be bound.
    public func bind() throws(SystemError) { try server.openListeners() }

    /// Loads the append-only file where the configuration asks for one, else the snapshot, if there is one: small files at once, the
    /// others in turns of the loop, during which clients are told LOADING.
    /// - Parameter onFailure: called with what is found to be wrong later.
    /// - Throws: an error naming the file, the byte and what was found there.
    public func load(onFailure: @escaping (SystemError) -> Void) throws(SystemError) {
        do throws(LoadingError) {
            guard let source = try makeSource() else { return loaded() }
            let loading = Loading(server: server, source: source) { [unowned self] error in
                server.loading = nil
                guard let error else { return loaded() }
                onFailure(refuse(error))
            }
            server.loading = loading
            guard try loading.begin() else { return }
            server.loading = nil
            loaded()
        } catch {
            throw refuse(error)
        }
    }

    private func makeSource() throws(LoadingError) -> (any LoadingSource)? {
        if server.configuration.appendsOnly {
            do throws(AOFError) {
                return try server.appendOnlyFile.openAtStart().map { AppendOnlySource($0, server.appendOnlyFile) }
            } catch {
                throw LoadingError(error)
            }
        }
        do throws(RDBReader.FileError) {
            return try server.persistence.openSnapshot().map { SnapshotSource($0, server.persistence) }
        } catch {
            throw LoadingError(error)
        }
    }

    /// Says why there is no data set, and serves nobody any more.
    private func refuse(_ error: LoadingError) -> SystemError {
        server.logger.warning("Fatal error loading \(error.what): \(error.text). Exiting.")
        server.stopListening()
        for client in server.clients.values { client.connection.close() }
        return error.cause
    }

    private func loaded() {
        if let info = server.persistence.loadedInfo { server.replication.goOn(from: info) }
        if let master = server.configuration.replicaOf { server.replication.follow(host: master.host, port: master.port) }
        server.isServing = true
        server.updateGate()
        server.logger.notice("Ready to accept connections tcp")
        isLoaded = true
        for body in waiting { body() }
        waiting = []
    }

    private var isLoaded = false
    private var waiting: [() -> Void] = []

    /// Calls `body` when the data set is loaded.
    public func whenLoaded(_ body: @escaping () -> Void) {
        if isLoaded { body() } else { waiting.append(body) }
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
