import RESP
import Reactor
import Testing

@testable import Sentinel

/// A machine among scripted peers: every link opens at once, and what the peers answer is said here.
final class Scene {
    static let master = Endpoint(host: "10.0.0.1", port: 6379)
    static let replicas = [Endpoint(host: "10.0.0.2", port: 6379), Endpoint(host: "10.0.0.3", port: 6379)]
    static let sentinels = [Endpoint(host: "10.0.0.8", port: 26379), Endpoint(host: "10.0.0.9", port: 26379)]
    static func id(_ digit: Character) -> String { String(repeating: digit, count: 40) }

    let machine: SentinelMachine
    var now = Instant(nanoseconds: 1_000_000_000_000)
    /// What each store's INFO says.
    var roles: [Endpoint: String]
    var offsets: [Endpoint: Int] = [:]
    var uptime = 1000
    private var followed = Scene.master
    /// What each Sentinel answers to is-master-down-by-addr.
    var votes: [Endpoint: (_ candidate: String, _ epoch: Int64) -> (Int64, String, Int64)] = [:]
    /// Those that are gone: connections to them are refused.
    var gone: Set<Endpoint> = []
    private var endpoints: [LinkID: Endpoint] = [:]
    private(set) var sent: [(to: Endpoint, words: [String])] = []
    private(set) var events: [(name: String, message: String)] = []
    private(set) var saves = 0
    /// Everything in order, for what comes before what.
    private(set) var order: [String] = []

    init(quorum: Int = 2, downAfter: Int64 = 1000, failoverTimeout: Int64 = 10_000, sentinelCount: Int = 2) {
        var master = MasterConfiguration(name: "m", endpoint: Scene.master, quorum: quorum)
        master.downAfter = downAfter
        master.failoverTimeout = failoverTimeout
        master.knownReplicas = Scene.replicas
        for (index, endpoint) in Scene.sentinels.prefix(sentinelCount).enumerated() {
            master.knownSentinels.append(.init(endpoint: endpoint, runID: Scene.id(Character("\(index + 8)"))))
        }
        var configuration = SentinelConfiguration(path: "")
        configuration.myID = Scene.id("1")
        configuration.masters = [master]
        machine = SentinelMachine(configuration: configuration, seed: 1, now: now)
        roles = [Scene.master: "master", Scene.replicas[0]: "slave", Scene.replicas[1]: "slave"]
        machine.start(at: now)
        settle()
    }

    func settle() {
        while true {
            let actions = machine.takeActions()
            if actions.isEmpty { return }
            for action in actions { carryOut(action) }
        }
    }

    private func carryOut(_ action: SentinelAction) {
        switch action {
        case .open(let link, let channel, let endpoint):
            endpoints[link] = endpoint
            if gone.contains(endpoint) {
                machine.channelClosed(link, channel, at: now)
            } else {
                machine.channelOpened(link, channel, localHost: "10.0.0.7", at: now)
            }
        case .close: break
        case .send(let link, let channel, let words):
            let endpoint = endpoints[link]!
            sent.append((endpoint, words))
            order.append("send \(endpoint.host) \(words[0])")
            guard channel == .command, !gone.contains(endpoint) else { return }
            machine.received(answer(endpoint, words), on: link, channel, at: now)
        case .publish(let event, let message):
            events.append((event, message))
            order.append(event)
        case .persist:
            saves += 1
            order.append("persist")
        case .log, .run: break
        }
    }

    private func answer(_ endpoint: Endpoint, _ words: [String]) -> Reply {
        switch words[0] {
        case "PING": return .simple("PONG")
        case "SLAVEOF":
            roles[endpoint] = words[1] == "NO" ? "master" : "slave"
            if words[1] == "NO" { followed = endpoint }
            return .simple("QUEUED")
        case "INFO":
            let role = roles[endpoint] ?? "slave"
            return .text(
                "role:\(role)\r\nrun_id:\(Scene.id("c"))\r\nuptime_in_seconds:\(uptime)\r\nslave_repl_offset:\(offsets[endpoint] ?? 0)\r\n"
                    + (role == "slave" ? "master_host:\(followed.host)\r\nmaster_port:6379\r\nmaster_link_status:up\r\n" : ""))
        case "SENTINEL":
            let (down, leader, epoch) = votes[endpoint]?(words[5], Int64(words[4])!) ?? (0, "*", 0)
            return .array([.integer(down), .text(leader), .integer(epoch)])
        default: return .ok
        }
    }

    /// Lets time pass as a loop would, ticking when the machine asks for it.
    func run(_ duration: Duration) {
        let end = now + duration
        while true {
            let next = max(machine.nextWake, now + .microseconds(100))
            guard next < end else { break }
            now = next
            machine.tick(at: now)
            settle()
        }
        now = end
        machine.tick(at: now)
        settle()
    }

    /// The process at `endpoint` is gone: its connections end, new ones are refused.
    func kill(_ endpoint: Endpoint) {
        gone.insert(endpoint)
        for (link, other) in endpoints where other == endpoint {
            machine.channelClosed(link, .command, at: now)
            machine.channelClosed(link, .subscription, at: now)
        }
        settle()
    }

    /// The process is started again as a master that knows of nothing.
    func restartAsMaster(_ endpoint: Endpoint) {
        uptime = 1
        roles[endpoint] = "master"
        gone.remove(endpoint)
    }

    func hello(from index: Int, epoch: UInt64? = nil, master: Endpoint = Scene.master, configEpoch: UInt64 = 0) {
        let text = HelloMessage(
            endpoint: Scene.sentinels[index], runID: Scene.id(Character("\(index + 8)")), currentEpoch: epoch ?? machine.currentEpoch,
            masterName: "m", master: master, configEpoch: configEpoch
        ).text
        #expect(machine.heard(text, at: now) == nil)
        settle()
    }

    func names(_ prefix: String = "") -> [String] { events.map(\.name).filter { $0.hasPrefix(prefix) } }
    var currentMaster: String {
        machine.command(["get-master-addr-by-name", "m"], at: now).elements!.map { $0.string! }.joined(separator: ":")
    }
}
