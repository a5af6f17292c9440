import CLinux
import Glibc
import Reactor
import RESP

/// INFO: the sections, fields and formats of Redis 7.2.
extension StoreServer {
    static let infoCommands: [Command] = [
        Command(
            "INFO", arity: -1, flags: [.loading, .stale], categories: [.dangerous], since: "1.0.0",
            syntax: "[section...]", tips: "nondeterministic_output request_policy:all_shards response_policy:special",
            summary: "Returns information and statistics about the server."
        ) { call in
            let words = (1..<max(1, call.count)).map { call[$0].lowercased }
            call.reply.verbatim(call.server.info(words))
        }
    ]

    private static let defaultSections = [
        "server", "clients", "memory", "persistence", "stats", "replication", "cpu", "modules", "errorstats", "cluster", "keyspace",
    ]
    private static let allSections = [
        "server", "clients", "memory", "persistence", "stats", "replication", "cpu", "modules", "commandstats", "errorstats", "latencystats",
        "cluster", "keyspace",
    ]

    /// The sections asked for; without any the usual ones.
    private func info(_ asked: [String]) -> String {
        var wanted: Set<String> = []
        for word in asked.isEmpty ? ["default"] : asked {
            switch word {
            case "default": wanted.formUnion(StoreServer.defaultSections)
            case "all", "everything": wanted.formUnion(StoreServer.allSections)
            default: wanted.insert(word)
            }
        }
        return StoreServer.allSections.filter(wanted.contains).map(section).joined(separator: "\r\n")
    }

    private func section(_ name: String) -> String {
        switch name {
        case "server": serverSection()
        case "clients": clientsSection()
        case "memory": memorySection()
        case "persistence": persistence.infoSection()
        case "stats": statsSection()
        case "replication": replication.infoSection()
        case "cpu": cpuSection()
        case "modules": InfoSection("Modules").text
        case "commandstats": commandSection()
        case "errorstats": errorSection()
        case "latencystats": latencySection()
        case "cluster": InfoSection("Cluster", [("cluster_enabled", 0)]).text
        default: keyspaceSection()
        }
    }

    private func serverSection() -> String {
        var system = utsname()
        uname(&system)
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        let uptime = (loop.wallMilliseconds - startedAt) / 1000
        return InfoSection("Server", [
            ("redis_version", StoreVersion.redis), ("redis_git_sha1", "00000000"), ("redis_git_dirty", 0), ("redis_build_id", "vigie"),
            ("vigie_version", StoreVersion.vigie), ("redis_mode", "standalone"),
            ("os", "\(text(of: &system.sysname)) \(text(of: &system.release)) \(text(of: &system.machine))"), ("arch_bits", Int.bitWidth),
            ("monotonic_clock", "POSIX clock_gettime"), ("multiplexing_api", "epoll"), ("atomicvar_api", "swift"), ("gcc_version", "0.0.0"),
            ("process_id", getpid()), ("process_supervised", configuration.supervisor.rawValue), ("run_id", runID), ("tcp_port", configuration.port),
            ("server_time_usec", Int64(now.tv_sec) * 1_000_000 + Int64(now.tv_nsec / 1000)), ("uptime_in_seconds", uptime),
            ("uptime_in_days", uptime / 86_400), ("hz", 10), ("configured_hz", configuration.ineffective["hz"] ?? "10"), ("lru_clock", AccessClock.seconds(loop.wallMilliseconds)),
            ("executable", StoreConfiguration.absolute("/proc/self/exe")), ("config_file", configuration.file ?? ""), ("io_threads_active", 0),
        ] + listenerLines.enumerated().map { ("listener\($0)", $1) }).text
    }

    /// One line for TCP, one for the Unix socket.
    private var listenerLines: [String] {
        var lines: [String] = []
        if configuration.port != 0, !configuration.bind.isEmpty {
            lines.append("name=tcp,\(configuration.bind.map { "bind=\($0)," }.joined())port=\(configuration.port)")
        }
        if !configuration.unixSocket.isEmpty { lines.append("name=unix,bind=\(configuration.unixSocket)") }
        return lines
    }

    /// A field of utsname: characters up to the zero.
    private func text<Field>(of field: inout Field) -> String {
        withUnsafeBytes(of: &field) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    private func clientsSection() -> String {
        var normal = 0
        var inputMax = 0
        var outputMax = 0
        for client in clients.values where client.replica == nil {
            normal += client.isMaster ? 0 : 1
            inputMax = max(inputMax, client.connection.input.count)
            outputMax = max(outputMax, client.connection.output.count)
        }
        return InfoSection("Clients", [
            ("connected_clients", normal), ("cluster_connections", 0), ("maxclients", configuration.maxClients),
            ("client_recent_max_input_buffer", inputMax), ("client_recent_max_output_buffer", outputMax),
            ("blocked_clients", blocking.count), ("tracking_clients", 0),
            ("clients_in_timeout_table", 0), ("total_blocking_keys", blocking.waiting.count),
            ("total_blocking_keys_on_nokey", 0),
        ]).text
    }

    private func memorySection() -> String {
        let report = MemoryReport(self)
        let limit = configuration.maxMemory
        return InfoSection("Memory", [
            ("used_memory", report.used), ("used_memory_human", human(report.used)), ("used_memory_rss", report.resident),
            ("used_memory_rss_human", human(report.resident)), ("used_memory_peak", report.peak), ("used_memory_peak_human", human(report.peak)),
            ("used_memory_peak_perc", percent(report.used, of: report.peak)), ("used_memory_overhead", report.overhead),
            ("used_memory_startup", report.startup), ("used_memory_dataset", report.dataset),
            ("used_memory_dataset_perc", ratio(report.datasetShare) + "%"),
            ("allocator_allocated", report.used), ("allocator_active", report.active), ("allocator_resident", report.allocatorResident),
            ("total_system_memory", report.system), ("total_system_memory_human", human(report.system)), ("used_memory_lua", 0),
            ("used_memory_vm_eval", 0), ("used_memory_lua_human", "0B"), ("used_memory_scripts_eval", 0), ("number_of_cached_scripts", 0),
            ("number_of_functions", 0), ("number_of_libraries", functions.all.count), ("used_memory_vm_functions", 0), ("used_memory_vm_total", 0),
            ("used_memory_vm_total_human", "0B"), ("used_memory_functions", 0), ("used_memory_scripts", 0), ("used_memory_scripts_human", "0B"),
            ("maxmemory", limit), ("maxmemory_human", human(limit)), ("maxmemory_policy", configuration.evictionPolicy.rawValue),
            ("allocator_frag_ratio", ratio(report.allocatorFragmentation)), ("allocator_frag_bytes", report.active - report.used),
            ("allocator_rss_ratio", ratio(report.allocatorResidence)), ("allocator_rss_bytes", report.allocatorResident - report.active),
            ("rss_overhead_ratio", ratio(report.residence)), ("rss_overhead_bytes", report.resident - report.allocatorResident),
            ("mem_fragmentation_ratio", ratio(report.fragmentation)), ("mem_fragmentation_bytes", report.resident - report.used), ("mem_not_counted_for_evict", uncountedMemory), ("mem_replication_backlog", report.backlog),
            ("mem_total_replication_buffers", report.streamMemory), ("mem_clients_slaves", report.replicas),
            ("mem_clients_normal", report.clients), ("mem_cluster_links", 0), ("mem_aof_buffer", appendOnlyFile.buffer.count), ("mem_allocator", "vigie"),
            ("active_defrag_running", memory.defragmentation.isRunning ? 1 : 0),
            ("lazyfree_pending_objects", heap.state.pointee.gravesCount), ("lazyfreed_objects", heap.state.pointee.gravesEmptied),
        ]).text
    }

    private func statsSection() -> String {
        let traffic = traffic.pointee
        let excess = eviction.exceededSince == 0 ? 0 : StoreServer.nanoseconds() - eviction.exceededSince
        return InfoSection("Stats", [
            ("total_connections_received", statistics.connectionsReceived), ("total_commands_processed", commandsProcessed),
            ("instantaneous_ops_per_sec", Int(rates.commands)), ("total_net_input_bytes", traffic.received), ("total_net_output_bytes", traffic.sent),
            ("total_net_repl_input_bytes", traffic.master.received), ("total_net_repl_output_bytes", traffic.replicas.sent), ("instantaneous_input_kbps", ratio(rates.received / 1024)),
            ("instantaneous_output_kbps", ratio(rates.sent / 1024)), ("instantaneous_input_repl_kbps", ratio(rates.replicationReceived / 1024)),
            ("instantaneous_output_repl_kbps", ratio(rates.replicationSent / 1024)), ("rejected_connections", statistics.connectionsRejected), ("sync_full", statistics.fullSyncs),
            ("sync_partial_ok", statistics.partialSyncsAccepted), ("sync_partial_err", statistics.partialSyncsRefused),
            ("expired_keys", statistics.expiredKeys), ("expired_stale_perc", ratio(activeExpiry.staleShare * 100)), ("expired_time_cap_reached_count", activeExpiry.timesExhausted),
            ("expire_cycle_cpu_milliseconds", activeExpiry.nanoseconds / 1_000_000), ("evicted_keys", statistics.evictedKeys), ("evicted_clients", statistics.evictedClients),
            ("total_eviction_exceeded_time", (eviction.exceededTotal + excess) / 1_000_000), ("current_eviction_exceeded_time", excess / 1_000_000), ("keyspace_hits", statistics.keyspaceHits), ("keyspace_misses", statistics.keyspaceMisses),
            ("pubsub_channels", pubsub.channels.count), ("pubsub_patterns", Set(pubsub.patterns.map(\.pattern)).count),
            ("pubsubshard_channels", pubsub.shardChannels.count), ("latest_fork_usec", statistics.latestForkMicroseconds), ("total_forks", statistics.forks),
            ("migrate_cached_sockets", migrations.idle.count), ("slave_expires_tracked_keys", 0), ("active_defrag_hits", 0), ("active_defrag_misses", 0),
            ("active_defrag_key_hits", 0), ("active_defrag_key_misses", 0), ("total_active_defrag_time", 0), ("current_active_defrag_time", 0),
            ("tracking_total_keys", 0), ("tracking_total_items", 0), ("tracking_total_prefixes", 0), ("unexpected_error_replies", replication.failedStreamCommands),
            ("total_error_replies", errors.pointee.total), ("dump_payload_sanitizations", 0), ("total_reads_processed", loop.statistics.reads),
            ("total_writes_processed", loop.statistics.writes), ("io_threaded_reads_processed", 0), ("io_threaded_writes_processed", 0), ("reply_buffer_shrinks", 0),
            ("reply_buffer_expands", 0), ("acl_access_denied_auth", statistics.authenticationsFailed), ("acl_access_denied_cmd", 0),
            ("acl_access_denied_key", 0), ("acl_access_denied_channel", 0), ("vigie_loop_iterations", loop.statistics.iterations),
            ("vigie_loop_longest_callback_usec", loop.statistics.longestCallback.wholeNanoseconds / 1000),
            ("vigie_loop_longest_callback", loop.statistics.longestCallbackLabel),
        ]).text
    }

    /// RUSAGE_THREAD, which the headers show under _GNU_SOURCE only.
    private static let thisThread: Int32 = 1

    private func cpuSection() -> String {
        func seconds(_ time: timeval) -> String {
            "\(time.tv_sec).\(String(1_000_000 + Int(time.tv_usec)).dropFirst())"
        }
        var own = rusage()
        getrusage(RUSAGE_SELF.rawValue, &own)
        var children = rusage()
        getrusage(RUSAGE_CHILDREN.rawValue, &children)
        var thread = rusage()
        getrusage(StoreServer.thisThread, &thread)
        return InfoSection("CPU", [
            ("used_cpu_sys", seconds(own.ru_stime)), ("used_cpu_user", seconds(own.ru_utime)), ("used_cpu_sys_children", seconds(children.ru_stime)),
            ("used_cpu_user_children", seconds(children.ru_utime)), ("used_cpu_sys_main_thread", seconds(thread.ru_stime)),
            ("used_cpu_user_main_thread", seconds(thread.ru_utime)),
        ]).text
    }

    private func commandSection() -> String {
        let slots = commands.all.flatMap { [$0] + $0.pointee.subcommands }.filter { $0.pointee.calls + $0.pointee.rejected > 0 }
        return InfoSection("Commandstats", slots.map { slot in
            let usec = slot.pointee.nanoseconds / 1000
            let each = Double(slot.pointee.nanoseconds) / 1000 / Double(max(1, slot.pointee.calls))
            return (
                "cmdstat_\(slot.pointee.fullName)",
                "calls=\(slot.pointee.calls),usec=\(usec),usec_per_call=\(ratio(each)),rejected_calls=\(slot.pointee.rejected),failed_calls=\(slot.pointee.failed)"
            )
        }).text
    }

    private func errorSection() -> String {
        InfoSection("Errorstats", errors.pointee.byCode.sorted { $0.key < $1.key }.map { ("errorstat_\($0.key)", "count=\($0.value)") }).text
    }

    private func latencySection() -> String {
        InfoSection("Latencystats", timedSlots().map { slot in
            let histogram = slot.pointee.latencies!
            let values = configuration.latencyPercentiles.map { text in
                let nanoseconds = histogram.percentile(Double(text) ?? 0)
                return "p\(text)=\(nanoseconds / 1000).\(String(1000 + nanoseconds % 1000).dropFirst())"
            }
            return ("latency_percentiles_usec_\(slot.pointee.fullName)", values.joined(separator: ","))
        }).text
    }

    private func keyspaceSection() -> String {
        // While a snapshot is loaded, what there is of it so far.
        InfoSection("Keyspace", (loading?.databases ?? databases).filter { $0.count > 0 }.map { db in
            ("db\(db.id)", "keys=\(db.count),expires=\(db.expiring.count),avg_ttl=\(averageTimeToLive(db))")
        }).text
    }

    /// From a sample of keys that expire, in milliseconds.
    private func averageTimeToLive(_ db: Database) -> Int64 {
        var sum: Int64 = 0
        var count: Int64 = 0
        for _ in 0..<min(16, db.expiring.count) {
            guard let element = db.expiring.random(using: &random) else { break }
            // Bounded, so that sixteen of them can be added.
            sum += min(max(0, Entry(element).expiry - db.now), 1 << 58)
            count += 1
        }
        return count == 0 ? 0 : sum / count
    }

    // MARK: numbers as Redis prints them

    private func human(_ bytes: Int) -> String {
        if bytes < 1024 { return "\(bytes)B" }
        var value = Double(bytes)
        for unit in ["K", "M", "G", "T", "P"] {
            value /= 1024
            if value < 1024 { return ratio(value) + unit }
        }
        return "\(bytes)B"
    }

    private func percent(_ part: Int, of whole: Int) -> String { ratio(Double(part) * 100 / Double(max(1, whole))) + "%" }

    /// Two digits behind the point.
    private func ratio(_ value: Double) -> String {
        let hundredths = Int((abs(value) * 100).rounded())
        return "\(value < 0 && hundredths > 0 ? "-" : "")\(hundredths / 100).\(String(100 + hundredths % 100).dropFirst())"
    }
}

/// One section: its heading and its fields, a line each.
struct InfoSection {
    let text: String

    init(_ title: String, _ fields: [(String, Any)] = []) {
        text = "# \(title)\r\n" + fields.map { "\($0.0):\($0.1)\r\n" }.joined()
    }

    /// A number with so many digits behind the point.
    static func fixed(_ value: Double, places: Int = 2) -> String {
        let unit = (0..<places).reduce(1) { unit, _ in unit * 10 }
        let parts = Int((value * Double(unit)).rounded())
        return "\(parts / unit).\(String(unit + parts % unit).dropFirst())"
    }
}

/// How much happens in a second, averaged over the last 1.6.
struct Rates {
    private(set) var commands = 0.0
    private(set) var received = 0.0
    private(set) var sent = 0.0
    private(set) var replicationReceived = 0.0
    private(set) var replicationSent = 0.0
    private var samples: [(time: Int64, commands: UInt64, traffic: StoreTraffic)] = []

    mutating func sample(at time: Int64, commands: UInt64, _ traffic: StoreTraffic) {
        samples.append((time, commands, traffic))
        if samples.count > 17 { samples.removeFirst() }
        let first = samples[0]
        let seconds = Double(time - first.time) / 1000
        guard seconds > 0 else { return }
        // Statistics that were reset make one sample smaller than the one before.
        func rate(_ now: UInt64, _ before: UInt64) -> Double { now >= before ? Double(now - before) / seconds : 0 }
        self.commands = rate(commands, first.commands)
        received = rate(traffic.received, first.traffic.received)
        sent = rate(traffic.sent, first.traffic.sent)
        replicationReceived = rate(traffic.master.received, first.traffic.master.received)
        replicationSent = rate(traffic.replicas.sent, first.traffic.replicas.sent)
    }
}

extension Persistence {
    /// INFO's section.
    func infoSection() -> String {
        let child = child ?? server.appendOnlyFile.rewrite.child
        let age = child.map { $0.copiedAt == 0 ? 0 : (server.loop.wallMilliseconds - $0.copiedAt) / 1000 } ?? 0
        let (written, total) = (child?.keysWritten ?? 0, child?.keysTotal ?? 0)
        // A master's snapshot is read, into databases of its own while the old data is served, or in place of what was there.
        let transfer = server.replication.link.flatMap { $0.isLoading ? $0 : nil }
        return InfoSection("Persistence", [
            ("loading", server.gate.contains(.loading) ? 1 : 0), ("async_loading", transfer?.loadsBesideData == true ? 1 : 0),
            ("current_cow_peak", child?.copiedPeak ?? 0), ("current_cow_size", child?.copied ?? 0), ("current_cow_size_age", age),
            ("current_fork_perc", InfoSection.fixed(Double(written) / Double(max(1, total)) * 100)),
            ("current_save_keys_processed", written), ("current_save_keys_total", total),
            ("rdb_changes_since_last_save", server.dirty), ("rdb_bgsave_in_progress", server.hasSnapshotChild ? 1 : 0), ("rdb_last_save_time", lastSave),
            ("rdb_last_bgsave_status", isHealthy ? "ok" : "err"), ("rdb_last_bgsave_time_sec", lastDuration),
            ("rdb_current_bgsave_time_sec", currentDuration), ("rdb_saves", saves), ("rdb_last_cow_size", lastCopiedBytes),
            ("rdb_last_load_keys_expired", keysExpired), ("rdb_last_load_keys_loaded", keysLoaded),
        ] + server.appendOnlyFile.infoFields + (server.loading?.infoFields ?? transfer?.loadingFields ?? [])).text
    }
}

extension MasterLink {
    /// What INFO's section `persistence` says of a master's snapshot that is being read.
    fileprivate var loadingFields: [(String, Any)] {
        let (read, total) = (transferRead, max(0, transferTotal))
        let elapsed = max(0, server.loop.wallMilliseconds - transferBegan) / 1000
        return [
            ("loading_start_time", transferBegan / 1000), ("loading_total_bytes", total), ("loading_rdb_used_mem", 0),
            ("loading_loaded_bytes", read), ("loading_loaded_perc", InfoSection.fixed(Double(read) / Double(max(1, total)) * 100)),
            ("loading_eta_seconds", elapsed == 0 ? 1 : elapsed * max(0, total - read) / (read + 1)),
        ]
    }
}

extension AppendOnlyFile {
    /// Its part of INFO's section `persistence`.
    fileprivate var infoFields: [(String, Any)] {
        let isOn = state != .off
        let current = rewrite.child.map { server.loop.wallMilliseconds / 1000 - $0.startedAt } ?? -1
        let fields: [(String, Any)] = [
            ("aof_enabled", isOn ? 1 : 0), ("aof_rewrite_in_progress", rewrite.isRunning ? 1 : 0),
            ("aof_rewrite_scheduled", rewrite.isScheduled ? 1 : 0), ("aof_last_rewrite_time_sec", rewrite.lastDuration),
            ("aof_current_rewrite_time_sec", current), ("aof_last_bgrewrite_status", rewrite.isHealthy ? "ok" : "err"),
            ("aof_rewrites", rewrite.count), ("aof_rewrites_consecutive_failures", rewrite.consecutiveFailures),
            ("aof_last_write_status", refusal == nil ? "ok" : "err"), ("aof_last_cow_size", rewrite.lastCopiedBytes),
            ("module_fork_in_progress", 0), ("module_fork_last_cow_size", 0),
        ]
        guard isOn else { return fields }
        return fields + [
            ("aof_current_size", currentSize), ("aof_base_size", baseSize), ("aof_pending_rewrite", rewrite.isScheduled ? 1 : 0),
            ("aof_buffer_length", buffer.count), ("aof_pending_bio_fsync", pendingSyncs), ("aof_delayed_fsync", delayedSyncs),
        ]
    }
}
