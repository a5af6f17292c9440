import Reactor

/// One client's connection and its way to a server: assigned, perhaps queued, connected with retries, relayed, logged.
///
/// Each direction holds at most `tune.bufsize` bytes and one read (64 KiB): beyond it the side that sends is not read until the other
/// has taken half of it. An end of stream is passed on as such, and the other direction goes on.
final class Session: ConnectionHandler {
    enum Phase { case assigning, queued, connecting, waitingToRetry, relaying, over }

    let id: UInt64
    let frontend: Frontend
    let backend: Backend
    let client: Connection
    private(set) var server: Server?
    private(set) var upstream: Connection?
    private(set) var phase = Phase.assigning
    private(set) var termination = Termination()

    private let loop: Loop
    private unowned let node: ProxyNode
    private let bufferSize: Int
    let acceptedAt: Instant
    let acceptedWall: Int64
    let peer: SocketAddress

    private var clientSide = Side()
    private var serverSide = Side()
    private var isClientClosed = false
    private var isUpstreamClosed = true
    private var timer: TimerID?
    private var retryTimer: TimerID?

    private(set) var bytesIn: UInt64 = 0
    private(set) var bytesOut: UInt64 = 0
    private var countedIn: UInt64 = 0
    private var countedOut: UInt64 = 0
    private var retriesLeft: Int
    private var retries = 0
    private var wasRedispatched = false
    private var queuedAt: Instant?
    private var queuePosition = 0
    private var assignedAt: Instant?
    private var connectedAt: Instant?
    private var holdsServer = false

    /// What is known of one of the two connections.
    private struct Side {
        /// When bytes last went in or out.
        var lastActivity = Instant.zero
        var hasEnded = false
        /// Bytes appended to its output so far, and how many of them had been sent when that was last looked at.
        var appended: UInt64 = 0
        var sentSeen: UInt64 = 0
    }

    init(frontend: Frontend, backend: Backend, client: Connection) {
        self.frontend = frontend
        self.backend = backend
        self.client = client
        node = frontend.node
        loop = client.loop
        peer = client.peer
        id = node.nextSessionID()
        bufferSize = node.configuration.global.bufferSize
        retriesLeft = backend.section.settings.retries
        acceptedAt = loop.now
        acceptedWall = loop.wallMilliseconds
        clientSide.lastActivity = loop.now
    }

    // MARK: to a server

    func begin() {
        client.handler = self
        client.resumeReading()
        if frontend.section.settings.options.contains(.clientKeepAlive) { client.setKeepAlive(idleSeconds: 7200) }
        node.sessionBegan(self)
        frontend.counters.begin(at: acceptedWall)
        backend.counters.begin(at: acceptedWall)
        scheduleTimeoutCheck()
        assign()
    }

    private func assign(avoiding failed: Server? = nil) {
        switch backend.choose(avoiding: failed) {
        case .server(let server):
            take(server)
            connect()
        case .wait:
            phase = .queued
            queuedAt = loop.now
            queuePosition = backend.queue.count + 1
            backend.enqueue(self)
            scheduleTimeoutCheck()
        case .none:
            backend.counters.connectErrors += 1
            end(.serverAbort, .connecting)
        }
    }

    /// The queue has come to this session.
    func leftQueue(for server: Server) {
        take(server)
        connect()
    }

    private func take(_ server: Server) {
        self.server = server
        holdsServer = true
        assignedAt = assignedAt ?? loop.now
        server.counters.begin(at: loop.wallMilliseconds)
        server.counters.lastSession = loop.wallMilliseconds
        backend.counters.lastSession = loop.wallMilliseconds
    }

    private func connect() {
        guard let server else { return }
        phase = .connecting
        let timeout = backend.section.settings.timeouts.connect ?? .seconds(86_400)
        let connection = loop.connect(to: server.address, from: server.settings.source, timeout: timeout, handler: self)
        connection.role = "proxied server"
        upstream = connection
        isUpstreamClosed = false
        serverSide = Side()
        serverSide.lastActivity = loop.now
    }

    func connectionOpened(_ connection: Connection) {
        guard connection === upstream, phase == .connecting else { return }
        phase = .relaying
        connectedAt = loop.now
        connection.setNoDelay(true)
        if backend.options.contains(.serverKeepAlive) { connection.setKeepAlive(idleSeconds: 7200) }
        server?.counters.connects += 1
        backend.counters.connects += 1
        serverSide.lastActivity = loop.now
        clientSide.lastActivity = loop.now
        scheduleTimeoutCheck()
        if !client.input.isEmpty { relay(from: client, to: connection, isToServer: true) }
        client.resumeReading()
        if clientSide.hasEnded { connection.shutdownSending() }
    }

    /// HAProxy tries the same server again, a second later where it was refused; with `option redispatch` the last
    /// attempt goes to another one.
    private func connectFailed(_ reason: CloseReason) {
        guard let server, phase == .connecting else { return }
        let timedOut = reason == .connectTimedOut
        upstream = nil
        guard retriesLeft > 0, !isClientClosed else {
            server.counters.connectErrors += 1
            backend.counters.connectErrors += 1
            end(timedOut ? .serverTimeout : .serverAbort, .connecting)
            return
        }
        retriesLeft -= 1
        retries += 1
        server.counters.retries += 1
        backend.counters.retries += 1
        let redispatches = backend.options.contains(.redispatch) && retriesLeft == 0 || !server.isUsable
        if redispatches {
            server.counters.redispatches += 1
            backend.counters.redispatches += 1
            wasRedispatched = true
            releaseServer()
            assign(avoiding: server)
        } else if timedOut {
            connect()
        } else {
            phase = .waitingToRetry
            let pause = min(backend.section.settings.timeouts.connect ?? .seconds(1), .seconds(1))
            retryTimer = loop.schedule(after: pause, label: "connect retry") { [weak self] in
                guard let self, phase == .waitingToRetry else { return }
                retryTimer = nil
                connect()
            }
        }
    }

    private func releaseServer() {
        guard holdsServer, let server else { return }
        holdsServer = false
        server.counters.current -= 1
        backend.serveQueue()
    }

    // MARK: relaying

    func connectionReceived(_ connection: Connection) {
        if connection === client {
            clientSide.lastActivity = loop.now
            if phase == .relaying {
                relay(from: connection, to: upstream.unsafelyUnwrapped, isToServer: true)
            } else if connection.input.count >= bufferSize {
                // Kept until there is a server to give it to.
                connection.pauseReading()
            }
        } else if connection === upstream {
            serverSide.lastActivity = loop.now
            relay(from: connection, to: client, isToServer: false)
        }
    }

    @inline(__always)
    private func relay(from source: Connection, to destination: Connection, isToServer: Bool) {
        let bytes = source.input.bytes
        let count = bytes.count
        // Most often nothing is queued and the kernel takes it all: no copy, no block, no second look.
        let sent = destination.sendNow(bytes)
        if sent < count { destination.output.append(UnsafeRawBufferPointer(rebasing: bytes[sent...])) }
        source.input.consume(count)
        if isToServer {
            bytesIn &+= UInt64(count)
            serverSide.appended &+= UInt64(count)
            if !keepsSilentSide { serverSide.lastActivity = clientSide.lastActivity }
        } else {
            bytesOut &+= UInt64(count)
            clientSide.appended &+= UInt64(count)
            if !keepsSilentSide { clientSide.lastActivity = serverSide.lastActivity }
        }
        if destination.output.count >= bufferSize, destination.isOpen {
            source.pauseReading()
            destination.notifyDrained(below: bufferSize / 2)
        }
    }

    /// `option independent-streams`: what is written to a side says nothing of its being alive.
    private var keepsSilentSide: Bool { frontend.section.settings.options.contains(.independentStreams) }

    func connectionDrained(_ connection: Connection) {
        if connection === client {
            clientSide.lastActivity = loop.now
            upstream?.resumeReading()
        } else if connection === upstream {
            serverSide.lastActivity = loop.now
            client.resumeReading()
        }
    }

    func connectionReachedEnd(_ connection: Connection) {
        if connection === client {
            clientSide.hasEnded = true
            switch phase {
            case .relaying: upstream?.shutdownSending()
            case .queued, .connecting, .waitingToRetry:
                // Nobody waits for an answer to nothing.
                if client.input.isEmpty || backend.options.contains(.abortOnClose) {
                    end(.clientAbort, phase == .queued ? .queue : .connecting)
                }
            case .assigning, .over: break
            }
        } else if connection === upstream {
            serverSide.hasEnded = true
            client.shutdownSending()
        }
        if phase == .relaying {
            if clientSide.hasEnded, serverSide.hasEnded {
                phase = .over
                client.closeAfterFlush()
                upstream?.closeAfterFlush()
            } else {
                scheduleTimeoutCheck()
            }
        }
    }

    func connectionClosed(_ connection: Connection, _ reason: CloseReason) {
        if connection === client {
            isClientClosed = true
            if isFailure(reason) {
                let moment: Termination.Moment = phase == .queued ? .queue : phase == .relaying || phase == .over ? .data : .connecting
                if phase == .relaying || phase == .over { note(.clientAbort, .data) }
                if phase == .relaying {
                    phase = .over
                    // What the client had already sent is the server's to have.
                    upstream?.closeAfterFlush()
                } else {
                    end(.clientAbort, moment)
                }
            }
        } else if connection === upstream {
            isUpstreamClosed = true
            if phase == .connecting {
                connectFailed(reason)
                return
            }
            if isFailure(reason), phase == .relaying || phase == .over {
                note(.serverAbort, .data)
                if phase == .relaying {
                    phase = .over
                    client.closeAfterFlush()
                }
            }
        }
        finishIfDone()
    }

    private func isFailure(_ reason: CloseReason) -> Bool {
        switch reason {
        case .local, .endOfStream: false
        default: true
        }
    }

    // MARK: time

    private var clientTimeout: Duration? {
        let timeouts = frontend.section.settings.timeouts
        if phase == .relaying, clientSide.hasEnded { return timeouts.clientFin ?? tunnelTimeout ?? timeouts.client }
        return phase == .relaying ? tunnelTimeout ?? timeouts.client : timeouts.client
    }

    private var serverTimeout: Duration? {
        let timeouts = backend.section.settings.timeouts
        if serverSide.hasEnded { return timeouts.serverFin ?? tunnelTimeout ?? timeouts.server }
        return tunnelTimeout ?? timeouts.server
    }

    private var tunnelTimeout: Duration? { backend.section.settings.timeouts.tunnel }

    /// A timer per session that is not moved with every byte: when it fires, the real deadline is looked up.
    private func scheduleTimeoutCheck() {
        if let timer { loop.cancel(timer) }
        timer = nil
        guard let deadline = nextDeadline()?.at else { return }
        timer = loop.schedule(at: deadline, label: "session time-out") { [weak self] in
            guard let self else { return }
            timer = nil
            checkTimeouts()
        }
    }

    private enum Expiry { case client, server, queue }

    private func nextDeadline() -> (at: Instant, what: Expiry)? {
        var found: (at: Instant, what: Expiry)?
        func consider(_ at: Instant, _ what: Expiry) { if found.map({ at < $0.at }) ?? true { found = (at, what) } }
        if phase == .queued, let since = queuedAt, let limit = backend.section.settings.timeouts.queue ?? backend.section.settings.timeouts.connect {
            consider(since + limit, .queue)
        }
        // A side that has ended and owes no reading can only be late in taking what is written to it.
        if !isClientClosed, let limit = clientTimeout, !clientSide.hasEnded || !client.output.isEmpty { consider(clientSide.lastActivity + limit, .client) }
        if phase == .relaying || phase == .over, let upstream, !isUpstreamClosed, let limit = serverTimeout,
            !serverSide.hasEnded || !upstream.output.isEmpty
        {
            consider(serverSide.lastActivity + limit, .server)
        }
        return found
    }

    private func checkTimeouts() {
        noteSending(&clientSide, client)
        if let upstream { noteSending(&serverSide, upstream) }
        // A side that is not read because the other one does not take is not silent.
        if !client.isReading, phase == .relaying, client.output.isEmpty { clientSide.lastActivity = loop.now }
        if let upstream, !upstream.isReading, phase == .relaying, upstream.output.isEmpty { serverSide.lastActivity = loop.now }
        guard let deadline = nextDeadline(), deadline.at <= loop.now else {
            scheduleTimeoutCheck()
            return
        }
        switch deadline.what {
        case .queue: end(.serverTimeout, .queue)
        case .client: end(.clientTimeout, phase == .queued ? .queue : phase == .relaying || phase == .over ? .data : .connecting)
        case .server: end(.serverTimeout, .data)
        }
    }

    /// A slow reader that does take bytes is alive, although none of its takings is an event of its own.
    private func noteSending(_ side: inout Side, _ connection: Connection) {
        let sent = side.appended &- UInt64(connection.output.count)
        if sent != side.sentSeen, !connection.output.isEmpty { side.lastActivity = loop.now }
        side.sentSeen = sent
    }

    // MARK: the end

    private func note(_ cause: Termination.Cause, _ moment: Termination.Moment) {
        guard termination.isNormal else { return }
        termination = Termination(cause: cause, moment: moment)
    }

    /// Ends the session at once, whatever it was doing.
    private func end(_ cause: Termination.Cause, _ moment: Termination.Moment) {
        note(cause, moment)
        if phase == .queued { backend.leaveQueue(self) }
        phase = .over
        if let retryTimer { loop.cancel(retryTimer) }
        retryTimer = nil
        upstream?.close()
        if upstream == nil { isUpstreamClosed = true }
        client.close()
        finishIfDone()
    }

    /// An administrator, or a change of a server's state, ends the session.
    func shut(_ cause: Termination.Cause) {
        guard phase != .over else { return }
        // What the server had answered in time is still the client's to have.
        if phase == .relaying, !client.output.isEmpty {
            note(cause, .none)
            phase = .over
            upstream?.close()
            client.closeAfterFlush()
            scheduleTimeoutCheck()
        } else {
            end(cause, .none)
        }
    }

    /// The program ends: nothing is waited for.
    func abort() { end(.killed, .none) }

    private var isFinished = false

    private func finishIfDone() {
        guard phase == .over || isClientClosed, isClientClosed, isUpstreamClosed, !isFinished else { return }
        isFinished = true
        phase = .over
        if let timer { loop.cancel(timer) }
        timer = nil
        countBytes()
        countEnd()
        backend.counters.current -= 1
        if holdsServer {
            holdsServer = false
            server?.counters.current -= 1
        }
        node.log(self)
        frontend.counters.current -= 1
        node.sessionEnded(self)
        backend.serveQueue()
        frontend.admitHeld()
    }

    private func countEnd() {
        switch termination.cause {
        case .clientAbort, .clientTimeout:
            server?.counters.clientAborts += 1
            backend.counters.clientAborts += 1
        case .serverAbort where termination.moment == .data, .serverTimeout where termination.moment == .data, .serverDown, .killed:
            server?.counters.serverAborts += 1
            server?.counters.responseErrors += 1
            backend.counters.serverAborts += 1
            backend.counters.responseErrors += 1
        default: break
        }
        func add(_ path: WritableKeyPath<Counters, TimeAverage>, _ value: Int?) {
            guard let value, value >= 0 else { return }
            server?.counters[keyPath: path].add(value)
            backend.counters[keyPath: path].add(value)
        }
        let times = self.times
        add(\.queueTime, times.queue)
        add(\.connectTime, times.connect)
        add(\.totalTime, times.total)
    }

    /// Brings what has been relayed since the last time into the counters.
    func countBytes() {
        let newIn = bytesIn - countedIn, newOut = bytesOut - countedOut
        countedIn = bytesIn
        countedOut = bytesOut
        frontend.counters.bytesIn += newIn
        frontend.counters.bytesOut += newOut
        backend.counters.bytesIn += newIn
        backend.counters.bytesOut += newOut
        server?.counters.bytesIn += newIn
        server?.counters.bytesOut += newOut
        node.bytesOut += newOut
    }

    // MARK: the log

    /// Tw, Tc and Tt of the TCP log, in milliseconds; -1 for a stage that was not reached.
    private var times: (queue: Int, connect: Int, total: Int) {
        func milliseconds(_ from: Instant, _ to: Instant) -> Int { Int((to - from).wholeMilliseconds) }
        let queue =
            if let assignedAt { queuedAt.map { milliseconds($0, assignedAt) } ?? 0 }
            else if let queuedAt { milliseconds(queuedAt, loop.now) } else { -1 }
        let connect = if let assignedAt, let connectedAt { milliseconds(assignedAt, connectedAt) } else { -1 }
        return (queue, connect, milliseconds(acceptedAt, loop.now))
    }

    /// `%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq` (configuration manual §8.2.2).
    var logLine: String {
        let from: String =
            switch peer {
            case .unix: "unix:1"
            default: "\(peer.host):\(peer.port)"
            }
        let t = times
        let counts = "\(node.currentSessions)/\(frontend.counters.current)/\(backend.counters.current)/\(server?.counters.current ?? 0)"
        return "\(from) [\(DateText.accept(milliseconds: acceptedWall))] \(frontend.name) \(backend.name)/\(server?.name ?? "<NOSRV>") "
            + "\(t.queue)/\(t.connect)/\(t.total) \(bytesOut) \(termination.text) "
            + "\(counts)/\(wasRedispatched ? "+" : "")\(retries) 0/\(queuePosition)"
    }

    /// Neither side has said anything.
    var isNull: Bool { bytesIn == 0 && bytesOut == 0 }
}
