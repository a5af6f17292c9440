import Reactor
import RESP

/// What a master knows of one replica.
final class ReplicaState {
    var listeningPort: UInt16 = 0
    var announcedIP: String?
    var acknowledgedOffset: Int64 = 0
    var acknowledgedAt: Int64 = 0
}

/// Both halves of replication: feeding replicas, and following a master.
final class Replication {
    unowned let server: StoreServer
    /// Whether what commands change must be passed on.
    private(set) var isFeeding = false
    private(set) var isApplyingStream = false
    private(set) var isLinkUp = false
    var isReplica: Bool { server.configuration.replicaOf != nil }
    private(set) var offset: Int64 = 0
    var goodReplicas: Int { 0 }

    init(server: StoreServer) { self.server = server }

    func feed(_ db: Int, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) {}
    func beforeFlush() {}
    func cron() {}
    func forget(_ client: Client, _ reason: CloseReason) {}
}
