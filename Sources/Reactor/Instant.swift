/// A moment on a loop's monotonic clock, in nanoseconds since an arbitrary start.
///
/// On `EpollLoop` it is CLOCK_MONOTONIC, on `SimulatedLoop` virtual time. Never compared across loops of different kinds.
@frozen
public struct Instant: Comparable, Hashable, Sendable {
    public var nanoseconds: UInt64

    @inlinable public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

    /// Before every other moment.
    public static let zero = Instant(nanoseconds: 0)
    /// After every other moment: a deadline that never comes.
    public static let distantFuture = Instant(nanoseconds: .max)

    @inlinable public static func < (a: Instant, b: Instant) -> Bool { a.nanoseconds < b.nanoseconds }

    /// The whole milliseconds since the clock's start.
    @inlinable public var milliseconds: Int64 { Int64(nanoseconds / 1_000_000) }

    /// Saturates at both ends, so that `distantFuture + x` stays in the future.
    @inlinable public static func + (a: Instant, b: Duration) -> Instant {
        let delta = b.wholeNanoseconds
        if delta >= 0 {
            let (sum, overflow) = a.nanoseconds.addingReportingOverflow(UInt64(delta))
            return Instant(nanoseconds: overflow ? .max : sum)
        }
        let magnitude = delta.magnitude
        return Instant(nanoseconds: a.nanoseconds > magnitude ? a.nanoseconds - magnitude : 0)
    }

    @inlinable public static func - (a: Instant, b: Duration) -> Instant { a + (.zero - b) }

    /// The time from `b` to `a`; negative when `b` is later.
    @inlinable public static func - (a: Instant, b: Instant) -> Duration {
        a.nanoseconds >= b.nanoseconds
            ? .nanoseconds(Int64(clamping: a.nanoseconds - b.nanoseconds))
            : .zero - .nanoseconds(Int64(clamping: b.nanoseconds - a.nanoseconds))
    }

    @inlinable public static func += (a: inout Instant, b: Duration) { a = a + b }
}

extension Duration {
    /// The whole nanoseconds of the duration, clamped to 64 bits (292 years).
    @inlinable public var wholeNanoseconds: Int64 {
        let (seconds, attoseconds) = components
        let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        if overflow { return seconds < 0 ? .min : .max }
        return product &+ attoseconds / 1_000_000_000
    }

    /// The whole milliseconds of the duration, rounded towards zero.
    @inlinable public var wholeMilliseconds: Int64 { wholeNanoseconds / 1_000_000 }
}
