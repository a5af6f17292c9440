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
    private(set) var pending = CommandBuffer()

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
        pending.removeAll()
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
    mutating func append(_ arguments: UnsafeMutablePointer<Argument>, _ count: Int) { end += Int64(pending.append(arguments, count)) }

    /// Appends bytes that are a stream already: our master's.
    mutating func append(_ bytes: UnsafeRawBufferPointer) {
        pending.append(bytes)
        end += Int64(bytes.count)
    }

    /// Puts what is pending into the ring and begins anew; the caller has handed it out.
    mutating func settle() {
        if let ring {
            // Only the last `ringCapacity` bytes can stay.
            let kept = min(pending.count, ringCapacity)
            var source = pending.base + (pending.count - kept)
            var at = Int((end - Int64(kept)) % Int64(ringCapacity))
            var left = kept
            while left > 0 {
                let piece = min(left, ringCapacity - at)
                memcpy(ring + at, source, piece)
                source += piece
                left -= piece
                at = 0
            }
            historyCount = min(ringCapacity, historyCount + pending.count)
        }
        pending.removeAll()
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
