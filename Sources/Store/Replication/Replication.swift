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
        /// Receives the snapshot; what is written meanwhile is held.
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
    /// It wants the stream and not the data (redis-cli --replica), or the functions alone, of which there are none.
    var wantsNoData = false
    /// It asked with SYNC (redis-cli does): nobody tells it of histories and offsets.
    var isOld = false
    var acknowledgedOffset: Int64 = 0
    /// Milliseconds since 1970.
    var acknowledgedAt: Int64 = 0
    /// The stream since its snapshot began.
    var held: [UInt8] = []

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
    var transfer: SnapshotTransfer?
    var transferTimer: TimerID?
    /// Somebody waits for acknowledgements: ask for them before this iteration's output leaves.
    var wantsAcknowledgements = false
    private var lastPing: Int64 = 0
    var noReplicasSince: Int64

    /// The link to our master; nil on a master.
    var link: MasterLink?
    /// The database that our master's stream has selected.
    var streamDatabase = 0
    /// Commands of the master's stream are being applied.
    var isApplyingStream = false

    init(server: StoreServer) {
        self.server = server
        stream = ReplicationStream(ringCapacity: server.configuration.backlogSize)
        replicationID = StoreServer.randomID()
        noReplicasSince = server.loop.wallMilliseconds
    }

    var isReplica: Bool { server.configuration.replicaOf != nil }
    var isLinkUp: Bool { link?.isOnline ?? false }
    var offset: Int64 { stream.end }
    private var now: Int64 { server.loop.wallMilliseconds }

    /// Replicas that receive the stream and have acknowledged something lately (`min-replicas-max-lag`).
    var goodReplicas: Int {
        let limit = now - Int64(server.configuration.minReplicasMaxLag) * 1000
        return replicas.count { $0.replica!.phase == .online && (server.configuration.minReplicasMaxLag == 0 || $0.replica!.acknowledgedAt >= limit) }
    }

    // MARK: the stream

    /// Starts to record the stream: from the first replica on, for ever.
    func startFeeding() {
        stream.openRing()
        guard !isFeeding else { return }
        // What was written unrecorded must not be mistaken for history that somebody else has.
        if !isReplica, stream.end == 0 { stream.restart(at: 1) }
        isFeeding = true
        server.updatePropagation()
    }

    /// Passes a command on. On a replica our master's own bytes are passed on instead.
    func feed(_ db: Int, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) {
        guard isFeeding, !isReplica else { return }
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
        guard stream.pending.count > 0 else { return }
        for client in replicas {
            give(client, stream.pending.bytes)
            // Before any reply leaves: a process that is killed in between has not acknowledged what its replicas will not get.
            client.connection.sendQueued()
        }
        stream.settle()
    }

    private func give(_ client: Client, _ bytes: UnsafeRawBufferPointer) {
        let replica = client.replica!
        if replica.wantsSnapshotOnly { return }
        switch replica.phase {
        case .online:
            client.output.append(bytes)
        case .receiving, .settling:
            replica.held.append(contentsOf: bytes)
            let limit = server.configuration.outputLimits[1].hard
            if limit > 0, replica.held.count > limit {
                server.logger.warning("Client \(name(of: client)) scheduled to be closed ASAP for overcoming of output buffer limits.")
                client.connection.close()
            }
        case .handshaking, .waiting:
            break
        }
    }

    // MARK: the rhythm, every 100 ms

    func cron() {
        let now = now
        if !isReplica, !replicas.isEmpty, now - lastPing >= Int64(server.configuration.replicationPingPeriod) * 1000 {
            lastPing = now
            server.withArguments([Array("PING".utf8)]) { stream.append($0, $1) }
        }
        let limit = now - Int64(server.configuration.replicationTimeout) * 1000
        for client in replicas {
            let replica = client.replica!
            switch replica.phase {
            case .online where replica.acknowledgedAt < limit && !replica.wantsSnapshotOnly:
                server.logger.warning("Disconnecting timedout replica (streaming sync): \(name(of: client))")
                client.connection.close()
            case .waiting:
                // An empty line tells the replica that its master is alive.
                client.output.append("\n")
            default:
                break
            }
        }
        link?.cron()
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
        secondID = Replication.noID
        secondOffset = -1
        disconnectReplicas()
        stream.openRing()
        stream.restart(at: offset)
        isFeeding = true
        hasMasterHistory = true
        server.confirmation.endDoubt()
        server.updatePropagation()
        server.appendOnlyFile.dataWasReplaced()
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
