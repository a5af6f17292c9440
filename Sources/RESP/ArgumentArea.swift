/// One of several requests that were found in a receive buffer at once.
@frozen
public struct RequestSpan {
    /// Index of its first argument in the area.
    public var first: Int
    public var count: Int
    /// Offset of the byte behind it, from the front of the buffer.
    public var end: Int
    /// Free for whoever deals with the request: its command, and the hash of its key.
    public var tag: UInt
    public var hash: UInt64
}

/// Memory for the arguments of the requests being dealt with; grows as needed and is never given back.
@frozen
public struct ArgumentArea {
    /// Most requests looked at ahead.
    public static let spansMax = 32
    @frozen @usableFromInline
    struct State {
        @usableFromInline var base: UnsafeMutablePointer<Argument>
        @usableFromInline var capacity: Int
        @usableFromInline let spans: UnsafeMutablePointer<RequestSpan>
    }
    @usableFromInline let state: UnsafeMutablePointer<State>

    public init() {
        state = .allocate(capacity: 1)
        state.initialize(to: State(base: .allocate(capacity: 256), capacity: 256, spans: .allocate(capacity: ArgumentArea.spansMax)))
    }

    public func deallocate() {
        state.pointee.base.deallocate()
        state.pointee.spans.deallocate()
        state.deallocate()
    }

    @inlinable @inline(__always) public var base: UnsafeMutablePointer<Argument> { state.pointee.base }

    @inlinable @inline(__always) public var spans: UnsafeMutablePointer<RequestSpan> { state.pointee.spans }
    @inlinable @inline(__always) public var capacity: Int { state.pointee.capacity }

    /// Makes room for `count` arguments; those there are lost when it must grow.
    @inlinable @inline(__always)
    public func reserve(_ count: Int) { if count > state.pointee.capacity { grow(count) } }

    /// Makes room for `count` arguments and keeps the first `kept` of those there.
    @inlinable @inline(__always)
    public func reserve(_ count: Int, keeping kept: Int) { if count > state.pointee.capacity { grow(count, keeping: kept) } }

    @usableFromInline @inline(never)
    func grow(_ count: Int, keeping kept: Int) {
        let capacity = max(count, state.pointee.capacity * 2)
        let base = UnsafeMutablePointer<Argument>.allocate(capacity: capacity)
        base.update(from: state.pointee.base, count: kept)
        state.pointee.base.deallocate()
        state.pointee.base = base
        state.pointee.capacity = capacity
    }

    @usableFromInline @inline(never)
    func grow(_ count: Int) {
        state.pointee.base.deallocate()
        state.pointee.base = .allocate(capacity: count)
        state.pointee.capacity = count
    }
}
