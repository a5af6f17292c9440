import Glibc
import Logging
import Reactor
import RESP

/// `reply-after-replicas`: the reply to a write leaves when so many replicas have acknowledged it, and so does every other reply and
/// message that shows it.
///
///     command --> reply in the output, behind a barrier (offset) --(REPLCONF GETACK, once an iteration)--> replicas
///                                        lifted <--(the offset that enough have acknowledged)-- REPLCONF ACK
///
/// What a command changes is collected while it runs, under the names of the keys, and gets its offset when it has been passed on. A
/// reply that shows a key waits for the offset of the key's last write; see `ConfirmedDispatch.swift`. A reply that waits for too long
/// is replaced by an error. Nothing is known of what was there before: what a server has when it becomes a master, or when the
/// directive is set, counts as confirmed.
final class Confirmation {
    /// Why nothing is waited for any more.
    enum Ending {
        case switchedOff, demoted, shutdown
    }

    /// What every command touches, in memory of its own: a class's stored properties would be checked for exclusive access.
    private struct State {
        /// Enough replicas have acknowledged the stream up to here.
        var confirmed: Int64 = 0
        /// Where the last change of all ends.
        var last: Int64 = 0
        var keys = UnconfirmedKeys()
        /// What the command under way has changed.
        var changes: UnsafeMutablePointer<UInt64>
        var changeCount = 0
        var changeCapacity = Confirmation.changesKept
        /// Numbers of databases of which everything has changed.
        var emptied: [Int] = []
        /// For each database, where the last change of everything in it ends.
        let databases: UnsafeMutablePointer<Int64>
        /// Replies that wait.
        var waiting = 0
    }

    unowned(unsafe) let server: StoreServer
    private let state: UnsafeMutablePointer<State>
    /// The clients with replies that wait.
    private var held: [Client] = []
    private var timer: TimerID?
    var messages = HeldMessages()

    private static let changesKept = 4096
    /// A client with more replies that wait is not served until half of them have left.
    static let barriersMax = 65_536

    init(server: StoreServer) {
        self.server = server
        let databases = UnsafeMutablePointer<Int64>.allocate(capacity: server.databases.count)
        databases.initialize(repeating: 0, count: server.databases.count)
        state = .allocate(capacity: 1)
        state.initialize(to: State(changes: .allocate(capacity: Confirmation.changesKept), databases: databases))
    }

    deinit {
        state.pointee.keys.deallocate()
        state.pointee.changes.deallocate()
        state.pointee.databases.deallocate()
        state.deinitialize(count: 1)
        state.deallocate()
    }

    private var configuration: StoreConfiguration { server.configuration }
    var confirmed: Int64 { state.pointee.confirmed }
    /// Where the last write of all ends; what reads the whole keyspace waits for it.
    var last: Int64 { state.pointee.last }
    /// There are writes that are not confirmed.
    var isBehind: Bool { state.pointee.last > state.pointee.confirmed }
    var waitingReplies: Int { state.pointee.waiting }
    var unconfirmedKeys: Int { state.pointee.keys.count(above: state.pointee.confirmed) }

    // MARK: beginning and ending

    func begin() {
        endDoubt()
        server.replication.startFeeding()
        forget()
        forgetChanges()
        for db in server.databases { db.state.pointee.watchedKeys += 1 }
        server.gate.insert(.confirming)
    }

    /// Lets everything out that waits: as it is where nothing is promised any more, else as errors that say why.
    func end(_ ending: Ending) {
        guard server.gate.contains(.confirming) else { return }
        server.gate.remove(.confirming)
        for db in server.databases { db.state.pointee.watchedKeys -= 1 }
        if let timer { server.loop.cancel(timer) }
        timer = nil
        let clients = held
        held = []
        for client in clients {
            if ending != .switchedOff { replace(client, client.barriers!.pointee.count, ending) }
            state.pointee.waiting -= client.barriers!.pointee.count
            client.barriers!.pointee.removeFirst(client.barriers!.pointee.count)
            client.connection.releaseOutput()
            resume(client)
        }
        ending == .switchedOff ? deliverMessages(upTo: .max) : dropMessages()
        // Our data may show what the new master has never had, until we have its data or it has told that it has ours. It was a command of
        // a transaction's that ended it where something has been changed and not settled: the reply to EXEC still has to be replaced for it.
        if ending == .demoted { noteChanges(at: server.replication.offset) }
        if ending == .demoted, isBehind { server.gate.insert(.doubtful) } else { forget() }
    }

    /// What is here is the master's, or there is none.
    func endDoubt() {
        guard server.gate.contains(.doubtful) else { return }
        server.gate.remove(.doubtful)
        forget()
    }

    /// All that is here counts as confirmed.
    private func forget() {
        state.pointee.confirmed = server.replication.offset
        state.pointee.last = state.pointee.confirmed
        state.pointee.keys.removeAll()
        for i in 0..<server.databases.count { state.pointee.databases[i] = 0 }
    }

    /// The number of replicas or the time has been changed.
    func configurationChanged() {
        guard server.gate.contains(.confirming) else { return }
        if let timer { server.loop.cancel(timer) }
        timer = nil
        replicaAcknowledged()
        endOverdue()
    }

    // MARK: changes

    /// There is something that has no offset yet.
    var hasChanges: Bool { state.pointee.changeCount > 0 || !state.pointee.emptied.isEmpty }
    /// How much that is: two values tell whether a command has changed anything.
    var changeCount: Int { state.pointee.changeCount &+ state.pointee.emptied.count }

    /// A key has been changed.
    @inline(__always)
    func changed(_ db: Database, _ key: Argument) {
        if state.pointee.changeCount == state.pointee.changeCapacity { growChanges() }
        state.pointee.changes[state.pointee.changeCount] = UnconfirmedKeys.name(db, key)
        state.pointee.changeCount &+= 1
    }

    /// Everything in a database has.
    func changedAll(_ db: Database) { state.pointee.emptied.append(db.id) }

    private func growChanges() {
        let larger = UnsafeMutablePointer<UInt64>.allocate(capacity: state.pointee.changeCapacity * 2)
        larger.update(from: state.pointee.changes, count: state.pointee.changeCount)
        state.pointee.changes.deallocate()
        state.pointee.changes = larger
        state.pointee.changeCapacity *= 2
    }

    func forgetChanges() {
        state.pointee.changeCount = 0
        state.pointee.emptied.removeAll()
        guard state.pointee.changeCapacity > Confirmation.changesKept else { return }
        state.pointee.changes.deallocate()
        state.pointee.changes = .allocate(capacity: Confirmation.changesKept)
        state.pointee.changeCapacity = Confirmation.changesKept
    }

    /// What has been collected ends, in the stream, here.
    func settleChanges(at offset: Int64) {
        noteChanges(at: offset)
        forgetChanges()
    }

    private func noteChanges(at offset: Int64) {
        guard hasChanges else { return }
        let confirmed = state.pointee.confirmed
        // What is not passed on (DEBUG POPULATE) leaves the stream where it is.
        if offset > confirmed {
            for i in 0..<state.pointee.changeCount where !state.pointee.keys.note(state.pointee.changes[i], at: offset, confirmed: confirmed) {
                // From now on what is in any database waits.
                state.pointee.emptied = Array(0..<server.databases.count)
                state.pointee.keys.removeAll()
            }
            for id in state.pointee.emptied { state.pointee.databases[id] = offset }
            state.pointee.last = offset
            server.replication.wantsAcknowledgements = true
        }
    }

    /// What no command of a client's has changed or said (eviction, expiry, a migration's end); before the stream is handed out.
    func settleTheRest() {
        if hasChanges { settleChanges(at: server.replication.offset) }
        if messages.hasCollected { settleMessages(at: state.pointee.last) }
    }

    /// Where the last write of a key ends, as far as it may matter.
    @inline(__always)
    func offset(of key: Argument, _ db: Database) -> Int64 {
        max(state.pointee.keys.offset(of: UnconfirmedKeys.name(db, key)), state.pointee.databases[db.id])
    }

    func offset(of names: [DatabaseKey]) -> Int64 {
        names.reduce(0) { most, name in max(most, name.key.withUnsafeBytes { offset(of: Argument($0), server.databases[name.db]) }) }
    }

    // MARK: replies

    /// Lets a client's reply, and all behind it, wait until replicas have acknowledged the offset.
    /// - Parameter start: where the reply begins; it ends where the output does.
    func hold(_ client: Client, from start: Int, until offset: Int64, isWrite: Bool) {
        guard offset > state.pointee.confirmed, client.connection.isOpen else { return }
        let end = client.connection.outputPosition
        client.confirmationOffset = max(client.confirmationOffset, offset)
        guard end > start else { return }
        let barriers = client.barriers ?? client.makeBarriers()
        if barriers.pointee.isEmpty {
            client.connection.holdOutput(from: start)
            held.append(client)
        }
        barriers.pointee.append(ReplyBarrier(start: start, end: end, offset: offset, since: server.loop.now, isWrite: isWrite))
        state.pointee.waiting &+= 1
        if timer == nil { watchTime(since: server.loop.now) }
        if barriers.pointee.count > Confirmation.barriersMax, client.blocked == nil {
            server.block(client, BlockedState(.confirmation, timedOut: { _ in }), timeout: 0)
        }
    }

    /// A replica has acknowledged more, or another number of them is enough.
    func replicaAcknowledged() {
        let offset = acknowledgedByEnough
        guard offset > state.pointee.confirmed else { return }
        state.pointee.confirmed = offset
        if !held.isEmpty { letOut() }
        if !messages.isEmpty { deliverMessages(upTo: offset) }
    }

    /// The offset that enough replicas have acknowledged: the n-th highest. O(replicas × n).
    private var acknowledgedByEnough: Int64 {
        let wanted = configuration.replyAfterReplicas
        var bound = Int64.max
        var found: Int64 = 0
        var counted = 0
        // Each turn finds the highest below the one before, and how many have it.
        while counted < wanted {
            found = -1
            var alike = 0
            for client in server.replication.replicas {
                let replica = client.replica!
                guard replica.isCounted, !replica.wantsNoData, !replica.wantsSnapshotOnly, replica.acknowledgedOffset < bound else { continue }
                if replica.acknowledgedOffset > found { (found, alike) = (replica.acknowledgedOffset, 1) }
                else if replica.acknowledgedOffset == found { alike += 1 }
            }
            if alike == 0 { return 0 }
            counted += alike
            bound = found
        }
        return found
    }

    /// Lets go of the replies that are confirmed.
    private func letOut() {
        var kept = 0
        for index in held.indices {
            let client = held[index]
            guard !letOut(client) else { continue }
            held[kept] = client
            kept += 1
        }
        held.removeLast(held.count - kept)
    }

    /// - Parameter hasChanged: replies of the client's have been let go already.
    /// - Returns: whether nothing waits any more.
    private func letOut(_ client: Client, hasChanged: Bool = false) -> Bool {
        let barriers = client.barriers.unsafelyUnwrapped
        let before = barriers.pointee.count
        while let first = barriers.pointee.first, first.offset <= state.pointee.confirmed { barriers.pointee.removeFirst() }
        state.pointee.waiting &-= before &- barriers.pointee.count
        if barriers.pointee.count < before || hasChanged {
            if let first = barriers.pointee.first { client.connection.holdOutput(from: first.start) } else { client.connection.releaseOutput() }
            if client.blocked != nil, barriers.pointee.count <= Confirmation.barriersMax / 2 { resume(client) }
        }
        return barriers.pointee.isEmpty
    }

    /// Serves a client again that had too many replies waiting.
    private func resume(_ client: Client) {
        guard case .confirmation? = client.blocked?.reason else { return }
        server.unblock(client)
        server.goOn(client)
    }

    func forget(_ client: Client) {
        messages.forget(client)
        guard let barriers = client.barriers, !barriers.pointee.isEmpty else { return }
        state.pointee.waiting -= barriers.pointee.count
        held.removeAll { $0 === client }
    }

    // MARK: time

    /// Looks again when the reply that has waited since then is overdue.
    private func watchTime(since: Instant) {
        let milliseconds = configuration.replyAfterReplicasTimeout
        guard milliseconds > 0 else { return }
        timer = server.loop.schedule(at: since + .milliseconds(milliseconds), label: "replies that wait for replicas") { [unowned self] in
            timer = nil
            endOverdue()
        }
    }

    /// Replaces the replies that have waited for too long. O(clients with replies that wait).
    private func endOverdue() {
        let milliseconds = configuration.replyAfterReplicasTimeout
        guard milliseconds > 0 else { return }
        let now = server.loop.now
        var earliest: Instant?
        var kept = 0
        for index in held.indices {
            let client = held[index]
            let barriers = client.barriers!
            var overdue = 0
            while overdue < barriers.pointee.count, barriers.pointee[overdue].since + .milliseconds(milliseconds) <= now { overdue += 1 }
            if overdue > 0 {
                let growth = replace(client, overdue, nil)
                barriers.pointee.removeFirst(overdue)
                barriers.pointee.shift(by: growth)
                state.pointee.waiting -= overdue
                if letOut(client, hasChanged: true) { continue }
            }
            earliest = min(earliest ?? .distantFuture, barriers.pointee[0].since)
            held[kept] = client
            kept += 1
        }
        held.removeLast(held.count - kept)
        if let earliest { watchTime(since: earliest) }
    }

    /// Puts errors in the place of a client's first `count` replies that wait, where these are not confirmed.
    /// - Parameter ending: why; nil for the time.
    /// - Returns: how many bytes more they are.
    @discardableResult
    private func replace(_ client: Client, _ count: Int, _ ending: Ending?) -> Int {
        var replacements: [OutputReplacement] = []
        for i in 0..<count {
            let barrier = client.barriers!.pointee[i]
            guard barrier.offset > state.pointee.confirmed else { continue }
            replacements.append(OutputReplacement(barrier.start..<barrier.end, error(isWrite: barrier.isWrite, ending)))
        }
        client.connection.replaceOutput(replacements)
        return replacements.reduce(0) { $0 + $1.growth }
    }

    /// Replaces the reply to a command on a server that has become a replica: it shows what may be lost.
    func replaceLast(_ client: Client, from start: Int, isWrite: Bool) {
        let end = client.connection.outputPosition
        guard client.connection.isOpen, end > start else { return }
        client.connection.replaceOutput([OutputReplacement(start..<end, error(isWrite: isWrite, .demoted))])
    }

    /// An error line, counted among the others.
    private func error(isWrite: Bool, _ ending: Ending?) -> [UInt8] {
        server.statistics.repliesNotConfirmed += 1
        let wanted = configuration.replyAfterReplicas
        let replicas = "\(wanted) replica\(wanted == 1 ? "" : "s")"
        let what = isWrite ? "NOTCONFIRMED The write was applied here, but" : "UNCONFIRMEDREAD What was read was written here, but"
        let why: String
        switch ending {
        case nil: why = "\(replicas) did not confirm it within \(configuration.replyAfterReplicasTimeout) ms; it is lost if this master fails before they do"
        case .demoted: why = "this server became a replica before \(replicas) confirmed it; the new master may not have it"
        case .shutdown, .switchedOff: why = "this server is shutting down before \(replicas) confirmed it; the next master may not have it"
        }
        server.errors.pointee.failures = nil
        server.errors.pointee.count(code: isWrite ? "NOTCONFIRMED" : "UNCONFIRMEDREAD")
        return Array("-\(what) \(why)\r\n".utf8)
    }

    /// INFO's fields.
    var infoFields: [String] {
        guard configuration.replyAfterReplicas > 0 else { return [] }
        return [
            "reply_after_replicas:\(configuration.replyAfterReplicas)", "confirmed_repl_offset:\(server.gate.isDisjoint(with: [.confirming, .doubtful]) ? -1 : confirmed)",
            "replies_waiting:\(waitingReplies)", "messages_waiting:\(messages.count)", "unconfirmed_keys:\(isBehind ? unconfirmedKeys : 0)",
            "replies_not_confirmed:\(server.statistics.repliesNotConfirmed)",
        ]
    }
}
