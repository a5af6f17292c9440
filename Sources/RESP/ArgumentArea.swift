/// Memory for the arguments of the request being dealt with; grows as needed and is never given back.
@frozen
public struct ArgumentArea {
    @frozen @usableFromInline
    struct State {
        @usableFromInline var base: UnsafeMutablePointer<Argument>
        @usableFromInline var capacity: Int
    }
    @usableFromInline let state: UnsafeMutablePointer<State>

    public init() {
        state = .allocate(capacity: 1)
        state.initialize(to: State(base: .allocate(capacity: 16), capacity: 16))
    }

    public func deallocate() {
        state.pointee.base.deallocate()
        state.deallocate()
    }

    @inlinable @inline(__always) public var base: UnsafeMutablePointer<Argument> { state.pointee.base }

    /// Makes room for `count` arguments; those there are lost when it must grow.
    @inlinable @inline(__always)
    public func reserve(_ count: Int) { if count > state.pointee.capacity { grow(count) } }

    @usableFromInline @inline(never)
    func grow(_ count: Int) {
        state.pointee.base.deallocate()
        state.pointee.base = .allocate(capacity: count)
        state.pointee.capacity = count
    }
}
