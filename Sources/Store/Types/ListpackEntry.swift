import Glibc
import RESP

/// What one entry of a listpack holds: bytes that belong to the listpack, or a whole number.
struct ListpackValue {
    /// nil for a number.
    let bytes: UnsafeRawPointer?
    /// The count of the bytes, or the number itself.
    private let word: Int

    @inline(__always)
    init(_ bytes: UnsafeRawPointer, _ count: Int) {
        self.bytes = bytes
        word = count
    }

    @inline(__always)
    init(_ number: Int64) {
        bytes = nil
        word = Int(number)
    }

    @inline(__always)
    var integer: Int64? { bytes == nil ? Int64(word) : nil }

    /// The value as bytes; a number is written out at `scratch`, which has room for 24 bytes.
    @inline(__always)
    func text(_ scratch: UnsafeMutableRawPointer) -> Argument {
        if let bytes { return Argument(base: bytes.assumingMemoryBound(to: UInt8.self), count: word) }
        let n = Decimal.write(Int64(word), to: scratch)
        return Argument(base: UnsafePointer(scratch.assumingMemoryBound(to: UInt8.self)), count: n)
    }

    /// Lends the value as bytes.
    @inline(__always)
    func withText<Result>(_ body: (Argument) throws -> Result) rethrows -> Result {
        if let bytes { return try body(Argument(base: bytes.assumingMemoryBound(to: UInt8.self), count: word)) }
        return try withUnsafeTemporaryAllocation(byteCount: 24, alignment: 8) { try body(text($0.baseAddress!)) }
    }

    /// Bytes of the text. O(1).
    var count: Int { bytes != nil ? word : (word < 0 ? 1 : 0) + Decimal.digits(UInt64(word.magnitude)) }

    /// A copy of the text.
    var copy: [UInt8] { withText { $0.bytes } }

    /// Whether the value's text is `argument`; `number` is what `argument.integer` says, worked out once for many entries.
    @inline(__always)
    func equals(_ argument: Argument, number: Int64?) -> Bool {
        if let bytes { return word == argument.count && memcmp(bytes, argument.base, word) == 0 }
        return number == Int64(word)
    }
}

/// One entry as it lies in a listpack, without the listpack around it: lists keep bare entries in their nodes.
///
///     | encoding and data (contentSize bytes) | backlen (1 to 5) |
///
///     encoding, first byte       then
///     0xxxxxxx                                  number 0 ... 127
///     10nnnnnn                   n bytes        string of 0 ... 63 bytes
///     110xxxxx xxxxxxxx                         number of 13 bits, signed, high byte first
///     1110nnnn nnnnnnnn          n bytes        string of up to 4095 bytes
///     11110000                   4 bytes n, n   string of up to 2^32 - 1 bytes
///     11110001 / 0010 / 0011 / 0100             number of 16, 24, 32, 64 bits, signed
///     11111111                                  the end of the listpack
///
/// Numbers of more than one byte are little-endian where nothing else is said. The backlen is contentSize in groups of 7 bits, the
/// highest first; every byte of it but the first has its top bit set, so that it can be read from its end.
///
/// Source: the listpack specification (antirez/listpack) and what Redis 7 writes: a content of 16383, 2097151 or 268435455 bytes
/// gets one byte of backlen more than it needs there.
struct ListpackEntry {
    typealias Pointer = UnsafeMutableRawPointer

    /// The string, when `isString`.
    private let string: Argument
    private let number: Int64
    private let isString: Bool
    /// Bytes of encoding and data.
    let contentSize: Int
    /// Bytes of the whole entry.
    let size: Int

    /// The entry for a value: a number when it is one in its canonical form.
    @inline(__always)
    init(_ value: Argument) {
        if value.count <= 20, value.count > 0, value[0] <= 0x39, let number = value.integer {
            self.init(number)
        } else {
            self.init(string: value)
        }
    }

    @inline(__always)
    private init(string value: Argument) {
        string = value
        number = 0
        isString = true
        contentSize = value.count < 64 ? 1 &+ value.count : value.count < 4096 ? 2 &+ value.count : 5 &+ value.count
        size = contentSize &+ ListpackEntry.backlenSize(contentSize)
    }

    @inline(__always)
    init(_ value: Int64) {
        string = Argument("")
        number = value
        isString = false
        contentSize = ListpackEntry.contentSize(ofNumber: value)
        size = contentSize &+ 1
    }

    /// The entry for a value taken from another listpack, as it was there.
    @inline(__always)
    init(_ value: ListpackValue) {
        if let number = value.integer {
            self.init(number)
        } else {
            // Not a number: nothing is written at the scratch address.
            self.init(string: value.text(Pointer(bitPattern: 8)!))
        }
    }

    private static func contentSize(ofNumber value: Int64) -> Int {
        if value >= 0, value <= 127 { return 1 }
        if value >= -4096, value <= 4095 { return 2 }
        if value >= -32768, value <= 32767 { return 3 }
        if value >= -8_388_608, value <= 8_388_607 { return 4 }
        return value >= Int64(Int32.min) && value <= Int64(Int32.max) ? 5 : 9
    }

    // MARK: writing

    /// Writes the entry, `size` bytes.
    @inline(__always)
    func write(to p: Pointer) {
        if isString {
            let count = string.count
            let header = contentSize &- count
            if header == 1 {
                p.storeBytes(of: 0x80 | UInt8(truncatingIfNeeded: count), as: UInt8.self)
            } else if header == 2 {
                p.storeBytes(of: 0xE0 | UInt8(truncatingIfNeeded: count >> 8), as: UInt8.self)
                p.storeBytes(of: UInt8(truncatingIfNeeded: count), toByteOffset: 1, as: UInt8.self)
            } else {
                p.storeBytes(of: 0xF0, as: UInt8.self)
                p.storeBytes(of: UInt32(truncatingIfNeeded: count).littleEndian, toByteOffset: 1, as: UInt32.self)
            }
            memcpy(p + header, string.base, count)
        } else {
            writeNumber(to: p)
        }
        ListpackEntry.writeBacklen(contentSize, to: p + contentSize)
    }

    private func writeNumber(to p: Pointer) {
        switch contentSize {
        case 1:
            p.storeBytes(of: UInt8(number), as: UInt8.self)
        case 2:
            p.storeBytes(of: (0xC000 | UInt16(truncatingIfNeeded: number) & 0x1FFF).bigEndian, as: UInt16.self)
        case 3:
            p.storeBytes(of: 0xF1, as: UInt8.self)
            p.storeBytes(of: Int16(truncatingIfNeeded: number).littleEndian, toByteOffset: 1, as: Int16.self)
        case 4:
            p.storeBytes(of: (UInt32(truncatingIfNeeded: number) << 8 | 0xF2).littleEndian, as: UInt32.self)
        case 5:
            p.storeBytes(of: 0xF3, as: UInt8.self)
            p.storeBytes(of: Int32(truncatingIfNeeded: number).littleEndian, toByteOffset: 1, as: Int32.self)
        default:
            p.storeBytes(of: 0xF4, as: UInt8.self)
            p.storeBytes(of: number.littleEndian, toByteOffset: 1, as: Int64.self)
        }
    }

    @inline(__always)
    static func backlenSize(_ contentSize: Int) -> Int {
        contentSize <= 127 ? 1 : contentSize < 16383 ? 2 : contentSize < 2_097_151 ? 3 : contentSize < 268_435_455 ? 4 : 5
    }

    @inline(__always)
    private static func writeBacklen(_ contentSize: Int, to p: Pointer) {
        if contentSize <= 127 { return p.storeBytes(of: UInt8(truncatingIfNeeded: contentSize), as: UInt8.self) }
        var rest = contentSize
        var i = backlenSize(contentSize) &- 1
        while i > 0 {
            p.storeBytes(of: UInt8(truncatingIfNeeded: rest) | 0x80, toByteOffset: i, as: UInt8.self)
            rest >>= 7
            i &-= 1
        }
        p.storeBytes(of: UInt8(truncatingIfNeeded: rest), as: UInt8.self)
    }

    // MARK: reading

    /// The first byte of what is no entry.
    static let end: UInt8 = 0xFF

    /// What the entry at `p` holds.
    @inline(__always)
    static func value(at p: Pointer) -> ListpackValue {
        let first = p.load(as: UInt8.self)
        if first & 0xC0 == 0x80 { return ListpackValue(p + 1, Int(first & 0x3F)) }
        if first & 0x80 == 0 { return ListpackValue(Int64(first)) }
        if first & 0xF0 == 0xE0 {
            return ListpackValue(p + 2, Int(first & 0xF) << 8 | Int(p.load(fromByteOffset: 1, as: UInt8.self)))
        }
        if first & 0xE0 == 0xC0 {
            let bits = UInt16(bigEndian: p.loadUnaligned(as: UInt16.self)) << 3
            return ListpackValue(Int64(Int16(bitPattern: bits) >> 3))
        }
        return longValue(at: p, first)
    }

    private static func longValue(at p: Pointer, _ first: UInt8) -> ListpackValue {
        switch first {
        case 0xF0: ListpackValue(p + 5, Int(UInt32(littleEndian: p.loadUnaligned(fromByteOffset: 1, as: UInt32.self))))
        case 0xF1: ListpackValue(Int64(Int16(littleEndian: p.loadUnaligned(fromByteOffset: 1, as: Int16.self))))
        case 0xF2: ListpackValue(Int64(Int32(littleEndian: p.loadUnaligned(as: Int32.self)) >> 8))
        case 0xF3: ListpackValue(Int64(Int32(littleEndian: p.loadUnaligned(fromByteOffset: 1, as: Int32.self))))
        default: ListpackValue(Int64(littleEndian: p.loadUnaligned(fromByteOffset: 1, as: Int64.self)))
        }
    }

    /// Bytes of encoding and data of the entry at `p`.
    @inline(__always)
    static func contentSize(at p: Pointer) -> Int {
        let first = p.load(as: UInt8.self)
        if first & 0xC0 == 0x80 { return 1 &+ Int(first & 0x3F) }
        if first & 0x80 == 0 { return 1 }
        if first & 0xF0 == 0xE0 { return 2 &+ (Int(first & 0xF) << 8 | Int(p.load(fromByteOffset: 1, as: UInt8.self))) }
        if first & 0xE0 == 0xC0 { return 2 }
        switch first {
        case 0xF0: return 5 &+ Int(UInt32(littleEndian: p.loadUnaligned(fromByteOffset: 1, as: UInt32.self)))
        case 0xF1: return 3
        case 0xF2: return 4
        case 0xF3: return 5
        default: return 9
        }
    }

    /// Bytes of the whole entry at `p`.
    @inline(__always)
    static func size(at p: Pointer) -> Int {
        let content = contentSize(at: p)
        return content &+ backlenSize(content)
    }

    /// Bytes of the whole entry that ends before `p`.
    @inline(__always)
    static func size(before p: Pointer) -> Int {
        var content = 0
        var shift = 0
        var at = p - 1
        while true {
            let byte = at.load(as: UInt8.self)
            content |= Int(byte & 0x7F) << shift
            if byte & 0x80 == 0 { break }
            shift &+= 7
            at -= 1
        }
        return content &+ backlenSize(content)
    }

    /// Checks an entry of foreign bytes.
    /// - Parameter limit: the first byte that does not belong to the entries any more.
    /// - Returns: the entry's size; nil when what is at `p` is no whole entry below `limit`.
    static func validatedSize(at p: UnsafeRawPointer, limit: UnsafeRawPointer) -> Int? {
        let room = limit - p
        guard room >= 2 else { return nil }
        let first = p.load(as: UInt8.self)
        let content: Int
        if first & 0x80 == 0 { content = 1 }
        else if first & 0xC0 == 0x80 { content = 1 + Int(first & 0x3F) }
        else if first & 0xE0 == 0xC0 { content = 2 }
        else if first & 0xF0 == 0xE0 { content = 2 + (Int(first & 0xF) << 8 | Int(p.load(fromByteOffset: 1, as: UInt8.self))) }
        else if first == 0xF0 {
            guard room >= 6 else { return nil }
            content = 5 + Int(UInt32(littleEndian: p.loadUnaligned(fromByteOffset: 1, as: UInt32.self)))
        }
        else if first == 0xF1 { content = 3 }
        else if first == 0xF2 { content = 4 }
        else if first == 0xF3 { content = 5 }
        else if first == 0xF4 { content = 9 }
        else { return nil }
        let back = backlenSize(content)
        guard content + back <= room else { return nil }
        // The backlen must say what the encoding said, in that many bytes.
        var said = 0
        for i in 0..<back {
            let byte = p.load(fromByteOffset: content + i, as: UInt8.self)
            guard (byte & 0x80 != 0) == (i > 0) else { return nil }
            said = said << 7 | Int(byte & 0x7F)
        }
        return said == content ? content + back : nil
    }
}
