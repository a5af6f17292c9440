import Glibc
import RESP

/// The name of an entry of a stream, and its place in it: milliseconds, and a number among those of one millisecond.
struct StreamID: Comparable {
    var milliseconds: UInt64
    var sequence: UInt64

    static let zero = StreamID(0, 0)
    static let max = StreamID(.max, .max)
    /// Bytes of `ms-seq` at most.
    static let textMax = 41
    /// Bytes of the two numbers, as files have them.
    static let size = 16

    @inline(__always)
    init(_ milliseconds: UInt64, _ sequence: UInt64) {
        self.milliseconds = milliseconds
        self.sequence = sequence
    }

    /// Both numbers with the high byte first, as the index of a stream in a file has them.
    init(bigEndian bytes: UnsafeRawPointer) {
        self.init(
            UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)),
            UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
    }

    func withBigEndian<R>(_ body: (UnsafeRawBufferPointer) -> R) -> R {
        withUnsafeBytes(of: (milliseconds.bigEndian, sequence.bigEndian), body)
    }

    @inline(__always)
    static func < (a: StreamID, b: StreamID) -> Bool {
        a.milliseconds != b.milliseconds ? a.milliseconds < b.milliseconds : a.sequence < b.sequence
    }

    /// nil behind the last one that there is.
    var next: StreamID? {
        if sequence < .max { return StreamID(milliseconds, sequence + 1) }
        return milliseconds < .max ? StreamID(milliseconds + 1, 0) : nil
    }

    /// nil before the first one.
    var previous: StreamID? {
        if sequence > 0 { return StreamID(milliseconds, sequence - 1) }
        return milliseconds > 0 ? StreamID(milliseconds - 1, .max) : nil
    }

    // MARK: text

    /// Writes `ms-seq`.
    /// - Parameter separator: what stands between the numbers.
    /// - Returns: how many bytes that were, at most `textMax`.
    func write(to p: UnsafeMutableRawPointer, separator: UInt8 = 0x2D) -> Int {
        var count = StreamID.write(milliseconds, to: p)
        p.storeBytes(of: separator, toByteOffset: count, as: UInt8.self)
        count += 1
        return count + StreamID.write(sequence, to: p + count)
    }

    private static func write(_ number: UInt64, to p: UnsafeMutableRawPointer) -> Int {
        if number <= UInt64(Int64.max) { return Decimal.write(Int64(number), to: p) }
        let count = Decimal.write(Int64(number / 10), to: p)
        p.storeBytes(of: UInt8(48 + number % 10), toByteOffset: count, as: UInt8.self)
        return count + 1
    }

    /// Lends the text.
    func withText<R>(separator: UInt8 = 0x2D, _ body: (Argument) -> R) -> R {
        withUnsafeTemporaryAllocation(byteCount: StreamID.textMax, alignment: 1) { area in
            let count = write(to: area.baseAddress!, separator: separator)
            return body(Argument(UnsafeRawBufferPointer(start: area.baseAddress!, count: count)))
        }
    }

    var text: [UInt8] { withText { $0.bytes } }

    /// What a request gave for an ID.
    struct Parsed {
        var id: StreamID
        /// The sequence was `*`: to be chosen.
        var isPartial = false
    }

    /// Reads `ms`, `ms-seq` or `ms-*`, with C's rules for numbers as Redis has them: the text ends with a zero byte, and what strtoull(3)
    /// takes is a number.
    /// - Parameters:
    ///   - missing: the sequence of an ID that has none.
    ///   - isStrict: `-` and `+`, the first and the last ID that there can be, are none.
    static func parse(_ argument: Argument, missing: UInt64, isStrict: Bool) -> Parsed? {
        guard argument.count <= 127 else { return nil }
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 128) { buffer in
            let text = buffer.baseAddress!
            memcpy(text, argument.base, argument.count)
            text[argument.count] = 0
            if text[1] == 0 || argument.count == 0 {
                if text[0] == 0x2D { return isStrict ? nil : Parsed(id: .zero) }
                if text[0] == 0x2B { return isStrict ? nil : Parsed(id: .max) }
            }
            let dash = strchr(text, 0x2D)
            dash?.pointee = 0
            guard let milliseconds = number(text) else { return nil }
            guard let dash else { return Parsed(id: StreamID(milliseconds, missing)) }
            if dash[1] == 0x2A, dash[2] == 0 { return Parsed(id: StreamID(milliseconds, 0), isPartial: true) }
            guard let sequence = number(dash + 1) else { return nil }
            return Parsed(id: StreamID(milliseconds, sequence))
        }
    }

    private static func number(_ text: UnsafeMutablePointer<CChar>) -> UInt64? {
        if let value = Argument(UnsafeRawBufferPointer(start: text, count: strlen(text))).integer { return value < 0 ? nil : UInt64(value) }
        var end: UnsafeMutablePointer<CChar>?
        errno = 0
        let value = strtoull(text, &end, 10)
        guard errno == 0, text.pointee != 0, end?.pointee == 0 else { return nil }
        return UInt64(value)
    }
}

extension ReplyWriter {
    func bulk(_ id: StreamID) { id.withText { bulk($0) } }
}
