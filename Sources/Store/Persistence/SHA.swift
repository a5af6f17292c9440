/// SHA-1 and SHA-256 (FIPS 180-4): for DEBUG DIGEST, whose value is defined by the one, and for ACL, which shows passwords by the other.
/// Nothing here protects anything; a library for two short functions would be the project's only need for one.
enum SHA {
    /// 20 bytes.
    static func one(_ message: UnsafeBufferPointer<UInt8>) -> [UInt8] {
        var h: [UInt32] = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0]
        forEachBlock(message) { block in
            var w = block
            for i in 16..<80 { w.append(rotl(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1)) }
            var (a, b, c, d, e) = (h[0], h[1], h[2], h[3], h[4])
            for i in 0..<80 {
                let (f, k): (UInt32, UInt32) = switch i {
                case 0..<20: ((b & c) | (~b & d), 0x5A82_7999)
                case 20..<40: (b ^ c ^ d, 0x6ED9_EBA1)
                case 40..<60: ((b & c) | (b & d) | (c & d), 0x8F1B_BCDC)
                default: (b ^ c ^ d, 0xCA62_C1D6)
                }
                let t = rotl(a, 5) &+ f &+ e &+ k &+ w[i]
                (e, d, c, b, a) = (d, c, rotl(b, 30), a, t)
            }
            for (i, v) in [a, b, c, d, e].enumerated() { h[i] = h[i] &+ v }
        }
        return bigEndian(h)
    }

    /// 32 bytes.
    static func two256(_ message: UnsafeBufferPointer<UInt8>) -> [UInt8] {
        var h: [UInt32] = primes(8).map { fraction(Double($0).squareRoot()) }
        // The constants are what FIPS 180-4 says they are: fractions of roots of the first primes.
        let k = primes(64).map { cubeRootFraction(UInt64($0)) }
        forEachBlock(message) { block in
            var w = block
            for i in 16..<64 {
                let s0 = rotr(w[i - 15], 7) ^ rotr(w[i - 15], 18) ^ w[i - 15] >> 3
                let s1 = rotr(w[i - 2], 17) ^ rotr(w[i - 2], 19) ^ w[i - 2] >> 10
                w.append(w[i - 16] &+ s0 &+ w[i - 7] &+ s1)
            }
            var v = h
            for i in 0..<64 {
                let s1 = rotr(v[4], 6) ^ rotr(v[4], 11) ^ rotr(v[4], 25)
                let t1 = v[7] &+ s1 &+ ((v[4] & v[5]) ^ (~v[4] & v[6])) &+ k[i] &+ w[i]
                let s0 = rotr(v[0], 2) ^ rotr(v[0], 13) ^ rotr(v[0], 22)
                let t2 = s0 &+ ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]))
                v = [t1 &+ t2, v[0], v[1], v[2], v[3] &+ t1, v[4], v[5], v[6]]
            }
            for i in 0..<8 { h[i] = h[i] &+ v[i] }
        }
        return bigEndian(h)
    }

    static func hexadecimal(_ bytes: [UInt8]) -> String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }

    private static func rotl(_ x: UInt32, _ n: UInt32) -> UInt32 { x << n | x >> (32 - n) }
    private static func rotr(_ x: UInt32, _ n: UInt32) -> UInt32 { x >> n | x << (32 - n) }

    private static func bigEndian(_ words: [UInt32]) -> [UInt8] {
        words.flatMap { word in [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: word >> UInt32($0)) } }
    }

    /// The message with its padding, 16 words at a time.
    private static func forEachBlock(_ message: UnsafeBufferPointer<UInt8>, _ body: ([UInt32]) -> Void) {
        let whole = message.count / 64
        func words(_ bytes: UnsafeBufferPointer<UInt8>, _ at: Int) -> [UInt32] {
            (0..<16).map { i in (0..<4).reduce(UInt32(0)) { $0 << 8 | UInt32(bytes[at + 4 * i + $1]) } }
        }
        for i in 0..<whole { body(words(message, 64 * i)) }
        var rest = Array(message[(64 * whole)...]) + [0x80]
        while rest.count % 64 != 56 { rest.append(0) }
        let bits = UInt64(message.count) * 8
        for shift in stride(from: 56, through: 0, by: -8) { rest.append(UInt8(truncatingIfNeeded: bits >> UInt64(shift))) }
        rest.withUnsafeBufferPointer { rest in
            for at in stride(from: 0, to: rest.count, by: 64) { body(words(rest, at)) }
        }
    }

    private static func primes(_ count: Int) -> [Int] {
        var found: [Int] = []
        var candidate = 2
        while found.count < count {
            if !found.contains(where: { candidate % $0 == 0 }) { found.append(candidate) }
            candidate += 1
        }
        return found
    }

    /// The first 32 bits behind the point; a double has enough for square roots of small numbers.
    private static func fraction(_ root: Double) -> UInt32 { UInt32((root - root.rounded(.down)) * 4_294_967_296) }

    /// The same for the cube root, by whole numbers: the largest r with r³ ≤ n · 2⁹⁶.
    private static func cubeRootFraction(_ n: UInt64) -> UInt32 {
        var low: UInt64 = 0
        var high: UInt64 = 8 << 32
        while high - low > 1 {
            let middle = (low + high) / 2
            let square = middle.multipliedFullWidth(by: middle)
            // r³ against n · 2⁹⁶, in 192 bits.
            let lowPart = middle.multipliedFullWidth(by: square.low)
            let highPart = middle.multipliedFullWidth(by: square.high)
            let (second, carry) = lowPart.high.addingReportingOverflow(highPart.low)
            let third = highPart.high + (carry ? 1 : 0)
            let limit = n.multipliedFullWidth(by: 1 << 32)  // n · 2⁹⁶ = (n · 2³²) · 2⁶⁴
            let isAbove = third > limit.high || (third == limit.high && (second > limit.low || (second == limit.low && lowPart.low > 0)))
            if isAbove { high = middle } else { low = middle }
        }
        return UInt32(truncatingIfNeeded: low)
    }
}
