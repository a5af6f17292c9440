import Reactor
import RESP

/// What makes a client's commands take the long way through dispatch.
struct ClientGate: OptionSet {
    let rawValue: UInt16
    static let unauthenticated = ClientGate(rawValue: 1 << 0)
    /// Between MULTI and EXEC.
    static let inTransaction = ClientGate(rawValue: 1 << 1)
    /// Subscribed under RESP2: only a few commands are allowed.
    static let subscribed = ClientGate(rawValue: 1 << 2)
    /// The link to our master: its writes are applied although we are a replica.
    static let master = ClientGate(rawValue: 1 << 3)
    /// A replica of ours.
    static let replica = ClientGate(rawValue: 1 << 4)
    static let monitor = ClientGate(rawValue: 1 << 5)
    /// CLIENT REPLY OFF.
    static let repliesOff = ClientGate(rawValue: 1 << 6)
    /// CLIENT REPLY SKIP was the command before.
    static let skipsNextReply = ClientGate(rawValue: 1 << 7)
    static let skipsReply = ClientGate(rawValue: 1 << 8)
    /// CLIENT NO-TOUCH: its commands do not count as uses of keys.
    static let noTouch = ClientGate(rawValue: 1 << 9)
}

/// One client of the store: a connection with its session.
final class Client: ConnectionHandler {
    let id: Int64
    // Not counted: the server outlives its clients, and each event would pay for the count.
    unowned(unsafe) let server: StoreServer
    let connection: Connection
    /// Where replies go: the connection's output, or a chain that is thrown away.
    var output: OutputChain
    /// Owned. By pointer, for a class's own value is checked for exclusive access at run time, each time it is told something.
    let parser: UnsafeMutablePointer<RequestParser>
    var db: Database
    var gate: ClientGate = []
    var isRESP3 = false
    var isBlocked: Bool { blocked != nil }

    /// CLIENT SETNAME; empty for none.
    var name: [UInt8] = []
    var libraryName: [UInt8] = []
    var libraryVersion: [UInt8] = []
    let createdAt: Int64
    /// When the last request came, in milliseconds since 1970.
    var lastInteraction: Int64
    var lastCommand: UnsafeMutablePointer<CommandTable.Slot>?
    var isNoEvict = false
    /// Since when more output waits than the soft limit allows, in milliseconds since 1970; 0 for not at all.
    var overSoftLimitSince: Int64 = 0
    var isNoTouch: Bool {
        get { gate.contains(.noTouch) }
        set { if newValue { gate.insert(.noTouch) } else { gate.remove(.noTouch) } }
    }
    /// What the client took of `maxmemory-clients` when it was last looked at.
    var countedMemory = 0

    /// Commands between MULTI and EXEC, and what was watched before.
    var transaction: Transaction?
    var watched: WatchedKeys?
    var subscriptions: Subscriptions?
    var blocked: BlockedState?
    /// What replication knows of a client that is a replica.
    var replica: ReplicaState?
    /// The replication offset after the client's last write, for WAIT.
    var lastWriteOffset: Int64 = 0
    /// Replies that wait for replicas (`reply-after-replicas`); nil until there was one.
    private(set) var barriers: UnsafeMutablePointer<ReplyBarriers>?
    /// What all replies to the client so far have shown ends, in the stream, here at the latest.
    var confirmationOffset: Int64 = 0
    /// Messages that wait for replicas.
    var heldMessages: HeldMessages.Row?

    init(id: Int64, server: StoreServer, connection: Connection) {
        self.id = id
        self.server = server
        self.connection = connection
        output = connection.output
        parser = .allocate(capacity: 1)
        parser.initialize(to: RequestParser(area: server.argumentArea))
        db = server.databases[0]
        createdAt = server.loop.wallMilliseconds
        lastInteraction = createdAt
    }

    deinit {
        parser.deinitialize(count: 1)
        parser.deallocate()
        barriers?.pointee.deallocate()
        barriers?.deallocate()
    }

    func makeBarriers() -> UnsafeMutablePointer<ReplyBarriers> {
        let made = UnsafeMutablePointer<ReplyBarriers>.allocate(capacity: 1)
        made.initialize(to: ReplyBarriers())
        barriers = made
        return made
    }

    var isMaster: Bool { gate.contains(.master) }
    var isAuthenticated: Bool { !gate.contains(.unauthenticated) }
    @inline(__always) var reply: ReplyWriter { ReplyWriter(output, isRESP3: isRESP3) }
    /// For what the client has not asked for just now: CLIENT REPLY does not hold it back.
    var pushes: ReplyWriter { ReplyWriter(connection.output, isRESP3: isRESP3) }

    func connectionReceived(_ connection: Connection) { server.process(self) }
    func connectionClosed(_ connection: Connection, _ reason: CloseReason) { server.forget(self, reason) }
    func connectionReachedEnd(_ connection: Connection) { connection.close() }
    /// Only for replicas that are being sent a snapshot is that asked for.
    func connectionDrained(_ connection: Connection) { server.replication.transfer?.drained(self) }

    /// Closes once the replies so far are sent.
    func closeAfterReplies() { connection.closeAfterFlush() }
}
