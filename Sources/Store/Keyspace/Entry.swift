import CLinux
import Glibc
import Reactor
import RESP

/// The types of values, numbered as Redis numbers them.
enum ValueType: UInt8 {
    case string = 0
    case list = 1
    case set = 2
    case sortedSet = 3
    case hash = 4
    // 5 is a module's.
    case stream = 6

    /// The name that TYPE answers.
    var name: StaticString {
        switch self {
        case .string: "string"
        case .list: "list"
        case .set: "set"
        case .sortedSet: "zset"
        case .hash: "hash"
        case .stream: "stream"
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
    /// A large sorted set (`SortedTree`), or a stream (`IDTree`).
    case sortedTree = 7
}

/// One key with its value, in one allocation.
///
///     0      4          5            5 or 9           + 8             + keyCount
///     | meta | keyCount | [keyCount] | [expiry (8)]   | key bytes     | value ...
///
///     meta: type (4 bits) | encoding (3) | has expiry (1) | access clock (24)
///
/// A `keyCount` of 255 means that it follows in 4 bytes. `expiry` is milliseconds since 1970 and is there only when its bit says so.
/// Nothing behind `meta` is aligned. The value is
///
///     embedded string:   | count (2) | bytes |
///     integer string:    | Int64 (8) |
///     everything else:   | pointer (8) | to the block that the type owns
struct Entry {
    let base: UnsafeMutableRawPointer

    static let expirySize = 8
    private static let longKey = 255
    /// Strings up to this many bytes lie behind their key.
    static let embeddedMax = 2048

    @inline(__always) init(_ base: UnsafeMutableRawPointer) { self.base = base }

    @inline(__always) var meta: UInt32 {
        get { base.load(as: UInt32.self) }
        nonmutating set { base.storeBytes(of: newValue, as: UInt32.self) }
    }

    @inline(__always) private var shortKeyCount: Int { Int(base.load(fromByteOffset: 4, as: UInt8.self)) }
    @inline(__always) var keyCount: Int {
        let short = shortKeyCount
        return short == Entry.longKey ? Int(base.loadUnaligned(fromByteOffset: 5, as: UInt32.self)) : short
    }
    @inline(__always) private var expiryBase: UnsafeMutableRawPointer { base + (shortKeyCount == Entry.longKey ? 9 : 5) }
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
        get { expiryBase.loadUnaligned(as: Int64.self) }
        nonmutating set { expiryBase.storeBytes(of: newValue, as: Int64.self) }
    }

    @inline(__always) var keyBase: UnsafeMutableRawPointer { expiryBase + (hasExpiry ? Entry.expirySize : 0) }
    @inline(__always) var key: Argument { Argument(base: UnsafePointer(keyBase.assumingMemoryBound(to: UInt8.self)), count: keyCount) }
    @inline(__always) var valueBase: UnsafeMutableRawPointer { keyBase + keyCount }

    // MARK: making

    /// Bytes of an entry whose value takes `valueSize` bytes.
    @inline(__always)
    static func size(keyCount: Int, hasExpiry: Bool, valueSize: Int) -> Int {
        (keyCount >= longKey ? 9 : 5) &+ (hasExpiry ? expirySize : 0) &+ keyCount &+ valueSize
    }

    /// Bytes of the value behind the key.
    @inline(__always)
    var valueSize: Int { type == .string && encoding == .embedded ? 2 &+ embedded.count : 8 }

    /// The size that the heap is to be told.
    @inline(__always)
    private var blockSize: Int {
        let keyCount = keyCount
        // Nothing else can make an entry large.
        return keyCount < Heap.slabMax / 2 ? 0 : Entry.size(keyCount: keyCount, hasExpiry: hasExpiry, valueSize: valueSize)
    }

    /// Bytes of the entry's own block.
    var memory: Int { Heap.capacity(of: base, blockSize) }
    @inline(__always) var heap: Heap { Heap.of(base, blockSize) }

    /// Loads an entry and the end of a short string into the cache: what is written later, without having been read, would be waited
    /// for at the next atomic operation.
    @inline(__always)
    func touch() -> UInt64 {
        let value = valueBase
        if type != .string || encoding != .embedded { return UInt64(value.load(as: UInt8.self)) }
        return UInt64((value + (1 &+ Int(value.loadUnaligned(as: UInt16.self)))).load(as: UInt8.self))
    }

    /// See `Heap.copyIfSparse`.
    func copyIfSparse() -> Entry? { Heap.copyIfSparse(base, blockSize).map { Entry($0) } }

    /// Frees the entry, not the blocks that its value owns.
    @inline(__always)
    func free() { Heap.free(base, blockSize) }

    /// An entry with its value still to be written.
    @inline(__always)
    static func make(_ heap: Heap, _ key: Argument, _ type: ValueType, _ encoding: Encoding, expiry: Int64?, clock: UInt32, valueSize: Int) -> Entry {
        let size = size(keyCount: key.count, hasExpiry: expiry != nil, valueSize: valueSize)
        let entry = Entry(heap.allocate(size))
        entry.meta = UInt32(type.rawValue) | UInt32(encoding.rawValue) << 4 | (expiry != nil ? 0x80 : 0) | clock << 8
        entry.base.storeBytes(of: UInt8(min(key.count, longKey)), toByteOffset: 4, as: UInt8.self)
        if key.count >= longKey { entry.base.storeBytes(of: UInt32(truncatingIfNeeded: key.count), toByteOffset: 5, as: UInt32.self) }
        if let expiry { entry.expiry = expiry }
        memcpy(entry.keyBase, key.base, key.count)
        return entry
    }

    /// An entry for a string value, in the encoding that Redis would choose.
    static func makeString(_ heap: Heap, _ key: Argument, _ value: Argument, expiry: Int64?, clock: UInt32) -> Entry {
        if value.count <= 20, let number = value.integer {
            let entry = make(heap, key, .string, .integer, expiry: expiry, clock: clock, valueSize: 8)
            entry.integer = number
            return entry
        }
        if value.count <= embeddedMax {
            let entry = make(heap, key, .string, .embedded, expiry: expiry, clock: clock, valueSize: 2 &+ value.count)
            entry.writeEmbedded(value)
            return entry
        }
        return make(heap, key, .string, .raw, expiry: expiry, clock: clock, pointer: Blob.make(heap, value).base)
    }

    /// An entry whose value is a block that its type owns.
    static func make(_ heap: Heap, _ key: Argument, _ type: ValueType, _ encoding: Encoding, expiry: Int64?, clock: UInt32, pointer: UnsafeMutableRawPointer) -> Entry {
        let entry = make(heap, key, type, encoding, expiry: expiry, clock: clock, valueSize: 8)
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
        v.storeBytes(of: UInt16(truncatingIfNeeded: value.count), as: UInt16.self)
        memcpy(v + 2, value.base, value.count)
    }

    @inline(__always) var embedded: Argument {
        let v = valueBase
        return Argument(base: UnsafePointer((v + 2).assumingMemoryBound(to: UInt8.self)), count: Int(v.loadUnaligned(as: UInt16.self)))
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

    /// Whether a string value of `count` bytes can be written over this one without moving the entry, wasting next to nothing of it.
    @inline(__always)
    func hasRoom(forEmbedded count: Int) -> Bool {
        let needed = Entry.size(keyCount: keyCount, hasExpiry: hasExpiry, valueSize: 2 &+ count)
        let usable = memory
        return needed <= usable && needed >= usable &- max(8, usable >> 4)
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

/// A long or growing string in a block of its own, which is malloc's: the request parser receives into such blocks.
///
///     0       8          16
///     | count | capacity | bytes ...
struct Blob {
    let base: UnsafeMutableRawPointer

    static let headerSize = RequestParser.headroom

    @inline(__always) init(_ base: UnsafeMutableRawPointer) { self.base = base }

    static func make(_ heap: Heap, _ value: Argument, capacity: Int? = nil) -> Blob {
        let room = max(capacity ?? value.count, value.count)
        let blob = Blob(SystemMemory.allocate(headerSize + room))
        heap.charge(blob.memory)
        blob.count = value.count
        blob.capacity = room
        memcpy(blob.data, value.base, value.count)
        return blob
    }

    /// Takes over a block that the request parser received directly: the payload lies behind the header's room already.
    static func adopt(_ heap: Heap, _ block: UnsafeMutableRawPointer, count: Int) -> Blob {
        let blob = Blob(block)
        heap.charge(blob.memory)
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
    func reserving(_ heap: Heap, _ wanted: Int) -> Blob {
        if wanted <= capacity { return self }
        heap.charge(-memory)
        let room = wanted < 1 << 20 ? wanted * 2 : wanted + 1 << 20
        let blob = Blob(SystemMemory.resize(base, to: Blob.headerSize + room))
        blob.capacity = room
        heap.charge(blob.memory)
        return blob
    }

    /// Bytes of the block.
    var memory: Int { malloc_usable_size(base) }

    func free(_ heap: Heap) {
        heap.charge(-memory)
        Glibc.free(base)
    }
}
