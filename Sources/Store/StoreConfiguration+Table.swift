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
        .kept("bind-source-addr", .text, ""),
        .text("unixsocket", \.unixSocket).immutable,
        Directive("unixsocketperm", read: { Array(String($0.unixSocketPermission, radix: 8).utf8) }) { configuration, words throws(DirectiveError) in
            configuration.unixSocketPermission = UInt32(try StoreConfiguration.octal(String(decoding: words[0], as: UTF8.self), 0...0o777))
        }.immutable,
        .integer("tcp-backlog", \.tcpBacklog, 0...intMax).immutable,
        .integer("timeout", \.timeout, natural),
        .integer("tcp-keepalive", \.tcpKeepAlive, natural),
        .flag("protected-mode", \.isProtectedMode),
        .kept("socket-mark-id", .integer(0...4_294_967_295), "0"),
        .kept("max-new-connections-per-cycle", .integer(1...1000), "10"),
        .kept("max-new-tls-connections-per-cycle", .integer(1...1000), "1"),
    ]

    private static let general: [Directive] = [
        .integer("databases", \.databases, 1...intMax).immutable,
        .integer("maxclients", \.maxClients, 1...4_294_967_295),
        .bytes("requirepass", \.password).secret,
        .kept("aclfile", .text, "", standing: .refused("there are no ACL users beside the default one yet")).immutable,
        .kept("acl-pubsub-default", .choice(["allchannels", "resetchannels"]), "resetchannels"),
        .kept("acllog-max-len", .integer(count), "128"),
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
        .text("dbfilename", \.dbFilename).protected.with { directive in
            let write = directive.write
            directive = Directive("dbfilename", read: directive.read) { configuration, words throws(DirectiveError) in
                guard !words[0].contains(UInt8(ascii: "/")) else { throw DirectiveError("dbfilename can't be a path, just a filename") }
                try write(configuration, words)
            }.protected
        },
        directory,
        .flag("stop-writes-on-bgsave-error", \.stopsWritesOnSnapshotError),
        .kept("rdb-save-incremental-fsync", .flag, "yes"),
        .kept("rdb-del-sync-files", .flag, "no"),
        .kept("rdb-key-save-delay", .integer(-intMax...intMax), "0"),
        .kept("key-load-delay", .integer(-intMax...intMax), "0"),
        .kept("sanitize-dump-payload", .choice(["no", "yes", "clients"]), "no"),
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
        .kept("replica-ignore-maxmemory", .flag, "yes").alias("slave-ignore-maxmemory"),
        .kept("replica-lazy-flush", .flag, "no").alias("slave-lazy-flush"),
        .kept("replica-ignore-disk-write-errors", .flag, "no"),
        .kept("propagation-error-behavior", .choice(["ignore", "panic", "panic-on-replicas"]), "ignore"),
        .memory("repl-backlog-size", \.backlogSize, 1...Int64.max),
        .integer("repl-backlog-ttl", \.backlogTimeToLive, 0...Int64.max),
        .integer("repl-timeout", \.replicationTimeout, 1...intMax),
        .integer("repl-ping-replica-period", \.replicationPingPeriod, 1...intMax).alias("repl-ping-slave-period"),
        .integer("repl-diskless-sync-delay", \.disklessSyncDelay, natural),
        .kept("repl-diskless-sync", .flag, "yes"),
        .kept("repl-diskless-sync-max-replicas", .integer(natural), "0"),
        .kept("repl-diskless-load", .choice(["disabled", "on-empty-db", "swapdb"]), "disabled"),
        .kept("repl-disable-tcp-nodelay", .flag, "no"),
        .integer("min-replicas-to-write", \.minReplicasToWrite, natural).alias("min-slaves-to-write"),
        .integer("min-replicas-max-lag", \.minReplicasMaxLag, natural).alias("min-slaves-max-lag"),
    ]

    private static let encodings: [Directive] = [
        .integer("list-max-listpack-size", \.listMaxListpackSize, -intMax - 1...intMax).alias("list-max-ziplist-size"),
        .kept("list-compress-depth", .integer(natural), "0"),
        .integer("hash-max-listpack-entries", \.hashMaxListpackEntries, count).alias("hash-max-ziplist-entries"),
        .memory("hash-max-listpack-value", \.hashMaxListpackValue, count).alias("hash-max-ziplist-value"),
        .integer("set-max-intset-entries", \.setMaxIntsetEntries, count),
        .integer("set-max-listpack-entries", \.setMaxListpackEntries, count),
        .integer("set-max-listpack-value", \.setMaxListpackValue, count),
        .integer("zset-max-listpack-entries", \.sortedSetMaxListpackEntries, count).alias("zset-max-ziplist-entries"),
        .memory("zset-max-listpack-value", \.sortedSetMaxListpackValue, count).alias("zset-max-ziplist-value"),
        .kept("hll-sparse-max-bytes", .memory(count), "3000"),
        .kept("stream-node-max-bytes", .memory(count), "4096"),
        .kept("stream-node-max-entries", .integer(count), "100"),
    ]

    private static let limits: [Directive] = [
        .memory("proto-max-bulk-len", \.protoMaxBulkLength, megabyte...Int64.max),
        .memory("client-query-buffer-limit", \.clientQueryBufferLimit, megabyte...Int64.max),
        outputLimits,
        .kept("tracking-table-max-keys", .integer(count), "1000000"),
        .kept("busy-reply-threshold", .integer(count), "5000").alias("lua-time-limit"),
        .kept("lua-enable-deprecated-api", .flag, "no").immutable,
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
        .kept("set-proc-title", .flag, "yes").immutable,
        .kept("proc-title-template", .text, "{title} {listen-addr} {server-mode}"),
        .kept("always-show-logo", .flag, "no").immutable,
        .kept("crash-log-enabled", .flag, "yes"),
        .kept("crash-memcheck-enabled", .flag, "yes"),
        .kept("use-exit-on-panic", .flag, "no").immutable,
        .kept("disable-thp", .flag, "yes").immutable,
        .kept("ignore-warnings", .text, "").immutable,
        .kept("locale-collate", .text, ""),
        .kept("oom-score-adj", .choice(["no", "yes", "relative", "absolute"]), "no"),
        outOfMemoryScores,
        .kept("server_cpulist", .text, "").immutable,
        .kept("bio_cpulist", .text, "").immutable,
        .kept("aof_rewrite_cpulist", .text, "").immutable,
        .kept("bgsave_cpulist", .text, "").immutable,
        .kept("io-threads", .integer(1...128), "1").immutable,
        .kept("io-threads-do-reads", .flag, "no").immutable,
        .kept("hz", .integer(1...intMax), "10"),
        .kept("dynamic-hz", .flag, "yes"),
        .kept("shutdown-timeout", .integer(natural), "10"),
        .kept("shutdown-on-sigint", .choices(["default", "save", "nosave", "now", "force"]), "default"),
        .kept("shutdown-on-sigterm", .choices(["default", "save", "nosave", "now", "force"]), "default"),
    ]

    private static let appendOnly: [Directive] = [
        .kept(
            "appendonly", .flag, "no",
            standing: .refused("the append-only file does not exist yet, and writes that it is to keep would be lost in a crash")),
        .kept("appendfilename", .text, "appendonly.aof").immutable,
        .kept("appenddirname", .text, "appendonlydir").immutable,
        .kept("appendfsync", .choice(["everysec", "always", "no"]), "everysec"),
        .kept("no-appendfsync-on-rewrite", .flag, "no"),
        .kept("auto-aof-rewrite-percentage", .integer(natural), "100"),
        .kept("auto-aof-rewrite-min-size", .memory(count), "67108864"),
        .kept("aof-load-truncated", .flag, "yes"),
        .kept("aof-use-rdb-preamble", .flag, "yes"),
        .kept("aof-timestamp-enabled", .flag, "no"),
        .kept("aof-rewrite-incremental-fsync", .flag, "yes"),
        .kept("aof-disable-auto-gc", .flag, "no"),
    ]

    private static let memory: [Directive] = [
        .kept("maxmemory", .memory(count), "0", standing: .missing("nothing is evicted and no write is refused for want of memory")),
        .kept(
            "maxmemory-policy",
            .choice([
                "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl", "allkeys-lru", "allkeys-lfu", "allkeys-random",
                "noeviction",
            ]), "noeviction", standing: .missing("nothing is evicted")),
        .kept("maxmemory-samples", .integer(1...64), "5"),
        .kept("maxmemory-eviction-tenacity", .integer(0...100), "10"),
        .kept("maxmemory-clients", .memoryOrPercent, "0", standing: .missing("clients are not evicted")),
        .kept("lfu-log-factor", .integer(natural), "10"),
        .kept("lfu-decay-time", .integer(natural), "1"),
        .kept("lazyfree-lazy-eviction", .flag, "no"),
        .kept("lazyfree-lazy-expire", .flag, "no"),
        .kept("lazyfree-lazy-server-del", .flag, "no"),
        .kept("lazyfree-lazy-user-del", .flag, "no"),
        .kept("lazyfree-lazy-user-flush", .flag, "no"),
        .kept("active-expire-effort", .integer(1...10), "1"),
        .kept("activerehashing", .flag, "yes"),
        .kept("activedefrag", .flag, "no"),
        .kept("active-defrag-cycle-min", .integer(1...99), "1"),
        .kept("active-defrag-cycle-max", .integer(1...99), "25"),
        .kept("active-defrag-ignore-bytes", .memory(1...Int64.max), "104857600"),
        .kept("active-defrag-max-scan-fields", .integer(1...Int64.max), "1000"),
        .kept("active-defrag-threshold-lower", .integer(0...1000), "10"),
        .kept("active-defrag-threshold-upper", .integer(0...1000), "100"),
        .kept("jemalloc-bg-thread", .flag, "yes"),
    ]

    private static let cluster: [Directive] = [
        .kept("cluster-enabled", .flag, "no", standing: .refused("there is no cluster mode")).immutable,
        .kept("cluster-config-file", .text, "nodes.conf").immutable,
        .kept("cluster-port", .integer(0...65535), "0").immutable,
        .kept("cluster-announce-ip", .text, ""),
        .kept("cluster-announce-hostname", .text, ""),
        .kept("cluster-announce-human-nodename", .text, ""),
        .kept("cluster-announce-port", .integer(0...65535), "0"),
        .kept("cluster-announce-bus-port", .integer(0...65535), "0"),
        .kept("cluster-announce-tls-port", .integer(0...65535), "0"),
        .kept("cluster-node-timeout", .integer(count), "15000"),
        .kept("cluster-ping-interval", .integer(0...intMax), "1000"),
        .kept("cluster-migration-barrier", .integer(natural), "1"),
        .kept("cluster-replica-validity-factor", .integer(natural), "10").alias("cluster-slave-validity-factor"),
        .kept("cluster-replica-no-failover", .flag, "no").alias("cluster-slave-no-failover"),
        .kept("cluster-require-full-coverage", .flag, "yes"),
        .kept("cluster-allow-reads-when-down", .flag, "no"),
        .kept("cluster-allow-pubsubshard-when-down", .flag, "yes"),
        .kept("cluster-allow-replica-migration", .flag, "yes"),
        .kept("cluster-link-sendbuf-limit", .memory(count), "0"),
        .kept("cluster-preferred-endpoint-type", .choice(["ip", "hostname", "unknown-endpoint"]), "ip"),
    ]

    private static let noTLS = Standing.refused("there is no TLS yet, and what was to be encrypted would not be")
    private static let tls: [Directive] = [
        .kept("tls-port", .integer(0...65535), "0", standing: noTLS),
        .kept("tls-cluster", .flag, "no", standing: noTLS),
        .kept("tls-replication", .flag, "no", standing: noTLS),
        .kept("tls-auth-clients", .choice(["no", "yes", "optional"]), "yes"),
        .kept("tls-prefer-server-ciphers", .flag, "no"),
        .kept("tls-session-caching", .flag, "yes"),
        .kept("tls-session-cache-size", .integer(natural), "20480"),
        .kept("tls-session-cache-timeout", .integer(natural), "300"),
        .kept("tls-cert-file", .text, ""),
        .kept("tls-key-file", .text, ""),
        .kept("tls-key-file-pass", .text, "").secret,
        .kept("tls-client-cert-file", .text, ""),
        .kept("tls-client-key-file", .text, ""),
        .kept("tls-client-key-file-pass", .text, "").secret,
        .kept("tls-dh-params-file", .text, ""),
        .kept("tls-ca-cert-file", .text, ""),
        .kept("tls-ca-cert-dir", .text, ""),
        .kept("tls-protocols", .text, ""),
        .kept("tls-ciphers", .text, ""),
        .kept("tls-ciphersuites", .text, ""),
    ]

    private static let rest: [Directive] = [
        .kept("loading-process-events-interval-bytes", .memory(1024...intMax), "2097152")
    ]

    // MARK: directives of their own kind

    private static let bind: Directive = {
        var directive = Directive("bind", read: { Array($0.bind.joined(separator: " ").utf8) }) { configuration, words throws(DirectiveError) in
            let addresses = words.map { String(decoding: $0, as: UTF8.self) }
            guard addresses.count <= 16 else { throw DirectiveError("Too many bind addresses specified.") }
            configuration.bind = addresses == [""] ? [] : addresses
        }
        directive.takesMany = true
        return directive
    }()

    private static let save: Directive = {
        var directive = Directive("save", read: { Array(StoreConfiguration.text($0.savePoints).utf8) }) { configuration, words throws(DirectiveError) in
            if words.count == 1, words[0].isEmpty {
                configuration.savePoints = []
                return
            }
            guard words.count.isMultiple(of: 2) else { throw DirectiveError("Invalid save parameters") }
            var points: [(seconds: Int, changes: Int)] = []
            for i in stride(from: 0, to: words.count, by: 2) {
                guard let seconds = Int(String(decoding: words[i], as: UTF8.self)), seconds >= 1,
                    let changes = Int(String(decoding: words[i + 1], as: UTF8.self)), changes >= 0
                else { throw DirectiveError("Invalid save parameters") }
                points.append((seconds, changes))
            }
            configuration.savePoints = points
        }
        directive.takesMany = true
        directive.isRepeatable = true
        directive.rewrite = { configuration in
            configuration.savePoints.isEmpty ? ["\"\""] : configuration.savePoints.map { "\($0.seconds) \($0.changes)" }
        }
        return directive
    }()

    private static let directory: Directive = Directive(
        "dir", read: { Array(StoreConfiguration.absolute($0.directory).utf8) }
    ) { configuration, words throws(DirectiveError) in
        let path = String(decoding: words[0], as: UTF8.self)
        var status = stat()
        guard stat(path, &status) == 0 else { throw DirectiveError(String(cString: strerror(errno))) }
        guard status.st_mode & S_IFMT == S_IFDIR else { throw DirectiveError("Not a directory") }
        configuration.directory = StoreConfiguration.absolute(path)
    }.protected

    private static let replicaOf: Directive = {
        var directive = Directive(
            "replicaof", read: { Array($0.replicaOf.map { "\($0.host) \($0.port)" }?.utf8 ?? "".utf8) }
        ) { configuration, words throws(DirectiveError) in
            if words.count == 1, words[0].isEmpty {
                configuration.replicaOf = nil
                return
            }
            guard words.count == 2 else { throw DirectiveError("wrong number of arguments") }
            let host = String(decoding: words[0], as: UTF8.self)
            let port = String(decoding: words[1], as: UTF8.self)
            if host.lowercased() == "no", port.lowercased() == "one" {
                configuration.replicaOf = nil
                return
            }
            guard let number = UInt16(port), number > 0 else { throw DirectiveError("Invalid master port") }
            configuration.replicaOf = (host, number)
        }.immutable.alias("slaveof")
        directive.takesMany = true
        directive.rewrite = { $0.replicaOf.map { ["\(RedisConfiguration.quote($0.host)) \($0.port)"] } ?? [] }
        return directive
    }()

    private static let outputLimits: Directive = {
        let classes = ["normal", "slave", "pubsub"]
        var directive = Directive(
            "client-output-buffer-limit",
            read: { configuration in
                let limits = zip(classes, configuration.outputLimits)
                return Array(limits.map { "\($0) \($1.hard) \($1.soft) \($1.seconds)" }.joined(separator: " ").utf8)
            }
        ) { configuration, words throws(DirectiveError) in
            guard words.count.isMultiple(of: 4) else { throw DirectiveError("Wrong number of arguments in buffer limit configuration.") }
            var limits = configuration.outputLimits
            for i in stride(from: 0, to: words.count, by: 4) {
                let texts = words[i..<i + 4].map { String(decoding: $0, as: UTF8.self) }
                let name = texts[0].lowercased() == "replica" ? "slave" : texts[0].lowercased()
                guard let index = classes.firstIndex(of: name) else {
                    throw DirectiveError("Invalid client class specified in buffer limit configuration.")
                }
                guard let hard = StoreConfiguration.bytes(texts[1]), let soft = StoreConfiguration.bytes(texts[2]),
                    let seconds = Int(texts[3]), seconds >= 0
                else { throw DirectiveError("Error in hard, soft or soft_seconds setting in buffer limit configuration.") }
                limits[index] = (Int(hard), Int(soft), seconds)
            }
            configuration.outputLimits = limits
        }
        directive.takesMany = true
        directive.rewrite = { configuration in
            zip(["normal", "replica", "pubsub"], configuration.outputLimits).map { "\($0) \($1.hard) \($1.soft) \($1.seconds)" }
        }
        return directive
    }()

    private static let outOfMemoryScores: Directive = {
        var directive = Directive(
            "oom-score-adj-values", read: { Array(($0.ineffective["oom-score-adj-values"] ?? "0 200 800").utf8) }
        ) { configuration, words throws(DirectiveError) in
            guard words.count == 3 else { throw DirectiveError("wrong number of arguments") }
            let values = words.compactMap { Int(String(decoding: $0, as: UTF8.self)) }
            guard values.count == 3, values.allSatisfy({ (-2000...2000).contains($0) }) else {
                throw DirectiveError("Invalid oom-score-adj-values, elements must be between -2000 and 2000.")
            }
            configuration.ineffective["oom-score-adj-values"] = values.map(String.init).joined(separator: " ")
        }
        directive.standing = .ineffective
        directive.takesMany = true
        return directive
    }()

    private static let percentiles: Directive = {
        let name = "latency-tracking-info-percentiles"
        var directive = Directive(name, read: { Array($0.latencyPercentiles.joined(separator: " ").utf8) }) { configuration, words throws(DirectiveError) in
            var texts: [String] = []
            for word in words where !word.isEmpty {
                let text = String(decoding: word, as: UTF8.self)
                guard let value = Double(text), (0...100).contains(value) else {
                    throw DirectiveError("\(name) parameters should sit between [0.0,100.0]")
                }
                texts.append(text)
            }
            configuration.latencyPercentiles = texts
        }
        directive.takesMany = true
        return directive
    }()
}

extension StoreConfiguration {
    static func text(_ points: [(seconds: Int, changes: Int)]) -> String {
        points.map { "\($0.seconds) \($0.changes)" }.joined(separator: " ")
    }

    /// The path from the root, links followed; as it stands where there is nothing.
    static func absolute(_ path: String) -> String {
        guard let real = realpath(path, nil) else { return path }
        defer { free(real) }
        return String(cString: real)
    }

    /// A file's path from the root, where relative ones are relative to `dir`.
    func inDirectory(_ path: String) -> String { path.hasPrefix("/") ? path : "\(StoreConfiguration.absolute(directory))/\(path)" }
}
