import Reactor

/// What `redis.conf` and CONFIG SET decide, with Redis's defaults.
public final class StoreConfiguration {
    public var port: UInt16 = 6379
    var bind: [String] = ["*", "-::*"]
    var hasExplicitBind = false
    var unixSocket: String?
    var unixSocketPermission: UInt32 = 0
    var tcpBacklog: Int32 = 511
    var timeout = 0
    var tcpKeepAlive = 300
    var isProtectedMode = true
    var databases = 16
    var maxClients = 10_000
    var password: [UInt8] = []
    var protoMaxBulkLength = 512 << 20
    var clientQueryBufferLimit = 1 << 30
    var isActiveExpiryOn = true
    var notifiedEvents: KeyspaceEvent = []

    var directory = "."
    var dbFilename = "dump.rdb"
    /// Seconds and changes.
    var savePoints: [(seconds: Int, changes: Int)] = [(3600, 1), (300, 100), (60, 10_000)]
    var stopsWritesOnSnapshotError = true
    var compressesSnapshots = true
    var checksumsSnapshots = true

    var replicaOf: (host: String, port: UInt16)?
    var masterUser: [UInt8] = []
    var masterPassword: [UInt8] = []
    var isReplicaReadOnly = true
    var servesStaleData = true
    var replicaPriority = 100
    var replicaAnnounceIP: String?
    var replicaAnnouncePort: UInt16 = 0
    var backlogSize = 1 << 20
    var replicationTimeout = 60
    var replicationPingPeriod = 10
    var disklessSyncDelay = 5
    var minReplicasToWrite = 0
    var minReplicasMaxLag = 10

    var listMaxListpackSize = -2
    var hashMaxListpackEntries = 128
    var hashMaxListpackValue = 64
    var setMaxIntsetEntries = 512
    var setMaxListpackEntries = 128
    var setMaxListpackValue = 64
    var sortedSetMaxListpackEntries = 128
    var sortedSetMaxListpackValue = 64

    /// Bytes, bytes and seconds for normal, replica and pubsub clients; 0 for none.
    var outputLimits: [(hard: Int, soft: Int, seconds: Int)] = [(0, 0, 0), (256 << 20, 64 << 20, 60), (32 << 20, 8 << 20, 60)]

    public init() {}
}
