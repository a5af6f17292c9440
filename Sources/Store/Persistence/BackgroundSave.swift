import CLinux
import Glibc
import Reactor

/// A child that writes the data set, and what it says of it: how far it is, how much memory the copy has cost, and what failed.
///
///     0      1             9           17
///     | 0x50 | copied (8)  | keys (8)  |        so far, once a second
///     | 0x45 | copied (8)  | text of the error, empty for none ...      at the end
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
    var keysTotal = 0
    private(set) var keysWritten = 0
    /// Bytes that were copied so far because one of us wrote to them, the most of it, and when that was said; milliseconds since 1970.
    private(set) var copied = 0
    private(set) var copiedPeak = 0
    private(set) var copiedAt: Int64 = 0
    /// Called after each report on the way.
    var onProgress: (BackgroundSave) -> Void = { _ in }
    private var bytes: [UInt8] = []
    private static let reportMax = 4096
    private static let progressMark: UInt8 = 0x50
    private static let endMark: UInt8 = 0x45
    private static let progressSize = 17

    init(startedAt: Int64, dirtyBefore: Int64) {
        self.startedAt = startedAt
        self.dirtyBefore = dirtyBefore
    }

    func connectionReceived(_ connection: Connection) {
        let arrived = connection.input.bytes
        bytes.append(contentsOf: arrived.prefix(max(0, BackgroundSave.reportMax - bytes.count)))
        connection.input.consume(arrived.count)
        while bytes.first == BackgroundSave.progressMark, bytes.count >= BackgroundSave.progressSize {
            takeCopied(at: connection.loop.wallMilliseconds)
            keysWritten = number(at: 9)
            bytes.removeFirst(BackgroundSave.progressSize)
            onProgress(self)
        }
        if bytes.first == BackgroundSave.endMark, bytes.count >= 9 { takeCopied(at: connection.loop.wallMilliseconds) }
    }

    private func takeCopied(at now: Int64) {
        copied = number(at: 1)
        copiedPeak = max(copiedPeak, copied)
        copiedAt = now
    }

    private func number(at offset: Int) -> Int { bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: Int.self) } }

    func connectionReachedEnd(_ connection: Connection) { connection.close() }
    func connectionClosed(_ connection: Connection, _ reason: CloseReason) {}

    /// What has failed, in the child's words.
    var error: String {
        guard bytes.first == BackgroundSave.endMark, bytes.count >= 9 else { return "the child says nothing" }
        return String(decoding: bytes[9...], as: UTF8.self)
    }

    // MARK: the child's side

    /// Says how far it is.
    static func report(keys: Int, to descriptor: Int32) {
        let bytes = [progressMark] + withUnsafeBytes(of: copiedBytes()) { Array($0) } + withUnsafeBytes(of: keys) { Array($0) }
        _ = write(descriptor, bytes, bytes.count)
    }

    /// Says how it went.
    static func report(_ error: SystemError?, to descriptor: Int32) {
        var bytes = [endMark] + withUnsafeBytes(of: copiedBytes()) { Array($0) }
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

/// Passes on how many keys are written, once a second at most.
final class SaveProgress {
    private let report: (Int) -> Void
    private var last = StoreServer.nanoseconds()

    init(_ report: @escaping (Int) -> Void) { self.report = report }

    func note(_ keys: Int) {
        let now = StoreServer.nanoseconds()
        guard now - last >= 1_000_000_000 else { return }
        last = now
        report(keys)
    }
}
