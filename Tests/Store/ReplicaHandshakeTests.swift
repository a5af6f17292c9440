import RESP
import Testing

@testable import Store

@Suite("The replica's handshake")
struct ReplicaHandshakeTests {
    private func words(_ text: String...) -> [[UInt8]] { text.map { Array($0.utf8) } }
    private let id = String(repeating: "a", count: 40)

    private func introduced(position: (String, Int64)? = nil, password: String = "secret") -> ReplicaHandshake {
        var handshake = ReplicaHandshake(
            credentials: .init(user: [], password: Array(password.utf8)), port: 6380, announcedIP: nil, position: position)
        _ = handshake.start()
        _ = handshake.receive("+PONG")
        for _ in 0..<4 { _ = handshake.receive("+OK") }
        return handshake
    }

    @Test("a master that asks for a password first is alive, and gets the password before everything else")
    func password() {
        var handshake = ReplicaHandshake(
            credentials: .init(user: [], password: Array("secret".utf8)), port: 6380, announcedIP: nil, position: nil)
        #expect(handshake.start() == [.send(words("PING"))])
        let actions = handshake.receive("-NOAUTH Authentication required.")
        #expect(actions.first == .send(words("AUTH", "secret")))
        #expect(!actions.contains(.send(words("PSYNC", "?", "-1"))))
        for _ in 0..<3 { #expect(handshake.receive("+OK") == []) }
        #expect(handshake.receive("+OK") == [.send(words("PSYNC", "?", "-1"))])
    }

    @Test("a wrong password ends the attempt with the master's own words")
    func wrongPassword() {
        var handshake = ReplicaHandshake(
            credentials: .init(user: [], password: [1]), port: 6380, announcedIP: nil, position: nil)
        _ = handshake.start()
        _ = handshake.receive("+PONG")
        #expect(handshake.receive("-WRONGPASS no") == [.fail("Unable to AUTH to MASTER: -WRONGPASS no")])
    }

    @Test("a replica that knows a history asks to go on from the first byte that it lacks")
    func resuming() {
        var handshake = ReplicaHandshake(credentials: nil, port: 6380, announcedIP: nil, position: (id, 101))
        _ = handshake.start()
        _ = handshake.receive("+PONG")
        for _ in 0..<2 { #expect(handshake.receive("+OK") == []) }
        #expect(handshake.receive("-ERR Unrecognized REPLCONF option: version").last == .send(words("PSYNC", id, "101")))
    }

    @Test("each answer to PSYNC leads to one thing")
    func answers() {
        var full = introduced()
        #expect(full.receive("+FULLRESYNC \(id) 17") == [.synchronise(replicationID: id, offset: 17)])
        var partial = introduced(position: (id, 18))
        #expect(partial.receive("+CONTINUE") == [.resume(replicationID: nil)])
        var renamed = introduced(position: (id, 18))
        #expect(renamed.receive("+CONTINUE \(id)") == [.resume(replicationID: id)])
    }

    @Test("an answer that is not one is refused, naming what came", arguments: [
        "+FULLRESYNC", "+FULLRESYNC short 12", "+FULLRESYNC \(String(repeating: "a", count: 40)) -5", "-LOADING wait", "+WHAT",
    ])
    func garbage(_ line: String) {
        var handshake = introduced()
        guard case .fail(let reason)? = handshake.receive(line).first else {
            Issue.record("'\(line)' was accepted")
            return
        }
        #expect(reason.contains(line))
    }

    @Test("a master that is busy sends empty lines, which mean nothing")
    func keepAlive() {
        var handshake = introduced()
        #expect(handshake.receive("") == [])
        #expect(handshake.receive("+CONTINUE") == [.resume(replicationID: nil)])
    }
}

@Suite("The replication stream")
struct ReplicationStreamTests {
    private func append(_ stream: inout ReplicationStream, _ bytes: [UInt8]) {
        bytes.withUnsafeBytes { stream.append($0) }
        stream.settle()
    }

    private func history(_ stream: ReplicationStream, from offset: Int64) -> [UInt8] {
        var result: [UInt8] = []
        stream.history(from: offset) { result += $0 }
        return result
    }

    @Test("the ring gives back the last bytes of any run of appends, as a plain array would")
    func ring() {
        var stream = ReplicationStream(ringCapacity: 16_384)
        defer { stream.deallocate() }
        stream.openRing()
        var all: [UInt8] = []
        var generator = SystemRandomNumberGenerator()
        for round in 0..<400 {
            let size = Int.random(in: 0..<(round % 50 == 0 ? 40_000 : 700), using: &generator)
            let bytes = (0..<size).map { _ in UInt8.random(in: 0...255, using: &generator) }
            append(&stream, bytes)
            all += bytes
            #expect(stream.end == Int64(all.count))
            #expect(stream.historyCount == min(all.count, 16_384))
            let first = stream.firstOffset
            let from = Int64.random(in: first...(stream.end + 1), using: &generator)
            #expect(history(stream, from: from) == Array(all[Int(from - 1)...]))
        }
    }

    @Test("a command is encoded as masters encode it, and its bytes are counted")
    func encoding() {
        var stream = ReplicationStream(ringCapacity: 16_384)
        defer { stream.deallocate() }
        stream.openRing()
        withUnsafeTemporaryAllocation(of: Argument.self, capacity: 2) { list in
            list.initializeElement(at: 0, to: Argument("DEL"))
            list.initializeElement(at: 1, to: Argument("key:1"))
            stream.append(list.baseAddress!, 2)
        }
        stream.settle()
        let text = "*2\r\n$3\r\nDEL\r\n$5\r\nkey:1\r\n"
        #expect(history(stream, from: 1) == Array(text.utf8))
        #expect(stream.end == Int64(text.utf8.count))
    }

    @Test("a restart forgets the history and goes on from the offset given")
    func restart() {
        var stream = ReplicationStream(ringCapacity: 16_384)
        defer { stream.deallocate() }
        stream.openRing()
        append(&stream, [1, 2, 3])
        stream.restart(at: 1000)
        append(&stream, [4, 5])
        #expect(stream.firstOffset == 1001)
        #expect(history(stream, from: 1001) == [4, 5])
    }
}
