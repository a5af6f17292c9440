import RESP
import Testing

private func parse(_ text: String, _ parser: ReplyParser = .init()) throws -> ReplyParser.Result {
    try parse(Array(text.utf8), parser)
}

private func parse(_ bytes: [UInt8], _ parser: ReplyParser = .init()) throws -> ReplyParser.Result {
    try bytes.withUnsafeBytes { try parser.parse($0) }
}

@Suite("replies")
struct ReplyParserTests {
    static let samples: [(String, Reply)] = [
        ("+OK\r\n", .simple("OK")),
        ("-ERR no\r\n", .error("ERR no")),
        (":-42\r\n", .integer(-42)),
        ("$5\r\nhe\r\no\r\n", .text("he\r\no")),
        ("$0\r\n\r\n", .bulk([])),
        ("$-1\r\n", .null),
        ("*-1\r\n", .nullArray),
        ("*0\r\n", .array([])),
        ("*3\r\n:1\r\n$1\r\na\r\n*1\r\n+x\r\n", .array([.integer(1), .text("a"), .array([.simple("x")])])),
        ("_\r\n", .null),
        (",1.5\r\n", .double(1.5)),
        (",-inf\r\n", .double(-.infinity)),
        ("#t\r\n", .boolean(true)),
        ("(123456789012345678901234567890\r\n", .bigNumber("123456789012345678901234567890")),
        ("!5\r\nERR x\r\n", .error("ERR x")),
        ("=8\r\ntxt:some\r\n", .verbatim(format: "txt", text: Array("some".utf8))),
        ("%1\r\n+a\r\n:1\r\n", .map([.simple("a"), .integer(1)])),
        ("~1\r\n:1\r\n", .set([.integer(1)])),
        (">2\r\n+message\r\n+x\r\n", .push([.simple("message"), .simple("x")])),
    ]

    @Test("every kind of RESP2 and RESP3 is read, and its length said", arguments: samples)
    func kinds(bytes: String, reply: Reply) throws {
        #expect(try parse(bytes + "+next\r\n") == .reply(reply, size: bytes.utf8.count))
    }

    @Test("cut anywhere, a reply is incomplete, never wrong", arguments: samples)
    func cut(bytes: String, reply: Reply) throws {
        for size in 0..<bytes.utf8.count {
            guard case .incomplete(let needed) = try parse(Array(bytes.utf8.prefix(size))) else {
                Issue.record("\(size) bytes of \(bytes.debugDescription) were taken for a reply")
                continue
            }
            #expect(needed > size && needed <= bytes.utf8.count)
        }
    }

    @Test("a long string says how many bytes it needs")
    func needed() throws {
        #expect(try parse("$1000\r\nabc") == .incomplete(needed: 7 + 1000 + 2))
    }

    @Test("what is no reply is refused in words", arguments: [
        ("hello\r\n", "a reply can't begin with byte 0x68 ('h')"),
        (":abc\r\n", "expected an integer, found 'abc'"),
        ("$-2\r\n", "a string of -2 bytes: expected 0 to 536870912"),
        ("$9999999999\r\n", "a string of 9999999999 bytes: expected 0 to 536870912"),
        ("*9999999999\r\n", "an array of 9999999999 elements: expected 0 to 1048576"),
        ("$3\r\nabcde\r\n", "a string of 3 bytes does not end with CR LF"),
        ("+OK\rx\r\n", "a line ends with CR but without LF"),
        ("#x\r\n", "expected t or f, found 'x'"),
        ("=3\r\nabc\r\n", "a verbatim string begins with three letters and a colon"),
        (String(repeating: "*1\r\n", count: 100), "arrays nested more than 16 deep"),
    ])
    func refused(bytes: String, message: String) {
        #expect(#expect(throws: ReplyError.self) { try parse(bytes) }?.description == message)
    }

    @Test("a line without end is refused once it is too long")
    func endless() {
        var parser = ReplyParser()
        parser.lineSizeMax = 10
        #expect(throws: ReplyError.self) { try parse("+" + String(repeating: "x", count: 20), parser) }
    }

    @Test("random bytes and mutated replies never crash")
    func garbage() {
        var generator = SystemRandomNumberGenerator()
        let seeds = ReplyParserTests.samples.map { Array($0.0.utf8) }
        for _ in 0..<20_000 {
            var bytes = seeds.randomElement(using: &generator)!
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            }
            _ = try? parse(bytes)
        }
    }

    @Test("what is written is read back, in RESP3 with all kinds, in RESP2 with the kinds that it has")
    func writing() throws {
        for (bytes, reply) in ReplyParserTests.samples where !bytes.hasPrefix("!") && !bytes.hasPrefix("*-1") && !bytes.hasPrefix("$-1") {
            #expect(try parse(reply.encoded(protocol: 3)) == .reply(reply, size: bytes.utf8.count))
        }
        #expect(Reply.map([.text("a"), .boolean(true)]).encoded() == Array("*2\r\n$1\r\na\r\n:1\r\n".utf8))
        #expect(Reply.null.encoded() == Array("$-1\r\n".utf8))
        #expect(Reply.error("ERR a\r\nb").encoded() == Array("-ERR a  b\r\n".utf8))
        #expect(RequestEncoder.encode(["GET", "k"]) == Array("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n".utf8))
    }
}
