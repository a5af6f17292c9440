import Glibc
import Testing

@testable import RESP
@testable import Reactor

/// Feeds bytes to a parser in pieces, as a connection would, and collects the requests.
private final class Feeder {
    let input = InputBuffer()
    let area = UnsafeMutableRawPointer.allocate(byteCount: 65_536, alignment: 64)
    let arguments = ArgumentArea()
    var parser: RequestParser
    var requests: [[[UInt8]]] = []
    var failure: String?
    var isAuthenticated = true
    let looksAhead: Bool

    init(looksAhead: Bool) {
        self.looksAhead = looksAhead
        parser = RequestParser(area: arguments)
    }

    deinit {
        input.deallocate()
        area.deallocate()
        arguments.deallocate()
    }

    func feed(_ bytes: some Collection<UInt8>) {
        var rest = Array(bytes)[...]
        while !rest.isEmpty, failure == nil {
            if input.directRemaining > 0 {
                let size = min(input.directRemaining, rest.count)
                let target = input.state.pointee.direct!
                Array(rest.prefix(size)).withUnsafeBytes { _ = memcpy(target, $0.baseAddress!, size) }
                input.state.pointee.direct = target + size
                input.state.pointee.directRemaining -= size
                rest = rest.dropFirst(size)
                if input.directRemaining > 0 { continue }
            } else {
                let (target, room) = input.target(sharedArea: area, size: 65_536)!
                let size = min(room, rest.count)
                Array(rest.prefix(size)).withUnsafeBytes { _ = memcpy(target, $0.baseAddress!, size) }
                input.received(size)
                rest = rest.dropFirst(size)
            }
            drain()
            input.settle(sharedArea: area, size: 65_536)
        }
    }

    private func drain() {
        while true {
            if looksAhead {
                let found = parser.lookAhead(input)
                if found > 0 {
                    for i in 0..<found { take(arguments.spans[i].first, arguments.spans[i].count) }
                    input.consume(arguments.spans[found - 1].end)
                    continue
                }
            }
            switch parser.next(input, bulkMax: 512 << 20, argumentsMax: 1 << 20, isAuthenticated: isAuthenticated) {
            case .request:
                if parser.count > 0 { take(0, parser.count) }
                parser.finish(input)
            case .incomplete:
                return
            case .failure(let text):
                failure = String(decoding: text, as: UTF8.self)
                return
            }
        }
    }

    private func take(_ first: Int, _ count: Int) {
        requests.append((first..<first + count).map { arguments.base[$0].bytes })
    }
}

private func encode(_ request: [[UInt8]]) -> [UInt8] {
    var out = Array("*\(request.count)\r\n".utf8)
    for word in request { out += Array("$\(word.count)\r\n".utf8) + word + [13, 10] }
    return out
}

@Suite("Requests")
struct RequestParserTests {
    @Test("requests of any size come out as they went in, however the stream is cut", arguments: [true, false])
    func cuts(_ looksAhead: Bool) {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<60 {
            var requests: [[[UInt8]]] = []
            var stream: [UInt8] = []
            for _ in 0..<Int.random(in: 1...40, using: &generator) {
                let request = (0..<Int.random(in: 1...6, using: &generator)).map { _ -> [UInt8] in
                    let size = [0, 1, 5, 64, 900, 33_000, 100_000][Int.random(in: 0..<7, using: &generator) * Int.random(in: 0...1, using: &generator)]
                    return [UInt8](repeating: UInt8.random(in: 0...255, using: &generator), count: size)
                }
                requests.append(request)
                stream += encode(request)
            }
            let feeder = Feeder(looksAhead: looksAhead)
            var rest = stream[...]
            while !rest.isEmpty {
                let size = min(rest.count, Int.random(in: 1...[3, 50, 4000, 200_000][Int.random(in: 0..<4, using: &generator)], using: &generator))
                feeder.feed(rest.prefix(size))
                rest = rest.dropFirst(size)
            }
            #expect(feeder.failure == nil)
            #expect(feeder.requests == requests)
        }
    }

    @Test("one byte at a time gives the same requests")
    func bytes() {
        let requests: [[[UInt8]]] = [[Array("SET".utf8), Array("k".utf8), Array("v\r\n".utf8)], [Array("PING".utf8)], [Array("GET".utf8), []]]
        let feeder = Feeder(looksAhead: true)
        for byte in requests.flatMap(encode) { feeder.feed([byte]) }
        #expect(feeder.requests == requests)
    }

    @Test("a long value is received into memory that a command can keep")
    func ownership() throws {
        let feeder = Feeder(looksAhead: true)
        let value = [UInt8](repeating: 7, count: 200_000)
        let stream = encode([Array("SET".utf8), Array("k".utf8), value])
        feeder.feed(stream.prefix(1000))
        #expect(feeder.requests.isEmpty)
        feeder.feed(stream.dropFirst(1000))
        #expect(feeder.requests.last?.last == value)
    }

    @Test("inline commands: words, quotes and escapes; empty lines mean nothing")
    func inline() {
        let feeder = Feeder(looksAhead: true)
        feeder.feed(Array("\r\nSET  k \"a b\\x41\\n\" 'it\\'s'\nPING\r\n".utf8))
        #expect(feeder.requests == [
            [Array("SET".utf8), Array("k".utf8), Array("a bA\n".utf8), Array("it's".utf8)], [Array("PING".utf8)],
        ])
    }

    @Test("what is not RESP is refused in Redis's words", arguments: [
        ("*3\r\nxSET\r\n", "ERR Protocol error: expected '$', got 'x'"),
        ("*2\r\n$4\r\nECHO\r\n$03\r\nabc\r\n", "ERR Protocol error: invalid bulk length"),
        ("*01\r\n$4\r\nPING\r\n", "ERR Protocol error: invalid multibulk length"),
        ("*1048577\r\n", "ERR Protocol error: invalid multibulk length"),
        ("*abc\r\n", "ERR Protocol error: invalid multibulk length"),
        ("*1\r\n$abc\r\n", "ERR Protocol error: invalid bulk length"),
        ("*1\r\n$-5\r\n", "ERR Protocol error: invalid bulk length"),
        ("*1\r\n$99999999999\r\n", "ERR Protocol error: invalid bulk length"),
        ("SET \"open\r\n", "ERR Protocol error: unbalanced quotes in request"),
    ])
    func refusals(_ input: String, _ expected: String) {
        let feeder = Feeder(looksAhead: true)
        feeder.feed(Array(input.utf8))
        #expect(feeder.failure == expected)
    }

    @Test("a client that has not said who it is may send only little")
    func unauthenticated() {
        let many = Feeder(looksAhead: false)
        many.isAuthenticated = false
        many.feed(Array("*11\r\n".utf8))
        #expect(many.failure == "ERR Protocol error: unauthenticated multibulk length")
        let long = Feeder(looksAhead: false)
        long.isAuthenticated = false
        long.feed(Array("*1\r\n$16385\r\n".utf8))
        #expect(long.failure == "ERR Protocol error: unauthenticated bulk length")
    }

    @Test("a line that does not end is refused, not collected for ever", arguments: [UInt8(0x41), UInt8(0x2A)])
    func endless(_ first: UInt8) {
        let feeder = Feeder(looksAhead: true)
        feeder.feed([first] + [UInt8](repeating: 0x31, count: 70_000))
        #expect(feeder.failure != nil)
    }
}

@Suite("Numbers as text")
struct NumberTests {
    @Test("doubles are printed with the fewest digits that read back the same", arguments: [
        (0.0, "0"), (-0.0, "-0"), (1, "1"), (-3, "-3"), (3.14, "3.14"), (0.1, "0.1"), (1.1, "1.1"), (1e18, "1000000000000000000"), (1e20, "1e+20"), (1e21, "1e+21"),
        (1.5e-9, "1.5e-9"), (0.00001, "0.00001"), (123456.789, "123456.789"), (.infinity, "inf"), (-.infinity, "-inf"),
    ])
    func shortest(_ value: Double, _ text: String) {
        #expect(Decimal.shortest(value) == text)
    }

    @Test("only the canonical form of a whole number is one", arguments: [
        ("0", 0), ("-1", -1), ("9223372036854775807", Int64.max), ("-9223372036854775808", Int64.min), ("01", nil), ("+1", nil), ("", nil), ("-", nil),
        ("-0", nil), ("9223372036854775808", nil), ("1 ", nil), ("18446744073709551616", nil),
    ] as [(String, Int64?)])
    func integers(_ text: String, _ value: Int64?) {
        Array(text.utf8).withUnsafeBytes { #expect(Argument($0).integer == value) }
    }
}
