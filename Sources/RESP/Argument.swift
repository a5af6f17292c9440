import Glibc

/// One argument of a request: bytes that belong to somebody else, the receive buffer mostly.
@frozen
public struct Argument {
    public let base: UnsafePointer<UInt8>
    public let count: Int

    @inlinable @inline(__always)
    public init(base: UnsafePointer<UInt8>, count: Int) {
        self.base = base
        self.count = count
    }

    @inlinable public init(_ text: StaticString) { self.init(base: text.utf8Start, count: text.utf8CodeUnitCount) }

    @inlinable public init(_ bytes: UnsafeRawBufferPointer) {
        // A zero-length buffer may have no base address; any address will do for no bytes.
        let base = bytes.baseAddress ?? UnsafeRawPointer(bitPattern: 8)!
        self.init(base: base.assumingMemoryBound(to: UInt8.self), count: bytes.count)
    }

    @inlinable @inline(__always)
    public subscript(_ index: Int) -> UInt8 { base[index] }

    @inlinable public var raw: UnsafeRawPointer { UnsafeRawPointer(base) }
    @inlinable public var buffer: UnsafeBufferPointer<UInt8> { UnsafeBufferPointer(start: base, count: count) }

    @inlinable public static func == (a: Argument, b: Argument) -> Bool {
        a.count == b.count && memcmp(a.base, b.base, a.count) == 0
    }

    /// Whether the argument is the word, in any case. `word` is written in lower case. O(n).
    @inlinable public func isWord(_ word: StaticString) -> Bool {
        guard count == word.utf8CodeUnitCount else { return false }
        let w = word.utf8Start
        for i in 0..<count {
            var c = base[i]
            if c >= 65, c <= 90 { c |= 0x20 }
            if c != w[i] { return false }
        }
        return true
    }

    /// A copy as text, damaged UTF-8 repaired; for messages and names, not for data.
    public var text: String { String(decoding: buffer, as: UTF8.self) }
    /// A copy of the bytes.
    public var bytes: [UInt8] { Array(buffer) }
    /// The bytes before the first zero byte, at most `most`: what C's `%.128s` shows of it.
    public func start(_ most: Int) -> ArraySlice<UInt8> { Array(buffer.prefix(most).prefix { $0 != 0 })[...] }
    /// A copy as text in lower case.
    public var lowercased: String { text.lowercased() }

    /// The argument as a whole number in its canonical form only: no sign but `-`, no leading zeros, no space (Redis's string2ll).
    @inlinable public var integer: Int64? {
        let n = count
        if n == 0 || n > 20 { return nil }
        var i = 0
        let negative = base[0] == 0x2D
        if negative {
            i = 1
            if n == 1 { return nil }
        }
        var value = UInt64(base[i] &- 48)
        if value > 9 { return nil }
        if value == 0 { return n == 1 ? 0 : nil }
        i += 1
        while i < n {
            let digit = UInt64(base[i] &- 48)
            if digit > 9 { return nil }
            if value > 922_337_203_685_477_580 { return nil }
            value = value &* 10 &+ digit
            i += 1
        }
        if negative { return value <= 1 << 63 ? Int64(truncatingIfNeeded: 0 &- value) : nil }
        return value <= UInt64(Int64.max) ? Int64(value) : nil
    }

    /// The argument as a double, all of it, as strtod(3) reads it (`inf` and hexadecimal included); nil for NaN, leading space
    /// and anything that overflows.
    public var double: Double? {
        guard count > 0, count < 400, !isspaceByte(base[0]) else { return nil }
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: count + 1) { copy in
            memcpy(copy.baseAddress!, base, count)
            copy[count] = 0
            var end: UnsafeMutablePointer<CChar>?
            errno = 0
            let value = strtod(copy.baseAddress!, &end)
            guard end == copy.baseAddress! + count, !value.isNaN else { return nil }
            if errno == ERANGE, value.isInfinite || value == 0 { return nil }
            return value
        }
    }
}

private func isspaceByte(_ c: UInt8) -> Bool { c == 32 || (c >= 9 && c <= 13) }
