import CLinux
import Glibc
@testable import Reactor
import Testing

@Suite("the simulated world")
struct SimulationTests {
    let world = SimulatedWorld(seed: 1)

    /// Two hosts, a listener on one, a connection from the other.
    struct Pair {
        let a: SimulatedHost
        let b: SimulatedHost
        let client: SimulatedLoop
        let server: SimulatedLoop
        let clientProbe = Probe()
        let serverProbe = Probe()
        let listener: Listener
        var connection: Connection!

        init(_ world: SimulatedWorld) throws {
            a = world.host("client", address: "10.0.0.1")
            b = world.host("server", address: "10.0.0.2")
            client = a.start("client")
            server = b.start("server")
            listener = try server.listen(on: .anyIPv4(port: 6379), handler: serverProbe)
            connection = client.connect(to: b.socketAddress(port: 6379), timeout: .seconds(5), handler: clientProbe)
        }
    }

    @Test("an echo between two hosts takes the time that the network takes")
    func echo() throws {
        world.network.jitter = .zero
        world.network.latency = .milliseconds(5)
        let pair = try Pair(world)
        pair.serverProbe.onReceive = Probe.echo
        pair.connection.output.append("hello")
        let start = world.now
        #expect(world.run(until: { pair.clientProbe.received == Array("hello".utf8) }, limit: .seconds(1)))
        let took = world.now - start
        // SYN, SYN-ACK, then the bytes and the echo: four ways.
        #expect(took >= .milliseconds(20) && took < .milliseconds(21))
        #expect(pair.connection.local.host == "10.0.0.1")
        #expect(pair.serverProbe.accepted[0].peer == pair.connection.local)
        #expect(pair.client.now == world.now)
        let wall = pair.client.wallMilliseconds
        #expect(wall >= world.wallStart && wall < world.wallStart + 1000)
        world.run(for: .seconds(3600))
        var later: Int64 = 0
        pair.client.schedule(after: .seconds(1)) { later = pair.client.wallMilliseconds }
        world.run(for: .seconds(2))
        #expect(later - wall >= 3_601_000 && later - wall < 3_601_100)
    }

    @Test("many MB with loss and a slow reader arrive whole and in order")
    func bulk() throws {
        world.network.segmentLoss = 0.05
        let pair = try Pair(world)
        let payload = pattern(6 << 20)
        pair.serverProbe.onReceive = { connection in
            pair.serverProbe.received.append(contentsOf: connection.input.bytes)
            connection.input.consume(connection.input.count)
            connection.pauseReading()
            pair.server.schedule(after: .milliseconds(1)) { connection.resumeReading() }
        }
        pair.connection.output.append(payload)
        #expect(world.run(until: { pair.serverProbe.received.count == payload.count }, limit: .seconds(600)))
        #expect(pair.serverProbe.received == payload)
        #expect(pair.connection.output.isEmpty)
    }

    @Test("a reader that stands still makes the sender's queue grow, and nothing is lost when it goes on")
    func backPressure() throws {
        let pair = try Pair(world)
        pair.serverProbe.onAccept = { $0.pauseReading() }
        let payload = pattern(4 << 20)
        pair.connection.output.append(payload)
        world.run(for: .seconds(30))
        #expect(pair.connection.output.count > 3 << 20)
        pair.serverProbe.accepted[0].resumeReading()
        #expect(world.run(until: { pair.serverProbe.received.count == payload.count }, limit: .seconds(30)))
        #expect(pair.serverProbe.received == payload)
    }

    @Test("the ends: both halves, each half alone, refused, nobody there")
    func ends() throws {
        var pair = try Pair(world)
        pair.serverProbe.onEnd = { connection in
            connection.output.append("last")
            connection.shutdownSending()
        }
        pair.clientProbe.onEnd = { _ in }
        pair.connection.shutdownSending()
        world.run(for: .seconds(1))
        #expect(pair.clientProbe.received == Array("last".utf8))
        #expect(pair.clientProbe.closed == [.endOfStream] && pair.serverProbe.closed == [.endOfStream])
        pair.clientProbe.closed = []
        _ = pair.client.connect(to: pair.b.socketAddress(port: 1), timeout: .seconds(5), handler: pair.clientProbe)
        world.run(for: .seconds(1))
        #expect(pair.clientProbe.closed == [.connectFailed(ECONNREFUSED)])
        pair.clientProbe.closed = []
        let start = world.now
        _ = pair.client.connect(to: SocketAddress(numeric: "10.0.0.99", port: 1)!, timeout: .seconds(5), handler: pair.clientProbe)
        #expect(world.run(until: { !pair.clientProbe.closed.isEmpty }, limit: .seconds(10)))
        #expect(pair.clientProbe.closed == [.connectFailed(EHOSTUNREACH)])
        #expect(world.now - start >= .seconds(3))
        pair.connection = nil
        #expect(throws: SystemError.self) { try pair.server.listen(on: .anyIPv4(port: 6379), handler: pair.serverProbe) }
        #expect(throws: SystemError.self) { try pair.server.listen(on: SocketAddress(numeric: "10.0.0.50", port: 1)!, handler: pair.serverProbe) }
        var free = ListenOptions()
        free.freeBind = true
        _ = try pair.server.listen(on: SocketAddress(numeric: "10.0.0.50", port: 1)!, options: free, handler: pair.serverProbe)
    }

    @Test("a killed process ends its connections, a frozen one leaves them silent and is still connected to")
    func killAndFreeze() throws {
        let pair = try Pair(world)
        world.run(for: .milliseconds(10))
        pair.server.freeze()
        pair.connection.output.append("unheard")
        pair.connection.scheduleRead()
        let second = Probe()
        _ = pair.client.connect(to: pair.b.socketAddress(port: 6379), timeout: .seconds(5), handler: second)
        world.run(for: .seconds(60))
        #expect(pair.clientProbe.closed.isEmpty)
        #expect(second.opened == 1)
        #expect(pair.serverProbe.received.isEmpty && pair.serverProbe.accepted.count == 1)
        pair.server.thaw()
        world.run(for: .milliseconds(10))
        #expect(pair.serverProbe.received == Array("unheard".utf8))
        #expect(pair.serverProbe.accepted.count == 2)
        pair.server.kill()
        world.run(for: .milliseconds(10))
        #expect(pair.clientProbe.closed == [.endOfStream])
        let third = Probe()
        _ = pair.client.connect(to: pair.b.socketAddress(port: 6379), timeout: .seconds(5), handler: third)
        world.run(for: .milliseconds(10))
        #expect(third.closed == [.connectFailed(ECONNREFUSED)])
    }

    @Test("a process that dies with unread bytes resets, and what comes for a switched-off host's connection later too")
    func resets() throws {
        let pair = try Pair(world)
        world.run(for: .milliseconds(10))
        pair.server.freeze()
        pair.connection.output.append("unread")
        pair.connection.notifyDrained(below: 0)
        world.run(for: .milliseconds(10))
        pair.server.kill()
        world.run(for: .milliseconds(10))
        #expect(pair.clientProbe.closed == [.receiveFailed(ECONNRESET)])

        let again = pair.b.start("server")
        let probe = Probe()
        _ = try again.listen(on: .anyIPv4(port: 6379), handler: probe)
        let second = Probe()
        let connection = pair.client.connect(to: pair.b.socketAddress(port: 6379), timeout: .seconds(5), handler: second)
        world.run(for: .milliseconds(10))
        pair.b.powerOff()
        world.run(for: .seconds(60))
        #expect(second.closed.isEmpty)
        pair.b.powerOn()
        connection.output.append("who are you")
        world.run(for: .seconds(1))
        #expect(second.closed == [.receiveFailed(ECONNRESET)])
    }

    @Test("a cut cable is silence; what was sent arrives after it is plugged in again; an attempt meanwhile runs into its limit")
    func cable() throws {
        let pair = try Pair(world)
        world.run(for: .milliseconds(10))
        pair.b.cutCable()
        pair.connection.output.append("late")
        let attempt = Probe()
        _ = pair.client.connect(to: pair.b.socketAddress(port: 6379), timeout: .milliseconds(500), handler: attempt)
        world.run(for: .seconds(20))
        #expect(pair.clientProbe.closed.isEmpty && pair.serverProbe.received.isEmpty)
        #expect(attempt.closed == [.connectTimedOut])
        pair.b.plugCable()
        #expect(world.run(until: { pair.serverProbe.received == Array("late".utf8) }, limit: .seconds(60)))
        // With keep-alive the silence is noticed.
        pair.connection.setKeepAlive(idleSeconds: 9)
        pair.b.cutCable()
        world.run(for: .seconds(30))
        #expect(pair.clientProbe.closed == [.receiveFailed(ETIMEDOUT)])
    }

    @Test("a partition cuts two groups apart and leaves the rest alone")
    func partition() throws {
        let pair = try Pair(world)
        let c = world.host("third", address: "10.0.0.3").start("third")
        let probe = Probe()
        let third = c.connect(to: pair.b.socketAddress(port: 6379), timeout: .seconds(5), handler: probe)
        world.run(for: .milliseconds(10))
        world.partition([pair.a], from: [pair.b])
        pair.connection.output.append("a")
        third.output.append("c")
        world.run(for: .seconds(1))
        #expect(pair.serverProbe.received == Array("c".utf8))
        world.heal()
        #expect(world.run(until: { pair.serverProbe.received == Array("ca".utf8) }, limit: .seconds(5)))
    }

    @Test("an address that moves: old connections are reset by its new owner, new ones reach who announced it last")
    func movingAddress() throws {
        let pair = try Pair(world)
        let other = world.host("other", address: "10.0.0.3")
        let otherProbe = Probe()
        let process = other.start("other")
        _ = try process.listen(on: .anyIPv4(port: 6379), handler: otherProbe)
        let shared = SocketAddress(numeric: "10.0.0.100", port: 6379)!
        guard case .ipv4(let number, _) = shared else { return }
        pair.b.add(address: number)
        let probe = Probe()
        let connection = pair.client.connect(to: shared, timeout: .seconds(5), handler: probe)
        world.run(for: .milliseconds(10))
        #expect(probe.opened == 1 && pair.serverProbe.accepted.count == 2)
        // Both have it: who is known stays, until the other announces itself.
        other.add(address: number)
        _ = pair.client.connect(to: shared, timeout: .seconds(5), handler: Probe())
        world.run(for: .milliseconds(10))
        #expect(pair.serverProbe.accepted.count == 3)
        other.announce(address: number)
        world.run(for: .milliseconds(10))
        _ = pair.client.connect(to: shared, timeout: .seconds(5), handler: Probe())
        connection.output.append("hello?")
        world.run(for: .milliseconds(10))
        #expect(otherProbe.accepted.count == 1)
        #expect(probe.closed == [.receiveFailed(ECONNRESET)])
    }

    @Test("VRRP's means: multicast with IP headers, rtnetlink, gratuitous ARP")
    func virtualRouterMeans() throws {
        let pair = try Pair(world)
        let eth0 = NetworkLink(index: 2, name: "eth0", isUp: true, isRunning: true, hardwareAddress: [2, 0, 0, 0, 0, 0])
        var got: [String] = []
        let sender = try RawIPv4Socket(loop: pair.client, protocol: 112, interface: eth0) { _ in got.append("own") }
        try sender.join(0xE000_0012, interface: 2)
        let receiver = try RawIPv4Socket(loop: pair.server, protocol: 112, interface: eth0) {
            got.append("\($0.source == 0x0A00_0001) \($0.timeToLive) \(Array($0.payload))")
        }
        sender.send([1, 2, 3], from: 0x0A00_0001, to: 0xE000_0012, timeToLive: 255)
        world.run(for: .milliseconds(1))
        #expect(got.isEmpty)
        try receiver.join(0xE000_0012, interface: 2)
        sender.send([1, 2, 3], from: 0x0A00_0001, to: 0xE000_0012, timeToLive: 255)
        world.run(for: .milliseconds(1))
        #expect(got == ["true 255 [1, 2, 3]"])

        let routes = try RouteNetlink(loop: pair.server)
        var links: [NetworkLink] = []
        var changes: [RouteNetlink.Change] = []
        routes.onChange = { change in
            if case .link(let link) = change { links.append(link) } else { changes.append(change) }
        }
        var outcomes: [Int32] = []
        routes.dump { outcomes.append($0) }
        world.run(for: .milliseconds(1))
        #expect(links.map(\.name) == ["lo", "eth0"])
        #expect(changes.count == 1)
        let address = InterfaceAddress(interface: 2, address: 0x0A00_0064, prefixLength: 24)
        routes.add(address) { outcomes.append($0) }
        world.run(for: .milliseconds(1))
        #expect(pair.b.owns(0x0A00_0064))
        routes.remove(address) { outcomes.append($0) }
        routes.remove(address) { outcomes.append($0) }
        world.run(for: .milliseconds(1))
        #expect(outcomes == [0, 0, 0, EADDRNOTAVAIL])
        #expect(changes.count == 3)
        #expect(!pair.b.owns(0x0A00_0064))
        pair.b.cutCable()
        world.run(for: .milliseconds(1))
        #expect(links.last?.isRunning == false)
        pair.b.plugCable()
        pair.b.add(address: 0x0A00_0064)
        let arp = try ARPSocket(loop: pair.server)
        arp.announce(0x0A00_0064, on: links[1])
        world.run(for: .milliseconds(1))
        #expect(pair.a.neighbours[0x0A00_0064] === pair.b)
    }

    @Test("datagrams are lost, doubled and delayed as the network is told, over UDP; Unix ones stay on their host")
    func datagrams() throws {
        let pair = try Pair(world)
        var got: [UInt8] = []
        let receiver = try pair.server.openDatagram(domain: AF_INET, type: Int32(SOCK_DGRAM.rawValue), protocol: 0) { bytes, from in
            got.append(bytes[0])
            #expect(from.socketAddress?.host == "10.0.0.1")
        }
        try receiver.bind(RawAddress(.anyIPv4(port: 514)))
        let sender = try pair.client.openDatagram(domain: AF_INET, type: Int32(SOCK_DGRAM.rawValue), protocol: 0) { _, _ in }
        func send(_ count: Int) throws {
            got = []
            for number in 0..<count { [UInt8(number & 255)].withUnsafeBytes { try! _ = sender.send($0, to: RawAddress(pair.b.socketAddress(port: 514))) } }
            world.run(for: .milliseconds(100))
        }
        try send(20)
        #expect(got.sorted() == (0..<20).map { UInt8($0) })
        world.network.datagramLoss = 0.5
        try send(200)
        #expect(got.count > 50 && got.count < 150)
        world.network.datagramLoss = 0
        world.network.datagramDuplication = 1
        try send(50)
        #expect(got.count == 100)
        world.network.datagramDuplication = 0
        world.network.datagramDelay = .milliseconds(20)
        try send(100)
        #expect(got.count == 100 && got != got.sorted())
        let local = try pair.client.openDatagram(domain: AF_UNIX, type: Int32(SOCK_DGRAM.rawValue), protocol: 0) { bytes, _ in got.append(bytes[0]) }
        try local.bind(RawAddress(.unix("/dev/log")))
        got = []
        [UInt8(7)].withUnsafeBytes { try! _ = sender.send($0, to: RawAddress(.unix("/dev/log"))) }
        world.run(for: .milliseconds(1))
        #expect(got == [7])
        let elsewhere = try pair.server.openDatagram(domain: AF_UNIX, type: Int32(SOCK_DGRAM.rawValue), protocol: 0) { _, _ in }
        #expect(try [UInt8(7)].withUnsafeBytes { try elsewhere.send($0, to: RawAddress(.unix("/dev/log"))) } == ENOENT)
    }

    @Test("programs, forked children, helper threads and signals, in virtual time")
    func children() throws {
        let host = world.host("h", address: "10.0.0.1")
        let loop = host.start("p")
        var order: [String] = []
        host.programs["/usr/bin/check"] = { arguments in (.exited(arguments.count == 2 ? 0 : 1), .milliseconds(300)) }
        try loop.spawn(["/usr/bin/check", "x"]) { order.append("check \($0)") }
        try loop.spawn(["/usr/bin/missing"]) { order.append("missing \($0)") }
        let stopped = try loop.spawn(["/usr/bin/check", "x"]) { order.append("stopped \($0)") }
        try loop.fork({ 5 }) { order.append("fork \($0)") }
        loop.runInBackground({}) { order.append("background") }
        loop.schedule(after: .milliseconds(100)) { loop.sendSignal(SIGTERM, toChild: stopped) }
        let start = world.now
        loop.onSignal(SIGHUP) { order.append("hup after \((world.now - start).wholeMilliseconds)") }
        world.after(.milliseconds(500)) { loop.deliver(signal: SIGHUP) }
        world.run(for: .seconds(1))
        #expect(order == [
            "missing exited(127)", "background", "fork exited(5)", "stopped signalled(15)", "check exited(0)", "hup after 500",
        ])
        loop.deliver(signal: SIGTERM)
        #expect(loop.state == .dead)
        let other = host.start("q")
        other.schedule(after: .seconds(1)) { other.stop() }
        world.run(for: .seconds(2))
        #expect(other.state == .dead)
    }

    @Test("work without end does not stop the clock")
    func endlessWork() throws {
        let loop = world.host("h", address: "10.0.0.1").start("p")
        func spin() { loop.deferWork { spin() } }
        spin()
        func again() { loop.schedule(at: .zero) { again() } }
        again()
        let start = world.now
        world.run(for: .milliseconds(10))
        #expect(world.now - start == .milliseconds(10))
    }

    /// A busy little network with faults at random; its trace is what it comes to.
    static func trace(seed: UInt64) throws -> (UInt64, Int) {
        let world = SimulatedWorld(seed: seed)
        world.network.segmentLoss = 0.02
        world.network.datagramLoss = 0.1
        let hosts = (1...4).map { world.host("h\($0)", address: "10.0.0.\($0)") }
        var probes: [Probe] = []
        var keep: [AnyObject] = []
        for host in hosts {
            let loop = host.start("p")
            let server = Probe()
            server.onReceive = Probe.echo
            probes.append(server)
            keep.append(try loop.listen(on: .anyIPv4(port: 7), handler: server))
            loop.scheduleRepeating(every: .milliseconds(10)) {
                let target = hosts.randomElement(using: &loop.random)!
                let client = Probe()
                probes.append(client)
                let connection = loop.connect(to: target.socketAddress(port: 7), timeout: .milliseconds(300), handler: client)
                connection.output.append(pattern(Int.random(in: 1..<5000, using: &loop.random)))
                loop.schedule(after: .milliseconds(50)) { connection.close(reset: Bool.random(using: &loop.random)) }
            }
        }
        world.after(.milliseconds(200)) { hosts[1].cutCable() }
        world.after(.milliseconds(400)) { hosts[1].plugCable() }
        world.after(.milliseconds(500)) { world.partition([hosts[0]], from: [hosts[2], hosts[3]]) }
        world.after(.milliseconds(700)) { world.heal() }
        world.after(.milliseconds(800)) { hosts[3].processes[0].kill() }
        world.run(for: .seconds(1))
        withExtendedLifetime((keep, probes)) {}
        return (world.traceHash, probes.reduce(0) { $0 + $1.received.count })
    }

    @Test("the same seed gives the same trace, another seed another one")
    func determinism() throws {
        let first = try Self.trace(seed: 42)
        #expect(first.1 > 10_000)
        #expect(try Self.trace(seed: 42) == first)
        #expect(try Self.trace(seed: 43).0 != first.0)
    }
}
