import Glibc
import Logging
@testable import Proxy
import Reactor
import Testing

/// A Redis that knows what the article's check asks, and its role; echoes everything else.
final class FakeRedis: ListenerHandler, ConnectionHandler {
    var role = "slave"
    private(set) var lines = 0

    init(_ loop: Loop) throws { _ = try loop.listen(on: .anyIPv4(port: 6379), handler: self) }

    func listener(_ listener: Listener, accepted connection: Connection) { connection.handler = self }

    func connectionReceived(_ connection: Connection) {
        while let end = connection.input.bytes.firstIndex(of: UInt8(ascii: "\n")) {
            let line = String(decoding: connection.input.bytes[..<end], as: UTF8.self).replacing("\r", with: "")
            connection.input.consume(end + 1)
            lines += 1
            switch line.split(separator: " ").first {
            case "AUTH", "QUIT": connection.output.append("+OK\r\n")
            case "PING": connection.output.append("+PONG\r\n")
            case "info": connection.output.append("$12\r\nrole:\(role)\r\n")
            default: connection.output.append("\(connection.local.host) \(line)\n")
            }
        }
    }

    func connectionClosed(_ connection: Connection, _ reason: CloseReason) {}
}

/// A client that remembers what it got.
final class FakeClient: ConnectionHandler {
    var received = ""
    var reason: CloseReason?
    func connectionReceived(_ connection: Connection) {
        received += String(decoding: connection.input.bytes, as: UTF8.self)
        connection.input.consume(connection.input.count)
    }
    func connectionClosed(_ connection: Connection, _ reason: CloseReason) { self.reason = reason }
}

@Suite("the article's proxy in a simulated network")
struct SimulatedPlatformTests {
    let world = SimulatedWorld(seed: 7)
    let stores: [SimulatedHost]
    let processes: [SimulatedLoop]
    let redis: [FakeRedis]
    let proxyHost: SimulatedHost
    let clientLoop: SimulatedLoop
    let proxy: ProxyNode

    init() throws {
        let world = self.world
        stores = (4...6).map { world.host("redis\($0)", address: "192.168.0.\($0)") }
        processes = stores.map { $0.start("redis") }
        redis = try processes.map { try FakeRedis($0) }
        redis[0].role = "master"
        proxyHost = world.host("haproxy", address: "192.168.0.1")
        clientLoop = world.host("client", address: "192.168.0.10").start("client")
        let text = articleConfiguration.replacing("    log /dev/log      local0\n", with: "").replacing("    log /dev/log      local1 notice\n", with: "")
            .replacing("    stats socket /run/haproxy/admin.sock mode 660 level admin\n", with: "")
        let configuration = try ProxyConfiguration.parse(text)
        proxy = ProxyNode(loop: proxyHost.start("proxy"), configuration: configuration, console: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        try proxy.start()
    }

    var statuses: [String] { proxy.backends[0].servers.map { StatTable.status(of: $0) } }

    /// Asks through the proxy and says who answered; nil when the connection was closed.
    func ask(_ words: String = "hello") -> String? {
        let client = FakeClient()
        let connection = clientLoop.connect(to: .ipv4(0xC0A8_0001, port: 6379), timeout: .seconds(2), handler: client)
        connection.output.append(words + "\n")
        world.run(until: { client.received.contains("\n") || client.reason != nil }, limit: .seconds(5))
        connection.close()
        return client.received.isEmpty ? nil : client.received
    }

    @Test("only the server that says role:master is in service")
    func service() {
        world.run(for: .milliseconds(1500))
        #expect(statuses == ["UP", "DOWN", "DOWN"])
        #expect(ask() == "192.168.0.4 hello\n")
    }

    @Test("a promotion is seen within 250 ms while there is no other master")
    func promotion() {
        world.run(for: .seconds(5))
        stores[0].powerOff()
        world.run(until: { statuses == ["DOWN", "DOWN", "DOWN"] }, limit: .seconds(5))
        #expect(statuses == ["DOWN", "DOWN", "DOWN"])
        #expect(ask() == nil)
        world.run(for: .seconds(2))
        redis[1].role = "master"
        let promoted = world.now
        world.run(until: { statuses[1] == "UP" }, limit: .seconds(5))
        #expect(world.now - promoted < .milliseconds(250))
        #expect(ask() == "192.168.0.5 hello\n")
    }

    @Test("searching ends with the search: the steady rhythm is one check a second")
    func rhythm() {
        world.run(for: .seconds(3))
        let before = redis[1].lines
        world.run(for: .seconds(10))
        // AUTH, PING, info: three lines a check.
        #expect((27...33).contains(redis[1].lines - before))
        stores[0].powerOff()
        world.run(for: .seconds(10))
        let searching = redis[1].lines
        world.run(for: .seconds(10))
        #expect((270...340).contains(redis[1].lines - searching))
        redis[2].role = "master"
        world.run(for: .seconds(3))
        let after = redis[1].lines
        world.run(for: .seconds(10))
        #expect((27...33).contains(redis[1].lines - after))
    }

    @Test("a server line with downinter keeps the rhythm that it states")
    func ownRhythm() throws {
        let text = articleConfiguration.replacing("check inter 1s", with: "check inter 1s downinter 2s").replacing("192.168.0.1:6379", with: "192.168.0.1:7000")
            .replacing("    stats socket /run/haproxy/admin.sock mode 660 level admin\n", with: "").replacing("        log /dev", with: "        # log /dev")
        let other = ProxyNode(
            loop: proxyHost.start("other"), configuration: try ProxyConfiguration.parse(text), console: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        try other.start()
        stores[0].powerOff()
        world.run(for: .seconds(10))
        #expect(other.backends[0].servers.allSatisfy { $0.checker?.isSearching == false })
        #expect(proxy.backends[0].servers.allSatisfy { $0.checker?.isSearching == true })
    }

    @Test("sessions to a demoted master are closed when its check has failed three times")
    func demotion() {
        world.run(for: .seconds(3))
        let client = FakeClient()
        let connection = clientLoop.connect(to: .ipv4(0xC0A8_0001, port: 6379), timeout: .seconds(2), handler: client)
        connection.output.append("hello\n")
        world.run(for: .seconds(1))
        #expect(client.received == "192.168.0.4 hello\n")
        redis[0].role = "slave"
        redis[2].role = "master"
        let demoted = world.now
        world.run(until: { client.reason != nil }, limit: .seconds(10))
        #expect(world.now - demoted > .seconds(2) && world.now - demoted < .milliseconds(4200))
        #expect(statuses == ["DOWN", "DOWN", "UP"])
    }

    @Test("a frozen master is down after three checks without an answer, and comes back after two with one")
    func freeze() {
        world.run(for: .seconds(3))
        processes[0].freeze()
        let frozen = world.now
        world.run(until: { statuses[0] == "DOWN" }, limit: .seconds(10))
        #expect(world.now - frozen > .seconds(2) && world.now - frozen < .milliseconds(4100))
        processes[0].thaw()
        world.run(until: { statuses[0] == "UP" }, limit: .seconds(5))
        #expect(statuses == ["UP", "DOWN", "DOWN"])
    }

    @Test("a client that says nothing is closed after timeout client")
    func idle() {
        world.run(for: .seconds(2))
        let client = FakeClient()
        _ = clientLoop.connect(to: .ipv4(0xC0A8_0001, port: 6379), timeout: .seconds(2), handler: client)
        let began = world.now
        world.run(until: { client.reason != nil }, limit: .seconds(60))
        #expect(world.now - began >= .seconds(30) && world.now - began < .milliseconds(30_100))
        world.run(for: .seconds(1))
        #expect(proxy.currentSessions == 0)
    }

    @Test("whatever the network does, sessions and counters come out even", arguments: 0..<12)
    func weather(seed: UInt64) throws {
        world.network.segmentLoss = Double(seed % 4) * 0.03
        world.network.jitter = .milliseconds(Int(seed))
        var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
        func dice(_ n: UInt64) -> UInt64 {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return state % n
        }
        var clients: [(FakeClient, Connection)] = []
        for _ in 0..<60 {
            switch dice(8) {
            case 0: redis[Int(dice(3))].role = dice(2) == 0 ? "master" : "slave"
            case 1:
                let host = stores[Int(dice(3))]
                if host.isLinkUp { host.cutCable() } else { host.plugCable() }
            case 2:
                let process = processes[Int(dice(3))]
                if process.state == .frozen { process.thaw() } else { process.freeze() }
            case 3 where !clients.isEmpty: clients[Int(dice(UInt64(clients.count)))].1.close(reset: dice(2) == 0)
            case 4 where !clients.isEmpty: clients[Int(dice(UInt64(clients.count)))].1.shutdownSending()
            default:
                let client = FakeClient()
                let connection = clientLoop.connect(to: .ipv4(0xC0A8_0001, port: 6379), timeout: .seconds(2), handler: client)
                connection.output.append("hello \(clients.count)\n")
                clients.append((client, connection))
            }
            world.run(for: .milliseconds(Int(dice(1500))))
        }
        for host in stores where !host.isLinkUp { host.plugCable() }
        for process in processes where process.state == .frozen { process.thaw() }
        for (_, connection) in clients { connection.close() }
        world.run(for: .seconds(120))
        #expect(proxy.currentSessions == 0)
        #expect(proxy.frontends[0].counters.current == 0)
        #expect(proxy.backends[0].counters.current == 0)
        #expect(proxy.backends[0].servers.map(\.counters.current) == [0, 0, 0])
        #expect(proxy.backends[0].queue.isEmpty)
        for (index, (client, _)) in clients.enumerated() where !client.received.isEmpty {
            #expect(client.received.hasSuffix(" hello \(index)\n"))
        }
    }
}
