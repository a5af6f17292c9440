import Reactor

/// One snapshot on its way to replicas.
protocol SnapshotTransfer: AnyObject {
    /// Those who are being sent it.
    var receivers: [Client] { get }
    /// A child of ours is writing it.
    var hasChild: Bool { get }
    func start()
    /// A receiver has gone.
    func forget(_ client: Client)
    /// A receiver has taken most of what waited for it.
    func drained(_ client: Client)
    /// Ten times a second.
    func cron(at now: Int64)
}

/// How much of a snapshot waits for one receiver.
enum TransferLimit {
    /// With more than this waiting nothing is read for it ...
    static let outputMax = 1 << 20
    /// ... until no more than this waits.
    static let outputResumed = outputMax / 2
}

/// Watches whether a receiver takes anything at all.
struct TransferProgress {
    private var waiting = -1
    private var since: Int64 = 0

    /// - Returns: for how many milliseconds the receiver has taken nothing although something waits.
    mutating func stalled(_ client: Client, at now: Int64) -> Int64 {
        let count = client.connection.output.count
        if count == 0 || count != waiting {
            waiting = count
            since = now
        }
        return now - since
    }
}
