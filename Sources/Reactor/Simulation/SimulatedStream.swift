import CLinux
import Glibc

/// A listening socket of a simulated host.
final class SimulatedListener: Listener {
    unowned let process: SimulatedLoop
    private let backlog: Int
    private var queue: [SimulatedTransport] = []
    private var isClosed = false

    init(process: SimulatedLoop, address: SocketAddress, backlog: Int, handler: any ListenerHandler) {
        self.process = process
        self.backlog = backlog
        super.init(address: address, handler: handler)
    }

    func accepts(_ target: SocketAddress) -> Bool {
        if case .unix = address { return address == target }
        return address == target || (address.isWildcard && address.port == target.port)
    }

    func collides(with other: SocketAddress) -> Bool {
        if case .unix = address { return address == other }
        if case .unix = other { return false }
        return address.port == other.port && (address == other || address.isWildcard || other.isWildcard)
    }

    var hasRoom: Bool { !isClosed && queue.count <= backlog }

    func enqueue(_ transport: SimulatedTransport) {
        queue.append(transport)
        process.post(self, .readable)
    }

    override func ready(_ events: Readiness) {
        while !isClosed, !queue.isEmpty {
            let transport = queue.removeFirst()
            process.counters.pointee.connectionsAccepted += 1
            let connection = Connection(loop: process, transport: transport, phase: .open, local: transport.local, peer: transport.peer)
            transport.source = connection
            handler.listener(self, accepted: connection)
            if connection.handler == nil { connection.close() } else { transport.reportState() }
        }
    }

    override func close() {
        guard !isClosed else { return }
        isClosed = true
        process.withdraw(self)
        process.host.listeners.removeAll { $0 === self }
        for transport in queue { transport.close(reset: true) }
        queue.removeAll()
    }
}

/// One end of a simulated stream: what TCP and the kernel's socket buffers do, as far as roles can see it.
///
/// What is sent goes into `unacknowledged`, segment by segment, and leaves it when it has arrived. A segment that cannot
/// get through holds up those behind it and is tried again after 200 ms, 400 ms and so on up to two minutes.
final class SimulatedTransport: Transport {
    private enum Piece {
        case bytes([UInt8])
        case end
    }
    private enum State { case connecting, established, closed }

    let number: Int
    unowned let world: SimulatedWorld
    let host: SimulatedHost
    private(set) weak var process: SimulatedLoop?
    /// Held until the end, as `EpollLoop` holds what it has registered: a role need not keep a connection alive.
    var source: EventSource?
    private(set) var local: SocketAddress
    let peer: SocketAddress

    private var state = State.connecting
    private var remote: SimulatedTransport?
    private var error: Int32 = 0
    private var connectError: Int32 = 0

    private var received: [UInt8] = []
    private var receivedStart = 0
    private var hasEnd = false

    private var unacknowledged: [Piece] = []
    private var unacknowledgedBytes = 0
    private var wantsRoom = false
    private var lastArrival = Instant.zero
    /// Events of segments that were under way before a stall are void.
    private var generation = 0
    private var isStalled = false
    private var isWindowClosed = false
    private var retries = 0

    static let sendBufferSize = 256 << 10
    static let receiveBufferSize = 256 << 10
    private static let segmentSize = 64 << 10
    private static let retriesMax = 15

    init(process: SimulatedLoop, local: SocketAddress, peer: SocketAddress) {
        self.process = process
        self.local = local
        self.peer = peer
        host = process.host
        world = host.world
        number = world.nextNumber()
        process.streams[number] = self
    }

    var descriptor: Int32 { Int32(truncatingIfNeeded: number) }
    func setNoDelay(_ on: Bool) {}
    var isRepeating: Bool { retries > 0 }

    // MARK: connecting

    func startConnecting() {
        if case .unix = peer {
            local = peer
        } else if case .ipv4(let wanted, _) = local, wanted != 0, !host.owns(wanted), wanted >> 24 != 127 {
            world.after(.microseconds(1)) { [self] in fail(EADDRNOTAVAIL) }
            return
        } else if case .ipv4(let target, _) = peer {
            let isOwn = target >> 24 == 127 || host.owns(target)
            local = local.isWildcard ? .ipv4(isOwn ? target : host.address, port: host.ephemeralPort()) : local.with(port: host.ephemeralPort())
        }
        attempt(0, since: world.now)
    }

    /// One SYN; again after 1, 2, 4 ... seconds (RFC 6298) until somebody answers or the role gives up.
    private func attempt(_ tries: Int, since start: Instant) {
        guard state == .connecting else { return }
        let again = Duration.seconds(1 << min(tries, 6))
        switch world.route(from: host, to: peer) {
        case .host(let target) where !(target !== host && world.chance(world.network.segmentLoss)):
            world.after(world.travel(host, target)) { [self] in knock(at: target) }
        case .nobody where world.now - start >= .seconds(3):
            fail(EHOSTUNREACH)
            return
        default:
            break
        }
        world.after(again) { [self] in attempt(tries + 1, since: start) }
    }

    /// The SYN arrives.
    private func knock(at target: SimulatedHost) {
        guard state == .connecting, remote == nil, world.isReachable(host, target), target.isOn else { return }
        guard let listener = target.listener(for: peer), let process = listener.process as SimulatedLoop?, process.state != .dead else {
            world.after(world.travel(target, host)) { [self] in
                if case .unix = peer { fail(ENOENT) } else if world.isReachable(target, host) { fail(ECONNREFUSED) }
            }
            return
        }
        guard listener.hasRoom else { return }
        world.after(world.travel(target, host)) { [self] in
            guard state == .connecting, remote == nil, world.isReachable(target, host) else { return }
            let other = SimulatedTransport(process: process, local: peer, peer: local)
            other.state = .established
            other.remote = self
            remote = other
            state = .established
            world.record("connected", number, other.number)
            report(.writable)
            lastArrival = world.now + world.travel(host, target)
            world.at(lastArrival) { if listener.hasRoom, process.state != .dead { listener.enqueue(other) } else { other.close(reset: true) } }
        }
    }

    private func fail(_ code: Int32) {
        guard state == .connecting, connectError == 0 else { return }
        connectError = code
        world.record("connect failed", number, Int(code))
        report([.writable, .failed, .hungUp])
    }

    func connectResult() -> Int32 {
        defer {
            connectError = 0
            error = 0
        }
        return connectError != 0 ? connectError : error
    }

    // MARK: bytes

    func send(_ vectors: UnsafeMutablePointer<iovec>, count: Int) -> Int {
        if error != 0 {
            defer { error = 0 }
            return -Int(error)
        }
        guard state == .established else { return -Int(EPIPE) }
        var room = SimulatedTransport.sendBufferSize - unacknowledgedBytes
        guard room > 0 else {
            wantsRoom = true
            return -Int(EAGAIN)
        }
        var sent = 0
        for index in 0..<count {
            var offset = 0
            let length = vectors[index].iov_len
            while offset < length, room > 0 {
                let size = min(length - offset, room, SimulatedTransport.segmentSize)
                let bytes = UnsafeRawBufferPointer(start: vectors[index].iov_base! + offset, count: size)
                unacknowledgedBytes += size
                transmit(.bytes(Array(bytes)))
                offset += size
                room -= size
                sent += size
            }
            if offset < length {
                wantsRoom = true
                break
            }
        }
        return sent
    }

    func receive(into destination: UnsafeMutableRawPointer, count: Int) -> Int {
        let available = received.count - receivedStart
        if available > 0 {
            let size = min(available, count)
            received.withUnsafeBytes { destination.copyMemory(from: $0.baseAddress! + receivedStart, byteCount: size) }
            receivedStart += size
            if receivedStart == received.count {
                received.removeAll(keepingCapacity: true)
                receivedStart = 0
            } else if receivedStart > 1 << 16 {
                received.removeFirst(receivedStart)
                receivedStart = 0
            }
            remote?.windowOpened()
            return size
        }
        if error != 0 {
            defer { error = 0 }
            return -Int(error)
        }
        if hasEnd { return 0 }
        return state == .established ? -Int(EAGAIN) : 0
    }

    func shutdownSending() { if state == .established { transmit(.end) } }

    func close(reset: Bool) {
        let wasEstablished = state == .established
        guard state != .closed else { return }
        state = .closed
        source = nil
        process?.streams[number] = nil
        guard wasEstablished else { return }
        if reset || received.count > receivedStart {
            // Unread bytes make the kernel answer with RST (RFC 2525 §2.17).
            unacknowledged.removeAll()
            generation += 1
            sendReset()
        } else {
            transmit(.end)
        }
    }

    /// The host is off: nothing is sent any more, not even the end.
    func vanish() {
        state = .closed
        unacknowledged.removeAll()
        generation += 1
    }

    /// Bytes that came before the connection was accepted.
    func reportState() {
        var events: Readiness = []
        if received.count > receivedStart || hasEnd { events.insert(.readable) }
        if hasEnd { events.insert(.peerEnded) }
        if error != 0 { events.formUnion([.failed, .hungUp]) }
        if !events.isEmpty { report(events) }
    }

    // MARK: segments

    private func transmit(_ piece: Piece) {
        unacknowledged.append(piece)
        guard !isStalled, !isWindowClosed else { return }
        scheduleArrival(of: piece)
    }

    private func scheduleArrival(of piece: Piece) {
        var arrival = world.now + world.travel(host, remote?.host)
        if case .bytes(let bytes) = piece, let bandwidth = world.network.bandwidth {
            arrival = max(arrival, lastArrival) + .nanoseconds(Int64(bytes.count) * 1_000_000_000 / Int64(bandwidth))
        }
        lastArrival = max(arrival, lastArrival)
        let mine = generation
        world.at(lastArrival) { [self] in if mine == generation { arrive() } }
    }

    /// The first segment under way reaches the other side, or does not.
    private func arrive() {
        guard let piece = unacknowledged.first, let remote else { return }
        let isLocal = remote.host === host
        guard case .host(let target) = world.route(from: host, to: peer), isLocal || !world.chance(world.network.segmentLoss) else {
            stall()
            return
        }
        guard target === remote.host, remote.state == .established, target.isOn else {
            if case .end = piece, remote.state == .closed, target === remote.host {
                acknowledge(piece)
            } else {
                // Nobody there knows the connection.
                unacknowledged.removeAll()
                world.after(world.travel(target, host)) { [self] in if world.isReachable(target, host) { takeReset() } }
            }
            return
        }
        switch piece {
        case .bytes(let bytes):
            guard remote.received.count - remote.receivedStart < SimulatedTransport.receiveBufferSize else {
                isWindowClosed = true
                generation += 1
                return
            }
            remote.received.append(contentsOf: bytes)
            world.record("bytes", number, bytes.count)
            remote.report(.readable)
        case .end:
            remote.hasEnd = true
            world.record("end", number)
            remote.report([.readable, .peerEnded])
        }
        acknowledge(piece)
    }

    private func acknowledge(_ piece: Piece) {
        unacknowledged.removeFirst()
        retries = 0
        guard case .bytes(let bytes) = piece else {
            letGo()
            return
        }
        world.after(world.travel(remote?.host ?? host, host)) { [self] in
            unacknowledgedBytes -= bytes.count
            if wantsRoom, unacknowledgedBytes * 2 <= SimulatedTransport.sendBufferSize {
                wantsRoom = false
                report(.writable)
            }
        }
    }

    /// Once both ends are closed nothing needs them any more.
    private func letGo() {
        guard state == .closed, let other = remote, other.state == .closed else { return }
        other.remote = nil
        remote = nil
    }

    private func stall() {
        isStalled = true
        generation += 1
        guard retries < SimulatedTransport.retriesMax else {
            takeError(ETIMEDOUT)
            return
        }
        let delay = min(Duration.milliseconds(200 << Int64(retries)), .seconds(120))
        retries += 1
        world.after(delay) { [self] in resume() }
    }

    private func resume() {
        guard isStalled else { return }
        isStalled = false
        sendAgain()
    }

    /// The reader has made room.
    private func windowOpened() {
        guard isWindowClosed else { return }
        isWindowClosed = false
        sendAgain()
    }

    private func sendAgain() {
        generation += 1
        lastArrival = world.now
        for piece in unacknowledged { scheduleArrival(of: piece) }
    }

    private func sendReset() {
        guard let remote else { return }
        let target = remote.host
        world.after(world.travel(host, target)) { [self] in
            if case .host(let reached) = world.route(from: host, to: peer), reached === target { remote.takeReset() }
        }
    }

    private func takeReset() {
        world.record("reset", number)
        takeError(ECONNRESET)
    }

    private func takeError(_ code: Int32) {
        guard state == .established else { return }
        error = code
        state = .closed
        process?.streams[number] = nil
        unacknowledged.removeAll()
        generation += 1
        report([.readable, .writable, .peerEnded, .hungUp, .failed])
    }

    private func report(_ readiness: Readiness) { process?.post(source, readiness) }

    // MARK: keep-alive

    private var keepAlive = 0

    func setKeepAlive(idleSeconds: Int) {
        keepAlive += 1
        if idleSeconds > 0 { probe(after: .seconds(idleSeconds), every: .seconds(max(1, idleSeconds / 3)), failures: 0, keepAlive) }
    }

    /// Asks the other side for a sign of life; three times none ends the connection.
    private func probe(after delay: Duration, every interval: Duration, failures: Int, _ mine: Int) {
        world.after(delay) { [weak self] in
            guard let self, mine == keepAlive, state == .established, let remote else { return }
            guard case .host(let target) = world.route(from: host, to: peer), world.isReachable(target, host) else {
                if failures == 2 { takeError(ETIMEDOUT) } else { probe(after: interval, every: interval, failures: failures + 1, mine) }
                return
            }
            if target !== remote.host || remote.state != .established { takeReset() } else { probe(after: interval * 3, every: interval, failures: 0, mine) }
        }
    }
}
