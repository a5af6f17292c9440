import CLinux
import Glibc
import RESP

/// The types of values, numbered as Redis numbers them.
enum ValueType: UInt8 {
    case string = 0
    case list = 1
    case set = 2
    case sortedSet = 3
    case hash = 4

    /// The name that TYPE answers.
    var name: StaticString {
        switch self {
        case .string: "string"
        case .list: "list"
        case .set: "set"
        case .sortedSet: "zset"
        case .hash: "hash"
        }
    }
}

/// How a value lies in memory.
enum Encoding: UInt8 {
    /// A string in a block of its own (`Blob`).
    case raw = 0
    /// A string that is a whole number, as 8 bytes.
    case integer = 1
    /// A string behind its key.
    case embedded = 2
    case listpack = 3
    case quicklist = 4
    case intset = 5
    case table = 6
    case sortedTree = 7
}

/// One key with its value, in one allocation.
///
///     0      4          8           8 or 16       + keyCount
///     | meta | keyCount | [expiry]  | key bytes   | value ...
///
///     meta: type (4 bits) | encoding (3) | has expiry (1) | access clock (24)
///
/// `expiry` is milliseconds since 1970 and is there only when its bit says so. The value, unaligned, is
///
///     embedded string:   | count (4) | bytes |
///     integer string:    | Int64 (8) |
///     everything else:   | pointer (8) | to the block that the type owns
struct Entry {
    let base: UnsafeMutableRawPointer

    static let headerSize = 8
    static let expirySize = 8
    /// Strings up to this many bytes lie behind their key.
    static let embeddedMax = 2048

    @inline(__always) init(_ base: UnsafeMutableRawPointer) { self.base = base }

    @inline(__always) var meta: UInt32 {
        get { base.load(as: UInt32.self) }
        nonmutating set { base.storeBytes(of: newValue, as: UInt32.self) }
    }

    @inline(__always) var keyCount: Int { Int(base.load(fromByteOffset: 4, as: UInt32.self)) }
    @inline(__always) var type: ValueType { ValueType(rawValue: UInt8(meta & 0xF)).unsafelyUnwrapped }
    @inline(__always) var encoding: Encoding { Encoding(rawValue: UInt8(meta >> 4 & 7)).unsafelyUnwrapped }
    @inline(__always) var hasExpiry: Bool { meta & 0x80 != 0 }

    /// The access clock: seconds, or the LFU counters.
    @inline(__always) var clock: UInt32 {
        get { meta >> 8 }
        nonmutating set { meta = meta & 0xFF | newValue << 8 }
    }

    /// Milliseconds since 1970; only when `hasExpiry`. Setting it needs the room for it.
    @inline(__always) var expiry: Int64 {
        get { base.load(fromByteOffset: 8, as: Int64.self) }
        nonmutating set { base.storeBytes(of: newValue, toByteOffset: 8, as: Int64.self) }
    }

    @inline(__always) var keyBase: UnsafeMutableRawPointer { base + Entry.headerSize + (hasExpiry ? Entry.expirySize : 0) }
    @inline(__always) var key: Argument { Argument(base: UnsafePointer(keyBase.assumingMemoryBound(to: UInt8.self)), count: keyCount) }
    @inline(__always) var valueBase: UnsafeMutableRawPointer { keyBase + keyCount }

    // MARK: making

    /// Bytes of an entry whose value takes `valueSize` bytes.
    @inline(__always)
    static func size(keyCount: Int, hasExpiry: Bool, valueSize: Int) -> Int {
        headerSize &+ (hasExpiry ? expirySize : 0) &+ keyCount &+ valueSize
    }

    /// An entry with its value still to be written.
    @inline(__always)
    static func make(_ key: Argument, _ type: ValueType, _ encoding: Encoding, expiry: Int64?, clock: UInt32, valueSize: Int) -> Entry {
        let size = size(keyCount: key.count, hasExpiry: expiry != nil, valueSize: valueSize)
        let entry = Entry(malloc(size)!)
        entry.meta = UInt32(type.rawValue) | UInt32(encoding.rawValue) << 4 | (expiry != nil ? 0x80 : 0) | clock << 8
        entry.base.storeBytes(of: UInt32(truncatingIfNeeded: key.count), toByteOffset: 4, as: UInt32.self)
        if let expiry { entry.expiry = expiry }
        memcpy(entry.keyBase, key.base, key.count)
        return entry
    }

    /// An entry for a string value, in the encoding that Redis would choose.
    static func makeString(_ key: Argument, _ value: Argument, expiry: Int64?, clock: UInt32) -> Entry {
        if value.count <= 20, let number = value.integer {
            let entry = make(key, .string, .integer, expiry: expiry, clock: clock, valueSize: 8)
            entry.integer = number
            return entry
        }
        if value.count <= embeddedMax {
            let entry = make(key, .string, .embedded, expiry: expiry, clock: clock, valueSize: 4 + value.count)
            entry.writeEmbedded(value)
            return entry
        }
        return make(key, .string, .raw, expiry: expiry, clock: clock, pointer: Blob.make(value).base)
    }

    /// An entry whose value is a block that its type owns.
    static func make(_ key: Argument, _ type: ValueType, _ encoding: Encoding, expiry: Int64?, clock: UInt32, pointer: UnsafeMutableRawPointer) -> Entry {
        let entry = make(key, type, encoding, expiry: expiry, clock: clock, valueSize: 8)
        entry.pointer = pointer
        return entry
    }

    // MARK: values

    @inline(__always) var integer: Int64 {
        get { valueBase.loadUnaligned(as: Int64.self) }
        nonmutating set { valueBase.storeBytes(of: newValue, as: Int64.self) }
    }

    @inline(__always) var pointer: UnsafeMutableRawPointer {
        get { UnsafeMutableRawPointer(bitPattern: valueBase.loadUnaligned(as: UInt.self)).unsafelyUnwrapped }
        nonmutating set { valueBase.storeBytes(of: UInt(bitPattern: newValue), as: UInt.self) }
    }

    @inline(__always) func writeEmbedded(_ value: Argument) {
        let v = valueBase
        v.storeBytes(of: UInt32(truncatingIfNeeded: value.count), as: UInt32.self)
        memcpy(v + 4, value.base, value.count)
    }

    @inline(__always) var embedded: Argument {
        let v = valueBase
        return Argument(base: UnsafePointer((v + 4).assumingMemoryBound(to: UInt8.self)), count: Int(v.loadUnaligned(as: UInt32.self)))
    }

    /// The string's bytes; a number is written out at `scratch`, which has room for 24 bytes.
    @inline(__always)
    func string(_ scratch: UnsafeMutableRawPointer) -> Argument {
        switch encoding {
        case .embedded: return embedded
        case .integer:
            let n = Decimal.write(integer, to: scratch)
            return Argument(base: UnsafePointer(scratch.assumingMemoryBound(to: UInt8.self)), count: n)
        default: return Blob(pointer).bytes
        }
    }

    /// Bytes of the string. O(1).
    var stringCount: Int {
        switch encoding {
        case .embedded: return embedded.count
        case .integer: return withUnsafeTemporaryAllocation(byteCount: 24, alignment: 8) { Decimal.write(integer, to: $0.baseAddress!) }
        default: return Blob(pointer).count
        }
    }

    /// Whether a string value of `count` bytes can be written over this one without moving the entry, wasting less than half of it.
    @inline(__always)
    func hasRoom(forEmbedded count: Int) -> Bool {
        let needed = Entry.size(keyCount: keyCount, hasExpiry: hasExpiry, valueSize: 4 &+ count)
        let usable = malloc_usable_size(base)
        return needed <= usable && (usable <= 64 || needed >= usable / 2)
    }

    /// Changes type and encoding in place; the value is then to be written.
    @inline(__always)
    func setEncoding(_ type: ValueType, _ encoding: Encoding) {
        meta = meta & ~0x7F | UInt32(type.rawValue) | UInt32(encoding.rawValue) << 4
    }
}

/// Where the keyspace finds an entry's key.
enum EntryElement: TableElement {
    @inline(__always)
    static func key(of element: UnsafeMutableRawPointer) -> Argument { Entry(element).key }
}

/// A long or growing string in a block of its own.
///
///     0       8          16
///     | count | capacity | bytes ...
struct Blob {
    let base: UnsafeMutableRawPointer

    static let headerSize = RequestParser.headroom

    @inline(__always) init(_ base: UnsafeMutableRawPointer) { self.base = base }

    static func make(_ value: Argument, capacity: Int? = nil) -> Blob {
        let room = max(capacity ?? value.count, value.count)
        let blob = Blob(malloc(headerSize + room)!)
        blob.count = value.count
        blob.capacity = room
        memcpy(blob.data, value.base, value.count)
        return blob
    }

    /// Takes over a block that the request parser received directly: the payload lies behind the header's room already.
    static func adopt(_ block: UnsafeMutableRawPointer, count: Int) -> Blob {
        let blob = Blob(block)
        blob.count = count
        blob.capacity = count
        return blob
    }

    var count: Int {
        get { base.load(as: Int.self) }
        nonmutating set { base.storeBytes(of: newValue, as: Int.self) }
    }
    var capacity: Int {
        get { base.load(fromByteOffset: 8, as: Int.self) }
        nonmutating set { base.storeBytes(of: newValue, toByteOffset: 8, as: Int.self) }
    }
    @inline(__always) var data: UnsafeMutableRawPointer { base + Blob.headerSize }
    @inline(__always) var bytes: Argument { Argument(base: UnsafePointer(data.assumingMemoryBound(to: UInt8.self)), count: count) }

    /// The same string with room for at least `capacity` bytes; the old block is gone.
    func reserving(_ wanted: Int) -> Blob {
        if wanted <= capacity { return self }
        let room = wanted < 1 << 20 ? wanted * 2 : wanted + 1 << 20
        let blob = Blob(realloc(base, Blob.headerSize + room)!)
        blob.capacity = room
        return blob
    }

    func free() { Glibc.free(base) }
}
