import Observability
import Reactor

/// What `redis.conf` and CONFIG SET decide, with Redis's defaults.
///
/// `StoreConfiguration+Table.swift` ties each directive to its property here.
public final class StoreConfiguration {
    /// Who may use DEBUG and change protected directives.
    enum LocalPermission: String, CaseIterable {
        case no, yes, local
    }

    public var port: UInt16 = 6379
    var bind: [String] = ["*", "-::*"]
    /// The address that connections to the master come from; empty for whichever the kernel takes.
    var bindSource = ""
    var unixSocket = ""
    var unixSocketPermission: UInt32 = 0
    var tcpBacklog: Int32 = 511
    var timeout = 0
    var tcpKeepAlive = 300
    var isProtectedMode = true
    var databases = 16
    var maxClients = 10_000
    var password: [UInt8] = []
    // Key paths lead to what is here, so every access would be checked at run time. What each command asks for is not: nothing holds
    // on to it while something else runs.
    @exclusivity(unchecked) var protoMaxBulkLength = 512 << 20
    var clientQueryBufferLimit = 1 << 30
    var isActiveExpiryOn = true
    /// 1 to 10: how much time active expiry may take, and how few dead keys it leaves.
    var expiryEffort = 1
    /// Keys whose time is over go to replicas as UNLINK instead of DEL.
    var unlinksExpired = false
    @exclusivity(unchecked) var notifiedEvents: KeyspaceEvent = []

    /// Bytes; 0 for no limit.
    var maxMemory = 0
    var evictionPolicy = EvictionPolicy.noEviction
    var evictionSamples = 5
    var evictionTenacity = 10
    /// How many hits the next step of a frequency counter takes.
    var frequencyLogFactor = 10
    /// Minutes after which a frequency counter loses one; 0 for never.
    var frequencyDecayMinutes = 1
    /// Evicted keys go to replicas as UNLINK instead of DEL.
    var unlinksEvicted = false
    /// Bytes that clients may take together; negative for per cent of `maxMemory`, 0 for no limit.
    @exclusivity(unchecked) var clientMemoryMax = 0
    var replicaIgnoresMaxMemory = true

    var directory = "."
    var dbFilename = "dump.rdb"
    /// Seconds and changes.
    var savePoints: [(seconds: Int, changes: Int)] = [(3600, 1), (300, 100), (60, 10_000)]
    var stopsWritesOnSnapshotError = true
    var compressesSnapshots = true
    var checksumsSnapshots = true

    /// The append-only file.
    var appendsOnly = false
    var appendFilename = "appendonly.aof"
    var appendFolder = "appendonlydir"
    var appendSync = AppendSync.everysec
    var skipsSyncOnRewrite = false
    /// Per cent of growth since the last rewrite that make another one, 0 for none; and how large the file must be for that.
    var rewritePercentage = 100
    var rewriteSizeLeast = 64 << 20
    var loadsTruncated = true
    var usesSnapshotPreamble = true
    var stampsAppendOnlyFile = false
    var syncsRewriteInSteps = true
    /// A snapshot is brought to the disk a piece at a time while it is written.
    var syncsSnapshotInSteps = true
    /// Files that a rewrite has made superfluous stay.
    var keepsHistory = false

    var replicaOf: (host: String, port: UInt16)?
    var masterUser: [UInt8] = []
    var masterPassword: [UInt8] = []
    var isReplicaReadOnly = true
    var servesStaleData = true
    /// A replica goes on although its append-only file cannot be written.
    var replicaIgnoresDiskErrors = false
    var replicaPriority = 100
    var isReplicaAnnounced = true
    var replicaAnnounceIP: String?
    var replicaAnnouncePort: UInt16 = 0
    var backlogSize = 1 << 20
    /// Seconds after which a master without replicas lets go of its backlog; 0 for never.
    var backlogTimeToLive = 3600
    /// Seconds for which the end waits for replicas that lag behind; 0 for not at all.
    var shutdownTimeout = 10
    var replicationTimeout = 60
    var replicationPingPeriod = 10
    /// Redis waits 5 seconds, so that replicas that come together share a snapshot; here the first one is served at once unless the file asks to wait.
    var disklessSyncDelay = 0
    var disklessSync = true
    /// So many waiting replicas end the delay; 0 for none.
    var disklessSyncMaxReplicas = 0
    var disklessLoad = DisklessLoad.disabled
    /// Links to replicas gather small packets (Nagle's algorithm).
    var delaysReplicaPackets = false
    /// A snapshot's file that only replication needed is removed, unless data is kept on the disk anyway.
    var removesSyncFiles = false
    var propagationErrors = PropagationErrorBehavior.ignore
    var minReplicasToWrite = 0
    var minReplicasMaxLag = 10
    /// So many replicas must have acknowledged a write before anybody sees it; 0 for none. Ours, no other server has it.
    var replyAfterReplicas = 0
    /// Milliseconds; 0 waits for ever.
    var replyAfterReplicasTimeout = 1000

    @exclusivity(unchecked) var listMaxListpackSize = -2
    @exclusivity(unchecked) var hashMaxListpackEntries = 512
    @exclusivity(unchecked) var hashMaxListpackValue = 64
    @exclusivity(unchecked) var setMaxIntsetEntries = 512
    @exclusivity(unchecked) var setMaxListpackEntries = 128
    @exclusivity(unchecked) var setMaxListpackValue = 64
    @exclusivity(unchecked) var sortedSetMaxListpackEntries = 128
    @exclusivity(unchecked) var sortedSetMaxListpackValue = 64
    /// Bytes and entries of a stream's node; 0 for no limit.
    var streamNodeMaxBytes = 4096
    var streamNodeMaxEntries = 100

    /// Bytes, bytes and seconds for normal, replica and pubsub clients; 0 for none.
    var outputLimits: [(hard: Int, soft: Int, seconds: Int)] = [(0, 0, 0), (256 << 20, 64 << 20, 60), (32 << 20, 8 << 20, 60)]

    /// The process: where it logs, and how it lives.
    public var logFile = ""
    public var verbosity = RedisLog.Verbosity.notice
    public var isSyslogEnabled = false
    public var syslogIdent = "redis"
    public var syslogFacility = SyslogFacility.local0
    public var isDaemon = false
    public var pidFile = ""
    /// `supervised`: who is told that the store is ready.
    public var supervision = "no"
    /// What SIGINT and SIGTERM do.
    var shutdownOnInterrupt: SignalShutdown = []
    var shutdownOnTermination: SignalShutdown = []
    /// Who is to go first when the machine has no memory left: `outOfMemoryScores` for a master, a replica and a child.
    var outOfMemoryAdjustment = OutOfMemoryAdjustment.no
    var outOfMemoryScores = [0, 200, 800]
    var disablesHugePages = true
    public var setsProcessTitle = true
    var titleTemplate = TitleTemplate.standard
    var debugPermission = LocalPermission.no
    var protectedPermission = LocalPermission.no
    /// Microseconds; negative for none, 0 for every command.
    var slowLogThreshold = 10_000
    var slowLogLength = 128
    /// Milliseconds; 0 for no samples at all.
    var latencyMonitorThreshold = 0
    /// Whether the times of each command are kept for INFO latencystats and LATENCY HISTOGRAM, and which percentiles INFO shows.
    var tracksLatency = true
    var latencyPercentiles = ["50", "99", "99.9"]

    /// What is accepted and has no effect, as CONFIG GET shows it; what is missing has its default.
    var ineffective: [String: String] = [:]
    /// `rename-command`: the old name in lower case, and the new one; empty for a command that is taken away.
    var renamedCommands: [String: String] = [:]
    /// The file that was read, absolute; what CONFIG REWRITE writes.
    public internal(set) var file: String?

    public init() {}
}

/// `repl-diskless-load`: when a master's snapshot is read as it comes, beside what is there.
enum DisklessLoad: String, CaseIterable {
    case disabled
    case onEmptyDB = "on-empty-db"
    case swapdb
}

/// `propagation-error-behavior`: what to do when a command of the master's stream fails here.
enum PropagationErrorBehavior: String, CaseIterable {
    case ignore
    case panic
    case panicOnReplicas = "panic-on-replicas"
}
