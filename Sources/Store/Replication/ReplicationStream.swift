import Glibc
import RESP

/// The stream of commands as bytes: what this iteration added, and a ring of the last ones for replicas that come back.
///
///     ring:  | ... newest | oldest ...... |
///                         ^ end % capacity
///
/// Offsets count bytes from the beginning of the stream's history; `end` is the offset of the byte that comes next, less one,
/// as Redis counts: a replica that has everything has applied `end` bytes.
struct ReplicationStream {
    /// Bytes not yet handed to the replicas.
    private(set) var pending: UnsafeMutableRawPointer
    private(set) var pendingCount = 0
    private var pendingCapacity = 16_384

    private var ring: UnsafeMutableRawPointer?
    private(set) var ringCapacity: Int
    /// Bytes of history in the ring.
    private(set) var historyCount = 0
    /// Bytes of the stream so far, those pending included.
    private(set) var end: Int64 = 0
    /// The database that the stream has selected; -1 before the first SELECT.
    var selected = -1

    init(ringCapacity: Int) {
        self.ringCapacity = max(16_384, ringCapacity)
        pending = .allocate(byteCount: pendingCapacity, alignment: 16)
    }

    func deallocate() {
        pending.deallocate()
        ring?.deallocate()
    }

    /// The offset of the first byte in the ring.
    var firstOffset: Int64 { end - Int64(historyCount) + 1 }
    var hasRing: Bool { ring != nil }

    /// Starts to keep history.
    mutating func openRing() {
        if ring == nil { ring = .allocate(byteCount: ringCapacity, alignment: 16) }
    }

    /// Forgets all history; the next byte has this offset.
    mutating func restart(at offset: Int64) {
        end = offset
        historyCount = 0
        pendingCount = 0
        selected = -1
    }

    /// Gives the ring another size; what was kept is lost when it shrinks or grows.
    mutating func resize(_ capacity: Int) {
        let wanted = max(16_384, capacity)
        guard wanted != ringCapacity else { return }
        ringCapacity = wanted
        historyCount = 0
        if ring != nil {
            ring!.deallocate()
            ring = .allocate(byteCount: wanted, alignment: 16)
        }
    }

    /// Appends one command. O(bytes).
    mutating func append(_ arguments: UnsafeMutablePointer<Argument>, _ count: Int) {
        var size = 32
        for i in 0..<count { size &+= arguments[i].count &+ 32 }
        reserve(size)
        var p = pending + pendingCount
        func line(_ mark: UInt8, _ value: Int) {
            p.storeBytes(of: mark, as: UInt8.self)
            let n = Decimal.write(Int64(value), to: p + 1)
            (p + 1 + n).storeBytes(of: 0x0A0D, as: UInt16.self)
            p += n + 3
        }
        line(0x2A, count)
        for i in 0..<count {
            line(0x24, arguments[i].count)
            memcpy(p, arguments[i].base, arguments[i].count)
            p += arguments[i].count
            p.storeBytes(of: 0x0A0D, as: UInt16.self)
            p += 2
        }
        let added = p - (pending + pendingCount)
        pendingCount += added
        end += Int64(added)
    }

    /// Appends bytes that are a stream already: our master's.
    mutating func append(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress else { return }
        reserve(bytes.count)
        memcpy(pending + pendingCount, base, bytes.count)
        pendingCount += bytes.count
        end += Int64(bytes.count)
    }

    private mutating func reserve(_ size: Int) {
        if pendingCount + size <= pendingCapacity { return }
        pendingCapacity = max(pendingCapacity * 2, pendingCount + size)
        let moved = UnsafeMutableRawPointer.allocate(byteCount: pendingCapacity, alignment: 16)
        memcpy(moved, pending, pendingCount)
        pending.deallocate()
        pending = moved
    }

    /// Puts what is pending into the ring and begins anew; the caller has handed it out.
    mutating func settle() {
        if let ring {
            // Only the last `ringCapacity` bytes can stay.
            let kept = min(pendingCount, ringCapacity)
            var source = pending + (pendingCount - kept)
            var at = Int((end - Int64(kept)) % Int64(ringCapacity))
            var left = kept
            while left > 0 {
                let piece = min(left, ringCapacity - at)
                memcpy(ring + at, source, piece)
                source += piece
                left -= piece
                at = 0
            }
            historyCount = min(ringCapacity, historyCount + pendingCount)
        }
        pendingCount = 0
        if pendingCapacity > 1 << 20 {
            pending.deallocate()
            pendingCapacity = 16_384
            pending = .allocate(byteCount: pendingCapacity, alignment: 16)
        }
    }

    /// Lends the history from `offset` on, in one or two pieces; nothing may be pending.
    func history(from offset: Int64, _ body: (UnsafeRawBufferPointer) -> Void) {
        guard let ring else { return }
        var left = Int(end - offset + 1)
        var at = Int((offset - 1) % Int64(ringCapacity))
        while left > 0 {
            let piece = min(left, ringCapacity - at)
            body(UnsafeRawBufferPointer(start: ring + at, count: piece))
            left -= piece
            at = 0
        }
    }
}
