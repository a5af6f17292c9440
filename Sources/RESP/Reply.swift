import Reactor

/// A reply as a value: what a client reads from a server, and what a server outside the hot path answers with.
///
/// RESP2's five kinds and RESP3's further ones (the RESP3 specification, github.com/redis/redis-specifications).
public indirect enum Reply: Equatable, Sendable {
    /// `+OK`
    case simple(String)
    /// `-ERR no such key`, and RESP3's `!` form: the whole text, its code included.
    case error(String)
    /// `:42`
    case integer(Int64)
    /// `$5 hello`
    case bulk([UInt8])
    /// `$-1`, and RESP3's `_`.
    case null
    /// `*-1`, which only RESP2 has.
    case nullArray
    /// `*2 ...`
    case array([Reply])
    /// `,3.14`
    case double(Double)
    /// `#t`
    case boolean(Bool)
    /// `(12345678901234567890`, as its digits.
    case bigNumber(String)
    /// `=15 txt:Some string`: the three letters of the format and the text.
    case verbatim(format: String, text: [UInt8])
    /// `%1 key value`: keys and values by turns.
    case map([Reply])
    /// `~2 ...`
    case set([Reply])
    /// `>3 message channel text`: sent without having been asked for.
    case push([Reply])

    /// A bulk string from text.
    public static func text(_ text: String) -> Reply { .bulk(Array(text.utf8)) }
    /// An array of bulk strings from texts.
    public static func texts(_ texts: [String]) -> Reply { .array(texts.map { .text($0) }) }
    public static let ok = Reply.simple("OK")

    /// The text of a simple, bulk or verbatim string; bytes that are not UTF-8 become U+FFFD.
    public var string: String? {
        switch self {
        case .simple(let text): text
        case .bulk(let bytes), .verbatim(_, let bytes): String(decoding: bytes, as: UTF8.self)
        default: nil
        }
    }

    /// The elements of an array, set, push or map (keys and values by turns).
    public var elements: [Reply]? {
        switch self {
        case .array(let items), .set(let items), .push(let items), .map(let items): items
        default: nil
        }
    }

    /// The number of an integer, or of a string that holds one.
    public var int: Int64? {
        if case .integer(let value) = self { return value }
        return string.flatMap { Int64($0) }
    }

    public var errorText: String? {
        if case .error(let text) = self { return text }
        return nil
    }
}

extension OutputChain {
    /// Appends a reply. What RESP2 lacks is written as RESP2 servers do: maps, sets and pushes as arrays, numbers and
    /// booleans as bulk strings and integers.
    public func append(_ reply: Reply, protocol version: Int) { append(reply.encoded(protocol: version)) }
}

extension Reply {
    /// The reply's bytes in RESP2 or RESP3.
    public func encoded(protocol version: Int = 2) -> [UInt8] {
        var bytes: [UInt8] = []
        encode(into: &bytes, isThree: version >= 3)
        return bytes
    }

    private func encode(into out: inout [UInt8], isThree: Bool) {
        switch self {
        case .simple(let text): out += Array("+\(Reply.oneLine(text))\r\n".utf8)
        case .error(let text): out += Array("-\(Reply.oneLine(text))\r\n".utf8)
        case .integer(let value): out += Array(":\(value)\r\n".utf8)
        case .bulk(let bytes): Reply.encode(bytes, into: &out)
        case .null: out += Array((isThree ? "_\r\n" : "$-1\r\n").utf8)
        case .nullArray: out += Array((isThree ? "_\r\n" : "*-1\r\n").utf8)
        case .array(let items): Reply.encode(items, head: "*\(items.count)", into: &out, isThree: isThree)
        case .double(let value):
            let text = value.isInfinite ? (value < 0 ? "-inf" : "inf") : value.isNaN ? "nan" : "\(value)"
            if isThree { out += Array(",\(text)\r\n".utf8) } else { Reply.encode(Array(text.utf8), into: &out) }
        case .boolean(let value):
            out += Array((isThree ? (value ? "#t\r\n" : "#f\r\n") : (value ? ":1\r\n" : ":0\r\n")).utf8)
        case .bigNumber(let digits):
            if isThree { out += Array("(\(digits)\r\n".utf8) } else { Reply.encode(Array(digits.utf8), into: &out) }
        case .verbatim(let format, let text):
            guard isThree else { return Reply.encode(text, into: &out) }
            out += Array("=\(text.count + 4)\r\n\(format):".utf8)
            out += text
            out += [0x0D, 0x0A]
        case .map(let items):
            Reply.encode(items, head: isThree ? "%\(items.count / 2)" : "*\(items.count)", into: &out, isThree: isThree)
        case .set(let items): Reply.encode(items, head: "\(isThree ? "~" : "*")\(items.count)", into: &out, isThree: isThree)
        case .push(let items): Reply.encode(items, head: "\(isThree ? ">" : "*")\(items.count)", into: &out, isThree: isThree)
        }
    }

    private static func encode(_ bytes: [UInt8], into out: inout [UInt8]) {
        out += Array("$\(bytes.count)\r\n".utf8)
        out += bytes
        out += [0x0D, 0x0A]
    }

    private static func encode(_ items: [Reply], head: String, into out: inout [UInt8], isThree: Bool) {
        out += Array("\(head)\r\n".utf8)
        for item in items { item.encode(into: &out, isThree: isThree) }
    }

    /// A simple string or an error is one line: what would end it early becomes a space.
    private static func oneLine(_ text: String) -> String {
        guard text.utf8.contains(where: { $0 == 0x0D || $0 == 0x0A }) else { return text }
        return String(decoding: text.utf8.map { $0 == 0x0D || $0 == 0x0A ? 0x20 : $0 }, as: UTF8.self)
    }
}
