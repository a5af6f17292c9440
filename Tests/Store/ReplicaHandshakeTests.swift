import RESP
import Testing

@testable import Reactor
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
        switch handshake.receive(line).first {
        case .fail(let reason)?, .refused(let reason)?: #expect(reason.contains(line))
        default: Issue.record("'\(line)' was accepted")
        }
    }

    @Test("a master that steps down asks its successor to take over")
    func takingOver() {
        var handshake = ReplicaHandshake(credentials: nil, port: 6379, announcedIP: nil, position: (id, 101), asksToTakeOver: true)
        _ = handshake.start()
        _ = handshake.receive("+PONG")
        _ = handshake.receive("+OK")
        _ = handshake.receive("+OK")
        #expect(handshake.receive("+OK") == [.send(words("PSYNC", id, "101", "FAILOVER"))])
        #expect(handshake.receive("-ERR PSYNC FAILOVER replid must match my replid.")
            == [.refused("reply to PSYNC from master: '-ERR PSYNC FAILOVER replid must match my replid.'")])
    }

    @Test("a master that is busy sends empty lines, which mean nothing")
    func keepAlive() {
        var handshake = introduced()
        #expect(handshake.receive("") == [])
        #expect(handshake.receive("+CONTINUE") == [.resume(replicationID: nil)])
    }
}

@Suite("The mark behind a snapshot of unknown length")
struct EndMarkTests {
    @Test("whatever the pieces, the payload comes out whole and the mark does not")
    func pieces() {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<200 {
            let mark = (0..<40).map { _ in UInt8.random(in: 97...102, using: &generator) }
            let payload = (0..<Int.random(in: 0...500, using: &generator)).map { _ in UInt8.random(in: 97...102, using: &generator) }
            var rest = (payload + mark)[...]
            var end = EndMark(mark)
            var out: [UInt8] = []
            while !rest.isEmpty {
                #expect(!end.isReached)
                let piece = Array(rest.prefix(Int.random(in: 1...90, using: &generator)))
                rest = rest.dropFirst(piece.count)
                piece.withUnsafeBytes {
                    let certain = end.take($0)
                    out += certain.held + certain.rest
                }
            }
            #expect(end.isReached)
            #expect(out == payload)
        }
    }
}

@Suite("The replication stream")
struct ReplicationStreamTests {
    private func append(_ stream: inout ReplicationStream, _ bytes: [UInt8]) {
        bytes.withUnsafeBytes { stream.append($0) }
        stream.trim()
    }

    private func history(_ stream: ReplicationStream, from offset: Int64) -> [UInt8] {
        var result: [UInt8] = []
        stream.history(from: offset) { result += $0 }
        return result
    }

    @Test("the backlog gives back the last bytes of any run of appends, as a plain array would")
    func backlog() {
        var stream = ReplicationStream(backlogSize: 16_384)
        defer { stream.deallocate() }
        stream.open()
        var all: [UInt8] = []
        var generator = SystemRandomNumberGenerator()
        for round in 0..<400 {
            let size = Int.random(in: 0..<(round % 50 == 0 ? 40_000 : 700), using: &generator)
            let bytes = (0..<size).map { _ in UInt8.random(in: 0...255, using: &generator) }
            append(&stream, bytes)
            all += bytes
            #expect(stream.end == Int64(all.count))
            // Blocks go as a whole, and no more than some at a time.
            #expect(stream.historyCount >= min(all.count, 16_384))
            #expect(stream.historyCount <= 2 * 16_384)
            let first = stream.firstOffset
            let from = Int64.random(in: first...(stream.end + 1), using: &generator)
            #expect(history(stream, from: from) == Array(all[Int(from - 1)...]))
        }
    }

    @Test("a command is encoded as masters encode it, and its bytes are counted")
    func encoding() {
        var stream = ReplicationStream(backlogSize: 16_384)
        defer { stream.deallocate() }
        stream.open()
        withUnsafeTemporaryAllocation(of: Argument.self, capacity: 2) { list in
            list.initializeElement(at: 0, to: Argument("DEL"))
            list.initializeElement(at: 1, to: Argument("key:1"))
            stream.append(list.baseAddress!, 2)
        }
        let text = "*2\r\n$3\r\nDEL\r\n$5\r\nkey:1\r\n"
        #expect(history(stream, from: 1) == Array(text.utf8))
        #expect(stream.end == Int64(text.utf8.count))
    }

    @Test("a restart forgets the history and goes on from the offset given")
    func restart() {
        var stream = ReplicationStream(backlogSize: 16_384)
        defer { stream.deallocate() }
        stream.open()
        append(&stream, [1, 2, 3])
        stream.restart(at: 1000)
        append(&stream, [4, 5])
        #expect(stream.firstOffset == 1001)
        #expect(history(stream, from: 1001) == [4, 5])
    }

    @Test("a command longer than a block is the same bytes as a short one's form")
    func longCommand() {
        var stream = ReplicationStream(backlogSize: 200_000)
        defer { stream.deallocate() }
        stream.open()
        append(&stream, [UInt8](repeating: 1, count: 16_370))
        var long = [UInt8](repeating: 0x61, count: 100_000)
        long.withUnsafeMutableBytes { bytes in
            withUnsafeTemporaryAllocation(of: Argument.self, capacity: 2) { list in
                list.initializeElement(at: 0, to: Argument("ECHO"))
                list.initializeElement(at: 1, to: Argument(base: bytes.baseAddress!.assumingMemoryBound(to: UInt8.self), count: bytes.count))
                stream.append(list.baseAddress!, 2)
            }
        }
        let expected = Array("*2\r\n$4\r\nECHO\r\n$100000\r\n".utf8) + long + [13, 10]
        #expect(history(stream, from: 16_371) == expected)
        #expect(stream.end == Int64(16_370 + expected.count))
    }

    @Test("what a replica has not been sent stays, however small the backlog, and goes once it is not needed")
    func neededStays() {
        var stream = ReplicationStream(backlogSize: 16_384)
        defer { stream.deallocate() }
        stream.open()
        for _ in 0..<100 {
            let bytes = [UInt8](repeating: 7, count: 10_000)
            bytes.withUnsafeBytes { stream.append($0) }
            stream.trim(needed: 5_000)
        }
        #expect(stream.firstOffset <= 5_001)
        stream.trim(needed: 500_000)
        #expect(stream.firstOffset <= 500_001)
        #expect(stream.firstOffset > 400_000)
        stream.trim()
        #expect(stream.historyCount <= 2 * 16_384)
        #expect(stream.memory <= 3 * 16_400)
    }

    @Test("a backlog that grows or shrinks keeps what fits")
    func resizing() {
        var stream = ReplicationStream(backlogSize: 100_000)
        defer { stream.deallocate() }
        stream.open()
        append(&stream, [UInt8](repeating: 7, count: 90_000))
        stream.resize(1_000_000)
        append(&stream, [UInt8](repeating: 8, count: 90_000))
        #expect(stream.historyCount == 180_000)
        stream.resize(16_384)
        stream.trim()
        #expect(stream.historyCount >= 16_384)
        #expect(stream.historyCount < 16_384 + 70_000)
        #expect(history(stream, from: stream.end - 9) == [UInt8](repeating: 8, count: 10))
    }

    @Test("many chains send the same blocks, and the bytes arrive in each as they were appended")
    func sharing() {
        let loop = EpollLoop()
        var stream = ReplicationStream(backlogSize: 16_384)
        defer { stream.deallocate() }
        stream.open()
        let chains = (0..<10).map { _ in OutputChain.discarding(loop) }
        for round in 0..<50 {
            let from = stream.end
            let bytes = [UInt8](repeating: UInt8(round), count: 3000)
            bytes.withUnsafeBytes { stream.append($0) }
            for chain in chains {
                if round % 7 == 0 { chain.append("+OK\r\n") }
                stream.send(after: from, to: chain)
            }
            stream.trim()
        }
        for chain in chains {
            #expect(chain.sharedCount == 150_000)
            #expect(chain.count == 150_000 + 8 * 5)
        }
        // Nobody has read: all blocks are needed, once.
        #expect(stream.historyCount == 150_000)
        #expect(stream.memory < 150_000 + 2 * 16_400)
        for chain in chains { chain.discardAll() }
        stream.trim()
        #expect(stream.historyCount <= 2 * 16_384)
    }
}
