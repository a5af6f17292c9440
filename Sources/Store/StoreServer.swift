import Glibc
import Logging
import Observability
import Reactor
import RESP

/// What makes every client's commands take the long way through dispatch.
struct ServerGate: OptionSet {
    let rawValue: UInt16
    /// A data set is being loaded: most commands answer LOADING.
    static let loading = ServerGate(rawValue: 1 << 0)
    /// We are a replica: clients may not write, or must be told that the data is stale.
    static let replica = ServerGate(rawValue: 1 << 1)
    static let monitored = ServerGate(rawValue: 1 << 2)
    /// CLIENT PAUSE.
    static let paused = ServerGate(rawValue: 1 << 3)
    /// min-replicas-to-write, or a disk that does not take what is written.
    static let writesRestricted = ServerGate(rawValue: 1 << 4)
    /// `maxmemory`: before each command room is made.
    static let memoryLimited = ServerGate(rawValue: 1 << 5)
    /// Keys are on their way to another server: nobody may write to them.
    static let migrating = ServerGate(rawValue: 1 << 6)
    /// `reply-after-replicas`: replies wait for replicas.
    static let confirming = ServerGate(rawValue: 1 << 7)
    /// We were a master with writes that no replica had confirmed: nobody may see them.
    static let doubtful = ServerGate(rawValue: 1 << 8)
}

/// Counters since the start or CONFIG RESETSTAT; INFO stats prints them.
struct StoreStatistics {
    var connectionsReceived: UInt64 = 0
    var connectionsRejected: UInt64 = 0
    var keyspaceHits: UInt64 = 0
    var keyspaceMisses: UInt64 = 0
    var expiredKeys: UInt64 = 0
    var evictedKeys: UInt64 = 0
    var evictedClients: UInt64 = 0
    var fullSyncs: UInt64 = 0
    var partialSyncsAccepted: UInt64 = 0
    var partialSyncsRefused: UInt64 = 0
    var forks: UInt64 = 0
    var peakMemory = 0
    var latestForkMicroseconds = 0
    var authenticationsFailed: UInt64 = 0
    /// Replies that became errors, as too few replicas acknowledged in time.
    var repliesNotConfirmed: UInt64 = 0
}

/// What the store's connections have carried, by who is at the other end.
struct StoreTraffic {
    var clients = Traffic()
    var replicas = Traffic()
    var master = Traffic()

    var received: UInt64 { clients.received + replicas.received + master.received }
    var sent: UInt64 { clients.sent + replicas.sent + master.sent }
}

extension UnsafeMutablePointer<StoreTraffic> {
    var clients: UnsafeMutablePointer<Traffic> { pointer(to: \.clients)! }
    var replicas: UnsafeMutablePointer<Traffic> { pointer(to: \.replicas)! }
    var master: UnsafeMutablePointer<Traffic> { pointer(to: \.master)! }
}

/// The store: databases, clients and everything that happens between them, on one loop.
final class StoreServer: ListenerHandler {
    let loop: Loop
    let logger: Logger
    let configuration: StoreConfiguration
    let commands: CommandTable
    let argumentArea = ArgumentArea()
    /// Where all data lives, and the seed of its tables.
    let heap: Heap
    let clock: KeyspaceClock
    let databases: UnsafeMutableBufferPointer<Database>
    /// Takes replies that nobody wants.
    let discardedOutput: OutputChain

    var gate: ServerGate = []
    var functions = FunctionLibraries()
    /// Changes to the data set since the last snapshot.
    var dirty: Int64 = 0
    var commandsProcessed: UInt64 = 0
    /// Where `warmUp` leaves what it read, so that the reads are not optimised away.
    var warmUpSum: UInt64 = 0
    var statistics = StoreStatistics()
    let startedAt: Int64
    let runID: String

    var clients: [Int64: Client] = [:]
    private var lastClientID: Int64 = 0
    var listeners: [Listener] = []
    var monitors: [Client] = []

    var slowLog = SlowLog()
    var latency = LatencyMonitor()
    var accessLog = AccessLog()
    /// See `StoreServer.updateTiming`.
    var samplingMask: UInt64 = 0
    var rates = Rates()
    /// Error replies (INFO errorstats); every client's output leads here.
    let errors: UnsafeMutablePointer<ErrorCounts>
    let traffic: UnsafeMutablePointer<StoreTraffic>

    var pubsub = PubSub()
    var watches = WatchTable()
    /// Each change of a key asks whether somebody waits for it: without a check at run time.
    @exclusivity(unchecked) var blocking = BlockingTable()
    var migrations = MigrationTable()
    var propagation = Propagation()
    var replication: Replication!
    var confirmation: Confirmation!
    /// Clients are, or soon will be, served: loading is over.
    var isServing = false
    var persistence: Persistence!
    var appendOnlyFile: AppendOnlyFile!
    /// The loading of the data set at start, while it is going on.
    var loading: Loading?
    /// The end that waits for replicas, if one does.
    var pendingShutdown: PendingShutdown?
    /// Everything is saved and said: nothing is left but the end of the process.
    var hasEnded = false
    var eviction = Eviction()
    var clientEviction = ClientEviction()
    var activeExpiry = ActiveExpiry()
    var random = FastRandom()
    var memory = MemoryState()
    /// Set while EXEC, a script or the master's stream runs commands in a row: nothing is woken or expired in between.
    var executionDepth = 0
    /// What `ps` shows of us, where we have the process for ourselves.
    var processTitle: ProcessTitle?
    var processName = ""
    var outOfMemoryScore = OutOfMemoryScore()
    /// Redis's own log, where its level and role letter can be changed.
    var log: RedisLog?
    /// What is to happen after SHUTDOWN has ended the store.
    var onShutdown: () -> Void = {}

    init(loop: Loop, configuration: StoreConfiguration, logger: Logger) {
        self.loop = loop
        self.logger = logger
        self.configuration = configuration
        commands = CommandTable(StoreServer.allCommands, renamed: configuration.renamedCommands)
        heap = Heap()
        clock = KeyspaceClock(loop.clock)
        databases = .allocate(capacity: configuration.databases)
        for id in 0..<configuration.databases {
            databases.initializeElement(at: id, to: Database(id: id, heap: heap, clock: clock))
        }
        errors = .allocate(capacity: 1)
        errors.initialize(to: ErrorCounts())
        traffic = .allocate(capacity: 1)
        traffic.initialize(to: StoreTraffic())
        discardedOutput = OutputChain.discarding(loop)
        discardedOutput.context = UnsafeMutableRawPointer(errors)
        startedAt = loop.wallMilliseconds
        runID = StoreServer.randomID()
        persistence = Persistence(server: self)
        appendOnlyFile = AppendOnlyFile(server: self)
        replication = Replication(server: self)
        confirmation = Confirmation(server: self)
        SystemMemory.setAside()
        memoryLimitsChanged()
        lookAtMemory()
        updateTiming()
        loop.beforeFlush(label: "store before flush") { [unowned self] in beforeFlush() }
        loop.scheduleRepeating(every: .milliseconds(100), label: "store cron") { [unowned self] in cron() }
    }

    /// Reads a snapshot into databases of its own.
    func makeReader(dropsExpired: Bool, verifiesChecksum: Bool = true) -> RDBReader {
        var options = RDBReader.Options()
        options.dropsExpired = dropsExpired
        options.verifiesChecksum = verifiesChecksum && configuration.checksumsSnapshots
        options.now = loop.wallMilliseconds
        return RDBReader(databaseCount: databases.count, heap: heap, clock: clock, configuration: configuration, options: options)
    }

    /// 40 hexadecimal digits, as run and replication IDs are.
    static func randomID() -> String {
        var generator = SystemRandomNumberGenerator()
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: (0..<40).map { _ in digits[Int.random(in: 0..<16, using: &generator)] }, as: UTF8.self)
    }

    // MARK: clients

    func stopListening() {
        guard !listeners.isEmpty else { return }
        for listener in listeners { listener.close() }
        listeners.removeAll()
        if !configuration.unixSocket.isEmpty { unlink(configuration.inDirectory(configuration.unixSocket)) }
    }

    func listener(_ listener: Listener, accepted connection: Connection) {
        statistics.connectionsReceived += 1
        connection.role = "store client"
        if clients.count >= configuration.maxClients {
            statistics.connectionsRejected += 1
            connection.handler = Refused.shared
            connection.output.append("-ERR max number of clients reached\r\n")
            connection.closeAfterFlush()
            return
        }
        let client = addClient(connection)
        connection.setNoDelay(true)
        if configuration.tcpKeepAlive > 0 { connection.setKeepAlive(idleSeconds: configuration.tcpKeepAlive) }
        connection.inputLimit = configuration.clientQueryBufferLimit
        applyOutputLimit(client)
        if !configuration.password.isEmpty { client.gate.insert(.unauthenticated) }
        if isProtected(connection) {
            connection.output.append(StoreServer.protectedModeMessage)
            connection.closeAfterFlush()
        }
    }

    /// Makes a client of a connection; it is served from now on.
    func addClient(_ connection: Connection) -> Client {
        lastClientID += 1
        let client = Client(id: lastClientID, server: self, connection: connection)
        clients[client.id] = client
        connection.handler = client
        connection.isHoldable = true
        connection.traffic = traffic.clients
        connection.output.context = UnsafeMutableRawPointer(errors)
        return client
    }

    /// Undoes everything that others know of a client that has gone.
    func forget(_ client: Client, _ reason: CloseReason) {
        clients[client.id] = nil
        clientEviction.total -= client.countedMemory
        client.countedMemory = 0
        if client.gate.contains(.monitor) {
            monitors.removeAll { $0 === client }
            updateGate()
        }
        unblock(client)
        unwatch(client)
        unsubscribeFromAll(client)
        confirmation.forget(client)
        replication.forget(client, reason)
    }

    private func isProtected(_ connection: Connection) -> Bool {
        configuration.isProtectedMode && configuration.password.isEmpty && !isLocal(connection)
    }

    static let protectedModeMessage: StaticString = """
        -DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user. \
        In this mode connections are only accepted from the loopback interface. Set a password with requirepass, or set \
        protected-mode no with CONFIG SET from the same host or in the configuration file.\r\n
        """

    // MARK: the rhythm

    /// Before anything is sent: what was promised to replicas and disk leaves first.
    private func beforeFlush() {
        handleReadyKeys()
        if SystemMemory.isExhausted, memory.systemLimit == nil { memoryRanOut() }
        if limitsClientMemory { evictClients() }
        if gate.contains(.confirming) { confirmation.settleTheRest() }
        appendOnlyFile.beforeFlush()
        replication.beforeFlush()
        // Nobody wants it: what clients without replies would have been told.
        if !discardedOutput.isEmpty { discardedOutput.discardAll() }
        reclaimLater()
    }

    private func cron() {
        expireOnTime()
        memoryCron()
        replication.cron()
        if pendingShutdown != nil {
            replication.wantsAcknowledgements = true
            continueShutdown()
        }
        persistence.cron()
        appendOnlyFile.cron()
        disconnectIdleClients()
        migrations.closeIdle(at: loop.wallMilliseconds)
        enforceSoftOutputLimits()
        countClientMemory()
        rates.sample(at: loop.wallMilliseconds, commands: commandsProcessed, traffic.pointee)
        log?.role = replication.isReplica ? .replica : .master
    }

    private func expireOnTime() {
        let start = configuration.latencyMonitorThreshold > 0 ? StoreServer.nanoseconds() : 0
        expireActively()
        if start > 0 { addLatencySample("expire-cycle", nanoseconds: StoreServer.nanoseconds() - start) }
    }

    private func disconnectIdleClients() {
        guard configuration.timeout > 0 else { return }
        let limit = loop.wallMilliseconds - Int64(configuration.timeout) * 1000
        for client in clients.values where client.lastInteraction < limit && client.replica == nil && !client.isMaster
            && client.blocked == nil && client.subscriptions == nil {
            client.connection.close()
        }
    }

    /// Sets the gate's bits that follow from the state.
    func updateGate() {
        if monitors.isEmpty { gate.remove(.monitored) } else { gate.insert(.monitored) }
        if replication.isReplica { gate.insert(.replica) } else { gate.remove(.replica) }
        if configuration.minReplicasToWrite > 0 || persistence.stopsWrites || appendOnlyFile.refusal != nil {
            gate.insert(.writesRestricted)
        } else {
            gate.remove(.writesRestricted)
        }
        if memory.systemLimit != nil || configuration.maxMemory > 0, !(replication.isReplica && configuration.replicaIgnoresMaxMemory) {
            gate.insert(.memoryLimited)
        } else {
            gate.remove(.memoryLimited)
        }
        let confirms = isServing && configuration.replyAfterReplicas > 0 && !replication.isReplica
        if !replication.isReplica || configuration.replyAfterReplicas == 0 { confirmation.endDoubt() }
        if confirms != gate.contains(.confirming) { confirms ? confirmation.begin() : confirmation.end(.switchedOff) }
        // Whoever has told the kernel a score tells it again: a replica may have become a master.
        if outOfMemoryScore.original != nil { applyOutOfMemoryScore() }
    }
}

/// Hears of connections that were turned away.
private final class Refused: ConnectionHandler, Sendable {
    static let shared = Refused()
    func connectionReceived(_ connection: Connection) { connection.input.consume(connection.input.count) }
    func connectionClosed(_ connection: Connection, _ reason: CloseReason) {}
}
