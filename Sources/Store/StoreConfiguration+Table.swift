import Configuration
import Glibc
import Observability

/// Every directive of Redis 7.2, declared once: CONFIG, the file and the command line all read this.
///
/// Names, ranges and defaults are those that CONFIG GET and the errors of Redis 7 show, and redis.conf's own comments.
extension Directive {
    private static let intMax = Int64(Int32.max)
    private static let count: ClosedRange<Int64> = 0...Int64.max
    private static let natural: ClosedRange<Int64> = 0...intMax
    private static let megabyte: Int64 = 1 << 20

    static let all: [Directive] = network + general + snapshots + replicas + encodings + limits + process + appendOnly + memory + cluster + tls + rest

    private static let network: [Directive] = [
        .integer("port", \.port, 0...65535),
        bind,
        bindSource,
        .text("unixsocket", \.unixSocket).immutable,
        Directive("unixsocketperm", read: { Array(String($0.unixSocketPermission, radix: 8).utf8) }) { configuration, words throws(DirectiveError) in
            configuration.unixSocketPermission = UInt32(try StoreConfiguration.octal(String(decoding: words[0], as: UTF8.self), 0...0o777))
        }.immutable,
        .integer("tcp-backlog", \.tcpBacklog, 0...intMax).immutable,
        .integer("timeout", \.timeout, natural),
        .integer("tcp-keepalive", \.tcpKeepAlive, natural),
        .flag("protected-mode", \.isProtectedMode),
        .kept("socket-mark-id", .integer(0...4_294_967_295), "0", because: "sockets carry no mark").immutable,
        .kept("max-new-connections-per-cycle", .integer(1...1000), "10", because: "connections are accepted as long as there are any in an iteration of the loop"),
        .kept("max-new-tls-connections-per-cycle", .integer(1...1000), "1", because: noTLSYet),
    ]

    private static let general: [Directive] = [
        .integer("databases", \.databases, 1...intMax).immutable,
        .integer("maxclients", \.maxClients, 1...4_294_967_295),
        .bytes("requirepass", \.password).secret,
        .kept("aclfile", .text, "", standing: .refused("there are no ACL users beside the default one yet")).immutable,
        .kept("acl-pubsub-default", .choice(["allchannels", "resetchannels"]), "resetchannels", because: "there are no ACL users beside the default one yet"),
        .kept("acllog-max-len", .integer(count), "128", because: "there are no ACL users beside the default one yet"),
        Directive("notify-keyspace-events", read: { Array($0.notifiedEvents.text.utf8) }) { configuration, words throws(DirectiveError) in
            guard let events = KeyspaceEvent(letters: String(decoding: words[0], as: UTF8.self)) else {
                throw DirectiveError("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")
            }
            configuration.notifiedEvents = events
        },
        .choice("enable-debug-command", \.debugPermission).immutable,
        .choice("enable-protected-configs", \.protectedPermission).immutable,
        .kept("enable-module-command", .choice(["no", "yes", "local"]), "no", standing: .refused("there are no modules")).immutable,
        .integer("slowlog-log-slower-than", \.slowLogThreshold, -1...Int64.max),
        .integer("slowlog-max-len", \.slowLogLength, count),
        .integer("latency-monitor-threshold", \.latencyMonitorThreshold, count),
        .flag("latency-tracking", \.tracksLatency),
        percentiles,
    ]

    private static let snapshots: [Directive] = [
        save,
        .flag("rdbcompression", \.compressesSnapshots),
        .flag("rdbchecksum", \.checksumsSnapshots).immutable,
        .fileName("dbfilename", \.dbFilename).protected,
        directory,
        .flag("stop-writes-on-bgsave-error", \.stopsWritesOnSnapshotError),
        .flag("rdb-save-incremental-fsync", \.syncsSnapshotInSteps),
        .flag("rdb-del-sync-files", \.removesSyncFiles),
        .kept("watchdog-period", .integer(natural), "0", because: "it serves Redis's own tests only").hidden,
        .kept("rdb-key-save-delay", .integer(-intMax...intMax), "0", because: "it serves Redis's own tests only").hidden,
        .kept("key-load-delay", .integer(-intMax...intMax), "0", because: "it serves Redis's own tests only").hidden,
        .kept("sanitize-dump-payload", .choice(["no", "yes", "clients"]), "no", because: "payloads are always checked whole"),
    ]

    private static let replicas: [Directive] = [
        replicaOf,
        .bytes("masteruser", \.masterUser).secret,
        .bytes("masterauth", \.masterPassword).secret,
        .flag("replica-read-only", \.isReplicaReadOnly).alias("slave-read-only"),
        .flag("replica-serve-stale-data", \.servesStaleData).alias("slave-serve-stale-data"),
        .integer("replica-priority", \.replicaPriority, natural).alias("slave-priority"),
        .flag("replica-announced", \.isReplicaAnnounced),
        Directive("replica-announce-ip", read: { Array(($0.replicaAnnounceIP ?? "").utf8) }) { configuration, words throws(DirectiveError) in
            let text = String(decoding: words[0], as: UTF8.self)
            configuration.replicaAnnounceIP = text.isEmpty ? nil : text
        }.alias("slave-announce-ip"),
        .integer("replica-announce-port", \.replicaAnnouncePort, 0...65535).alias("slave-announce-port"),
        .flag("replica-ignore-maxmemory", \.replicaIgnoresMaxMemory).alias("slave-ignore-maxmemory"),
        .kept("replica-lazy-flush", .flag, "no", because: "the old data is freed behind the new one whatever this says").alias("slave-lazy-flush"),
        .flag("replica-ignore-disk-write-errors", \.replicaIgnoresDiskErrors),
        .choice("propagation-error-behavior", \.propagationErrors),
        .memory("repl-backlog-size", \.backlogSize, 1...Int64.max, least: 16_384),
        .integer("repl-backlog-ttl", \.backlogTimeToLive, 0...Int64.max),
        .integer("repl-timeout", \.replicationTimeout, 1...intMax),
        .integer("repl-ping-replica-period", \.replicationPingPeriod, 1...intMax).alias("repl-ping-slave-period"),
        .integer("repl-diskless-sync-delay", \.disklessSyncDelay, natural),
        .flag("repl-diskless-sync", \.disklessSync),
        .integer("repl-diskless-sync-max-replicas", \.disklessSyncMaxReplicas, natural),
        .choice("repl-diskless-load", \.disklessLoad),
        .flag("repl-disable-tcp-nodelay", \.delaysReplicaPackets),
        .integer("min-replicas-to-write", \.minReplicasToWrite, natural).alias("min-slaves-to-write"),
        .integer("min-replicas-max-lag", \.minReplicasMaxLag, natural).alias("min-slaves-max-lag"),
        .integer("reply-after-replicas", \.replyAfterReplicas, natural),
        .integer("reply-after-replicas-timeout", \.replyAfterReplicasTimeout, natural),
    ]

    private static let encodings: [Directive] = [
        .integer("list-max-listpack-size", \.listMaxListpackSize, -intMax - 1...intMax).alias("list-max-ziplist-size"),
        .kept("list-compress-depth", .integer(natural), "0", because: "nodes of lists are not compressed"),
        .integer("hash-max-listpack-entries", \.hashMaxListpackEntries, count).alias("hash-max-ziplist-entries"),
        .memory("hash-max-listpack-value", \.hashMaxListpackValue, count).alias("hash-max-ziplist-value"),
        .integer("set-max-intset-entries", \.setMaxIntsetEntries, count),
        .integer("set-max-listpack-entries", \.setMaxListpackEntries, count),
        .integer("set-max-listpack-value", \.setMaxListpackValue, count),
        .integer("zset-max-listpack-entries", \.sortedSetMaxListpackEntries, count).alias("zset-max-ziplist-entries"),
        .memory("zset-max-listpack-value", \.sortedSetMaxListpackValue, count).alias("zset-max-ziplist-value"),
        .kept("hll-sparse-max-bytes", .memory(count), "3000", because: "there are no HyperLogLogs yet"),
        .memory("stream-node-max-bytes", \.streamNodeMaxBytes, count),
        .integer("stream-node-max-entries", \.streamNodeMaxEntries, count),
    ]

    private static let limits: [Directive] = [
        .memory("proto-max-bulk-len", \.protoMaxBulkLength, megabyte...Int64.max),
        .memory("client-query-buffer-limit", \.clientQueryBufferLimit, megabyte...Int64.max),
        outputLimits,
        .kept("tracking-table-max-keys", .integer(count), "1000000", because: "there is no client-side caching yet"),
        .kept("busy-reply-threshold", .integer(count), "5000", because: "there is no scripting yet").alias("lua-time-limit"),
        .kept("lua-enable-deprecated-api", .flag, "no", because: "there is no scripting yet").immutable.hidden,
    ]

    private static let process: [Directive] = [
        Directive("loglevel", read: { Array($0.verbosity.name.utf8) }) { configuration, words throws(DirectiveError) in
            let names = RedisLog.Verbosity.allCases.map(\.name)
            configuration.verbosity = RedisLog.Verbosity(name: try StoreConfiguration.choice(String(decoding: words[0], as: UTF8.self), names))!
        },
        .text("logfile", \.logFile).immutable,
        .flag("syslog-enabled", \.isSyslogEnabled).immutable,
        .text("syslog-ident", \.syslogIdent).immutable,
        Directive("syslog-facility", read: { Array($0.syslogFacility.name.utf8) }) { configuration, words throws(DirectiveError) in
            let names = ["user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"]
            let name = try StoreConfiguration.choice(String(decoding: words[0], as: UTF8.self), names)
            configuration.syslogFacility = SyslogFacility(name: name)!
        }.immutable,
        .flag("daemonize", \.isDaemon).immutable,
        .text("pidfile", \.pidFile).immutable,
        Directive("supervised", read: { Array($0.supervision.utf8) }) { configuration, words throws(DirectiveError) in
            configuration.supervision = try StoreConfiguration.choice(
                String(decoding: words[0], as: UTF8.self), ["upstart", "systemd", "auto", "no"])
        }.immutable,
        .flag("set-proc-title", \.setsProcessTitle).immutable,
        titleTemplate,
        .kept("always-show-logo", .flag, "no", because: "there is no logo").immutable,
        .kept("crash-log-enabled", .flag, "yes", because: "a crash is reported by the Swift runtime"),
        .kept("crash-memcheck-enabled", .flag, "yes", because: "a crash is reported by the Swift runtime"),
        .kept("use-exit-on-panic", .flag, "no", because: "a crash is reported by the Swift runtime").immutable.hidden,
        .flag("disable-thp", \.disablesHugePages).immutable,
        .kept("ignore-warnings", .text, "", because: "there is no warning that could be ignored"),
        .kept("locale-collate", .text, "", because: "SORT compares bytes"),
        .choice("oom-score-adj", \.outOfMemoryAdjustment),
        outOfMemoryScores,
        .kept("server-cpulist", .text, "", because: "threads and children run wherever the kernel puts them").immutable.alias("server_cpulist"),
        .kept("bio-cpulist", .text, "", because: "threads and children run wherever the kernel puts them").immutable.alias("bio_cpulist"),
        .kept("aof-rewrite-cpulist", .text, "", because: "threads and children run wherever the kernel puts them").immutable.alias("aof_rewrite_cpulist"),
        .kept("bgsave-cpulist", .text, "", because: "threads and children run wherever the kernel puts them").immutable.alias("bgsave_cpulist"),
        .kept("io-threads", .integer(1...128), "1", because: "one thread serves all clients").immutable,
        .kept("io-threads-do-reads", .flag, "no", because: "one thread serves all clients").immutable,
        .kept("hz", .clamped(0...intMax, to: 1...500), "10", because: "periodic work comes ten times a second, and expiry as often as it is needed"),
        .kept("dynamic-hz", .flag, "yes", because: "periodic work comes ten times a second, and expiry as often as it is needed"),
        .integer("shutdown-timeout", \.shutdownTimeout, natural),
        shutdown("shutdown-on-sigint", \.shutdownOnInterrupt),
        shutdown("shutdown-on-sigterm", \.shutdownOnTermination),
    ]

    private static let appendOnly: [Directive] = [
        .flag("appendonly", \.appendsOnly),
        .fileName("appendfilename", \.appendFilename).immutable,
        .fileName("appenddirname", \.appendFolder).immutable,
        .choice("appendfsync", \.appendSync),
        .flag("no-appendfsync-on-rewrite", \.skipsSyncOnRewrite),
        .integer("auto-aof-rewrite-percentage", \.rewritePercentage, natural),
        .memory("auto-aof-rewrite-min-size", \.rewriteSizeLeast, count),
        .flag("aof-load-truncated", \.loadsTruncated),
        .flag("aof-use-rdb-preamble", \.usesSnapshotPreamble),
        .flag("aof-timestamp-enabled", \.stampsAppendOnlyFile),
        .flag("aof-rewrite-incremental-fsync", \.syncsRewriteInSteps),
        .flag("aof-disable-auto-gc", \.keepsHistory),
    ]

    private static let noMoving = "memory is not moved to where it would leave fewer holes"
    private static let memory: [Directive] = [
        .memory("maxmemory", \.maxMemory, count),
        .choice("maxmemory-policy", \.evictionPolicy),
        .integer("maxmemory-samples", \.evictionSamples, 1...64),
        .integer("maxmemory-eviction-tenacity", \.evictionTenacity, 0...100),
        clientMemory,
        .integer("lfu-log-factor", \.frequencyLogFactor, natural),
        .integer("lfu-decay-time", \.frequencyDecayMinutes, natural),
        .flag("lazyfree-lazy-eviction", \.unlinksEvicted),
        .flag("lazyfree-lazy-expire", \.unlinksExpired),
        .kept("lazyfree-lazy-server-del", .flag, "no", because: "how values are freed does not depend on it"),
        .kept("lazyfree-lazy-user-del", .flag, "no", because: "how values are freed does not depend on it"),
        .kept("lazyfree-lazy-user-flush", .flag, "no", because: "how values are freed does not depend on it"),
        .integer("active-expire-effort", \.expiryEffort, 1...10),
        .kept("activerehashing", .flag, "yes", because: "tables are resized in steps as they are used"),
        .kept("activedefrag", .flag, "no", because: noMoving),
        .kept("active-defrag-cycle-min", .integer(1...99), "1", because: noMoving),
        .kept("active-defrag-cycle-max", .integer(1...99), "25", because: noMoving),
        .kept("active-defrag-ignore-bytes", .memory(1...Int64.max), "104857600", because: noMoving),
        .kept("active-defrag-max-scan-fields", .integer(1...Int64.max), "1000", because: noMoving),
        .kept("active-defrag-threshold-lower", .integer(0...1000), "10", because: noMoving),
        .kept("active-defrag-threshold-upper", .integer(0...1000), "100", because: noMoving),
        .kept("jemalloc-bg-thread", .flag, "yes", because: "the allocator has no threads of its own"),
    ]

    private static let noCluster = "there is no cluster mode"
    private static let cluster: [Directive] = [
        .kept("cluster-enabled", .flag, "no", standing: .refused("there is no cluster mode")).immutable,
        .kept("cluster-config-file", .text, "nodes.conf", because: noCluster).immutable,
        .kept("cluster-port", .integer(0...65535), "0", because: noCluster).immutable,
        .kept("cluster-announce-ip", .text, "", because: noCluster),
        .kept("cluster-announce-hostname", .hostname, "", because: noCluster),
        .kept("cluster-announce-human-nodename", .text, "", because: noCluster),
        .kept("cluster-announce-port", .integer(0...65535), "0", because: noCluster),
        .kept("cluster-announce-bus-port", .integer(0...65535), "0", because: noCluster),
        .kept("cluster-announce-tls-port", .integer(0...65535), "0", because: noCluster),
        .kept("cluster-node-timeout", .integer(count), "15000", because: noCluster),
        .kept("cluster-ping-interval", .integer(0...intMax), "1000", because: noCluster).hidden,
        .kept("cluster-migration-barrier", .integer(natural), "1", because: noCluster),
        .kept("cluster-replica-validity-factor", .integer(natural), "10", because: noCluster).alias("cluster-slave-validity-factor"),
        .kept("cluster-replica-no-failover", .flag, "no", because: noCluster).alias("cluster-slave-no-failover"),
        .kept("cluster-require-full-coverage", .flag, "yes", because: noCluster),
        .kept("cluster-allow-reads-when-down", .flag, "no", because: noCluster),
        .kept("cluster-allow-pubsubshard-when-down", .flag, "yes", because: noCluster),
        .kept("cluster-allow-replica-migration", .flag, "yes", because: noCluster),
        .kept("cluster-link-sendbuf-limit", .memory(count), "0", because: noCluster),
        .kept("cluster-preferred-endpoint-type", .choice(["ip", "hostname", "unknown-endpoint"]), "ip", because: noCluster),
    ]

    private static let noTLSYet = "there is no TLS yet"
    private static let noTLS = Standing.refused("there is no TLS yet, and what was to be encrypted would not be")
    private static let tls: [Directive] = [
        .kept("tls-port", .integer(0...65535), "0", standing: noTLS),
        .kept("tls-cluster", .flag, "no", standing: noTLS),
        .kept("tls-replication", .flag, "no", standing: noTLS),
        .kept("tls-auth-clients", .choice(["no", "yes", "optional"]), "yes", because: noTLSYet),
        .kept("tls-prefer-server-ciphers", .flag, "no", because: noTLSYet),
        .kept("tls-session-caching", .flag, "yes", because: noTLSYet),
        .kept("tls-session-cache-size", .integer(natural), "20480", because: noTLSYet),
        .kept("tls-session-cache-timeout", .integer(natural), "300", because: noTLSYet),
        .kept("tls-cert-file", .text, "", because: noTLSYet),
        .kept("tls-key-file", .text, "", because: noTLSYet),
        .kept("tls-key-file-pass", .text, "", because: noTLSYet).secret,
        .kept("tls-client-cert-file", .text, "", because: noTLSYet),
        .kept("tls-client-key-file", .text, "", because: noTLSYet),
        .kept("tls-client-key-file-pass", .text, "", because: noTLSYet).secret,
        .kept("tls-dh-params-file", .text, "", because: noTLSYet),
        .kept("tls-ca-cert-file", .text, "", because: noTLSYet),
        .kept("tls-ca-cert-dir", .text, "", because: noTLSYet),
        .kept("tls-protocols", .text, "", because: noTLSYet),
        .kept("tls-ciphers", .text, "", because: noTLSYet),
        .kept("tls-ciphersuites", .text, "", because: noTLSYet),
    ]

    private static let rest: [Directive] = [
        .kept("loading-process-events-interval-bytes", .memory(1024...intMax), "2097152", because: "it serves Redis's own tests only").hidden
    ]
}
