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
                acknowledge(client, value, synced: call.count > i + 3 && call[i + 2].isWord("fack") ? call[i + 3].integer : nil)
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
                guard flag == 0 || flag == 1 else { return call.reply.error("ERR value is out of range, value must between 0 and 1") }
                replica.wantsSnapshotOnly = flag == 1
            } else if option.isWord("rdb-filter-only") {
                // What is named is all that is wanted; nothing named, nothing.
                let words = value.text.split(separator: " ")
                if let word = words.first(where: { $0.lowercased() != "functions" }) {
                    return call.reply.error("ERR Unsupported rdb-filter-only option: \(word)")
                }
                replica.wantsNoData = true
                replica.wantsFunctions = !words.isEmpty
            } else if option.isWord("version") {
                continue
            } else {
                return call.reply.error("ERR Unrecognized REPLCONF option: \(option.text)")
            }
        }
        call.reply.ok()
    }

    /// - Parameter synced: how far the replica's append-only file is on its disk.
    private func acknowledge(_ client: Client, _ value: Argument, synced: Int64?) {
        guard let replica = client.replica, let offset = value.integer else { return }
        if replica.phase == .settling {
            replica.phase = .online
            give(client)
            server.logger.notice("Synchronization with replica \(name(of: client)) succeeded")
        }
        guard replica.phase == .online else { return }
        replica.isSuperseded = false
        // Nobody has what has not been written yet.
        replica.acknowledgedOffset = max(replica.acknowledgedOffset, min(offset, stream.end))
        replica.acknowledgedAt = server.loop.now.milliseconds
        if server.gate.contains(.confirming) { server.confirmation.replicaAcknowledged() }
        if let synced { replica.syncedOffset = max(replica.syncedOffset, synced) }
        serveWaiting()
        continueFailover()
        if server.pendingShutdown != nil { server.continueShutdown() }
    }

    /// Replicas that take the stream and have not acknowledged all of it up to an offset.
    func lagging(behind offset: Int64) -> [Client] {
        replicas.filter { client in
            let replica = client.replica!
            return replica.isCounted && !replica.wantsSnapshotOnly && replica.acknowledgedOffset < offset
        }
    }

    // MARK: PSYNC

    func synchronise(_ call: borrowing Call) {
        let client = call.client
        if let replica = client.replica, replica.phase != .handshaking { return }
        if call.count > 3, call[3].isWord("failover"), !takeOver(call) { return }
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
        // A part of the data never goes into the file.
        if replica.wantsNoData, !replica.understandsEOF {
            return call.reply.error("ERR Filtered replica requires EOF capability")
        }
        server.logger.notice("Replica \(name(of: client)) asks for synchronization")
        server.statistics.fullSyncs += 1
        attach(client, .waiting)
        startFeeding()
        if let file = transfer as? FileTransfer, file.isWriting, !file.receivers.isEmpty, !isDiskless(replica) {
            begin(client, at: file.offset)
            file.join(client)
            return
        }
        scheduleTransfer()
    }

    /// Makes a replica of a client.
    private func attach(_ client: Client, _ phase: ReplicaState.Phase) {
        client.gate.insert(.replica)
        client.connection.traffic = server.traffic.replicas
        client.connection.setNoDelay(!server.configuration.delaysReplicaPackets)
        client.replica!.phase = phase
        // A replica that comes back may have left a connection behind that has not noticed: that must not count as a second copy.
        for other in replicas where client.replica!.listeningPort != 0 && address(of: other) == address(of: client) { other.replica!.isSuperseded = true }
        replicas.append(client)
        server.applyOutputLimit(client)
    }

    /// Whether a replica is sent its snapshot as it is made.
    private func isDiskless(_ replica: ReplicaState) -> Bool {
        replica.understandsEOF && (server.configuration.disklessSync || replica.wantsNoData)
    }

    /// Tells a replica the history's place before its stream begins.
    private func begin(_ client: Client, at offset: Int64) {
        if !client.replica!.isOld { client.output.append("+FULLRESYNC \(replicationID) \(offset)\r\n") }
        client.replica!.phase = .receiving
        client.replica!.given = offset
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
        attach(client, .online)
        replica.acknowledgedAt = server.loop.now.milliseconds
        replica.acknowledgedOffset = offset - 1
        if server.gate.contains(.confirming) { server.confirmation.replicaAcknowledged() }
        client.output.append(replica.understandsPSYNC2 ? "+CONTINUE \(replicationID)\r\n" : "+CONTINUE\r\n")
        replica.given = offset - 1
        give(client)
        server.logger.notice("Partial resynchronization request from \(name(of: client)) accepted. Sending \(stream.end - offset + 1) bytes of backlog starting from offset \(offset).")
    }

    // MARK: snapshots

    /// Begins a transfer to all that wait, once the delay in which others may join is over and none is under way.
    func scheduleTransfer() {
        guard transfer == nil else { return }
        let waiting = replicas.filter { $0.replica!.phase == .waiting }
        guard let first = waiting.first else { return }
        let configuration = server.configuration
        let isEnough = configuration.disklessSyncMaxReplicas > 0 && waiting.count >= configuration.disklessSyncMaxReplicas
        if isEnough, let timer = transferTimer {
            server.loop.cancel(timer)
            transferTimer = nil
        }
        guard transferTimer == nil else { return }
        beginTransfer(after: isEnough || !isDiskless(first.replica!) ? .zero : .seconds(configuration.disklessSyncDelay))
    }

    private func beginTransfer(after delay: Duration) {
        transferTimer = server.loop.schedule(after: delay, label: "full synchronisation") { [unowned self] in
            transferTimer = nil
            beginTransfer()
        }
    }

    private func beginTransfer() {
        guard transfer == nil else { return }
        beforeFlush()
        let waiting = replicas.filter { $0.replica!.phase == .waiting && $0.connection.isOpen }
        guard let first = waiting.first?.replica else { return }
        let isDiskless = isDiskless(first)
        // The file is written by one child at a time.
        if !isDiskless, server.hasWritingChild { return beginTransfer(after: .milliseconds(100)) }
        // Those who want something else have their turn after this one.
        let receivers = waiting.filter { $0.replica!.wantsNoData == first.wantsNoData && $0.replica!.wantsFunctions == first.wantsFunctions && (!isDiskless || self.isDiskless($0.replica!)) }
        // The stream behind the snapshot selects its database anew.
        stream.selected = -1
        for client in receivers { begin(client, at: stream.end) }
        transfer = isDiskless ? PipeTransfer(replication: self, receivers: receivers) : FileTransfer(replication: self, receivers: receivers)
        transfer!.start()
    }

    /// The transfer is over.
    func finished(_ finished: any SnapshotTransfer, succeeded: Bool) {
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
            replica.acknowledgedAt = server.loop.now.milliseconds
        }
        scheduleTransfer()
    }

    /// A replica has been sent a snapshot of known length: the stream may follow at once.
    func received(_ client: Client) {
        let replica = client.replica!
        if replica.wantsSnapshotOnly { return client.closeAfterReplies() }
        replica.phase = .online
        replica.acknowledgedAt = server.loop.now.milliseconds
        server.logger.notice("Synchronization with replica \(name(of: client)) succeeded")
        give(client)
    }
}
