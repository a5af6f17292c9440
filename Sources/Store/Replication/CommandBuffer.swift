import Glibc
import RESP

/// Commands as bytes, one request behind the other: what a stream of commands gathers until it is handed out.
struct CommandBuffer {
    private(set) var base: UnsafeMutableRawPointer
    private(set) var count = 0
    private var capacity = CommandBuffer.capacityLeast
    private static let capacityLeast = 16_384
    /// More room than this is given back when the buffer is emptied.
    private static let capacityKept = 1 << 20

    init() { base = .allocate(byteCount: capacity, alignment: 16) }

    func deallocate() { base.deallocate() }

    /// What has been gathered; valid until the next change.
    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

    /// Appends one command. O(bytes).
    /// - Returns: how many bytes it takes.
    @discardableResult
    mutating func append(_ arguments: UnsafeMutablePointer<Argument>, _ argumentCount: Int) -> Int {
        var most = 32
        for i in 0..<argumentCount { most &+= arguments[i].count &+ 32 }
        reserve(most)
        let size = CommandBuffer.encode(arguments, argumentCount, to: base + count)
        count &+= size
        return size
    }

    /// Writes one command; there is room for 32 bytes more than itself for every argument, and 32 more.
    /// - Returns: how many bytes it takes.
    @inline(__always)
    static func encode(_ arguments: UnsafeMutablePointer<Argument>, _ argumentCount: Int, to start: UnsafeMutableRawPointer) -> Int {
        var p = start + line(0x2A, argumentCount, to: start)
        for i in 0..<argumentCount {
            p += line(0x24, arguments[i].count, to: p)
            memcpy(p, arguments[i].base, arguments[i].count)
            p += arguments[i].count
            p.storeBytes(of: 0x0A0D, as: UInt16.self)
            p += 2
        }
        return p - start
    }

    /// Writes a mark, a number and the line's end.
    /// - Returns: how many bytes it takes.
    @inline(__always)
    static func line(_ mark: UInt8, _ value: Int, to p: UnsafeMutableRawPointer) -> Int {
        p.storeBytes(of: mark, as: UInt8.self)
        let n = Decimal.write(Int64(value), to: p + 1)
        (p + 1 + n).storeBytes(of: 0x0A0D, as: UInt16.self)
        return n + 3
    }

    /// Appends bytes that are requests already, or lines between them.
    mutating func append(_ bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress else { return }
        reserve(bytes.count)
        memcpy(base + count, source, bytes.count)
        count &+= bytes.count
    }

    private mutating func reserve(_ size: Int) {
        if count &+ size <= capacity { return }
        capacity = max(capacity * 2, count + size)
        let moved = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
        memcpy(moved, base, count)
        base.deallocate()
        base = moved
    }

    /// Drops the first bytes. O(what is left).
    mutating func dropFirst(_ size: Int) {
        memmove(base, base + size, count - size)
        count -= size
    }

    mutating func removeAll() {
        count = 0
        guard capacity > CommandBuffer.capacityKept else { return }
        base.deallocate()
        capacity = CommandBuffer.capacityLeast
        base = .allocate(byteCount: capacity, alignment: 16)
    }
}
