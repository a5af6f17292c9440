/// Bytes that connections of one kind have carried.
@frozen public struct Traffic: Sendable {
    public var received: UInt64 = 0
    public var sent: UInt64 = 0

    public init() {}
}

/// What a loop has done since it started.
public struct LoopStatistics: Sendable {
    /// Times round the loop.
    public var iterations: UInt64 = 0
    /// Time spent awake.
    public var busy: Duration { .nanoseconds(Int64(clamping: busyNanoseconds)) }
    var busyNanoseconds: UInt64 = 0
    /// The longest single callback, and whose it was.
    public var longestCallback: Duration = .zero
    public var longestCallbackLabel: StaticString = "none"
    public var bytesReceived: UInt64 = 0
    public var bytesSent: UInt64 = 0
    /// Times that a connection received or sent something.
    public var reads: UInt64 = 0
    public var writes: UInt64 = 0
    /// Events for a descriptor that had been closed and reused meanwhile.
    public var lateEventsDropped: UInt64 = 0
    public var connectionsAccepted: UInt64 = 0
    /// Times that accepting failed for want of descriptors or memory.
    public var acceptsFailed: UInt64 = 0

    public init() {}
}
