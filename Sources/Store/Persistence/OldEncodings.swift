import Glibc
import RESP

/// The compact encodings of Redis before 7.0, turned into listpacks.
enum OldEncodings {
    /// A ziplist: strings and numbers in a row.
    ///
    ///     0          4         8          10           - 1
    ///     | bytes (4) | tail (4) | count (2) | entry ... | 0xFF |
    ///
    ///     entry: | length of the previous one: 1 byte, or 0xFE and 4 | encoding | data |
    ///
    ///     00nnnnnn                 string of up to 63 bytes      11000000  int16      11110000  int24
    ///     01nnnnnn nnnnnnnn        of up to 16383                11010000  int32      11111110  int8
    ///     10...... + 4 bytes       32 bits, big-endian           11100000  int64      1111xxxx  xxxx - 1, for 1 ... 13
    ///
    /// Source: the comment above Redis's ziplist.c.
    /// - Returns: nil when the bytes are none. The listpack is the caller's to free.
    static func listpack(_ heap: Heap, ofZiplist bytes: UnsafeRawBufferPointer) -> Listpack? {
        guard bytes.count >= 11, let base = bytes.baseAddress, bytes.count <= Listpack.byteCountMax,
            Int(UInt32(littleEndian: base.loadUnaligned(as: UInt32.self))) == bytes.count
        else { return nil }
        var pack = Listpack.empty(heap, capacity: bytes.count)
        var at = 10
        let end = bytes.count - 1
        while at < end {
            guard append(bytes, &at, end, to: &pack) else {
                pack.free()
                return nil
            }
        }
        guard at == end, bytes[end] == 0xFF else {
            pack.free()
            return nil
        }
        return pack
    }

    private static func append(_ bytes: UnsafeRawBufferPointer, _ at: inout Int, _ end: Int, to pack: inout Listpack) -> Bool {
        at += bytes[at] == 0xFE ? 5 : 1
        guard at < end else { return false }
        let first = bytes[at]
        if first < 0xC0 {
            var size: Int
            switch first >> 6 {
            case 0:
                size = Int(first & 0x3F)
                at += 1
            case 1:
                guard at + 2 <= end else { return false }
                size = Int(first & 0x3F) << 8 | Int(bytes[at + 1])
                at += 2
            default:
                guard at + 5 <= end else { return false }
                size = Int(UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: at + 1, as: UInt32.self)))
                at += 5
            }
            guard size <= end - at else { return false }
            pack.append(ListpackValue(bytes.baseAddress! + at, size))
            at += size
            return true
        }
        at += 1
        let size: Int
        switch first {
        case 0xC0: size = 2
        case 0xD0: size = 4
        case 0xE0: size = 8
        case 0xF0: size = 3
        case 0xFE: size = 1
        case 0xF1...0xFD:
            pack.append(Int64(first & 0xF) - 1)
            return true
        default: return false
        }
        guard size <= end - at else { return false }
        var value: UInt64 = 0
        for i in 0..<size { value |= UInt64(bytes[at + i]) << UInt64(8 * i) }
        let unused = UInt64(64 - 8 * size)
        pack.append(Int64(bitPattern: value << unused) >> Int64(unused))
        at += size
        return true
    }

    /// A zipmap: fields and values of the hashes of Redis 2.
    ///
    ///     | count | length, field | length, free, value, free bytes | ... | 0xFF |
    ///
    /// A length is one byte up to 253, or 254 and four bytes, little-endian.
    static func listpack(_ heap: Heap, ofZipmap bytes: UnsafeRawBufferPointer) -> Listpack? {
        guard bytes.count >= 2, bytes[bytes.count - 1] == 0xFF else { return nil }
        let end = bytes.count - 1
        var at = 1
        func length() -> Int? {
            guard at < end, bytes[at] != 255 else { return nil }
            if bytes[at] < 254 {
                at += 1
                return Int(bytes[at - 1])
            }
            guard at + 5 <= end else { return nil }
            at += 5
            return Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: at - 4, as: UInt32.self)))
        }
        var pack = Listpack.empty(heap, capacity: bytes.count)
        while at < end {
            guard let field = length(), field <= end - at else { break }
            let fieldStart = at
            at += field
            guard let value = length(), at < end else { break }
            let unused = Int(bytes[at])
            at += 1
            guard value + unused <= end - at else { break }
            pack.append(Argument(UnsafeRawBufferPointer(rebasing: bytes[fieldStart..<fieldStart + field])))
            pack.append(Argument(UnsafeRawBufferPointer(rebasing: bytes[at..<at + value])))
            at += value + unused
            if at == end { return pack }
        }
        pack.free()
        return nil
    }
}
