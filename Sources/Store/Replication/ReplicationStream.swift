import Glibc
import Reactor
import RESP

/// The stream of commands as bytes, in shared blocks: every replica is sent from them, and those that hold the last bytes stay for
/// replicas that come back (the backlog).
///
///     blocks:   | ............ | ............ | ....... room |
///                 ^ firstOffset                     ^ end
///
/// Offsets count bytes from the beginning of the stream's history; `end` is the offset of the last byte, as Redis counts: a replica
/// that has everything has applied `end` bytes.
struct ReplicationStream {
    private struct Piece {
        let block: SharedBlock
        /// The offset of its first byte.
        let first: Int64
    }

    /// The blocks from `head` on; those before it have been let go.
    private var pieces: [Piece] = []
    private var head = 0
    /// Where the next byte goes.
    private var cursor: UnsafeMutableRawPointer?
    private var room = 0

    /// Whether what is appended is kept, for replicas now or later.
    private(set) var isOpen = false
    /// `repl-backlog-size`: as much history stays.
    private(set) var backlogSize: Int
    /// Bytes of the stream so far.
    private(set) var end: Int64 = 0
    /// The database that the stream has selected; -1 before the first SELECT.
    var selected = -1
    /// Bytes that all blocks take.
    private(set) var memory = 0

    private static let backlogLeast = 16_384
    private static let blockMax = 65_536
    /// At most so many blocks are let go at a time.
    private static let trimStep = 64

    init(backlogSize: Int) { self.backlogSize = max(ReplicationStream.backlogLeast, backlogSize) }

    func deallocate() { for piece in pieces[head...] { piece.block.release() } }

    /// The offset of the first byte that is still there.
    var firstOffset: Int64 { head < pieces.count ? pieces[head].first : end + 1 }
    /// Bytes of history that are still there; may be more than `backlogSize`, for blocks go as a whole and replicas may need them.
    var historyCount: Int { Int(end - firstOffset) + 1 }

    /// A backlog has some sixteen blocks, so that it is never much larger than asked for.
    private var blockSize: Int { min(max(ReplicationStream.backlogLeast, backlogSize / 16), ReplicationStream.blockMax) }

    // MARK: opening and closing

    /// Starts to keep what is appended.
    mutating func open() { isOpen = true }

    /// Forgets the history and keeps nothing any more.
    mutating func close() {
        forgetHistory()
        isOpen = false
    }

    /// Forgets all history; the next byte has the offset behind this one.
    mutating func restart(at offset: Int64) {
        forgetHistory()
        end = offset
        selected = -1
    }

    private mutating func forgetHistory() {
        deallocate()
        pieces.removeAll()
        head = 0
        cursor = nil
        room = 0
        memory = 0
    }

    /// Gives the backlog another size. What is there stays as far as it fits.
    mutating func resize(_ size: Int) { backlogSize = max(ReplicationStream.backlogLeast, size) }

    // MARK: appending

    /// Something was changed that nobody is going to be sent: WAITAOF counts in offsets all the same.
    mutating func countUnrecorded() { end += 1 }

    /// Appends one command. O(bytes).
    mutating func append(_ arguments: UnsafeMutablePointer<Argument>, _ count: Int) {
        guard isOpen else { return }
        var most = 32
        for i in 0..<count { most &+= arguments[i].count &+ 32 }
        if most <= room {
            let size = CommandBuffer.encode(arguments, count, to: cursor!)
            advance(size)
        } else {
            appendInPieces(arguments, count)
        }
    }

    /// A command that does not fit into what is left of the block.
    private mutating func appendInPieces(_ arguments: UnsafeMutablePointer<Argument>, _ count: Int) {
        append(line: 0x2A, count)
        for i in 0..<count {
            append(line: 0x24, arguments[i].count)
            append(UnsafeRawBufferPointer(start: arguments[i].base, count: arguments[i].count))
            withUnsafeBytes(of: UInt16(0x0A0D)) { append($0) }
        }
    }

    private mutating func append(line mark: UInt8, _ value: Int) {
        withUnsafeTemporaryAllocation(byteCount: 32, alignment: 8) { scratch in
            let size = CommandBuffer.line(mark, value, to: scratch.baseAddress!)
            append(UnsafeRawBufferPointer(start: scratch.baseAddress!, count: size))
        }
    }

    /// Appends bytes that are a stream already: our master's. O(bytes).
    mutating func append(_ bytes: UnsafeRawBufferPointer) {
        guard isOpen, var source = bytes.baseAddress else { return }
        var left = bytes.count
        while left > 0 {
            if room == 0 { openBlock() }
            let size = min(left, room)
            memcpy(cursor!, source, size)
            advance(size)
            source += size
            left -= size
        }
    }

    @inline(__always)
    private mutating func advance(_ size: Int) {
        cursor = cursor.unsafelyUnwrapped + size
        room &-= size
        end &+= Int64(size)
    }

    private mutating func openBlock() {
        let block = SharedBlock(capacity: blockSize)
        pieces.append(Piece(block: block, first: end + 1))
        cursor = block.bytes
        room = block.capacity
        memory += block.footprint
    }

    // MARK: handing out and letting go

    /// Puts what comes behind `offset` into a chain, without a copy; it is still there. O(blocks).
    func send(after offset: Int64, to output: OutputChain) {
        forEachPiece(after: offset) { output.append($0, $1) }
    }

    /// Lends the bytes from `offset` on, in as many pieces as there are blocks.
    func history(from offset: Int64, _ body: (UnsafeRawBufferPointer) -> Void) {
        forEachPiece(after: offset - 1) { body(UnsafeRawBufferPointer(start: $0.bytes + $1.lowerBound, count: $1.count)) }
    }

    private func forEachPiece(after offset: Int64, _ body: (SharedBlock, Range<Int>) -> Void) {
        guard offset < end else { return }
        var at = index(of: offset + 1)
        var next = offset + 1
        while at < pieces.count {
            let piece = pieces[at]
            let behind = at + 1 < pieces.count ? pieces[at + 1].first : end + 1
            body(piece.block, Int(next - piece.first)..<Int(behind - piece.first))
            next = behind
            at += 1
        }
    }

    /// The block that holds the byte at `offset`; most look-ups are for the last one. O(log blocks).
    private func index(of offset: Int64) -> Int {
        if let last = pieces.last, offset >= last.first { return pieces.count - 1 }
        var low = head
        var high = pieces.count - 1
        while low < high {
            let middle = (low + high + 1) / 2
            if pieces[middle].first <= offset { low = middle } else { high = middle - 1 }
        }
        return low
    }

    /// Lets go of the oldest blocks that neither the backlog nor a replica needs; a few at a time.
    /// - Parameter needed: bytes behind this offset are still to be sent to somebody.
    mutating func trim(needed: Int64 = .max) {
        var steps = 0
        while head + 1 < pieces.count, steps < ReplicationStream.trimStep {
            let next = pieces[head + 1].first
            guard end - next + 1 >= Int64(backlogSize), next - 1 <= needed, pieces[head].block.isUnique else { break }
            memory -= pieces[head].block.footprint
            pieces[head].block.release()
            head += 1
            steps += 1
        }
        if head > 64, head > pieces.count / 2 {
            pieces.removeFirst(head)
            head = 0
        }
    }
}
