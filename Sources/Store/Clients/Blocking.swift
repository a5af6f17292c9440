import Glibc
import Reactor
import RESP

/// What a client is waiting for.
final class BlockedState {
    enum Reason {
        /// One of these keys to hold something that `serve` can take.
        case keys([DatabaseKey])
        /// Replicas to acknowledge this offset (WAIT).
        case replicas(offset: Int64, count: Int)
        /// Our disk (`local`, 0 or 1) and those of replicas to have this offset (WAITAOF).
        case disks(offset: Int64, local: Int, count: Int)
        /// The end of CLIENT PAUSE, or of the migration of a key that it would write to; the request is executed then.
        case pause(request: [[UInt8]])
        /// Another server to take keys (MIGRATE).
        case migration
        /// The end (SHUTDOWN).
        case shutdown
        /// Replicas to confirm some of the many replies that wait (`reply-after-replicas`).
        case confirmation
    }
    let reason: Reason
    /// Tries to serve the client from the key; says whether it did. Replies and propagates by itself.
    let serve: (Client, Database, Argument) -> Bool
    /// Replies when the time is over, or when CLIENT UNBLOCK ends the wait.
    let timedOut: (Client) -> Void
    /// It is to be tried too when a key is changed or removed by whatever command: a group's stream may be gone (XREADGROUP).
    let hearsOfChanges: Bool
    var timer: TimerID?

    init(
        _ reason: Reason, serve: @escaping (Client, Database, Argument) -> Bool = { _, _, _ in false },
        timedOut: @escaping (Client) -> Void, hearsOfChanges: Bool = false
    ) {
        self.hearsOfChanges = hearsOfChanges
        self.reason = reason
        self.serve = serve
        self.timedOut = timedOut
    }
}

/// Who waits for which key, in the order of arrival, and which keys have become ready.
struct BlockingTable {
    var waiting: [DatabaseKey: [Client]] = [:]
    var ready: [DatabaseKey] = []
    var count = 0
    /// Those of them that hear of every change of their keys.
    var hearingCount = 0
    /// CLIENT PAUSE: until when (milliseconds since 1970), and whether for writes only.
    var pausedUntil: Int64 = 0
    var pausesWritesOnly = false
    var postponed: [Client] = []
}

extension StoreServer {
    /// Reads a blocking command's time-out argument, in seconds.
    /// - Returns: milliseconds, 0 for ever; nil after an error reply.
    func blockingTimeout(_ call: borrowing Call, _ argument: Argument) -> Int64? {
        guard let seconds = LongDouble.parse(argument) else {
            call.reply.error("ERR timeout is not a float or out of range")
            return nil
        }
        let milliseconds = (seconds * 1000).rounded(.up)
        if milliseconds < 0 {
            call.reply.error("ERR timeout is negative")
            return nil
        }
        // 7.0 calls such a time negative.
        guard milliseconds < Float80(Int64.max - loop.wallMilliseconds) else {
            call.reply.error("ERR timeout is out of range")
            return nil
        }
        return Int64(milliseconds)
    }

    /// Lets a client wait for one of the keys. In a transaction nobody waits: the time-out's reply comes at once.
    ///
    /// - Parameters:
    ///   - timeout: milliseconds, 0 for ever.
    ///   - serve: see `BlockedState`.
    func block(
        _ client: Client, on keys: [Argument], timeout: Int64, hearsOfChanges: Bool = false,
        serve: @escaping (Client, Database, Argument) -> Bool, timedOut: @escaping (Client) -> Void
    ) {
        if executionDepth > 0 || client.isMaster { return timedOut(client) }
        var names: [DatabaseKey] = []
        for key in keys {
            let name = DatabaseKey(db: client.db.id, key: key.bytes)
            if !names.contains(name) { names.append(name) }
        }
        for name in names {
            blocking.waiting[name, default: []].append(client)
            client.db.state.pointee.blockedKeys += 1
        }
        block(client, BlockedState(.keys(names), serve: serve, timedOut: timedOut, hearsOfChanges: hearsOfChanges), timeout: timeout)
    }

    func block(_ client: Client, _ state: BlockedState, timeout: Int64) {
        client.blocked = state
        blocking.count += 1
        if state.hearsOfChanges { blocking.hearingCount += 1 }
        if timeout > 0 {
            state.timer = loop.schedule(after: .milliseconds(timeout), label: "blocked client's time-out") { [unowned self, weak client] in
                guard let client, client.blocked === state else { return }
                unblock(client)
                replyTimedOut(client, state)
                goOn(client)
            }
        }
    }

    /// Ends a client's wait without a reply.
    func unblock(_ client: Client) {
        guard let state = client.blocked else { return }
        client.blocked = nil
        blocking.count -= 1
        if state.hearsOfChanges { blocking.hearingCount -= 1 }
        if let timer = state.timer { loop.cancel(timer) }
        switch state.reason {
        case .keys(let names):
            for name in names {
                databases[name.db].state.pointee.blockedKeys -= 1
                blocking.waiting[name]?.removeAll { $0 === client }
                if blocking.waiting[name]?.isEmpty == true { blocking.waiting[name] = nil }
            }
        case .pause:
            blocking.postponed.removeAll { $0 === client }
        case .replicas, .disks, .migration, .confirmation, .shutdown:
            break
        }
    }

    /// Takes up the requests that a client sent while it was blocked.
    func goOn(_ client: Client) { client.connection.scheduleRead() }

    @inline(never)
    func signalReady(_ db: Database, _ key: Argument) {
        let name = DatabaseKey(db: db.id, key: key.bytes)
        if blocking.waiting[name] != nil, !blocking.ready.contains(name) { blocking.ready.append(name) }
    }

    /// Says that all keys of a database may have changed.
    func signalChanged(_ db: Database) {
        guard blocking.hearingCount > 0 else { return }
        for name in Array(blocking.waiting.keys) where name.db == db.id { name.key.withUnsafeBytes { signalReady(db, Argument($0)) } }
    }

    /// Serves those who wait for keys that have become ready, in the order in which they came.
    func handleReadyKeys() {
        while !blocking.ready.isEmpty, executionDepth == 0 {
            let batch = blocking.ready
            blocking.ready.removeAll()
            for name in batch {
                let db = databases[name.db]
                for client in blocking.waiting[name] ?? [] {
                    guard let state = client.blocked else { continue }
                    let start = client.connection.outputPosition
                    let served = name.key.withUnsafeBytes { state.serve(client, db, Argument($0)) }
                    if served {
                        if gate.contains(.confirming) {
                            let isWrite = client.lastCommand?.pointee.command.flags.contains(.write) ?? true
                            confirmation.hold(client, from: start, until: replication.offset, isWrite: isWrite)
                        }
                        unblock(client)
                        goOn(client)
                    }
                }
            }
        }
    }

    // MARK: CLIENT PAUSE

    /// Another server is about to take over, or replicas are to have everything before the end.
    private var writesWait: Bool { replication.isFailingOver || pendingShutdown != nil }

    func isPaused(for flags: CommandFlags) -> Bool {
        if writesWait, flags.contains(.write) || flags.contains(.mayReplicate) { return true }
        guard loop.wallMilliseconds < blocking.pausedUntil else {
            if !writesWait { unpause() }
            return false
        }
        return !blocking.pausesWritesOnly || flags.contains(.write) || flags.contains(.mayReplicate)
    }

    func waitForUnpause(_ client: Client, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) {
        let request = (0..<count).map { arguments[$0].bytes }
        blocking.postponed.append(client)
        block(client, BlockedState(.pause(request: request), timedOut: { _ in }), timeout: 0)
    }

    func pause(until end: Int64, writesOnly: Bool) {
        // A longer pause, and one of everything, is not made less by another.
        blocking.pausesWritesOnly = writesOnly && (blocking.pausesWritesOnly || loop.wallMilliseconds >= blocking.pausedUntil)
        blocking.pausedUntil = max(end, blocking.pausedUntil)
        gate.insert(.paused)
        loop.schedule(after: .milliseconds(max(1, end - loop.wallMilliseconds)), label: "end of CLIENT PAUSE") { [unowned self] in
            unpauseIfOver()
        }
    }

    /// Lets everybody go on when the pause's time is over.
    func unpauseIfOver() { if loop.wallMilliseconds >= blocking.pausedUntil { unpause() } }

    /// Ends CLIENT PAUSE. While a failover or the end is under way writes wait on.
    func unpause() {
        blocking.pausedUntil = 0
        if !writesWait { gate.remove(.paused) }
        resumePostponed()
    }

    /// Executes the requests that had to wait, in the order in which they came; those that still have to, wait on.
    func resumePostponed() {
        let waiting = blocking.postponed
        for client in waiting {
            guard case .pause(let request)? = client.blocked?.reason else { continue }
            unblock(client)
            withArguments(request) { execute(client, $0, $1) }
            goOn(client)
        }
    }
}
