import Glibc
import Reactor

/// Writes replies in RESP2 or RESP3 to the end of an output chain. Nothing is kept; it is made anew for each use.
///
/// Source: the Redis serialization protocol specification, versions 2 and 3.
@frozen
public struct ReplyWriter {
    public let out: OutputChain
    /// Whether the client asked for RESP3 (HELLO 3).
    public let isRESP3: Bool

    @inlinable @inline(__always)
    public init(_ out: OutputChain, isRESP3: Bool) {
        self.out = out
        self.isRESP3 = isRESP3
    }

    /// `+OK`
    @inlinable public func ok() { raw("+OK\r\n") }

    /// Bytes that are RESP already.
    @inlinable @inline(__always)
    public func raw(_ text: StaticString) {
        let size = text.utf8CodeUnitCount
        memcpy(out.reserve(size), text.utf8Start, size)
        out.advance(size)
    }

    /// `+text`: one line, no CR or LF in it.
    public func simple(_ text: StaticString) {
        raw("+")
        raw(text)
        raw("\r\n")
    }

    public func simple(_ text: String) {
        raw("+")
        out.append(text)
        raw("\r\n")
    }

    /// `-text`: the code comes first (`ERR ...`). Line ends inside become spaces, as Redis does.
    public func error(_ text: StaticString) {
        raw("-")
        raw(text)
        raw("\r\n")
        count(UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    public func error(_ text: String) { error(Array(text.utf8)) }

    /// An error whose text quotes bytes of a request.
    public func error(_ text: [UInt8]) {
        raw("-")
        var line = text
        for i in line.indices where line[i] == 13 || line[i] == 10 { line[i] = 32 }
        out.append(line)
        raw("\r\n")
        line.withUnsafeBufferPointer(count)
    }

    @inline(never)
    private func count(_ line: UnsafeBufferPointer<UInt8>) {
        out.context?.assumingMemoryBound(to: ErrorCounts.self).pointee.count(line)
    }

    @inlinable
    public func integer(_ value: Int64) {
        let p = out.reserve(32)
        p.storeBytes(of: 0x3A, as: UInt8.self)
        let n = Decimal.write(value, to: p + 1)
        (p + 1 + n).storeBytes(of: 0x0A0D, as: UInt16.self)
        out.advance(n + 3)
    }

    @inlinable public func integer(_ value: Int) { integer(Int64(value)) }

    @inlinable @inline(__always)
    func header(_ kind: UInt8, _ count: Int) {
        let p = out.reserve(32)
        p.storeBytes(of: kind, as: UInt8.self)
        let n = Decimal.write(Int64(count), to: p + 1)
        (p + 1 + n).storeBytes(of: 0x0A0D, as: UInt16.self)
        out.advance(n + 3)
    }

    /// `$count` and the bytes.
    @inlinable
    public func bulk(_ bytes: UnsafeRawPointer, _ count: Int) {
        if count <= 1024 {
            let p = out.reserve(count + 32)
            p.storeBytes(of: 0x24, as: UInt8.self)
            let n = Decimal.write(Int64(count), to: p + 1) + 1
            (p + n).storeBytes(of: 0x0A0D, as: UInt16.self)
            memcpy(p + n + 2, bytes, count)
            (p + n + 2 + count).storeBytes(of: 0x0A0D, as: UInt16.self)
            out.advance(n + 4 + count)
        } else {
            header(0x24, count)
            out.append(bytes, count)
            raw("\r\n")
        }
    }

    @inlinable public func bulk(_ argument: Argument) { bulk(argument.raw, argument.count) }

    public func bulk(_ text: StaticString) { bulk(text.utf8Start, text.utf8CodeUnitCount) }

    public func bulk(_ text: String) {
        var text = text
        text.withUTF8 { bulk($0.baseAddress.map { UnsafeRawPointer($0) } ?? UnsafeRawPointer(bitPattern: 8)!, $0.count) }
    }

    public func bulk(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { bulk($0.baseAddress ?? UnsafeRawPointer(bitPattern: 8)!, $0.count) }
    }

    /// A whole number as a bulk string.
    public func bulk(integer value: Int64) {
        withUnsafeTemporaryAllocation(byteCount: 24, alignment: 8) { area in
            bulk(area.baseAddress!, Decimal.write(value, to: area.baseAddress!))
        }
    }

    /// Nothing there: `$-1` or `_`.
    @inlinable public func null() { isRESP3 ? raw("_\r\n") : raw("$-1\r\n") }

    /// No array there: `*-1` or `_`.
    @inlinable public func nullArray() { isRESP3 ? raw("_\r\n") : raw("*-1\r\n") }

    @inlinable public func array(_ count: Int) { header(0x2A, count) }

    /// `count` pairs: a map, or an array of twice as many.
    @inlinable public func map(_ count: Int) { isRESP3 ? header(0x25, count) : header(0x2A, count * 2) }

    /// A set, or an array.
    @inlinable public func set(_ count: Int) { header(isRESP3 ? 0x7E : 0x2A, count) }

    /// Something the client did not ask for, or an array.
    @inlinable public func push(_ count: Int) { header(isRESP3 ? 0x3E : 0x2A, count) }

    /// A double, or its text as a bulk string.
    public func double(_ value: Double) {
        // Most scores are whole numbers, and those need no String.
        if let whole = Decimal.whole(value) {
            withUnsafeTemporaryAllocation(byteCount: Decimal.int64Max, alignment: 1) { area in
                let count = Decimal.write(whole, to: area.baseAddress!)
                guard isRESP3 else { return bulk(UnsafeRawPointer(area.baseAddress!), count) }
                raw(",")
                out.append(UnsafeRawBufferPointer(start: area.baseAddress!, count: count))
                raw("\r\n")
            }
            return
        }
        let text = Decimal.shortest(value)
        if isRESP3 {
            raw(",")
            out.append(text)
            raw("\r\n")
        } else {
            bulk(text)
        }
    }

    /// A boolean, or 1 and 0.
    public func boolean(_ value: Bool) {
        if isRESP3 { raw(value ? "#t\r\n" : "#f\r\n") } else { integer(value ? 1 : 0) }
    }

    /// Text meant for people (`txt`), or a bulk string.
    public func verbatim(_ text: String) {
        guard isRESP3 else { return bulk(text) }
        header(0x3D, text.utf8.count + 4)
        raw("txt:")
        out.append(text)
        raw("\r\n")
    }
}
