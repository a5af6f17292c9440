import Reactor
import RESP

/// Keys on their way to another server (MIGRATE): sent as RESTOREs, and deleted here one by one as these are acknowledged.
///
/// The client that asked waits, and so does every other that wants to write to one of the keys: what it wrote would be missing over
/// there. All else goes on. The client may go away meanwhile; what it began is brought to its end.
final class Migration {
    struct Value {
        let key: [UInt8]
        /// Milliseconds; 0 for ever.
        let timeToLive: Int64
        let dump: [UInt8]
    }

    let request: MigrationRequest
    let db: Database
    private unowned let server: StoreServer
    private weak var client: Client?
    let keys: [[UInt8]]
    /// Empty once sent, unless they may have to be sent again.
    private var values: [Value]
    private var link: MigrationLink?
    private var timer: TimerID?
    /// The connection had been used before: if the other side has closed it meanwhile, a new one may do.
    private var mayRetry = false

    /// How many replies come before the RESTOREs', AUTH's and SELECT's, and how many have come so far.
    private var leading = 0
    private var received = 0
    /// The first of the errors that stand before the keys' own: no key has arrived where it should.
    private var leadingError: String?
    private var firstError: String?
    /// What had not been sent when the time began to run.
    private var unsent = 0

    init(_ request: MigrationRequest, _ values: [Value], of client: Client, in db: Database, server: StoreServer) {
        self.request = request
        self.values = values
        self.db = db
        self.client = client
        self.server = server
        keys = values.map(\.key)
    }

    /// Takes an idle connection to the target, or makes one.
    func start() {
        if let idle = server.migrations.takeIdle(request.host, request.port) {
            mayRetry = true
            return use(idle)
        }
        connect()
    }

    private func connect() {
        NameResolver.resolve(request.host, port: request.port, on: server.loop) { [self] address in
            guard let address else { return failConnecting() }
            use(MigrationLink(to: request.host, request.port, at: address, timeout: .milliseconds(request.timeout), server: server))
        }
    }

    private func use(_ link: MigrationLink) {
        self.link = link
        link.migration = self
        send(over: link)
        watchTime()
    }

    private func send(over link: MigrationLink) {
        leading = 0
        if !request.credentials.isEmpty {
            link.send([Array("AUTH".utf8)] + request.credentials)
            leading += 1
        }
        if link.selected != request.database {
            link.send([Array("SELECT".utf8), Array(number: request.database)])
            leading += 1
        }
        for value in values {
            let command = [Array("RESTORE".utf8), value.key, Array(number: value.timeToLive), value.dump]
            link.send(request.replaces ? command + [Array("REPLACE".utf8)] : command)
        }
        if !mayRetry { values = [] }
    }

    // MARK: the other server's answers

    func receive(_ replies: [Reply]) {
        var arrived: [[UInt8]] = []
        for reply in replies where received < leading + keys.count {
            if received < leading {
                if leadingError == nil { leadingError = reply.errorText }
            } else if let error = leadingError ?? reply.errorText {
                if firstError == nil { firstError = error }
            } else {
                arrived.append(keys[received - leading])
            }
            received += 1
        }
        values = []
        mayRetry = false
        remove(arrived)
        guard received == leading + keys.count else { return watchTime() }
        link?.selected = firstError == nil ? request.database : nil
        if let firstError { finish(error: "ERR Target instance replied with error: \(firstError)") } else { finish(error: nil) }
    }

    /// Deletes keys that have arrived over there.
    private func remove(_ arrived: [[UInt8]]) {
        // A server that has become a replica meanwhile has its master's data.
        if request.copies || arrived.isEmpty || (server.replication.isReplica && server.configuration.isReplicaReadOnly) { return }
        let removed = arrived.filter { key in key.withUnsafeBytes { server.delete(db, Argument($0)) } }
        guard !removed.isEmpty else { return }
        server.feed(db, [Array("DEL".utf8)] + removed)
        client?.lastWriteOffset = server.replication.offset
    }

    /// The connection is gone.
    func linkClosed(_ reason: CloseReason) {
        link = nil
        if mayRetry, received == 0 {
            mayRetry = false
            return connect()
        }
        switch reason {
        case .connectTimedOut: failConnecting()
        // Redis notices that it is not connected when it writes.
        case .connectFailed, .sendFailed: fail("writing")
        default: fail("reading")
        }
    }

    private func failConnecting() { finish(error: "IOERR error or timeout connecting to the client") }
    private func fail(_ doing: String) {
        // Which keys have arrived is known already, and what the target said of another is the better answer.
        finish(error: firstError.map { "ERR Target instance replied with error: \($0)" } ?? "IOERR error or timeout \(doing) to target instance")
    }

    // MARK: time

    /// Lets the time run anew: something has moved.
    private func watchTime() {
        if let timer { server.loop.cancel(timer) }
        unsent = link?.unsent ?? 0
        timer = server.loop.schedule(after: .milliseconds(request.timeout), label: "MIGRATE's time-out") { [unowned self] in
            timer = nil
            guard let link, !link.isConnecting else { return watchTime() }
            if link.unsent < unsent { return watchTime() }
            let isWriting = link.unsent > 0
            self.link = nil
            link.abandon()
            fail(isWriting ? "writing" : "reading")
        }
    }

    private func finish(error: String?) {
        if let timer { server.loop.cancel(timer) }
        timer = nil
        link?.migration = nil
        if let link { server.migrations.keep(link, at: server.loop.wallMilliseconds) }
        link = nil
        if let client, case .migration? = client.blocked?.reason {
            server.unblock(client)
            let start = client.connection.outputPosition
            if let error { client.reply.error(error) } else { client.reply.ok() }
            // The keys that are gone here.
            if server.gate.contains(.confirming) { server.confirmation.hold(client, from: start, until: client.lastWriteOffset, isWrite: true) }
            server.goOn(client)
        }
        server.ended(self)
    }
}

/// The migrations under way, and the connections that wait for the next.
struct MigrationTable {
    /// As Redis: most migrations come in a row, to few targets.
    static let idleMax = 64
    static let idleMilliseconds: Int64 = 10_000

    var running: [Migration] = []
    /// The one that has been idle for longest comes first.
    private(set) var idle: [MigrationLink] = []
    /// Keys that nobody may write to.
    private(set) var heldKeys: Set<[UInt8]> = []

    mutating func takeIdle(_ host: String, _ port: UInt16) -> MigrationLink? {
        guard let index = idle.firstIndex(where: { $0.host == host && $0.port == port }) else { return nil }
        return idle.remove(at: index)
    }

    mutating func keep(_ link: MigrationLink, at now: Int64) {
        link.idleSince = now
        idle.append(link)
        if idle.count > MigrationTable.idleMax { idle.removeFirst().abandon() }
    }

    mutating func forget(_ link: MigrationLink) { idle.removeAll { $0 === link } }

    /// Closes connections that nobody has used for a while.
    mutating func closeIdle(at now: Int64) {
        while let first = idle.first, now - first.idleSince > MigrationTable.idleMilliseconds { idle.removeFirst().abandon() }
    }

    mutating func updateHeldKeys() { heldKeys = Set(running.flatMap(\.keys)) }
}

extension StoreServer {
    func start(_ migration: Migration, of client: Client) {
        migrations.running.append(migration)
        migrations.updateHeldKeys()
        gate.insert(.migrating)
        block(client, BlockedState(.migration, timedOut: { _ in }), timeout: 0)
        migration.start()
    }

    /// Lets those go on who waited for the keys.
    func ended(_ migration: Migration) {
        migrations.running.removeAll { $0 === migration }
        migrations.updateHeldKeys()
        if migrations.running.isEmpty { gate.remove(.migrating) }
        // Elements that could not be moved into one of the keys.
        for name in blocking.waiting.keys where name.key.withUnsafeBytes({ databases[name.db].find(Argument($0)) }) != nil {
            name.key.withUnsafeBytes { signalReady(databases[name.db], Argument($0)) }
        }
        resumePostponed()
    }

    /// Whether a command would write to a key that is on its way to another server. Every argument that equals such a key's name
    /// counts, in whichever database: one that is no key waits for nothing, but not for long.
    func mustWaitForMigration(_ client: Client, _ slot: UnsafeMutablePointer<CommandTable.Slot>, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) -> Bool {
        if let transaction = client.transaction {
            return slot.pointee.name.isWord("exec") && transaction.queued.contains { queued in
                var writes = false
                withArguments(queued.arguments) { writes = writesMigrating(queued.slot.pointee.command, $0, $1) }
                return writes
            }
        }
        return writesMigrating(slot.pointee.command, arguments, count)
    }

    private func writesMigrating(_ command: Command, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) -> Bool {
        guard command.flags.contains(.write) else { return false }
        // FLUSHALL, SWAPDB.
        if command.keys.first == 0 { return true }
        return (1..<max(1, count)).contains { isMigrating(arguments[$0]) }
    }

    func isMigrating(_ key: Argument) -> Bool { !migrations.running.isEmpty && migrations.heldKeys.contains(key.bytes) }
}
