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
}

/// What a role does with a connection's events. All are called on the loop, never from within a call that the role itself makes.
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
    public internal(set) var phase: Phase
    /// Told of everything that happens; released when the connection has closed.
    public var handler: (any ConnectionHandler)?
    /// The other end; for accepted Unix connections the listener's path.
    public internal(set) var peer: SocketAddress
    /// Our end.
    public internal(set) var local: SocketAddress
    /// More readable bytes than this (a request that does not end) close the connection.
    public var inputLimit = 1 << 30
    /// The loop that serves the connection.
    public unowned let loop: Loop
    /// What the loop's statistics call the time spent in this connection's handler.
    public var role: StaticString = "connection"
    override var label: StaticString { role }

    var transport: any Transport
    var isFlushScheduled = false
    var isReadScheduled = false
    private var isReadingPaused = false
    /// An edge was reported that has not been read to its end.
    private var mayHaveInput = false
    private var hasReadEnd = false
    private var isClosingAfterFlush = false
    private var isShutdownPending = false
    private var isWaitingForRoom = false
    private var drainMark: Int?
    var connectTimer: TimerID?

    /// A connection reads at most this many bytes before the others have their turn.
    static let readBudget = 1 << 20
    /// ... and sends at most this many.
    static let sendBudget = 1 << 20
    private static let vectorsMax = 64

    init(loop: Loop, transport: any Transport, phase: Phase, local: SocketAddress, peer: SocketAddress) {
        self.loop = loop
        self.transport = transport
        self.phase = phase
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

    public var isOpen: Bool { phase == .open }
    /// The descriptor, for logs and CLIENT LIST; -1 for none.
    public var descriptor: Int32 { transport.descriptor }
    /// User memory of the connection's buffers, in bytes.
    public var bufferBytes: Int { input.state.pointee.capacity + output.count }

    // MARK: what a role asks for

    /// More queued output than this closes the connection with `.outputLimitReached`.
    public var outputLimit: Int {
        get { output.state.pointee.hardLimit }
        set { output.state.pointee.hardLimit = newValue }
    }

    public func setNoDelay(_ on: Bool) { transport.setNoDelay(on) }
    public func setKeepAlive(idleSeconds: Int) { transport.setKeepAlive(idleSeconds: idleSeconds) }

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
        guard !isReadScheduled, phase == .open else { return }
        isReadScheduled = true
        loop.pendingReads.append(self)
    }

    /// Calls `connectionDrained` once, when no more than `mark` bytes wait to be sent; at the next flush if that is so now.
    public func notifyDrained(below mark: Int) {
        drainMark = mark
        outputGrew()
    }

    /// Closes at once; what is queued is dropped. With `reset` the peer sees a reset connection.
    public func close(reset: Bool = false) { close(.local, reset: reset) }

    /// Reads nothing more, sends what is queued, closes.
    public func closeAfterFlush() {
        guard phase == .open, !isClosingAfterFlush else {
            if phase == .connecting { close(.local) }
            return
        }
        isClosingAfterFlush = true
        isReadingPaused = true
        input.discard()
        outputGrew()
    }

    /// True once `closeAfterFlush` was called.
    public var isClosing: Bool { isClosingAfterFlush || phase == .closed }
    public var isReading: Bool { !isReadingPaused }
    /// The peer has ended its half.
    public var hasReachedEnd: Bool { hasReadEnd }

    /// Sends what is queued, then the end of our half of the stream; receiving goes on.
    public func shutdownSending() {
        guard phase == .open, !isShutdownPending else { return }
        isShutdownPending = true
        outputGrew()
    }

    // MARK: events

    /// The output went from nothing to something, or something waits for its being sent.
    @usableFromInline
    func outputGrew() {
        if output.count > output.state.pointee.hardLimit, phase == .open {
            close(.outputLimitReached)
            return
        }
        guard !isFlushScheduled, phase == .open, !isWaitingForRoom else { return }
        isFlushScheduled = true
        loop.pendingFlushes.append(self)
    }

    override func ready(_ events: Readiness) {
        switch phase {
        case .closed:
            return
        case .connecting:
            guard !events.isDisjoint(with: [.writable, .failed, .hungUp]) else { return }
            finishConnecting()
        case .open:
            if events.contains(.writable), isWaitingForRoom {
                isWaitingForRoom = false
                flush()
            }
            if !events.isDisjoint(with: [.readable, .hungUp, .peerEnded, .failed]), phase == .open {
                mayHaveInput = true
                read(untilEmpty: !events.isDisjoint(with: [.hungUp, .peerEnded, .failed]))
            }
        }
    }

    func finishConnecting() {
        let result = transport.connectResult()
        if let timer = connectTimer { loop.cancel(timer) }
        connectTimer = nil
        guard result == 0 else {
            close(.connectFailed(result))
            return
        }
        phase = .open
        loop.completeOutgoing(self)
        handler?.connectionOpened(self)
        if !output.isEmpty { outputGrew() }
    }

    /// Called by the loop for connections on its list of pending reads.
    func readPending() {
        isReadScheduled = false
        guard phase == .open, !isReadingPaused else { return }
        if !input.isEmpty {
            handler?.connectionReceived(self)
            input.settle(sharedArea: loop.receiveArea, size: Loop.receiveAreaSize)
        }
        read(untilEmpty: true)
    }

    private func read(untilEmpty: Bool) {
        var budget = Connection.readBudget
        while mayHaveInput, !isReadingPaused, !hasReadEnd, phase == .open {
            if budget <= 0 {
                scheduleRead()
                return
            }
            let direct = input.state.pointee.directRemaining
            let (target, room) = direct > 0
                ? (input.state.pointee.direct!, direct)
                : input.target(sharedArea: loop.receiveArea, size: Loop.receiveAreaSize)
            let received = transport.receive(into: target, count: room)
            if received > 0 {
                budget -= received
                loop.statistics.bytesReceived += UInt64(received)
                if received < room, !untilEmpty { mayHaveInput = false }
                if direct > 0 {
                    input.state.pointee.direct = target + received
                    input.state.pointee.directRemaining -= received
                    if received < direct { continue }
                } else {
                    input.received(received)
                    if input.count > inputLimit {
                        close(.inputLimitReached)
                        return
                    }
                }
                handler?.connectionReceived(self)
                input.settle(sharedArea: loop.receiveArea, size: Loop.receiveAreaSize)
            } else {
                input.settle(sharedArea: loop.receiveArea, size: Loop.receiveAreaSize)
                if received == 0 {
                    mayHaveInput = false
                    hasReadEnd = true
                    handler?.connectionReachedEnd(self)
                } else if received == -Int(EAGAIN) {
                    mayHaveInput = false
                } else if received != -Int(EINTR) {
                    close(.receiveFailed(Int32(-received)))
                }
            }
        }
    }

    /// Sends what is queued; called by the loop at the end of an iteration, and when the kernel has room again.
    func flush() {
        isFlushScheduled = false
        guard phase == .open else { return }
        var budget = Connection.sendBudget
        while !output.isEmpty {
            if budget <= 0 {
                outputGrew()
                loop.hasUnfinishedWork = true
                break
            }
            let sent = withUnsafeTemporaryAllocation(of: iovec.self, capacity: Connection.vectorsMax) { vectors in
                let count = output.gather(into: vectors.baseAddress!, limit: Connection.vectorsMax)
                return transport.send(vectors.baseAddress!, count: count)
            }
            if sent >= 0 {
                output.consume(sent)
                budget -= sent
                loop.statistics.bytesSent += UInt64(sent)
            } else if sent == -Int(EAGAIN) {
                isWaitingForRoom = true
                break
            } else if sent != -Int(EINTR) {
                close(.sendFailed(Int32(-sent)))
                return
            }
        }
        if let mark = drainMark, output.count <= mark {
            drainMark = nil
            handler?.connectionDrained(self)
        }
        if output.isEmpty, phase == .open {
            if isClosingAfterFlush {
                close(hasReadEnd ? .endOfStream : .local, reset: false)
            } else if isShutdownPending {
                isShutdownPending = false
                transport.shutdownSending()
            }
        }
    }

    func close(_ reason: CloseReason, reset: Bool = false) {
        guard phase != .closed else { return }
        phase = .closed
        if let timer = connectTimer { loop.cancel(timer) }
        connectTimer = nil
        loop.forget(self)
        transport.close(reset: reset)
        output.releaseBlocks()
        output.state.pointee.owner = nil
        input.discard()
        loop.deferWork(label: label) { [self] in
            input.settle(sharedArea: loop.receiveArea, size: Loop.receiveAreaSize)
            output.releaseBlocks()
            let last = handler
            handler = nil
            last?.connectionClosed(self, reason)
        }
    }
}
