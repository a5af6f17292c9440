import CLinux
import Glibc

/// The loop of one simulated process. It is turned by its world; nobody calls `run`.
///
/// One iteration takes a microsecond of virtual time, whatever it does.
public final class SimulatedLoop: Loop {
    public enum State: Sendable { case running, frozen, dead }

    public let name: String
    public let host: SimulatedHost
    /// Its number, for logs.
    public let pid: Int32
    public private(set) var state = State.running
    /// How long a forked child lives.
    public var forkDuration: Duration = .milliseconds(10)
    /// What a forked child does instead of running its body here and now.
    public var onFork: (() -> (ChildStatus, after: Duration))?
    /// How long work on a helper thread takes.
    public var backgroundDuration: Duration = .milliseconds(1)

    unowned let world: SimulatedWorld
    private var inbox: [EventSource] = []
    private var pending: [ObjectIdentifier: Readiness] = [:]
    private var busyUntil = Instant.zero
    private var signals: [Int32: [() -> Void]] = [:]
    private var children: [Int32: (ChildStatus) -> Void] = [:]
    /// The kernel's halves of its streams, by number.
    var streams: [Int: SimulatedTransport] = [:]
    private static let iterationTime = Duration.microseconds(1)

    init(host: SimulatedHost, name: String) {
        self.host = host
        self.name = name
        world = host.world
        pid = Int32(1000 + host.world.nextNumber())
        super.init()
        random = LoopRandom(seed: host.world.random.next())
        updateClock()
    }

    // MARK: faults

    /// Ends the process at once, as SIGKILL does: its kernel closes what it had open.
    public func kill() {
        guard state != .dead else { return }
        world.record("kill", Int(pid))
        state = .dead
        let open = streams.sorted { $0.key < $1.key }
        for listener in host.listeners.filter({ $0.process === self }) { listener.close() }
        for socket in host.datagramSockets.filter({ $0.process === self }) { socket.close() }
        for (_, stream) in open { stream.close(reset: false) }
        streams.removeAll()
        inbox.removeAll()
        pending.removeAll()
    }

    /// Stops the process where it is, as SIGSTOP does: its kernel goes on answering for it.
    public func freeze() {
        if state == .running { state = .frozen }
        world.record("freeze", Int(pid))
    }

    /// Lets a frozen process go on.
    public func thaw() {
        if state == .frozen { state = .running }
        world.record("thaw", Int(pid))
    }

    /// Sends a signal. One that nothing waits for ends the process.
    public func deliver(signal: Int32) {
        guard state != .dead else { return }
        world.record("signal", Int(pid), Int(signal))
        guard let bodies = signals[signal], signal != SIGKILL else {
            kill()
            return
        }
        deferWork(label: "signal") { for body in bodies { body() } }
    }

    /// Its host is switched off: no kernel is left to close anything.
    func vanish() {
        state = .dead
        for (_, stream) in streams { stream.vanish() }
        streams.removeAll()
    }

    // MARK: what the world does

    var isRunnable: Bool { state == .running && nextTurn <= world.now }

    /// When it has something to do.
    var nextTurn: Instant {
        guard state == .running else { return .distantFuture }
        if hasWork || !inbox.isEmpty { return max(busyUntil, world.now) }
        return max(busyUntil, nextTimer ?? .distantFuture)
    }

    func turn() {
        world.record("turn", Int(pid))
        iterate(until: now)
        busyUntil = world.now + SimulatedLoop.iterationTime
        if hasStopped { kill() }
    }

    func post(_ source: EventSource?, _ readiness: Readiness) {
        guard let source, state != .dead else { return }
        let key = ObjectIdentifier(source)
        if let known = pending[key] {
            pending[key] = known.union(readiness)
        } else {
            pending[key] = readiness
            inbox.append(source)
        }
    }

    func withdraw(_ source: EventSource) {
        if pending.removeValue(forKey: ObjectIdentifier(source)) != nil { inbox.removeAll { $0 === source } }
    }

    // MARK: the interface

    public override func updateClock() {
        clock.pointee.monotonic = world.now
        clock.pointee.wallMicroseconds = world.wallMicroseconds + host.clockOffset.wholeNanoseconds / 1000
        clock.pointee.wallMilliseconds = clock.pointee.wallMicroseconds / 1000
    }

    public override func poll(until deadline: Instant) {
        updateClock()
        wokeAt = now
        let batch = inbox
        inbox.removeAll()
        for source in batch {
            guard let events = pending.removeValue(forKey: ObjectIdentifier(source)) else {
                counters.pointee.lateEventsDropped += 1
                continue
            }
            measure(source.label) { source.ready(events) }
        }
    }

    public override func forget(_ connection: Connection) { withdraw(connection) }

    public override func completeOutgoing(_ connection: Connection) {
        if let transport = connection.transport as? SimulatedTransport { connection.local = transport.local }
    }

    public override func listen(on address: SocketAddress, options: ListenOptions = .init(), handler: any ListenerHandler) throws(SystemError) -> Listener {
        var address = address
        if case .ipv4(let number, let port) = address {
            guard number == 0 || number >> 24 == 127 || options.freeBind || host.owns(number) else {
                throw SystemError("bind \(address)", code: EADDRNOTAVAIL)
            }
            if port == 0 { address = address.with(port: host.ephemeralPort()) }
        }
        guard !host.listeners.contains(where: { $0.collides(with: address) }) else {
            throw SystemError("bind \(address)", code: EADDRINUSE)
        }
        let listener = SimulatedListener(process: self, address: address, backlog: Int(options.backlog), handler: handler)
        host.listeners.append(listener)
        return listener
    }

    public override func connect(to address: SocketAddress, from local: SocketAddress? = nil, timeout: Duration, handler: any ConnectionHandler) -> Connection {
        let transport = SimulatedTransport(process: self, local: local ?? .anyIPv4(port: 0), peer: address)
        let connection = Connection(loop: self, transport: transport, phase: .connecting, local: transport.local, peer: address)
        transport.source = connection
        connection.handler = handler
        connection.connectTimer = schedule(after: timeout, label: "connect time-out") { connection.close(.connectTimedOut) }
        transport.startConnecting()
        return connection
    }

    public override func openDatagram(domain: Int32, type: Int32, protocol: Int32, onReceive: @escaping (UnsafeRawBufferPointer, RawAddress) -> Void) throws(SystemError) -> DatagramSocket {
        let socket: SimulatedDatagramSocket
        switch domain {
        case AF_INET, AF_UNIX:
            socket = SimulatedDatagramSocket(process: self, domain: domain, type: type, protocol: `protocol`, onReceive: onReceive)
        case AF_PACKET:
            socket = SimulatedPacketSocket(process: self, domain: domain, type: type, protocol: `protocol`, onReceive: onReceive)
        case AF_NETLINK where `protocol` == NETLINK_ROUTE:
            socket = SimulatedRouteSocket(process: self, domain: domain, type: type, protocol: `protocol`, onReceive: onReceive)
        default:
            throw SystemError("simulated socket(domain \(domain), type \(type), protocol \(`protocol`))", code: EAFNOSUPPORT)
        }
        host.datagramSockets.append(socket)
        return socket
    }

    public override func onSignal(_ signal: Int32, _ body: @escaping () -> Void) { signals[signal, default: []].append(body) }

    @discardableResult
    public override func spawn(_ arguments: [String], environment: [String]? = nil, output: Int32? = nil, user: (uid: UInt32, gid: UInt32)? = nil, onExit: @escaping (ChildStatus) -> Void) throws(SystemError) -> Int32 {
        let (status, after) = host.programs[arguments[0]]?(arguments) ?? (.exited(127), .milliseconds(1))
        return startChild(ending: status, after: after, onExit)
    }

    /// Whatever the signal, the child ends by it at once.
    public override func sendSignal(_ signal: Int32, toChild child: Int32) {
        guard let onExit = children.removeValue(forKey: child) else { return }
        deferWork(label: "child") { onExit(.signalled(signal)) }
    }

    @discardableResult
    public override func fork(_ body: () -> Int32, onExit: @escaping (ChildStatus) -> Void) throws(SystemError) -> Int32 {
        let (status, after) = onFork?() ?? (.exited(body()), forkDuration)
        return startChild(ending: status, after: after, onExit)
    }

    /// The body writes to a file in memory, here and now; its bytes arrive when the child's time is over.
    public override func forkWriter(_ body: (_ descriptor: Int32) -> Int32, handler: any ConnectionHandler, onExit: @escaping (ChildStatus) -> Void) throws(SystemError) -> (connection: Connection, pid: Int32) {
        let (bytes, result) = try ChildOutput.collect(body)
        let transport = ChildOutput(bytes)
        let connection = Connection(loop: self, transport: transport, phase: .open, local: .unix("parent"), peer: .unix("child"))
        connection.handler = handler
        schedule(after: forkDuration, label: "child") { [unowned self] in post(connection, [.readable, .peerEnded]) }
        return (connection, startChild(ending: .exited(result), after: forkDuration, onExit))
    }

    private func startChild(ending status: ChildStatus, after: Duration, _ onExit: @escaping (ChildStatus) -> Void) -> Int32 {
        let child = Int32(1000 + world.nextNumber())
        children[child] = onExit
        schedule(after: after, label: "child") { [unowned self] in children.removeValue(forKey: child)?(status) }
        return child
    }

    public override func runInBackground(_ work: @escaping @Sendable () -> Void, completion: @escaping () -> Void) {
        schedule(after: backgroundDuration, label: "background completion") {
            work()
            completion()
        }
    }
}
