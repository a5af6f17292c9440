import Glibc

/// Writes numbers as decimal text straight into memory.
public enum Decimal {
    /// More bytes than any 64-bit number needs.
    public static let int64Max = 20

    /// Writes `value` at `destination`.
    /// - Returns: how many bytes were written, at most 20.
    @inlinable @inline(__always)
    public static func write(_ value: Int64, to destination: UnsafeMutableRawPointer) -> Int {
        let p = destination.assumingMemoryBound(to: UInt8.self)
        if value >= 0 {
            if value < 10 {
                p[0] = 48 &+ UInt8(truncatingIfNeeded: value)
                return 1
            }
            return writeDigits(UInt64(value), to: p)
        }
        p[0] = 0x2D
        return 1 + writeDigits(value.magnitude, to: p + 1)
    }

    @inlinable
    static func writeDigits(_ value: UInt64, to p: UnsafeMutablePointer<UInt8>) -> Int {
        let n = digits(value)
        var rest = value
        var i = n
        while rest >= 10 {
            let quotient = rest / 10
            i &-= 1
            p[i] = 48 &+ UInt8(truncatingIfNeeded: rest &- quotient &* 10)
            rest = quotient
        }
        p[0] = 48 &+ UInt8(truncatingIfNeeded: rest)
        return n
    }

    /// How many decimal digits `value` has.
    @inlinable
    public static func digits(_ value: UInt64) -> Int {
        var n = 1
        var rest = value
        while rest >= 10_000 {
            rest /= 10_000
            n &+= 4
        }
        if rest >= 1000 { return n + 3 }
        if rest >= 100 { return n + 2 }
        if rest >= 10 { return n + 1 }
        return n
    }

    /// The whole number that a double is and is printed as; nil for any other and for -0. Half of what 64 bits hold is where Redis's
    /// d2string stops to print whole numbers as such.
    @inline(__always)
    static func whole(_ value: Double) -> Int64? {
        guard abs(value) < 4_611_686_018_427_387_904 else { return nil }
        let number = Int64(value)
        return Double(number) == value && (number != 0 || value.sign == .plus) ? number : nil
    }

    /// The shortest text that reads back as the same double, in the form that Redis 7.2 prints scores: whole numbers without
    /// a point, an exponent only for the very large and the very small, `inf`, `-inf`, `nan`.
    public static func shortest(_ value: Double) -> String {
        if value.isNaN { return "nan" }
        if value.isInfinite { return value < 0 ? "-inf" : "inf" }
        if value == 0 { return value.sign == .minus ? "-0" : "0" }
        if let whole = whole(value) { return "\(whole)" }
        // Swift prints the shortest digits too; only their arrangement differs.
        var digits: [UInt8] = []
        var exponent = 0
        var point: Int?
        var text = "\(abs(value))"
        if let e = text.firstIndex(of: "e") {
            exponent = Int(text[text.index(after: e)...])!
            text = String(text[..<e])
        }
        for c in text.utf8 {
            if c == 0x2E { point = digits.count } else { digits.append(c) }
        }
        // value = 0.d1d2d3... * 10^scale
        var scale = (point ?? digits.count) + exponent
        while digits.count > 1, digits.last == 48 { digits.removeLast() }
        while digits.count > 1, digits.first == 48 {
            digits.removeFirst()
            scale -= 1
        }
        let sign = value < 0 ? "-" : ""
        let trailing = scale - digits.count  // power of ten of the last digit
        let magnitude = abs(scale - 1)
        let body = String(decoding: digits, as: UTF8.self)
        if trailing >= 0, magnitude < digits.count + 7 { return sign + body + String(repeating: "0", count: trailing) }
        if trailing < 0, trailing > -7 || magnitude < 4 {
            if scale <= 0 { return sign + "0." + String(repeating: "0", count: -scale) + body }
            return sign + String(body.prefix(scale)) + "." + String(body.dropFirst(scale))
        }
        let mantissa = digits.count == 1 ? body : "\(body.prefix(1)).\(body.dropFirst())"
        return "\(sign)\(mantissa)e\(scale - 1 < 0 ? "-" : "+")\(magnitude)"
    }
}
