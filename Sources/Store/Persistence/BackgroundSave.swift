import CLinux
import Glibc
import Reactor

/// A child that writes a snapshot, and what it says of it: how much memory the copy cost, and what failed.
///
///     0             8
///     | copied (8)  | text of the error, empty for none ...
final class BackgroundSave: ConnectionHandler {
    /// Seconds since 1970.
    let startedAt: Int64
    /// Changes that the snapshot holds already.
    let dirtyBefore: Int64
    var pid: Int32 = 0
    var temporary = ""
    /// Called with whether the snapshot is there, when the child has ended.
    var onEnd: (Bool) -> Void = { _ in }
    /// We ended it ourselves.
    var isStopped = false
    private var bytes: [UInt8] = []
    private static let reportMax = 4096

    init(startedAt: Int64, dirtyBefore: Int64) {
        self.startedAt = startedAt
        self.dirtyBefore = dirtyBefore
    }

    func connectionReceived(_ connection: Connection) {
        let arrived = connection.input.bytes
        bytes.append(contentsOf: arrived.prefix(max(0, BackgroundSave.reportMax - bytes.count)))
        connection.input.consume(arrived.count)
    }

    func connectionReachedEnd(_ connection: Connection) { connection.close() }
    func connectionClosed(_ connection: Connection, _ reason: CloseReason) {}

    /// What has come of the child's report.
    var received: (copied: Int, error: String) {
        guard bytes.count >= 8 else { return (0, "the child says nothing") }
        let copied = bytes.withUnsafeBytes { $0.loadUnaligned(as: Int.self) }
        return (copied, String(decoding: bytes[8...], as: UTF8.self))
    }

    /// The child's side.
    static func report(copied: Int, _ error: SystemError?, to descriptor: Int32) {
        var bytes = withUnsafeBytes(of: copied) { Array($0) }
        if let error { bytes += Array("\(error)".utf8) }
        _ = write(descriptor, bytes, bytes.count)
    }

    /// Bytes of this process that it shares with nobody: in a child, what was copied because somebody wrote to it.
    ///
    /// Source: `Private_Dirty` of /proc/self/smaps_rollup (proc(5)).
    static func copiedBytes() -> Int {
        let descriptor = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return 0 }
        defer { close(descriptor) }
        let text = withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 1) { area in
            let n = read(descriptor, area.baseAddress!, area.count)
            return String(decoding: area[0..<max(0, n)], as: UTF8.self)
        }
        for line in text.split(separator: "\n") where line.hasPrefix("Private_Dirty:") {
            return (line.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) * 1024
        }
        return 0
    }
}
