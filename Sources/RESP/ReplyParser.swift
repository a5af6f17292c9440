/// Bytes that are no RESP reply: what was found, and what was expected.
public struct ReplyError: Error, Equatable, Sendable, CustomStringConvertible {
    public let description: String
    init(_ description: String) { self.description = description }
}

/// Reads replies from a stream of bytes: RESP2 and RESP3.
///
/// A value without state of its own: it is given the bytes that have arrived and says what they begin with. Every claim in
/// them has a bound, and nothing is reserved on the strength of a claim alone.
///
///     switch try parser.parse(connection.input.bytes) {
///     case .reply(let reply, let size): connection.input.consume(size)
///     case .incomplete(let needed): connection.input.expect(needed)
///     }
public struct ReplyParser: Sendable {
    public enum Result: Equatable, Sendable {
        /// The first reply, and how many bytes it took.
        case reply(Reply, size: Int)
        /// Not all of the first reply is there; it has at least so many bytes.
        case incomplete(needed: Int)
    }

    /// Longest string, in bytes.
    public var stringSizeMax = 512 << 20
    /// Most elements of one array, map (keys and values), set or push.
    public var elementCountMax = 1 << 20
    /// Deepest nesting of arrays.
    public var depthMax = 16
    /// Longest line (simple strings, errors, numbers), in bytes.
    public var lineSizeMax = 65_536

    public init() {}

    /// - Throws: `ReplyError`; the stream can't be read on, and the connection is to be closed.
    public func parse(_ bytes: UnsafeRawBufferPointer) throws(ReplyError) -> Result {
        var cursor = Cursor(bytes: bytes, parser: self)
        guard let reply = try cursor.reply(depth: 0) else { return .incomplete(needed: max(cursor.needed, bytes.count + 1)) }
        return .reply(reply, size: cursor.offset)
    }

    private struct Cursor {
        let bytes: UnsafeRawBufferPointer
        let parser: ReplyParser
        var offset = 0
        /// With how many bytes it is worth trying again.
        var needed = 0

        /// nil: not all there.
        mutating func reply(depth: Int) throws(ReplyError) -> Reply? {
            guard depth < parser.depthMax else { throw ReplyError("arrays nested more than \(parser.depthMax) deep") }
            guard offset < bytes.count else { return nil }
            let kind = bytes[offset]
            guard let line = try line() else { return nil }
            switch kind {
            case UInt8(ascii: "+"): return .simple(text(line))
            case UInt8(ascii: "-"): return .error(text(line))
            case UInt8(ascii: ":"): return .integer(try integer(line, "an integer"))
            case UInt8(ascii: "$"): return try string(line).map { $0.map(Reply.bulk) ?? .null }
            case UInt8(ascii: "*"): return try elements(line, factor: 1, depth: depth).map { $0.map(Reply.array) ?? .nullArray }
            case UInt8(ascii: "_"): return .null
            case UInt8(ascii: ","): return try double(line)
            case UInt8(ascii: "#"): return try boolean(line)
            case UInt8(ascii: "("): return .bigNumber(text(line))
            case UInt8(ascii: "!"): return try string(line).map { .error(String(decoding: $0 ?? [], as: UTF8.self)) }
            case UInt8(ascii: "="): return try verbatim(line)
            case UInt8(ascii: "%"): return try elements(line, factor: 2, depth: depth).map { .map($0 ?? []) }
            case UInt8(ascii: "~"): return try elements(line, factor: 1, depth: depth).map { .set($0 ?? []) }
            case UInt8(ascii: ">"): return try elements(line, factor: 1, depth: depth).map { .push($0 ?? []) }
            default: throw ReplyError("a reply can't begin with byte 0x\(String(kind, radix: 16)) ('\(ReplyParser.printable(kind))')")
            }
        }

        /// The line's bytes between its first and its end; the cursor moves behind it.
        mutating func line() throws(ReplyError) -> Range<Int>? {
            let start = offset + 1
            var end = start
            let limit = min(bytes.count, start + parser.lineSizeMax)
            while end < limit, bytes[end] != 0x0D { end += 1 }
            if end == limit, limit < bytes.count { throw ReplyError("a line longer than \(parser.lineSizeMax) bytes") }
            guard end + 1 < bytes.count else { return nil }
            guard bytes[end + 1] == 0x0A else { throw ReplyError("a line ends with CR but without LF") }
            offset = end + 2
            return start..<end
        }

        func text(_ line: Range<Int>) -> String { String(decoding: bytes[line], as: UTF8.self) }

        func integer(_ line: Range<Int>, _ what: String) throws(ReplyError) -> Int64 {
            guard let value = Int64(text(line)) else { throw ReplyError("expected \(what), found '\(excerpt(line))'") }
            return value
        }

        /// Outer nil: not all there. Inner nil: the null string.
        mutating func string(_ line: Range<Int>) throws(ReplyError) -> [UInt8]?? {
            let size = try integer(line, "the length of a string")
            if size == -1 { return .some(nil) }
            guard size >= 0, size <= parser.stringSizeMax else {
                throw ReplyError("a string of \(size) bytes: expected 0 to \(parser.stringSizeMax)")
            }
            let end = offset + Int(size)
            guard end + 2 <= bytes.count else {
                needed = max(needed, end + 2)
                return nil
            }
            guard bytes[end] == 0x0D, bytes[end + 1] == 0x0A else { throw ReplyError("a string of \(size) bytes does not end with CR LF") }
            let value = Array(bytes[offset..<end])
            offset = end + 2
            return value
        }

        /// Outer nil: not all there. Inner nil: the null array.
        mutating func elements(_ line: Range<Int>, factor: Int, depth: Int) throws(ReplyError) -> [Reply]?? {
            let count = try integer(line, "the number of elements")
            if count == -1 { return .some(nil) }
            guard count >= 0, count <= parser.elementCountMax / factor else {
                throw ReplyError("an array of \(count) elements: expected 0 to \(parser.elementCountMax / factor)")
            }
            var items: [Reply] = []
            for _ in 0..<Int(count) * factor {
                guard let item = try reply(depth: depth + 1) else { return nil }
                items.append(item)
            }
            return items
        }

        func double(_ line: Range<Int>) throws(ReplyError) -> Reply {
            guard let value = Double(text(line)) else { throw ReplyError("expected a double, found '\(excerpt(line))'") }
            return .double(value)
        }

        func boolean(_ line: Range<Int>) throws(ReplyError) -> Reply {
            switch text(line) {
            case "t": return .boolean(true)
            case "f": return .boolean(false)
            default: throw ReplyError("expected t or f, found '\(excerpt(line))'")
            }
        }

        mutating func verbatim(_ line: Range<Int>) throws(ReplyError) -> Reply? {
            guard let bytes = try string(line) else { return nil }
            guard let bytes, bytes.count >= 4, bytes[3] == UInt8(ascii: ":") else {
                throw ReplyError("a verbatim string begins with three letters and a colon")
            }
            return .verbatim(format: String(decoding: bytes[..<3], as: UTF8.self), text: Array(bytes[4...]))
        }

        func excerpt(_ line: Range<Int>) -> String { bytes[line].prefix(32).map(ReplyParser.printable).joined() }
    }

    private static func printable(_ byte: UInt8) -> String {
        (0x20..<0x7F).contains(byte) ? String(UnicodeScalar(byte)) : "\\x" + String(byte, radix: 16)
    }
}
