import CLinux
import Glibc

/// Bytes waiting to be sent on a connection: a chain of blocks, appended at the tail, sent from the head.
///
/// Promise: what has been appended never moves and is never copied again; an empty chain holds no block.
/// Blocks of `OutputChain.blockSize` come from the loop's pool; a longer single append gets a block of its own size.
///
///     block:   0      8          16      24    32
///              | next | capacity | start | end | bytes ...
///
/// `start ..< end` are the offsets of the bytes not yet sent, counted from byte 32. The tail's `end` is kept in
/// `State.cursor` instead, so that an append touches one cache line; it is written down when the block is closed.
///
/// A block of capacity 0 holds the address of a `SharedBlock` at byte 32: the bytes are there, at the same offsets. As a tail it has a
/// cursor like any other, which nothing is written through, for it has no room.
@frozen
public struct OutputChain {
    /// Bytes of a pooled block, its header included.
    public static let blockSize = 16_384
    @usableFromInline static let headerSize = 32
    /// A longer piece is appended only where there is memory for it.
    private static let largeUnchecked = 1 << 20

    @frozen @usableFromInline
    struct Block {
        @usableFromInline var next: UnsafeMutablePointer<Block>?
        @usableFromInline var capacity: Int
        @usableFromInline var start: Int
        @usableFromInline var end: Int
    }

    @frozen @usableFromInline
    struct State {
        /// Where the next byte goes; nil while the chain is empty.
        @usableFromInline var cursor: UnsafeMutableRawPointer?
        /// Free bytes behind the cursor.
        @usableFromInline var room: Int = 0
        @usableFromInline var head: UnsafeMutablePointer<Block>?
        @usableFromInline var tail: UnsafeMutablePointer<Block>?
        /// Unsent bytes of all blocks but the tail.
        @usableFromInline var closedBytes: Int = 0
        /// The connection is over: what is appended goes nowhere, into one block that is used again and again.
        @usableFromInline var isDiscarding = false
        @usableFromInline unowned(unsafe) var owner: Connection?
        @usableFromInline var pool: BlockPool
        /// See `OutputChain.context`.
        @usableFromInline var context: UnsafeMutableRawPointer?
    }

    @usableFromInline let state: UnsafeMutablePointer<State>

    init(pool: BlockPool) {
        state = .allocate(capacity: 1)
        state.initialize(to: State(pool: pool))
        pool.retain()
    }

    /// A chain that belongs to no connection: what is appended goes nowhere, and `discardAll` gives its memory back.
    public static func discarding(_ loop: Loop) -> OutputChain { OutputChain(pool: loop.blockPool) }

    /// Drops everything that has been appended. O(blocks).
    public func discardAll() { releaseBlocks() }

    func deallocate() {
        releaseBlocks()
        state.pointee.pool.release()
        state.deinitialize(count: 1)
        state.deallocate()
    }

    /// A place for whoever writes into the chain to find what belongs to it; the chain does nothing with it.
    @inlinable public var context: UnsafeMutableRawPointer? {
        get { state.pointee.context }
        nonmutating set { state.pointee.context = newValue }
    }

    /// Bytes appended and not yet sent. O(1).
    @inlinable public var count: Int {
        guard let tail = state.pointee.tail else { return 0 }
        return state.pointee.closedBytes + (state.pointee.cursor! - OutputChain.bytes(of: tail)) - tail.pointee.start
    }

    @inlinable public var isEmpty: Bool { state.pointee.head == nil }

    /// A place for `size` bytes in one piece; valid until the next call on the chain. Follow it with `advance`.
    @inlinable @inline(__always)
    public func reserve(_ size: Int) -> UnsafeMutableRawPointer {
        if state.pointee.room >= size { return state.pointee.cursor.unsafelyUnwrapped }
        return grow(size)
    }

    /// Makes the first `size` of the reserved bytes part of the chain.
    @inlinable @inline(__always)
    public func advance(_ size: Int) {
        state.pointee.cursor = state.pointee.cursor.unsafelyUnwrapped + size
        state.pointee.room &-= size
    }

    /// Appends a copy of the bytes. O(n).
    @inlinable
    public func append(_ source: UnsafeRawPointer, _ size: Int) {
        if size == 0 { return }
        if size > state.pointee.room, size > OutputChain.blockSize / 2 {
            appendLarge(source, size)
            return
        }
        memcpy(reserve(size), source, size)
        advance(size)
    }

    @inlinable public func append(_ bytes: UnsafeRawBufferPointer) {
        if let base = bytes.baseAddress { append(base, bytes.count) }
    }

    @inlinable public func append(_ text: StaticString) { append(text.utf8Start, text.utf8CodeUnitCount) }

    /// For text outside the hot path.
    public func append(_ text: String) {
        var text = text
        text.withUTF8 { append(UnsafeRawBufferPointer($0)) }
    }

    public func append(_ bytes: [UInt8]) { bytes.withUnsafeBytes { append($0) } }

    /// Fills the tail and puts the rest into a block of its own size, so that nothing is split into many blocks.
    @usableFromInline
    func appendLarge(_ source: UnsafeRawPointer, _ size: Int) {
        let first = state.pointee.room
        if first > 0 {
            memcpy(state.pointee.cursor!, source, first)
            advance(first)
        }
        if size > OutputChain.largeUnchecked, !SystemMemory.isThereRoom(for: size) {
            // A part of a reply is worth nothing.
            state.pointee.owner?.close(.outOfMemory)
            return
        }
        memcpy(grow(size - first), source + first, size - first)
        advance(size - first)
    }

    /// Appends bytes that others send too, without a copy. O(1).
    /// - Parameter range: of the block's bytes; they have been written.
    public func append(_ shared: SharedBlock, _ range: Range<Int>) {
        guard !range.isEmpty, !state.pointee.isDiscarding else { return }
        if let tail = state.pointee.tail, tail.pointee.capacity == 0, OutputChain.shared(of: tail).address == shared.address,
            state.pointee.cursor == OutputChain.bytes(of: tail) + range.lowerBound {
            state.pointee.cursor = OutputChain.bytes(of: tail) + range.upperBound
        } else {
            let node = malloc(OutputChain.headerSize + 8)!.bindMemory(to: Block.self, capacity: 1)
            node.initialize(to: .init(next: nil, capacity: 0, start: range.lowerBound, end: range.upperBound))
            OutputChain.bytes(of: node).storeBytes(of: shared.address, as: UnsafeMutableRawPointer.self)
            shared.retain()
            link(node)
            state.pointee.cursor = OutputChain.bytes(of: node) + range.upperBound
        }
        state.pointee.owner?.outputGrew()
    }

    /// Of the bytes waiting, those that lie in shared blocks. O(blocks).
    public var sharedCount: Int {
        var sum = 0
        var block = state.pointee.head
        while let b = block {
            if b.pointee.capacity == 0 { sum += end(of: b) - b.pointee.start }
            block = b.pointee.next
        }
        return sum
    }

    private func end(of block: UnsafeMutablePointer<Block>) -> Int {
        block == state.pointee.tail ? state.pointee.cursor! - OutputChain.bytes(of: block) : block.pointee.end
    }

    fileprivate static func shared(of block: UnsafeMutablePointer<Block>) -> SharedBlock {
        SharedBlock(address: bytes(of: block).load(as: UnsafeMutableRawPointer.self))
    }

    @inlinable @inline(__always)
    static func bytes(of block: UnsafeMutablePointer<Block>) -> UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(block) + headerSize
    }

    /// Closes the tail and opens a block with room for `size` bytes. The first block of an empty chain also puts the
    /// connection on the loop's list of those to be sent this iteration.
    @usableFromInline @inline(never)
    func grow(_ size: Int) -> UnsafeMutableRawPointer {
        if state.pointee.isDiscarding { releaseBlocks() }
        let pool = state.pointee.pool
        let block = pool.take(size + OutputChain.headerSize)
        link(block)
        state.pointee.cursor = OutputChain.bytes(of: block)
        state.pointee.room = block.pointee.capacity
        state.pointee.owner?.outputGrew()
        return OutputChain.bytes(of: block)
    }

    /// Closes the tail and makes `block` the new one; the caller sets the cursor.
    @inline(__always)
    private func link(_ block: UnsafeMutablePointer<Block>) {
        if let tail = state.pointee.tail {
            tail.pointee.end = state.pointee.cursor! - OutputChain.bytes(of: tail)
            state.pointee.closedBytes += tail.pointee.end - tail.pointee.start
            tail.pointee.next = block
        } else {
            state.pointee.head = block
        }
        state.pointee.tail = block
        state.pointee.room = 0
    }

    /// Drops what is queued and from now on everything that is appended. The block being written to stays until the next
    /// append: a caller may have reserved a place in it.
    func startDiscarding() {
        state.pointee.isDiscarding = true
        state.pointee.owner = nil
        guard let tail = state.pointee.tail else { return }
        while let head = state.pointee.head, head != tail {
            state.pointee.head = head.pointee.next
            state.pointee.pool.give(head)
        }
        state.pointee.closedBytes = 0
    }

    /// Fills `vectors` with the unsent bytes from the head on.
    /// - Returns: how many were filled, and the bytes that they hold.
    func gather(into vectors: UnsafeMutablePointer<iovec>, limit: Int) -> (count: Int, bytes: Int) {
        var count = 0
        var sum = 0
        var block = state.pointee.head
        while let b = block, count < limit {
            let size = end(of: b) - b.pointee.start
            if size > 0 {
                let bytes = b.pointee.capacity == 0 ? OutputChain.shared(of: b).bytes : OutputChain.bytes(of: b)
                vectors[count] = iovec(iov_base: bytes + b.pointee.start, iov_len: size)
                count += 1
                sum += size
            }
            block = b.pointee.next
        }
        return (count, sum)
    }

    /// Forgets the first `size` bytes, which were sent, and gives back the blocks that held them. O(blocks).
    func consume(_ size: Int) {
        var left = size
        while let head = state.pointee.head {
            if head == state.pointee.tail {
                head.pointee.start += left
                if OutputChain.bytes(of: head) + head.pointee.start == state.pointee.cursor! { releaseBlocks() }
                return
            }
            let available = head.pointee.end - head.pointee.start
            let taken = min(available, left)
            head.pointee.start += taken
            state.pointee.closedBytes -= taken
            left -= taken
            if taken < available { return }
            state.pointee.head = head.pointee.next
            state.pointee.pool.give(head)
        }
    }

    /// Puts other bytes in the place of some. O(bytes).
    /// - Parameter start: the position of the first unsent byte; see `Connection.outputPosition`.
    func replace(_ replacements: [OutputReplacement], from start: Int) {
        guard !state.pointee.isDiscarding, var block = state.pointee.head, let tail = state.pointee.tail else { return }
        tail.pointee.end = state.pointee.cursor! - OutputChain.bytes(of: tail)
        forgetBlocks()
        var position = start
        var rest = replacements[...]
        while true {
            var bytes = UnsafeRawBufferPointer(start: OutputChain.bytes(of: block) + block.pointee.start, count: block.pointee.end - block.pointee.start)
            while bytes.count > 0 {
                let next = rest.first
                let isReplaced = next.map { $0.place.lowerBound <= position } ?? false
                let end = isReplaced ? next!.place.upperBound : next?.place.lowerBound ?? .max
                let size = min(bytes.count, end - position)
                if !isReplaced {
                    append(UnsafeRawBufferPointer(rebasing: bytes.prefix(size)))
                } else if position == next!.place.lowerBound {
                    append(next!.bytes)
                }
                position += size
                bytes = UnsafeRawBufferPointer(rebasing: bytes.dropFirst(size))
                if isReplaced, position == end { rest = rest.dropFirst() }
            }
            let following = block.pointee.next
            state.pointee.pool.give(block)
            guard let following else { return }
            block = following
        }
    }

    func releaseBlocks() {
        var block = state.pointee.head
        while let b = block {
            block = b.pointee.next
            state.pointee.pool.give(b)
        }
        forgetBlocks()
    }

    private func forgetBlocks() {
        state.pointee.head = nil
        state.pointee.tail = nil
        state.pointee.cursor = nil
        state.pointee.room = 0
        state.pointee.closedBytes = 0
    }
}

/// Bytes to be put in the place of others that have not been sent.
public struct OutputReplacement: Sendable {
    /// Positions in the output; see `Connection.outputPosition`.
    public let place: Range<Int>
    public let bytes: [UInt8]

    public init(_ place: Range<Int>, _ bytes: [UInt8]) {
        precondition(!place.isEmpty, "there must be something to replace")
        self.place = place
        self.bytes = bytes
    }

    /// How far what is behind moves.
    public var growth: Int { bytes.count - place.count }
}

/// The loop's free output blocks. What has not been needed for a while goes back to the allocator. Lives as long as the loop or a
/// chain that uses it.
@frozen
@usableFromInline
struct BlockPool {
    @frozen
    @usableFromInline
    struct State {
        @usableFromInline var free: UnsafeMutablePointer<OutputChain.Block>?
        @usableFromInline var count = 0
        @usableFromInline var users = 1
        /// The fewest free blocks since the last `trim`: so many were not needed.
        @usableFromInline var lowest = 0
        @usableFromInline var nextTrim = Instant.zero
    }

    /// Free blocks that are kept however long nobody needs them.
    private static let kept = 64
    /// Free blocks that are kept at most: 32 MiB. Large replies to many clients are made in one iteration and sent at its end; giving
    /// so much memory back each time costs more in page faults than the replies themselves.
    private static let freeMax = 2048
    @usableFromInline let state: UnsafeMutablePointer<State>

    init() {
        state = .allocate(capacity: 1)
        state.initialize(to: State())
    }

    func retain() { state.pointee.users += 1 }

    func release() {
        state.pointee.users -= 1
        guard state.pointee.users == 0 else { return }
        while let block = state.pointee.free {
            state.pointee.free = block.pointee.next
            free(block)
        }
        state.deallocate()
    }

    func take(_ size: Int) -> UnsafeMutablePointer<OutputChain.Block> {
        if size <= OutputChain.blockSize, let block = state.pointee.free {
            state.pointee.free = block.pointee.next
            state.pointee.count &-= 1
            if state.pointee.count < state.pointee.lowest { state.pointee.lowest = state.pointee.count }
            block.initialize(to: .init(next: nil, capacity: block.pointee.capacity, start: 0, end: 0))
            return block
        }
        let total = max(size, OutputChain.blockSize)
        let block = SystemMemory.allocate(total).bindMemory(to: OutputChain.Block.self, capacity: 1)
        block.initialize(to: .init(next: nil, capacity: total - OutputChain.headerSize, start: 0, end: 0))
        return block
    }

    func give(_ block: UnsafeMutablePointer<OutputChain.Block>) {
        guard state.pointee.count < BlockPool.freeMax, block.pointee.capacity == OutputChain.blockSize - OutputChain.headerSize else {
            if block.pointee.capacity == 0 { OutputChain.shared(of: block).release() }
            free(block)
            return
        }
        block.pointee.next = state.pointee.free
        state.pointee.free = block
        state.pointee.count &+= 1
    }

    /// Gives back, once a second, the blocks that nobody has needed since the last time.
    @inline(__always)
    func trim(at now: Instant) { if now >= state.pointee.nextTrim { trimNow(now) } }

    @inline(never)
    private func trimNow(_ now: Instant) {
        for _ in 0..<max(0, min(state.pointee.lowest, state.pointee.count - BlockPool.kept)) {
            let block = state.pointee.free!
            state.pointee.free = block.pointee.next
            state.pointee.count -= 1
            free(block)
        }
        state.pointee.lowest = state.pointee.count
        state.pointee.nextTrim = now + .seconds(1)
    }
}
