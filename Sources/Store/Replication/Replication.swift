import Glibc
import Logging
import Reactor
import RESP

/// What a master knows of one replica.
final class ReplicaState {
    enum Phase {
        /// Still introducing itself.
        case handshaking
        /// Waits for a snapshot to begin.
        case waiting
        /// Receives the snapshot; what is written meanwhile waits in the stream.
        case receiving
        /// Has been sent the snapshot and has not said so yet. A Redis looks for the end mark at the end of what it reads, so that
        /// nothing may follow before it has been seen.
        case settling
        /// Receives the stream.
        case online
    }
    var phase = Phase.handshaking
    var listeningPort: UInt16 = 0
    var announcedIP: String?
    var understandsEOF = false
    var understandsPSYNC2 = false
    /// It wants the data and not the stream (redis-cli --rdb).
    var wantsSnapshotOnly = false
    /// It wants the stream and not the data (redis-cli --replica), or the functions alone (--functions-rdb).
    var wantsNoData = false
    var wantsFunctions = true
    /// It asked with SYNC (redis-cli does): nobody tells it of histories and offsets.
    var isOld = false
    var acknowledgedOffset: Int64 = 0
    /// How far its append-only file is on its disk; it says so when it has one (REPLCONF ACK ... FACK).
    var syncedOffset: Int64 = 0
    /// Milliseconds of the monotonic clock.
    var acknowledgedAt: Int64 = 0
    /// The offset up to which it has been given the stream, or is to be given it once it has its snapshot.
    var given: Int64 = 0
    /// Another connection has come from the same place since this one was last heard of: it is the same replica, unless it speaks again.
    var isSuperseded = false
    /// What it acknowledges is a copy of its own.
    var isCounted: Bool { phase == .online && !isSuperseded }
    /// Whether bytes of the stream wait until its snapshot is over.
    var isHolding: Bool { !wantsSnapshotOnly && (phase == .receiving || phase == .settling) }

    var stateName: String {
        switch phase {
        case .handshaking, .waiting: "wait_bgsave"
        case .receiving: "send_bulk"
        case .settling, .online: "online"
        }
    }
}

/// Both halves of replication: feeding replicas, and following a master.
final class Replication {
    unowned let server: StoreServer
    var stream: ReplicationStream
    /// The history that our data belongs to.
    var replicationID: String
    /// The history that it belonged to before a promotion, up to `secondOffset`.
    var secondID = Replication.noID
    var secondOffset: Int64 = -1
    static let noID = String(repeating: "0", count: 40)

    /// Whether what commands change must be passed on.
    private(set) var isFeeding = false
    var replicas: [Client] = []
    /// The snapshot transfer under way, if any.
    var transfer: (any SnapshotTransfer)?
    var transferTimer: TimerID?
    /// Somebody waits for acknowledgements: ask for them before this iteration's output leaves.
    var wantsAcknowledgements = false
    private var lastPing: Int64
    /// How far the stream has been handed to the replicas.
    private var handedOut: Int64 = 0
    var noReplicasSince: Int64

    var failover = Failover()
    /// The final snapshot is written: the stream must stay where the snapshot says it is.
    var isEnding = false

    /// The link to our master; nil on a master.
    var link: MasterLink?
    /// The database that our master's stream has selected.
    var streamDatabase = 0
    /// Commands of the stream that answered with an error (`unexpected_error_replies`).
    var failedStreamCommands: UInt64 = 0
    /// Commands of the master's stream are being applied.
    var isApplyingStream = false

    init(server: StoreServer) {
        self.server = server
        stream = ReplicationStream(backlogSize: server.configuration.backlogSize)
        replicationID = StoreServer.randomID()
        noReplicasSince = server.loop.now.milliseconds
        lastPing = noReplicasSince
    }

    var isReplica: Bool { server.configuration.replicaOf != nil }
    var isLinkUp: Bool { link?.isOnline ?? false }
    var offset: Int64 { stream.end }
    /// Milliseconds of the monotonic clock: a wall clock that is set drops no replica.
    private var now: Int64 { server.loop.now.milliseconds }

    /// Fewer replicas keep up than `min-replicas-to-write` asks for; without `min-replicas-max-lag` it asks for nothing.
    var lacksReplicas: Bool {
        let configuration = server.configuration
        return configuration.minReplicasToWrite > 0 && configuration.minReplicasMaxLag > 0 && goodReplicas < configuration.minReplicasToWrite
    }

    /// Replicas that receive the stream and have acknowledged something lately (`min-replicas-max-lag`).
    var goodReplicas: Int {
        let limit = now - Int64(server.configuration.minReplicasMaxLag) * 1000
        return replicas.count { $0.replica!.isCounted && (server.configuration.minReplicasMaxLag == 0 || $0.replica!.acknowledgedAt >= limit) }
    }

    // MARK: the stream

    /// Starts to record the stream: from the first replica on, for ever.
    func startFeeding() {
        stream.open()
        guard !isFeeding else { return }
        // What was written unrecorded must not be mistaken for history that somebody else has.
        if !isReplica, stream.end == 0 { stream.restart(at: 1) }
        isFeeding = true
        server.updatePropagation()
    }

    /// Lets go of the backlog when no replica has come back for `repl-backlog-ttl` seconds. A replica keeps its own: it may be promoted.
    private func closeIdleStream() {
        let limit = Int64(server.configuration.backlogTimeToLive) * 1000
        guard limit > 0, stream.isOpen, !isReplica, replicas.isEmpty, now - noReplicasSince > limit else { return }
        // What is written from now on is not recorded: it must not pass for the history that others may have.
        replicationID = StoreServer.randomID()
        forgetSecondID()
        stream.close()
        stream.selected = -1
        isFeeding = false
        server.updatePropagation()
        server.logger.notice("Replication backlog freed after \(server.configuration.backlogTimeToLive) seconds without connected replicas.")
    }

    private func forgetSecondID() {
        secondID = Replication.noID
        secondOffset = -1
    }

    /// What a snapshot says beside the data, at this moment: the functions, and of the stream where somebody could go on from. On a replica
    /// it is our master that has selected the stream's database.
    var snapshotInfo: SnapshotInfo {
        var info = SnapshotInfo(functions: server.functions.codes)
        guard stream.isOpen, !isReplica || hasMasterHistory else { return info }
        info.replicationDatabase = isReplica ? link?.client?.db.id ?? streamDatabase : max(0, stream.selected)
        info.replicationID = replicationID
        info.replicationOffset = stream.end
        return info
    }

    /// Goes on, at the start, from where the loaded snapshot was: a replica asks its master for what follows, a master lets replicas go
    /// on that had everything (their history is the second one, as what this process writes nobody else has).
    func goOn(from info: SnapshotInfo) {
        guard let id = info.replicationID, id.utf8.count == 40, let offset = info.replicationOffset, offset >= 0 else { return }
        stream.open()
        stream.restart(at: offset)
        isFeeding = true
        if isReplica {
            replicationID = id
            streamDatabase = min(info.replicationDatabase ?? 0, server.databases.count - 1)
            hasMasterHistory = true
        } else {
            secondID = id
            secondOffset = offset + 1
            noReplicasSince = now
        }
        server.updatePropagation()
    }

    /// Passes a command on. On a replica our master's own bytes are passed on instead.
    func feed(_ db: Int, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) {
        guard !isReplica, !isEnding else { return }
        guard isFeeding else { return stream.countUnrecorded() }
        if db != stream.selected {
            stream.selected = db
            server.withArguments([Array("SELECT".utf8), Array(number: Int64(db))]) { stream.append($0, $1) }
        }
        stream.append(arguments, count)
    }

    /// Hands this iteration's part of the stream to the replicas.
    func beforeFlush() {
        if wantsAcknowledgements, isFeeding, !isReplica {
            server.withArguments([Array("REPLCONF".utf8), Array("GETACK".utf8), Array("*".utf8)]) { stream.append($0, $1) }
        }
        wantsAcknowledgements = false
        guard stream.end != handedOut else { return }
        handedOut = stream.end
        for client in replicas { give(client) }
        trim()
    }

    /// Hands a replica what it has not been given of the stream. Nothing is copied: its connection sends from the stream's own blocks.
    func give(_ client: Client) {
        let replica = client.replica!
        guard client.connection.isOpen else { return }
        switch replica.phase {
        case .online:
            stream.send(after: replica.given, to: client.connection.output)
            replica.given = stream.end
            // Before any reply leaves: a process that is killed in between has not acknowledged what its replicas will not get.
            client.connection.sendQueued()
        case .receiving, .settling:
            let limit = client.connection.outputLimit
            guard replica.isHolding, limit < .max, lag(of: client) > limit else { return }
            server.logger.warning("Client \(name(of: client)) scheduled to be closed ASAP for overcoming of output buffer limits.")
            client.connection.close()
        case .handshaking, .waiting:
            break
        }
    }

    /// Bytes of the stream that wait for a replica's snapshot to be over.
    func lag(of client: Client) -> Int {
        guard let replica = client.replica, replica.isHolding else { return 0 }
        return Int(stream.end - replica.given)
    }

    /// Lets go of history that neither the backlog nor a replica needs.
    private func trim() {
        var needed = Int64.max
        for client in replicas where client.replica!.isHolding && client.connection.isOpen { needed = min(needed, client.replica!.given) }
        stream.trim(needed: needed)
    }

    /// Bytes of the stream in memory beyond the backlog's: replicas have yet to be sent them.
    var excessMemory: Int { replicas.isEmpty ? 0 : max(0, stream.memory - stream.backlogSize) }

    // MARK: the rhythm, every 100 ms

    func cron() {
        let now = now
        if isEnding { return }
        closeIdleStream()
        if now - lastPing >= Int64(server.configuration.replicationPingPeriod) * 1000 {
            lastPing = now
            // A stream that moves on is never caught up with.
            if !isReplica, !replicas.isEmpty, failover.state == .none {
                server.withArguments([Array("PING".utf8)]) { stream.append($0, $1) }
            }
        }
        let limit = now - Int64(server.configuration.replicationTimeout) * 1000
        for client in replicas {
            let replica = client.replica!
            switch replica.phase {
            case .online where replica.acknowledgedAt < limit && !replica.wantsSnapshotOnly && !replica.isOld:
                server.logger.warning("Disconnecting timedout replica (streaming sync): \(name(of: client))")
                client.connection.close()
            case .settling where replica.acknowledgedAt < limit && !replica.isOld && isSilent(client):
                server.logger.warning("Disconnecting timedout replica (after its snapshot): \(name(of: client))")
                client.connection.close()
            case .waiting:
                // An empty line tells the replica that its master is alive.
                client.output.append("\n")
            default:
                break
            }
        }
        transfer?.cron(at: now)
        trim()
        continueFailover()
        serveWaiting()
        link?.cron()
    }

    /// Nothing has come from a replica for `repl-timeout`, not even the empty lines of one that loads its snapshot.
    private func isSilent(_ client: Client) -> Bool {
        server.loop.wallMilliseconds - client.lastInteraction > Int64(server.configuration.replicationTimeout) * 1000
    }

    /// A client has gone: it may have been a replica, or our master.
    func forget(_ client: Client, _ reason: CloseReason) {
        guard client.replica != nil else { return }
        if let index = replicas.firstIndex(where: { $0 === client }) {
            replicas.remove(at: index)
            server.logger.notice("Connection with replica \(name(of: client)) lost.")
        }
        transfer?.forget(client)
        if replicas.isEmpty { noReplicasSince = now }
    }

    /// Address and port of a replica, as the log names it.
    func name(of client: Client) -> String {
        "\(client.replica?.announcedIP ?? client.connection.peer.host):\(client.replica?.listeningPort ?? client.connection.peer.port)"
    }

    // MARK: changing roles

    /// Follows a master.
    func follow(host: String, port: UInt16) {
        let wasMaster = !isReplica
        server.cutPropagatedTransaction()
        server.configuration.replicaOf = (host, port)
        link?.close()
        link = nil
        if wasMaster { server.confirmation.end(.demoted) }
        for client in server.clients.values where client.blocked != nil {
            if case .pause? = client.blocked?.reason { continue }
            server.unblock(client)
            client.reply.error("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)")
            server.goOn(client)
        }
        // Those who followed us must learn the new history; ours goes on from where it is.
        disconnectReplicas()
        // What we have fed to others is a history that the new master may know too.
        if wasMaster { hasMasterHistory = isFeeding }
        server.updateGate()
        link = MasterLink(replication: self, host: host, port: port)
        link!.connect()
    }

    /// Our data is a master's, up to the stream's end: resuming can be tried.
    var hasMasterHistory = false

    /// Becomes a master.
    func promote() {
        guard isReplica else { return }
        server.cutPropagatedTransaction()
        link?.close()
        link = nil
        server.configuration.replicaOf = nil
        // What the old history had up to here, the new one has too.
        secondID = replicationID
        secondOffset = stream.end + 1
        replicationID = StoreServer.randomID()
        stream.selected = -1
        hasMasterHistory = false
        server.logger.notice("Setting secondary replication ID to \(secondID), valid up to offset: \(secondOffset). New replication ID is \(replicationID)")
        disconnectReplicas()
        startFeeding()
        server.updateGate()
    }

    private func disconnectReplicas() {
        for client in replicas { client.connection.close() }
    }

    /// Takes over a master's data set: its history is ours from now on.
    func adopt(_ databases: UnsafeMutableBufferPointer<Database>, replicationID: String, offset: Int64) {
        for (mine, theirs) in zip(server.databases, databases) {
            server.touchAllWatched(mine, replacedBy: theirs)
            mine.swapContents(with: theirs)
        }
        RDBReader.release(databases)
        self.replicationID = replicationID
        forgetSecondID()
        disconnectReplicas()
        stream.open()
        stream.restart(at: offset)
        isFeeding = true
        hasMasterHistory = true
        server.confirmation.endDoubt()
        server.updatePropagation()
        server.appendOnlyFile.dataWasReplaced()
    }

    /// Lets go of the data set, for another is about to take its place; its history goes with it.
    func giveUpData() {
        disconnectReplicas()
        server.adopt(server.makeReader(dropsExpired: false))
        hasMasterHistory = false
        replicationID = StoreServer.randomID()
        forgetSecondID()
        stream.restart(at: stream.end)
    }

    /// The master goes on under another ID: what we have up to here belongs to both.
    func changeID(_ id: String) {
        guard id != replicationID else { return }
        secondID = replicationID
        secondOffset = stream.end + 1
        replicationID = id
        server.logger.notice("Master replication ID changed to \(id)")
        disconnectReplicas()
    }

    /// Passes our master's bytes on to our own replicas, and counts them.
    func applied(_ bytes: UnsafeRawBufferPointer) { stream.append(bytes) }
}
