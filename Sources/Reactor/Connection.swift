import Glibc

/// Why a connection ended.
public enum CloseReason: Equatable, Sendable {
    /// Our side closed it.
    case local
    /// The peer ended its half and the handler had nothing left to do with ours.
    case endOfStream
    /// Nobody answered the connection attempt within its time limit.
    case connectTimedOut
    /// The connection attempt was refused or failed (errno).
    case connectFailed(Int32)
    /// Receiving failed (errno); ECONNRESET mostly.
    case receiveFailed(Int32)
    /// Sending failed (errno); EPIPE mostly.
    case sendFailed(Int32)
    /// More bytes were waiting to be sent than the connection's hard limit allows.
    case outputLimitReached
    /// A request grew beyond the connection's input limit.
    case inputLimitReached
    /// There is no memory for what the peer sends or asks for.
    case outOfMemory
}

/// What a role does with a connection's events. All are called on the loop, never from within a call that the role itself
/// makes.
public protocol ConnectionHandler: AnyObject {
    /// New bytes are in `connection.input`.
    func connectionReceived(_ connection: Connection)
    /// An outgoing connection is established.
    func connectionOpened(_ connection: Connection)
    /// The peer will send nothing more. Without an implementation the connection closes once its output is flushed.
    func connectionReachedEnd(_ connection: Connection)
    /// The output that was asked about with `notifyDrained(below:)` has been sent.
    func connectionDrained(_ connection: Connection)
    /// The connection is gone; called exactly once, last, and not from within `close()`.
    func connectionClosed(_ connection: Connection, _ reason: CloseReason)
}

extension ConnectionHandler {
    public func connectionOpened(_ connection: Connection) {}
    public func connectionReachedEnd(_ connection: Connection) { connection.closeAfterFlush() }
    public func connectionDrained(_ connection: Connection) {}
}

/// A stream connection: its buffers, limits and state, over whatever transport carries it.
public final class Connection: EventSource {
    public enum Phase: Sendable { case connecting, open, closed }

    public let input = InputBuffer()
    public let output: OutputChain
    public var phase: Phase { currentPhase }
    private var currentPhase: Phase
    // What is public has a private half: only then can the compiler prove that nobody else is accessing it, and leave out
    // the check at run time.
    /// Told of everything that happens; released when the connection has closed.
    public var handler: (any ConnectionHandler)? {
        get { currentHandler }
        set { currentHandler = newValue }
    }
    private var currentHandler: (any ConnectionHandler)?
    /// The other end; for accepted Unix connections the listener's path.
    public internal(set) var peer: SocketAddress
    /// Our end.
    public internal(set) var local: SocketAddress
    /// More readable bytes than this (a request that does not end) close the connection.
    public var inputLimit: Int {
        get { inputMax }
        set { inputMax = newValue }
    }
    private var inputMax = 1 << 30
    /// The loop that serves the connection.
    public unowned let loop: Loop
    /// The same without the count of references, for the path of every event: a loop that goes away closes its
    /// connections first, and a closed one does not touch it.
    private unowned(unsafe) let core: Loop
    /// What the loop's statistics call the time spent in this connection's handler.
    public var role: StaticString {
        get { currentRole }
        set { currentRole = newValue }
    }
    private var currentRole: StaticString = "connection"
    override var label: StaticString { currentRole }
    /// Where the connection's bytes are counted, besides the loop's statistics; whoever sets it keeps it alive.
    public var traffic: UnsafeMutablePointer<Traffic>? {
        get { currentTraffic }
        set { currentTraffic = newValue }
    }
    private var currentTraffic: UnsafeMutablePointer<Traffic>?

    let transport: any Transport
    /// The next on the loop's list of those with something to send.
    var nextToFlush: Unmanaged<Connection>?
    private var isFlushScheduled = false
    /// Its output may be held back by `Loop.holdOutput`.
    public var isHoldable = false
    /// While it is held: where in the output the line is that `Loop.sealOutput` drew.
    private var sealedAt = 0
    /// Bytes that the kernel has taken so far.
    private var sentCount = 0
    /// See `holdOutput(from:)`.
    private var heldFrom = Int.max
    private var isReadScheduled = false
    private var isReadingPaused = false
    /// An edge was reported that has not been read to its end.
    private var mayHaveInput = false
    private var hasReadEnd = false
    private var isClosingAfterFlush = false
    private var isShutdownPending = false
    private var hasSentEnd = false
    private var isWaitingForRoom = false
    private var isOverLimit = false
    private var drainMark = -1
    private var softLimit = Int.max
    private var softLimitSeconds: Int32 = 0
    private var softLimitTimer: TimerID?
    var connectTimer: TimerID?

    /// A connection reads at most this many bytes before the others have their turn.
    static let readBudget = 1 << 20
    /// ... and sends at most this many.
    static let sendBudget = 1 << 20
    private static let vectorsMax = 64

    init(loop: Loop, transport: any Transport, phase: Phase, local: SocketAddress, peer: SocketAddress) {
        self.loop = loop
        core = loop
        self.transport = transport
        currentPhase = phase
        self.local = local
        self.peer = peer
        output = OutputChain(pool: loop.blockPool)
        super.init()
        output.state.pointee.owner = self
    }

    deinit {
        output.deallocate()
        input.deallocate()
    }

    public var isOpen: Bool { currentPhase == .open }
    /// The descriptor, for logs and CLIENT LIST; -1 for none.
    public var descriptor: Int32 { transport.descriptor }
    /// User memory of the connection's buffers, in bytes.
    public var bufferBytes: Int { input.state.pointee.capacity + output.count }
    /// The same without what the output shares with others. O(blocks).
    public var ownBufferBytes: Int { bufferBytes - output.sharedCount }

    // MARK: what a role asks for

    /// More queued output than this closes the connection with `.outputLimitReached`. Looked at when the chain gets
    /// another block, so one block more may be queued.
    public var outputLimit: Int {
        get { outputMax }
        set { outputMax = newValue }
    }
    private var outputMax = Int.max

    /// Queued output that stays above `bytes` for `seconds` without a break closes the connection with
    /// `.outputLimitReached`: the soft half of Redis's `client-output-buffer-limit`. 0 bytes is no limit.
    public func setSoftOutputLimit(_ bytes: Int, seconds: Int) {
        softLimit = bytes > 0 ? bytes : .max
        softLimitSeconds = Int32(clamping: max(0, seconds))
        if let timer = softLimitTimer { core.cancel(timer) }
        softLimitTimer = nil
        if currentPhase != .closed { watchSoftLimit() }
    }

    public func setNoDelay(_ on: Bool) { transport.setNoDelay(on) }
    public func setKeepAlive(idleSeconds: Int) { transport.setKeepAlive(idleSeconds: idleSeconds) }
    /// Nothing that is sent gets through at present, and the kernel repeats it at growing intervals.
    public var isRepeating: Bool { currentPhase == .open && transport.isRepeating }

    /// Stops calling `connectionReceived`; what is in `input` stays there, and the kernel's buffer fills: back pressure.
    public func pauseReading() { isReadingPaused = true }

    /// Undoes `pauseReading`; bytes that wait in `input` are offered again in this or the next iteration.
    public func resumeReading() {
        guard isReadingPaused else { return }
        isReadingPaused = false
        scheduleRead()
    }

    /// Offers the bytes in `input` to the handler again, although none have come.
    public func scheduleRead() {
        guard !isReadScheduled, currentPhase == .open else { return }
        isReadScheduled = true
        core.readLater(self)
    }

    /// Calls `connectionDrained` once, when no more than `mark` bytes wait to be sent; at the next flush if that is so now.
    public func notifyDrained(below mark: Int) {
        drainMark = max(0, mark)
        scheduleFlush()
    }

    /// Closes at once; what is queued is dropped. With `reset` the peer sees a reset connection.
    public func close(reset: Bool = false) { close(.local, reset: reset) }

    /// Reads nothing more, sends what is queued (once connected, if that is still under way), closes.
    public func closeAfterFlush() {
        guard currentPhase != .closed, !isClosingAfterFlush else { return }
        if currentPhase == .connecting, output.isEmpty {
            close(.local)
            return
        }
        isClosingAfterFlush = true
        isReadingPaused = true
        scheduleFlush()
    }

    /// True once `closeAfterFlush` was called, or when the output has grown beyond its limit: nothing more is to be answered.
    public var isClosing: Bool { isClosingAfterFlush || isOverLimit || currentPhase == .closed }
    public var isReading: Bool { !isReadingPaused }
    /// The peer has ended its half.
    public var hasReachedEnd: Bool { hasReadEnd }

    /// Sends what is queued, then the end of our half of the stream; receiving goes on. Once both halves have ended the
    /// connection closes by itself (`.endOfStream`).
    public func shutdownSending() {
        guard currentPhase != .closed, !isShutdownPending, !hasSentEnd else { return }
        isShutdownPending = true
        scheduleFlush()
    }

    // MARK: output that is held back

    /// The place of the next byte that is appended to the output: how many the connection has been given so far. O(1).
    public var outputPosition: Int { sentCount &+ output.count }

    /// Sends nothing from `position` on, whatever is appended, until `releaseOutput` or until this is called again with another position.
    /// What lies before it goes its way. Held bytes count against the output limits, and a connection that is to close after its
    /// output was sent waits for them.
    ///
    /// - Precondition: nothing from there on has been sent.
    public func holdOutput(from position: Int) {
        precondition(position >= sentCount, "what is to be held has been sent")
        let hasMoved = position > heldFrom
        heldFrom = position
        if hasMoved { scheduleFlush() }
    }

    /// Lets out what `holdOutput(from:)` keeps, with this iteration's output.
    public func releaseOutput() {
        guard heldFrom != .max else { return }
        heldFrom = .max
        scheduleFlush()
    }

    /// Puts other bytes in the place of some that are held. What is behind them moves, and so does the end of the hold if it is there.
    /// O(bytes queued).
    ///
    /// - Parameter replacements: in the order of their places, which do not overlap and are not empty.
    public func replaceOutput(_ replacements: [OutputReplacement]) {
        guard currentPhase != .closed, let first = replacements.first else { return }
        precondition(first.place.lowerBound >= sentCount, "what is to be replaced has been sent")
        output.replace(replacements, from: sentCount)
        func growth(before mark: Int) -> Int { replacements.reduce(0) { $1.place.upperBound <= mark ? $0 + $1.growth : $0 } }
        sealedAt += growth(before: sealedAt)
        if heldFrom != .max { heldFrom += growth(before: heldFrom) }
    }

    // MARK: events

    /// The output has got another block.
    @usableFromInline
    func outputGrew() {
        if !isFlushScheduled { scheduleFlush() }
        let count = output.count
        if count > outputMax, !isOverLimit {
            // Not here: whoever appends is in the middle of it.
            isOverLimit = true
            core.deferWork(label: label) { [self] in close(.outputLimitReached) }
        }
        if count > softLimit { watchSoftLimit() }
    }

    private func scheduleFlush() {
        guard !isFlushScheduled, currentPhase == .open, !isWaitingForRoom else { return }
        isFlushScheduled = true
        core.flushLater(self)
    }

    private func watchSoftLimit() {
        if output.count <= softLimit {
            if let timer = softLimitTimer { core.cancel(timer) }
            softLimitTimer = nil
        } else if softLimitTimer == nil {
            softLimitTimer = core.schedule(after: .seconds(Int64(softLimitSeconds)), label: "soft output limit") { [unowned self] in
                softLimitTimer = nil
                if output.count > softLimit { close(.outputLimitReached) }
            }
        }
    }

    override func ready(_ events: Readiness) {
        if currentPhase == .connecting {
            guard !events.isDisjoint(with: [.writable, .failed, .hungUp]) else { return }
            finishConnecting()
            // What the peer said first may be in the same event, and no other will tell.
        }
        guard currentPhase == .open else { return }
        let isOver = !events.isDisjoint(with: [.hungUp, .failed])
        if isWaitingForRoom, isOver || events.contains(.writable) {
            // Not sent here but with the others: what this iteration appends has to pass `beforeFlush` first.
            isWaitingForRoom = false
            scheduleFlush()
        }
        if hasReadEnd {
            if isOver, !hasSentEnd { close(.receiveFailed(connectionError)) }
        } else if isOver || !events.isDisjoint(with: [.readable, .peerEnded]) {
            mayHaveInput = true
            read(untilEmpty: isOver || events.contains(.peerEnded))
        }
    }

    private var connectionError: Int32 {
        let error = transport.connectResult()
        return error == 0 ? ECONNRESET : error
    }

    func finishConnecting() {
        let result = transport.connectResult()
        if let timer = connectTimer { core.cancel(timer) }
        connectTimer = nil
        guard result == 0 else {
            close(.connectFailed(result))
            return
        }
        currentPhase = .open
        core.completeOutgoing(self)
        guard local != peer else {
            // TCP lets a socket on the loopback connect to itself when the port it asks for is its own.
            close(.connectFailed(ECONNREFUSED), reset: true)
            return
        }
        currentHandler?.connectionOpened(self)
        scheduleFlush()
    }

    override func abandon() {
        currentPhase = .closed
        transport.close(reset: false)
        output.startDiscarding()
        input.discard()
        handler = nil
    }

    /// Called by the loop for connections on its list of pending reads.
    func readPending() {
        isReadScheduled = false
        guard currentPhase == .open, !isReadingPaused else { return }
        if !input.isEmpty { callReceived() }
        read(untilEmpty: true)
    }

    /// Hands the readable bytes to the handler and keeps what it leaves.
    @inline(__always)
    private func callReceived() {
        input.forgetExpectation()
        currentHandler?.connectionReceived(self)
        if currentPhase == .closed || isClosingAfterFlush { input.discard() }
        input.settle(sharedArea: core.receiveArea, size: Loop.receiveAreaSize)
    }

    private func read(untilEmpty: Bool) {
        var budget = Connection.readBudget
        while mayHaveInput, !isReadingPaused, currentPhase == .open {
            if budget <= 0 || (isFlushScheduled && output.count > Connection.sendBudget) {
                // The others have their turn, and what was answered is sent before more is asked.
                input.settle(sharedArea: core.receiveArea, size: Loop.receiveAreaSize)
                scheduleRead()
                return
            }
            let direct = input.state.pointee.directRemaining
            guard let (target, room) = direct > 0
                ? (input.state.pointee.direct!, direct)
                : input.target(sharedArea: core.receiveArea, size: Loop.receiveAreaSize)
            else { return close(.outOfMemory) }
            let received = transport.receive(into: target, count: room)
            if received > 0 {
                budget -= received
                core.counters.pointee.bytesReceived &+= UInt64(received)
                if let currentTraffic { currentTraffic.pointee.received &+= UInt64(received) }
                core.counters.pointee.reads &+= 1
                // A short count means that the kernel's buffer is empty (epoll(7)); what comes later makes a new edge.
                if received < room, !untilEmpty { mayHaveInput = false }
                if direct > 0 {
                    input.state.pointee.direct = target + received
                    input.state.pointee.directRemaining -= received
                    if received < direct { continue }
                } else {
                    input.received(received)
                    if input.count > inputMax {
                        close(.inputLimitReached)
                        return
                    }
                    if !input.isWorthReading {
                        if !mayHaveInput { input.settle(sharedArea: core.receiveArea, size: Loop.receiveAreaSize) }
                        continue
                    }
                }
                callReceived()
            } else {
                input.settle(sharedArea: core.receiveArea, size: Loop.receiveAreaSize)
                if received == 0 {
                    reachEnd()
                } else if received == -Int(EAGAIN) {
                    mayHaveInput = false
                } else if received != -Int(EINTR) {
                    close(.receiveFailed(Int32(-received)))
                }
            }
        }
    }

    private func reachEnd() {
        mayHaveInput = false
        hasReadEnd = true
        // What the handler still waited for does not come any more.
        currentHandler?.connectionReachedEnd(self)
        if hasSentEnd { close(.endOfStream) }
    }

    /// Sends bytes at once, past the output chain, as far as the kernel takes them now and nothing is queued before them. For
    /// whoever passes on bytes that are not its own (a proxy): they are not copied, and no `beforeFlush` hook holds them.
    ///
    /// An error shows when the rest is queued and sent: the result is then 0.
    /// - Returns: how many bytes have left; the rest is to be appended to `output`, or dropped.
    public func sendNow(_ bytes: UnsafeRawBufferPointer) -> Int {
        guard phase == .open, output.isEmpty, heldFrom == .max, !isWaitingForRoom, !isClosingAfterFlush, !isShutdownPending, !hasSentEnd,
            bytes.count > 0
        else { return 0 }
        var vector = iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count)
        let sent = transport.send(&vector, count: 1)
        guard sent > 0 else { return 0 }
        sentCount &+= sent
        core.counters.pointee.bytesSent &+= UInt64(sent)
        if let currentTraffic { currentTraffic.pointee.sent &+= UInt64(sent) }
        core.counters.pointee.writes &+= 1
        if sent < bytes.count { isWaitingForRoom = true }
        return sent
    }

    /// Sends what is queued; called by the loop at the end of an iteration.
    func flush() {
        isFlushScheduled = false
        sendQueued()
    }

    func sealOutput() { sealedAt = outputPosition }

    /// Sends what lies before the line.
    /// - Returns: whether there is more, which is still held.
    func sendSealed() -> Bool {
        isFlushScheduled = false
        sendQueued(atMost: sealedAt &- sentCount)
        // Whoever waits for room comes back when there is some, and what `holdOutput(from:)` keeps when it is released.
        guard currentPhase == .open, !isFlushScheduled, !isWaitingForRoom, !output.isEmpty, heldFrom > sentCount else { return false }
        isFlushScheduled = true
        return true
    }

    /// Sends what is queued ahead of everybody's turn. For a `beforeFlush` hook whose bytes must be with the kernel before others'
    /// bytes are: the replicas' before the clients'.
    public func sendQueued() { sendQueued(atMost: .max) }

    @inline(__always)
    private func sendQueued(atMost limit: Int) {
        guard currentPhase == .open, !isOverLimit else { return }
        var budget = Connection.sendBudget
        var left = min(limit, heldFrom &- sentCount)
        while !output.isEmpty, left > 0 {
            if budget <= 0 {
                scheduleFlush()
                break
            }
            var asked = 0
            let sent = withUnsafeTemporaryAllocation(of: iovec.self, capacity: Connection.vectorsMax) { vectors in
                var (count, bytes) = output.gather(into: vectors.baseAddress!, limit: Connection.vectorsMax)
                while bytes > left {
                    let excess = min(bytes - left, vectors[count - 1].iov_len)
                    vectors[count - 1].iov_len -= excess
                    bytes -= excess
                    if vectors[count - 1].iov_len == 0 { count -= 1 }
                }
                asked = bytes
                return bytes == 0 ? 0 : transport.send(vectors.baseAddress!, count: count)
            }
            if sent >= 0 {
                output.consume(sent)
                sentCount &+= sent
                budget -= sent
                left &-= sent
                core.counters.pointee.bytesSent &+= UInt64(sent)
                if let currentTraffic { currentTraffic.pointee.sent &+= UInt64(sent) }
                core.counters.pointee.writes &+= 1
                // The kernel's buffer is full, and an edge will tell when there is room (epoll(7)).
                if sent < asked {
                    isWaitingForRoom = true
                    break
                }
            } else if sent == -Int(EAGAIN) {
                isWaitingForRoom = true
                break
            } else if sent != -Int(EINTR) {
                close(.sendFailed(Int32(-sent)))
                return
            }
        }
        if softLimitTimer != nil || softLimit != .max { watchSoftLimit() }
        if drainMark >= 0, output.count <= drainMark {
            drainMark = -1
            currentHandler?.connectionDrained(self)
        }
        if output.isEmpty, currentPhase == .open, isClosingAfterFlush || isShutdownPending { finishSending() }
    }

    private func finishSending() {
        if isClosingAfterFlush {
            discardUnread()
            close(hasReadEnd ? .endOfStream : .local)
            return
        }
        isShutdownPending = false
        hasSentEnd = true
        transport.shutdownSending()
        if hasReadEnd { close(.endOfStream) }
    }

    /// Closing a socket with unread bytes resets the connection, and the peer may lose our last words.
    private func discardUnread() {
        guard !hasReadEnd, mayHaveInput else { return }
        for _ in 0..<16 where transport.receive(into: core.receiveArea, count: Loop.receiveAreaSize) == Loop.receiveAreaSize {}
    }

    func close(_ reason: CloseReason, reset: Bool = false) {
        guard currentPhase != .closed else { return }
        currentPhase = .closed
        if let timer = connectTimer { core.cancel(timer) }
        if let timer = softLimitTimer { core.cancel(timer) }
        connectTimer = nil
        softLimitTimer = nil
        core.forget(self)
        transport.close(reset: reset)
        output.startDiscarding()
        input.state.pointee.directRemaining = 0
        // The handler may be in the middle of reading and answering: its buffers go when it has returned.
        core.deferWork(label: label) { [self] in
            input.discard()
            input.settle(sharedArea: core.receiveArea, size: Loop.receiveAreaSize)
            output.releaseBlocks()
            let last = currentHandler
            currentHandler = nil
            last?.connectionClosed(self, reason)
        }
    }
}
