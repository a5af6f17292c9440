/// The checksum at the end of RDB files and DUMP payloads: CRC-64 with Jones's polynomial, reflected, starting from 0.
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

    /// Takes in more bytes. O(n).
    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress else { return }
        let count = bytes.count
        value = CRC64.tables.withUnsafeBufferPointer { tables in
            var crc = value
            var i = 0
            while i &+ 8 <= count {
                crc ^= base.loadUnaligned(fromByteOffset: i, as: UInt64.self).littleEndian
                var next = tables[7 &* 256 &+ Int(crc & 0xFF)]
                next ^= tables[6 &* 256 &+ Int(crc >> 8 & 0xFF)]
                next ^= tables[5 &* 256 &+ Int(crc >> 16 & 0xFF)]
                next ^= tables[4 &* 256 &+ Int(crc >> 24 & 0xFF)]
                next ^= tables[3 &* 256 &+ Int(crc >> 32 & 0xFF)]
                next ^= tables[2 &* 256 &+ Int(crc >> 40 & 0xFF)]
                next ^= tables[256 &+ Int(crc >> 48 & 0xFF)]
                next ^= tables[Int(crc >> 56)]
                crc = next
                i &+= 8
            }
            while i < count {
                crc = tables[Int((crc ^ UInt64(base.load(fromByteOffset: i, as: UInt8.self))) & 0xFF)] ^ crc >> 8
                i &+= 1
            }
            return crc
        }
    }
}
