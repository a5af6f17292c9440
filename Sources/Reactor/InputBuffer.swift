import Glibc

/// The bytes received on a connection and not yet consumed.
///
/// While its handler runs, the bytes usually lie in the loop's shared receive area; what the handler leaves is kept in
/// memory of the connection's own, which is given back as soon as it is consumed. So an idle connection owns none.
///
///     base              base + count
///      | readable ...   |
///
/// A handler that needs `n` bytes in one piece says so with `expect(n)`: the next bytes are then received behind those
/// already there, into memory that is large enough at once. One that knows where a long value must end up uses
/// `receiveDirectly`, and the kernel writes it there: no second copy.
@frozen
public struct InputBuffer {
    @frozen @usableFromInline
    struct State {
        @usableFromInline var base: UnsafeMutableRawPointer?
        @usableFromInline var count = 0
        /// Memory of the connection's own; nil when nothing is kept.
        @usableFromInline var storage: UnsafeMutableRawPointer?
        @usableFromInline var capacity = 0
        @usableFromInline var expected = 0
        @usableFromInline var direct: UnsafeMutableRawPointer?
        @usableFromInline var directRemaining = 0
    }

    @usableFromInline let state: UnsafeMutablePointer<State>

    init() {
        state = .allocate(capacity: 1)
        state.initialize(to: State())
    }

    func deallocate() {
        free(state.pointee.storage)
        state.deallocate()
    }

    @inlinable public var count: Int { state.pointee.count }
    @inlinable public var isEmpty: Bool { state.pointee.count == 0 }

    /// The readable bytes; valid until the handler returns or consumes them.
    @inlinable public var bytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: state.pointee.base, count: state.pointee.count)
    }

    /// Where the readable bytes begin, for parsers that write into what they parse.
    @inlinable public var base: UnsafeMutableRawPointer? { state.pointee.base }

    /// Drops the first `size` readable bytes. O(1).
    @inlinable public func consume(_ size: Int) {
        precondition(size <= state.pointee.count)
        state.pointee.base = state.pointee.base.map { $0 + size }
        state.pointee.count &-= size
    }

    /// Says that nothing can be done before `size` readable bytes are there in one piece: the handler is called again
    /// when they are (or the stream has ended, and then it must look at `count`). Holds for one call.
    @inlinable public func expect(_ size: Int) { state.pointee.expected = size }

    /// The next `count` bytes of the stream, those already readable included, go to `destination`, which must stay valid
    /// until `directRemaining` is 0 or the connection closes. The handler is called once they are all there.
    public func receiveDirectly(into destination: UnsafeMutableRawPointer, count: Int) {
        let ready = min(count, state.pointee.count)
        if ready > 0 {
            memcpy(destination, state.pointee.base!, ready)
            consume(ready)
        }
        state.pointee.direct = destination + ready
        state.pointee.directRemaining = count - ready
    }

    /// Bytes of a direct receive that have not arrived yet.
    @inlinable public var directRemaining: Int { state.pointee.directRemaining }

    // MARK: what the connection does

    /// Moves what the handler left in the shared area to memory of our own, or gives our own back when nothing is left.
    func settle(sharedArea: UnsafeMutableRawPointer, size: Int) {
        let count = state.pointee.count
        if count == 0 {
            if state.pointee.storage != nil {
                free(state.pointee.storage)
                state.pointee.storage = nil
                state.pointee.capacity = 0
            }
            state.pointee.base = nil
            state.pointee.expected = 0
            return
        }
        let base = state.pointee.base!
        let wanted = max(state.pointee.expected, count)
        guard base >= sharedArea, base < sharedArea + size else {
            if state.pointee.capacity > size, state.pointee.capacity / 4 > wanted { shrink(to: wanted) }
            return
        }
        if state.pointee.capacity < wanted {
            free(state.pointee.storage)
            state.pointee.capacity = wanted
            state.pointee.storage = SystemMemory.allocate(wanted)
        }
        memcpy(state.pointee.storage!, base, count)
        state.pointee.base = state.pointee.storage
    }

    /// A short rest does not hold on to the memory of a long value.
    private func shrink(to capacity: Int) {
        let moved = SystemMemory.allocate(capacity)
        memcpy(moved, state.pointee.base!, state.pointee.count)
        free(state.pointee.storage)
        state.pointee.storage = moved
        state.pointee.base = moved
        state.pointee.capacity = capacity
    }

    /// Where the next bytes go and how many fit: behind what is kept; in the shared area if that is short, else in memory
    /// of our own, which grows to what is expected or doubles, so that the bytes of a long value are moved O(1) times.
    /// - Returns: nil when there is no memory for what is expected.
    func target(sharedArea: UnsafeMutableRawPointer, size: Int) -> (UnsafeMutableRawPointer, Int)? {
        let count = state.pointee.count
        if count == 0, state.pointee.expected <= size {
            state.pointee.base = sharedArea
            return (sharedArea, size)
        }
        let expected = state.pointee.expected
        if max(count, expected) <= size / 2 {
            if state.pointee.base! != sharedArea { memmove(sharedArea, state.pointee.base!, count) }
            state.pointee.base = sharedArea
            return (sharedArea + count, size - count)
        }
        let needed = max(expected, count + 1)
        if let storage = state.pointee.storage, let base = state.pointee.base, base >= storage, base <= storage + state.pointee.capacity {
            let offset = base - storage
            if state.pointee.capacity - offset >= needed { return (base + count, state.pointee.capacity - offset - count) }
            if state.pointee.capacity >= needed, offset >= count {
                memcpy(storage, base, count)
                state.pointee.base = storage
                return (storage + count, state.pointee.capacity - count)
            }
        }
        let capacity = max(expected, count + max(count, size))
        guard let moved = SystemMemory.allocateIfPossible(capacity) else { return nil }
        if count > 0 { memcpy(moved, state.pointee.base!, count) }
        free(state.pointee.storage)
        state.pointee.storage = moved
        state.pointee.capacity = capacity
        state.pointee.base = moved
        return (moved + count, capacity - count)
    }

    /// The handler has what it waited for, or there is nothing it waits for.
    var isWorthReading: Bool { state.pointee.count >= state.pointee.expected }

    /// The handler is about to look: what it still waits for it must say again.
    func forgetExpectation() { state.pointee.expected = 0 }

    func received(_ size: Int) { state.pointee.count += size }

    func discard() {
        state.pointee.count = 0
        state.pointee.expected = 0
        state.pointee.directRemaining = 0
        state.pointee.direct = nil
    }
}
