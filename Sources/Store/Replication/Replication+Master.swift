import Glibc
import Logging
import Reactor
import RESP

/// The master's half: PSYNC, REPLCONF, snapshots for replicas, acknowledgements.
extension Replication {
    // MARK: REPLCONF

    func configure(_ call: borrowing Call) {
        guard call.count % 2 == 1 else { return call.syntaxError() }
        let client = call.client
        for i in stride(from: 1, to: call.count, by: 2) {
            let option = call[i]
            let value = call[i + 1]
            if option.isWord("ack") {
                acknowledge(client, value)
                return
            }
            if option.isWord("getack") {
                if client.isMaster { link?.acknowledge() }
                return
            }
            if client.replica == nil { client.replica = ReplicaState() }
            let replica = client.replica!
            if option.isWord("listening-port") {
                guard let port = value.integer, let port = UInt16(exactly: port) else { return call.notAnInteger() }
                replica.listeningPort = port
            } else if option.isWord("ip-address") {
                guard value.count < 256 else {
                    return call.reply.error("ERR REPLCONF ip-address provided by replica instance is too long: \(value.count) bytes")
                }
                replica.announcedIP = value.text
            } else if option.isWord("capa") {
                if value.isWord("eof") { replica.understandsEOF = true }
                if value.isWord("psync2") { replica.understandsPSYNC2 = true }
            } else if option.isWord("rdb-only") {
                guard let flag = value.integer else { return call.notAnInteger() }
                replica.wantsSnapshotOnly = flag == 1
            } else if option.isWord("rdb-filter-only") {
                // What is named is all that is wanted; nothing named, nothing.
                if let word = value.text.split(separator: " ").first(where: { $0.lowercased() != "functions" }) {
                    return call.reply.error("ERR Unsupported rdb-filter-only option: \(word)")
                }
                replica.wantsNoData = true
            } else if option.isWord("version") {
                continue
            } else {
                return call.reply.error("ERR Unrecognized REPLCONF option: \(option.text)")
            }
        }
        call.reply.ok()
    }

    private func acknowledge(_ client: Client, _ value: Argument) {
        guard let replica = client.replica, let offset = value.integer else { return }
        if replica.phase == .settling {
            replica.phase = .online
            give(client)
            server.logger.notice("Synchronization with replica \(name(of: client)) succeeded")
        }
        guard replica.phase == .online else { return }
        replica.acknowledgedOffset = max(replica.acknowledgedOffset, offset)
        replica.acknowledgedAt = server.loop.wallMilliseconds
        if server.gate.contains(.confirming) { server.confirmation.replicaAcknowledged() }
        serveWaiting()
    }

    // MARK: PSYNC

    func synchronise(_ call: borrowing Call) {
        let client = call.client
        if let replica = client.replica, replica.phase != .handshaking { return }
        if isReplica, !isLinkUp {
            return call.reply.error("NOMASTERLINK Can't SYNC while not connected with my master")
        }
        let isOld = call.slot.pointee.name.isWord("sync")
        let id = isOld ? "?" : call[1].text
        guard let wanted = isOld ? -1 : call[2].integer else { return call.notAnInteger() }
        if client.replica == nil { client.replica = ReplicaState() }
        let replica = client.replica!
        replica.isOld = isOld
        // What is pending belongs to the history that the offset is compared with.
        beforeFlush()
        if canResume(id, wanted) {
            resume(client, from: wanted)
            return
        }
        if id != "?" {
            server.statistics.partialSyncsRefused += 1
            server.logger.notice("Partial resynchronization not accepted: \(reason(id, wanted))")
        }
        guard replica.understandsEOF else {
            client.replica = nil
            return call.reply.error("ERR full synchronisation needs a replica that understands EOF-marked transfers (REPLCONF capa eof)")
        }
        server.logger.notice("Replica \(name(of: client)) asks for synchronization")
        server.statistics.fullSyncs += 1
        client.gate.insert(.replica)
        client.connection.traffic = server.traffic.replicas
        replica.phase = .waiting
        replicas.append(client)
        server.applyOutputLimit(client)
        startFeeding()
        scheduleTransfer()
    }

    private func canResume(_ id: String, _ wanted: Int64) -> Bool {
        guard stream.isOpen else { return false }
        let isOurs = id.lowercased() == replicationID || (id.lowercased() == secondID && wanted <= secondOffset)
        return isOurs && wanted >= stream.firstOffset && wanted <= stream.end + 1
    }

    private func reason(_ id: String, _ wanted: Int64) -> String {
        if id.lowercased() == replicationID || id.lowercased() == secondID {
            return "Requested offset for secondary ID was \(wanted), but I can reply from \(stream.firstOffset) up to \(stream.end + 1)"
        }
        return "Replication ID mismatch (Replica asked for '\(id)', my replication IDs are '\(replicationID)' and '\(secondID)')"
    }

    private func resume(_ client: Client, from offset: Int64) {
        let replica = client.replica!
        server.statistics.partialSyncsAccepted += 1
        client.gate.insert(.replica)
        client.connection.traffic = server.traffic.replicas
        replica.phase = .online
        replica.acknowledgedAt = server.loop.wallMilliseconds
        replica.acknowledgedOffset = offset - 1
        replicas.append(client)
        if server.gate.contains(.confirming) { server.confirmation.replicaAcknowledged() }
        server.applyOutputLimit(client)
        client.output.append(replica.understandsPSYNC2 ? "+CONTINUE \(replicationID)\r\n" : "+CONTINUE\r\n")
        replica.given = offset - 1
        give(client)
        server.logger.notice("Partial resynchronization request from \(name(of: client)) accepted. Sending \(stream.end - offset + 1) bytes of backlog starting from offset \(offset).")
    }

    // MARK: snapshots

    /// Begins a transfer to all that wait, once the delay in which others may join is over and none is under way.
    func scheduleTransfer() {
        guard transfer == nil, transferTimer == nil, replicas.contains(where: { $0.replica!.phase == .waiting }) else { return }
        let delay = Duration.seconds(server.configuration.disklessSyncDelay)
        transferTimer = server.loop.schedule(after: delay, label: "full synchronisation") { [unowned self] in
            transferTimer = nil
            beginTransfer()
        }
    }

    private func beginTransfer() {
        beforeFlush()
        let waiting = replicas.filter { $0.replica!.phase == .waiting }
        guard let first = waiting.first else { return }
        // Those who want something else have their turn after this one.
        let receivers = waiting.filter { $0.replica!.wantsNoData == first.replica!.wantsNoData }
        // Each of them is told the history's place before its stream begins; the stream then selects its database anew.
        stream.selected = -1
        for client in receivers {
            if !client.replica!.isOld { client.output.append("+FULLRESYNC \(replicationID) \(stream.end)\r\n") }
            client.replica!.phase = .receiving
            client.replica!.given = stream.end
        }
        transfer = SnapshotTransfer(replication: self, receivers: receivers)
        transfer!.start()
    }

    /// The transfer is over.
    func finished(_ finished: SnapshotTransfer, succeeded: Bool) {
        transfer = nil
        for client in finished.receivers {
            let replica = client.replica!
            guard succeeded else {
                client.connection.close()
                continue
            }
            if replica.wantsSnapshotOnly {
                client.closeAfterReplies()
                continue
            }
            replica.phase = .settling
            replica.acknowledgedAt = server.loop.wallMilliseconds
        }
        scheduleTransfer()
    }

    // MARK: WAIT

    func acknowledged(_ offset: Int64) -> Int {
        replicas.count { $0.replica!.phase == .online && $0.replica!.acknowledgedOffset >= offset }
    }

    func wait(_ call: borrowing Call) {
        if isReplica {
            return call.reply.error("ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is configured to be writable (which is not the default) writes to replicas are just local and are not propagated.")
        }
        guard let count = call.integer(1) else { return }
        guard let timeout = call[2].integer else { return call.reply.error("ERR timeout is not an integer or out of range") }
        guard timeout >= 0 else { return call.reply.error("ERR timeout is negative") }
        let offset = call.client.lastWriteOffset
        let have = acknowledged(offset)
        if have >= count || server.executionDepth > 0 { return call.reply.integer(have) }
        let state = BlockedState(.replicas(offset: offset, count: Int(count))) { [unowned self] client in
            client.reply.integer(acknowledged(offset))
        }
        server.block(call.client, state, timeout: timeout)
        wantsAcknowledgements = true
    }

    /// Answers those whose writes have reached enough replicas.
    private func serveWaiting() {
        guard server.blocking.count > 0 else { return }
        for client in server.clients.values {
            guard case .replicas(let offset, let count)? = client.blocked?.reason else { continue }
            let have = acknowledged(offset)
            guard have >= count else { continue }
            server.unblock(client)
            client.reply.integer(have)
            server.goOn(client)
        }
    }

    // MARK: what people see

    /// ROLE's reply.
    func role(_ reply: ReplyWriter) {
        if isReplica {
            let master = server.configuration.replicaOf!
            reply.array(5)
            reply.bulk("slave")
            reply.bulk(master.host)
            reply.integer(Int(master.port))
            reply.bulk(link?.stateName ?? "connect")
            reply.integer(link == nil || !hasMasterHistory ? -1 : stream.end)
            return
        }
        reply.array(3)
        reply.bulk("master")
        reply.integer(stream.end)
        let online = replicas.filter { $0.replica!.phase == .online }
        reply.array(online.count)
        for client in online {
            reply.array(3)
            reply.bulk(client.replica!.announcedIP ?? client.connection.peer.host)
            reply.bulk(String(client.replica!.listeningPort))
            reply.bulk(String(client.replica!.acknowledgedOffset))
        }
    }

    /// The section `replication` of INFO.
    func infoSection() -> String {
        var lines = ["# Replication", "role:\(isReplica ? "slave" : "master")"]
        let seconds = server.loop.wallMilliseconds / 1000
        if isReplica, let master = server.configuration.replicaOf {
            lines += [
                "master_host:\(master.host)", "master_port:\(master.port)",
                "master_link_status:\(isLinkUp ? "up" : "down")",
                "master_last_io_seconds_ago:\(isLinkUp ? seconds - (link!.lastInteraction / 1000) : -1)",
                "master_sync_in_progress:\(link?.isTransferring == true ? 1 : 0)",
                "slave_read_repl_offset:\(stream.end)", "slave_repl_offset:\(stream.end)",
            ]
            if link?.isTransferring == true {
                lines += [
                    "master_sync_total_bytes:\(link!.transferTotal)", "master_sync_read_bytes:\(link!.transferRead)",
                    "master_sync_left_bytes:\(link!.transferTotal >= 0 ? link!.transferTotal - link!.transferRead : -1)",
                    "master_sync_perc:\(link!.transferTotal > 0 ? Double(link!.transferRead * 100 / link!.transferTotal) : 0)",
                    "master_sync_last_io_seconds_ago:\(seconds - (link!.lastInteraction / 1000))",
                ]
            }
            if !isLinkUp { lines.append("master_link_down_since_seconds:\(link.map { ($0.downSince == 0 ? -1 : seconds - $0.downSince / 1000) } ?? -1)") }
            lines += [
                "slave_priority:\(server.configuration.replicaPriority)",
                "slave_read_only:\(server.configuration.isReplicaReadOnly ? 1 : 0)", "replica_announced:1",
            ]
        }
        lines.append("connected_slaves:\(replicas.count)")
        if server.configuration.minReplicasToWrite > 0 { lines.append("min_slaves_good_slaves:\(goodReplicas)") }
        lines += server.confirmation.infoFields
        for (i, client) in replicas.enumerated() {
            let replica = client.replica!
            let host = replica.announcedIP ?? client.connection.peer.host
            let lag = replica.phase == .online ? seconds - replica.acknowledgedAt / 1000 : 0
            lines.append("slave\(i):ip=\(host),port=\(replica.listeningPort),state=\(replica.stateName),offset=\(replica.acknowledgedOffset),lag=\(lag)")
        }
        lines += [
            "master_failover_state:no-failover", "master_replid:\(replicationID)", "master_replid2:\(secondID)",
            "master_repl_offset:\(stream.end)", "second_repl_offset:\(secondOffset)", "repl_backlog_active:\(stream.isOpen ? 1 : 0)",
            "repl_backlog_size:\(stream.backlogSize)", "repl_backlog_first_byte_offset:\(stream.isOpen ? stream.firstOffset : 0)",
            "repl_backlog_histlen:\(stream.historyCount)",
        ]
        return lines.map { $0 + "\r\n" }.joined()
    }
}
