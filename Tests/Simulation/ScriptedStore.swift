import RESP
import Reactor

/// As much of a store as Sentinels look at: INFO, SLAVEOF in a transaction, publish and subscribe. No data.
final class ScriptedStore: ListenerHandler {
    let loop: SimulatedLoop
    let host: SimulatedHost
    /// Whom it follows; nil for a master.
    private(set) var master: SocketAddress?
    private let runID: String
    private let startedAt: Instant
    /// The replica's connection to its master would be up: asked of the test, which knows of the partitions.
    private let canReach: (SimulatedHost, SocketAddress) -> Bool
    private let replicas: (SocketAddress) -> [SimulatedHost]
    /// What CONFIG REWRITE does with the new role.
    private let onRewrite: (SocketAddress?) -> Void
    private var peers: [Peer] = []
    private var area = ArgumentArea()

    init(
        loop: SimulatedLoop, master: SocketAddress?, canReach: @escaping (SimulatedHost, SocketAddress) -> Bool,
        replicas: @escaping (SocketAddress) -> [SimulatedHost], onRewrite: @escaping (SocketAddress?) -> Void
    ) throws {
        self.loop = loop
        host = loop.host
        self.master = master
        self.canReach = canReach
        self.replicas = replicas
        self.onRewrite = onRewrite
        runID = String((0..<40).map { _ in "0123456789abcdef".randomElement(using: &loop.random)! })
        startedAt = loop.now
        _ = try loop.listen(on: .anyIPv4(port: 6379), handler: self)
    }

    deinit { area.deallocate() }

    func listener(_ listener: Listener, accepted connection: Connection) {
        let peer = Peer(store: self, connection: connection, area: area)
        peers.append(peer)
        connection.handler = peer
    }

    private var info: String {
        var text = "run_id:\(runID)\r\nuptime_in_seconds:\((loop.now - startedAt).wholeMilliseconds / 1000)\r\n"
        guard let master else {
            text += "role:master\r\n"
            for (index, replica) in replicas(host.socketAddress(port: 6379)).enumerated() {
                text += "slave\(index):ip=\(replica.socketAddress(port: 0).host),port=6379,state=online,offset=0,lag=0\r\n"
            }
            return text
        }
        let isUp = canReach(host, master)
        text += "role:slave\r\nmaster_host:\(master.host)\r\nmaster_port:\(master.port)\r\nmaster_link_status:\(isUp ? "up" : "down")\r\n"
        text += isUp ? "" : "master_link_down_since_seconds:1\r\n"
        return text + "slave_priority:100\r\nslave_repl_offset:\(host.index)\r\n"
    }

    /// One connection to the store.
    private final class Peer: ConnectionHandler {
        private unowned let store: ScriptedStore
        private let connection: Connection
        private var parser: RequestParser
        private var isSubscriber = false
        private var queue: [[String]]?

        init(store: ScriptedStore, connection: Connection, area: ArgumentArea) {
            self.store = store
            self.connection = connection
            parser = RequestParser(area: area)
        }

        func connectionReceived(_ connection: Connection) {
            while case .request = parser.next(connection.input, bulkMax: 65_536, argumentsMax: 64, isAuthenticated: true) {
                let words = (0..<parser.count).map { parser.arguments[$0].text }
                parser.finish(connection.input)
                connection.output.append(answer(words), protocol: 2)
            }
        }

        func connectionClosed(_ connection: Connection, _ reason: CloseReason) { store.peers.removeAll { $0 === self } }

        private func answer(_ words: [String]) -> Reply {
            if queue != nil, words[0] != "EXEC" {
                queue!.append(words)
                return .simple("QUEUED")
            }
            switch words[0] {
            case "MULTI":
                queue = []
                return .ok
            case "EXEC":
                let queued = queue ?? []
                queue = nil
                return .array(queued.map(answer))
            case "PING": return .simple("PONG")
            case "INFO": return .text(store.info)
            case "SUBSCRIBE":
                isSubscriber = true
                return .array([.text("subscribe"), .text(words[1]), .integer(1)])
            case "PUBLISH":
                let message = Reply.texts(["message", words[1], words[2]])
                for peer in store.peers where peer.isSubscriber { peer.connection.output.append(message, protocol: 2) }
                return .integer(1)
            case "SLAVEOF":
                store.master = words[1] == "NO" ? nil : SocketAddress(numeric: words[1], port: UInt16(words[2])!)
                return .ok
            case "CONFIG":
                store.onRewrite(store.master)
                return .ok
            case "CLIENT" where words[1] == "KILL":
                let victims = store.peers.filter { $0 !== self && (words[3] == "pubsub") == $0.isSubscriber }
                for victim in victims { victim.connection.close() }
                return .integer(Int64(victims.count))
            default: return .ok
            }
        }
    }
}
