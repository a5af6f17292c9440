import Glibc
import RESP
import Reactor

/// Follows what one of the Sentinels says, and goes to the next when that one is gone.
final class DemoEvents: ConnectionHandler {
    /// The events that tell the story of a failover.
    private static let channels = ["+sdown", "-sdown", "+odown", "+try-failover", "+elected-leader", "+switch-master", "+slave", "-failover-abort-not-elected"]

    private let loop: Loop
    private let ports: [UInt16]
    private let say: (String) -> Void
    private var turn = 0
    private var connection: Connection?
    private var isEnded = false
    private let parser = ReplyParser()

    init(loop: Loop, ports: [UInt16], say: @escaping (String) -> Void) {
        self.loop = loop
        self.ports = ports
        self.say = say
    }

    func begin() {
        let connection = loop.connect(to: .loopback(port: ports[turn % ports.count]), timeout: .seconds(1), handler: self)
        self.connection = connection
        connection.role = "demo events"
        connection.output.append("SUBSCRIBE \(DemoEvents.channels.joined(separator: " "))\r\n")
    }

    func end() {
        isEnded = true
        connection?.close()
        connection = nil
    }

    func connectionReceived(_ connection: Connection) {
        do {
            while case .reply(let reply, let size) = try parser.parse(connection.input.bytes) {
                connection.input.consume(size)
                let words = (reply.elements ?? []).map { $0.string ?? "" }
                if words.first == "message", words.count == 3 { say("  \(words[1]) \(words[2])") }
            }
        } catch {
            connection.close()
        }
    }

    func connectionReachedEnd(_ connection: Connection) { connection.close() }

    func connectionClosed(_ connection: Connection, _ reason: CloseReason) {
        guard !isEnded else { return }
        turn += 1
        loop.schedule(after: .milliseconds(500), label: "demo events") { [weak self] in
            if let self, !isEnded { begin() }
        }
    }
}
