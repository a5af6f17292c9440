import Glibc

/// How a listener binds.
public struct ListenOptions: Sendable {
    /// Connections the kernel holds for us before they are accepted.
    public var backlog: Int32 = 511
    /// Binds to an address that this host does not have (yet) (IP_FREEBIND).
    public var freeBind = false
    public var reusePort = false
    /// Permission bits of a Unix socket's file.
    public var unixMode: UInt32?
    /// Owner of a Unix socket's file.
    public var unixUser: UInt32?
    public var unixGroup: UInt32?
    /// SO_SNDBUF of accepted connections; nil leaves it to the kernel.
    public var sendBufferSize: Int32?
    public init() {}
}

/// Told of each accepted connection. Set the connection's `handler` there; without one it is closed.
public protocol ListenerHandler: AnyObject {
    func listener(_ listener: Listener, accepted connection: Connection)
}

/// How a child process ended.
public enum ChildStatus: Equatable, Sendable {
    case exited(Int32)
    case signalled(Int32)
}

/// One thread's event loop: connections, timers, deferred work, signals and children, behind one interface.
///
/// There are two: `EpollLoop` over the kernel and `SimulatedLoop` over a virtual clock and network. A role is handed a
/// `Loop` and cannot tell which one it is.
///
/// An iteration is: wait for events, handle them, fire timers, run deferred work, call `beforeFlush` hooks, send what
/// the connections have queued.
open class Loop {
    /// The shared area that bytes are received into before they are known to be needed longer.
    static let receiveAreaSize = 65_536
    let receiveArea = UnsafeMutableRawPointer.allocate(byteCount: Loop.receiveAreaSize, alignment: 64)
    let blockPool = BlockPool()

    /// The loop's moment: read after each wait and after each callback, so that it is never older than the running one.
    @frozen public struct Clock {
        public var monotonic: Instant = .zero
        /// Milliseconds since 1970.
        public var wallMilliseconds: Int64 = 0
        /// Microseconds since 1970.
        public var wallMicroseconds: Int64 = 0
    }
    /// The clock's memory, for hot paths that read it without going through the class.
    public let clock: UnsafeMutablePointer<Clock>

    let counters: UnsafeMutablePointer<LoopStatistics>
    /// What the loop has done so far.
    public final var statistics: LoopStatistics { counters.pointee }
    /// Random numbers for everything that runs here: on a simulated loop they come from the world's seed.
    public final var random = LoopRandom()
    /// A callback that takes longer is reported.
    public final var slowCallbackThreshold: Duration = .milliseconds(100)
    public final var onSlowCallback: ((_ label: StaticString, _ took: Duration) -> Void)?

    private struct Work {
        var label: StaticString
        var body: () -> Void
    }

    /// What every iteration touches, in memory of its own: a class's stored properties would be checked for exclusive
    /// access at run time, each time.
    private struct State {
        var timers = TimerHeap()
        var deferred: [Work] = []
        var runningDeferred: [Work] = []
        var continuations: [Work] = []
        var flushHooks: [Work] = []
        var pendingReads: [Connection] = []
        var reading: [Connection] = []
        /// The connections with something to send, in the order in which they got it, linked through `nextToFlush`. The
        /// list owns one reference to each.
        var firstToFlush: Unmanaged<Connection>?
        var lastToFlush: Unmanaged<Connection>?
        /// See `holdOutput`.
        var held = HeldOutput()
        var isStopping = false
        var longestNanoseconds: UInt64 = 0
    }
    private let state: UnsafeMutablePointer<State>

    /// `stop` was called.
    final var hasStopped: Bool { state.pointee.isStopping }
    /// When the last wait ended.
    final var wokeAt: Instant = .zero

    public init() {
        clock = .allocate(capacity: 1)
        clock.initialize(to: Clock())
        counters = .allocate(capacity: 1)
        counters.initialize(to: LoopStatistics())
        state = .allocate(capacity: 1)
        state.initialize(to: State())
    }

    deinit {
        while let connection = nextToFlush() { connection.nextToFlush = nil }
        state.deinitialize(count: 1)
        state.deallocate()
        blockPool.release()
        receiveArea.deallocate()
        clock.deallocate()
        counters.deallocate()
    }

    public final var now: Instant { clock.pointee.monotonic }
    /// Milliseconds since 1970, read once an iteration.
    public final var wallMilliseconds: Int64 { clock.pointee.wallMilliseconds }

    // MARK: timers and deferred work

    /// Calls `body` once at `deadline` or right after, never before. A deadline that has passed means the next iteration.
    @discardableResult
    public final func schedule(at deadline: Instant, label: StaticString = "timer", _ body: @escaping () -> Void) -> TimerID {
        state.pointee.timers.insert(at: max(deadline, now), interval: nil, label: label, body)
    }

    /// Calls `body` once, `delay` from now. The clock is read afresh: a callback that has taken long does not make the
    /// timers that it sets come early.
    @discardableResult
    public final func schedule(after delay: Duration, label: StaticString = "timer", _ body: @escaping () -> Void) -> TimerID {
        updateClock()
        return state.pointee.timers.insert(at: now + max(delay, .zero), interval: nil, label: label, body)
    }

    /// Calls `body` every `interval`, the first time one interval from now. The rhythm does not drift; what was missed
    /// while the loop was busy is skipped.
    @discardableResult
    public final func scheduleRepeating(every interval: Duration, label: StaticString = "timer", _ body: @escaping () -> Void) -> TimerID {
        precondition(interval > .zero, "a repeating timer needs an interval")
        updateClock()
        return state.pointee.timers.insert(at: now + interval, interval: interval, label: label, body)
    }

    /// - Returns: whether the timer was still to fire.
    @discardableResult
    public final func cancel(_ timer: TimerID) -> Bool { state.pointee.timers.cancel(timer) }

    public final var liveTimers: Int { state.pointee.timers.count }
    /// When the next timer is due.
    public final var nextTimer: Instant? { state.pointee.timers.next }

    /// Calls `body` in this iteration, after the events, before anything is sent.
    public final func deferWork(label: StaticString = "deferred work", _ body: @escaping () -> Void) {
        state.pointee.deferred.append(Work(label: label, body: body))
    }

    /// Calls `body` in the next iteration, which does not wait: for work that is cut into turns.
    public final func continueNextIteration(label: StaticString, _ body: @escaping () -> Void) {
        state.pointee.continuations.append(Work(label: label, body: body))
    }

    /// Calls `body` in every iteration just before output is sent: what must happen before a reply leaves.
    public final func beforeFlush(label: StaticString, _ body: @escaping () -> Void) {
        state.pointee.flushHooks.append(Work(label: label, body: body))
    }

    // MARK: what the two loops do differently

    /// - Throws: `SystemError` naming the address.
    open func listen(on address: SocketAddress, options: ListenOptions = .init(), handler: any ListenerHandler) throws(SystemError) -> Listener {
        fatalError("\(type(of: self)) must implement listen")
    }

    /// Starts connecting. The outcome comes as `connectionOpened` or `connectionClosed`, never from within this call.
    /// What is appended to the output meanwhile is sent once connected.
    open func connect(to address: SocketAddress, from local: SocketAddress? = nil, timeout: Duration, handler: any ConnectionHandler) -> Connection {
        fatalError("\(type(of: self)) must implement connect")
    }

    /// Opens a datagram, raw, packet or netlink socket.
    /// - Throws: `SystemError`; EPERM where privileges are missing.
    open func openDatagram(domain: Int32, type: Int32, protocol: Int32, onReceive: @escaping (UnsafeRawBufferPointer, RawAddress) -> Void) throws(SystemError) -> DatagramSocket {
        fatalError("\(Swift.type(of: self)) must implement openDatagram")
    }

    /// Calls `body` for each arrival of the signal, in the loop.
    open func onSignal(_ signal: Int32, _ body: @escaping () -> Void) {
        fatalError("\(type(of: self)) must implement onSignal")
    }

    /// Starts a program. The child gets an empty signal mask, its own process group, /dev/null as input, and `output` (or
    /// /dev/null) as output. `onExit` is called once.
    /// - Throws: `SystemError` naming the program.
    @discardableResult
    open func spawn(_ arguments: [String], environment: [String]? = nil, output: Int32? = nil, user: (uid: UInt32, gid: UInt32)? = nil, onExit: @escaping (ChildStatus) -> Void) throws(SystemError) -> Int32 {
        fatalError("\(type(of: self)) must implement spawn")
    }

    /// Sends a signal to a program that `spawn` started, and to what that started in its process group.
    open func sendSignal(_ signal: Int32, toChild child: Int32) {
        fatalError("\(type(of: self)) must implement sendSignal")
    }

    /// Forks; the child runs `body` and exits with its result. Helper threads do not exist in the child, nor do the descriptors of the loop.
    /// - Returns: the child's process id.
    @discardableResult
    open func fork(_ body: () -> Int32, onExit: @escaping (ChildStatus) -> Void) throws(SystemError) -> Int32 {
        fatalError("\(type(of: self)) must implement fork")
    }

    /// Forks a child that writes to `descriptor` and exits with `body`'s result; what it writes arrives on the connection.
    ///
    /// The connection's back pressure reaches the child: its writes block. The descriptors of the loop do not exist there.
    open func forkWriter(_ body: (_ descriptor: Int32) -> Int32, handler: any ConnectionHandler, onExit: @escaping (ChildStatus) -> Void) throws(SystemError) -> (connection: Connection, pid: Int32) {
        fatalError("\(type(of: self)) must implement forkWriter")
    }

    /// Runs what blocks on a helper thread, then `completion` in the loop.
    open func runInBackground(_ work: @escaping @Sendable () -> Void, completion: @escaping () -> Void) {
        fatalError("\(type(of: self)) must implement runInBackground")
    }

    /// Reads the clock, waits at most until `deadline`, and hands events to their sources.
    open func poll(until deadline: Instant) {
        fatalError("\(type(of: self)) must implement poll")
    }

    /// Reads the monotonic clock into `clock`; `poll` reads the other one too.
    open func updateClock() {
        fatalError("\(type(of: self)) must implement updateClock")
    }

    /// Lets go of a connection's registration.
    open func forget(_ connection: Connection) {}
    /// An outgoing connection is up: its addresses can be read.
    open func completeOutgoing(_ connection: Connection) {}

    // MARK: the iteration

    /// Runs until `stop()`.
    public final func run() {
        state.pointee.isStopping = false
        updateClock()
        while !state.pointee.isStopping { turn(until: .distantFuture) }
    }

    /// Ends `run()` after the current iteration, in which output is still sent.
    public final func stop() { state.pointee.isStopping = true }

    /// Something waits to be done that needs no event and no timer.
    final var hasWork: Bool {
        !state.pointee.deferred.isEmpty || !state.pointee.pendingReads.isEmpty || state.pointee.firstToFlush != nil
            || !state.pointee.continuations.isEmpty
    }

    /// One iteration, waiting for events at most until `limit`.
    public final func iterate(until limit: Instant) {
        updateClock()
        turn(until: limit)
    }

    /// - Precondition: the clock was read not long ago; what was done since then was measured.
    private func turn(until limit: Instant) {
        poll(until: hasWork ? .zero : min(limit, state.pointee.timers.next ?? .distantFuture))
        counters.pointee.iterations &+= 1
        if !state.pointee.continuations.isEmpty { runContinuations() }
        if !state.pointee.pendingReads.isEmpty { drainPendingReads() }
        fireTimers()
        if !state.pointee.deferred.isEmpty { runDeferred() }
        if !state.pointee.flushHooks.isEmpty {
            for hook in state.pointee.flushHooks { measure(hook.label, hook.body) }
        }
        if state.pointee.firstToFlush != nil { measure("send") { flushPending() } }
        if !state.pointee.deferred.isEmpty { runDeferred() }
        blockPool.trim(at: now)
        counters.pointee.busyNanoseconds &+= clock.pointee.monotonic.nanoseconds &- wokeAt.nanoseconds
    }

    private func runContinuations() {
        let batch = state.pointee.continuations
        state.pointee.continuations = []
        for work in batch { measure(work.label, work.body) }
    }

    /// Fires what is due now; what these callbacks schedule has to wait for the next iteration.
    private func fireTimers() {
        guard let first = state.pointee.timers.next, first <= now else { return }
        let due = now
        let last = state.pointee.timers.lastSequence
        while let (label, body) = state.pointee.timers.popDue(at: due, upTo: last) { measure(label, body) }
    }

    /// Runs what was deferred, and what that defers, to a bound: endless chains have to wait for the next iteration.
    private func runDeferred() {
        for _ in 0..<16 where !state.pointee.deferred.isEmpty {
            swap(&state.pointee.deferred, &state.pointee.runningDeferred)
            for work in state.pointee.runningDeferred { measure(work.label, work.body) }
            state.pointee.runningDeferred.removeAll(keepingCapacity: true)
        }
    }

    private func drainPendingReads() {
        swap(&state.pointee.pendingReads, &state.pointee.reading)
        for connection in state.pointee.reading { measure(connection.label) { connection.readPending() } }
        state.pointee.reading.removeAll(keepingCapacity: true)
    }

    private func flushPending() {
        // What is queued while this goes on has to wait for the next iteration.
        let last = state.pointee.lastToFlush
        while let connection = nextToFlush() {
            let isLast = Unmanaged.passUnretained(connection).toOpaque() == last?.toOpaque()
            connection.nextToFlush = nil
            connection.flush()
            if isLast { break }
        }
    }

    /// Takes the first connection off the list.
    private func nextToFlush() -> Connection? {
        guard let first = state.pointee.firstToFlush else { return nil }
        let connection = first.takeRetainedValue()
        state.pointee.firstToFlush = connection.nextToFlush
        if connection.nextToFlush == nil { state.pointee.lastToFlush = nil }
        return connection
    }

    // MARK: output that is held back

    /// Keeps what is queued now on connections that may be held (`Connection.isHoldable`) until it is released. To be called in a
    /// `beforeFlush` hook.
    /// - Returns: how many connections are held and not sealed.
    @discardableResult
    public final func holdOutput() -> Int {
        var others: [Connection] = []
        while let connection = nextToFlush() {
            connection.nextToFlush = nil
            if connection.isHoldable { state.pointee.held.waiting.append(connection) } else { others.append(connection) }
        }
        for connection in others { flushLater(connection) }
        return state.pointee.held.waiting.count
    }

    /// Output is being held back.
    public final var isHoldingOutput: Bool { !state.pointee.held.waiting.isEmpty || !state.pointee.held.sealed.isEmpty }

    /// Draws a line behind all output that is held: `releaseSealedOutput` lets out what is before it.
    public final func sealOutput() {
        precondition(state.pointee.held.sealed.isEmpty, "what was sealed has not been released")
        swap(&state.pointee.held.sealed, &state.pointee.held.waiting)
        for connection in state.pointee.held.sealed { connection.sealOutput() }
    }

    /// Sends what was queued when the line was drawn; what has come since is still held.
    public final func releaseSealedOutput() {
        for connection in state.pointee.held.sealed where connection.sendSealed() { state.pointee.held.waiting.append(connection) }
        state.pointee.held.sealed.removeAll(keepingCapacity: true)
    }

    /// Sends all that is held.
    public final func releaseOutput() {
        let held = state.pointee.held
        state.pointee.held = HeldOutput()
        for connection in held.sealed + held.waiting { connection.flush() }
    }

    /// Puts a connection that is not on the list at its end.
    @inline(__always)
    final func flushLater(_ connection: Connection) {
        let entry = Unmanaged.passRetained(connection)
        if let last = state.pointee.lastToFlush {
            last._withUnsafeGuaranteedRef { $0.nextToFlush = entry }
        } else {
            state.pointee.firstToFlush = entry
        }
        state.pointee.lastToFlush = entry
    }

    final func readLater(_ connection: Connection) { state.pointee.pendingReads.append(connection) }

    /// Runs a callback and remembers the longest.
    @inline(__always)
    final func measure(_ label: StaticString, _ body: () -> Void) {
        let before = clock.pointee.monotonic
        body()
        updateClock()
        let took = clock.pointee.monotonic.nanoseconds &- before.nanoseconds
        if took > state.pointee.longestNanoseconds {
            state.pointee.longestNanoseconds = took
            counters.pointee.longestCallback = .nanoseconds(Int64(took))
            counters.pointee.longestCallbackLabel = label
        }
        if took > 1_000_000 { reportIfSlow(label, .nanoseconds(Int64(took))) }
    }

    @inline(never)
    private func reportIfSlow(_ label: StaticString, _ took: Duration) {
        if took > slowCallbackThreshold { onSlowCallback?(label, took) }
    }

    /// Forgets the longest callback (CONFIG RESETSTAT).
    public final func resetLongestCallback() {
        state.pointee.longestNanoseconds = 0
        counters.pointee.longestCallback = .zero
        counters.pointee.longestCallbackLabel = "none"
    }
}

/// Connections whose output is held back: some until what has begun is done, others until something begins that covers them.
private struct HeldOutput {
    var sealed: [Connection] = []
    var waiting: [Connection] = []
}

/// A bound socket that accepts connections.
public class Listener: EventSource {
    /// Where it listens; with port 0 asked for, the port that it got.
    public internal(set) var address: SocketAddress
    override var label: StaticString { "listener" }
    unowned let handler: any ListenerHandler

    init(address: SocketAddress, handler: any ListenerHandler) {
        self.address = address
        self.handler = handler
    }

    /// Stops accepting and lets go of the address.
    public func close() {}
}

/// A datagram, raw, packet or netlink socket.
public class DatagramSocket: EventSource {
    let onReceive: (UnsafeRawBufferPointer, RawAddress) -> Void

    init(onReceive: @escaping (UnsafeRawBufferPointer, RawAddress) -> Void) { self.onReceive = onReceive }

    public var descriptor: Int32 { -1 }
    public func bind(_ address: RawAddress) throws(SystemError) {}
    public func connect(_ address: RawAddress) throws(SystemError) {}
    /// Sends one datagram without waiting.
    /// - Returns: 0, or the errno (EAGAIN: no room, the datagram is dropped).
    @discardableResult
    public func send(_ bytes: UnsafeRawBufferPointer, to address: RawAddress? = nil) -> Int32 { 0 }
    public func setOption<T>(_ level: Int32, _ name: Int32, _ value: T) throws(SystemError) {}
    public func close() {}
}
