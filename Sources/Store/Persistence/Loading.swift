import Glibc
import Logging
import Reactor

/// Why the data set cannot be loaded.
struct LoadingError: Error {
    /// What was being loaded, as the log calls it.
    let what: String
    /// What is wrong, with the file and the byte.
    let text: String
    /// What the process ends with.
    let cause: SystemError

    init(_ error: RDBReader.FileError) {
        what = "the DB"
        text = "\(error)"
        if case .system(_, let cause) = error { self.cause = cause } else { cause = SystemError("load \(error)", code: EBADMSG) }
    }

    init(_ error: AOFError) {
        what = "the append only file"
        text = "\(error)"
        cause = SystemError("load \(error)", code: EBADMSG)
    }
}

/// What is loaded at start: the snapshot, or the files of the append-only file.
protocol LoadingSource: AnyObject {
    /// Bytes of all files together.
    var size: Int { get }
    /// Bytes of them that have been loaded.
    var position: Int { get }
    /// The file that is being read.
    var path: String { get }
    /// The snapshot that is being read.
    var reader: RDBReader? { get }
    /// Goes on until the monotonic clock has reached `deadline`, in nanoseconds, or a little longer: one block, or some commands.
    /// - Returns: whether everything has been read.
    func advance(until deadline: UInt64) throws(LoadingError) -> Bool
    /// Puts what was read into use.
    func finish() throws(LoadingError)
}

/// Loads the data set at start, in turns of the loop, so that everything else in the process lives on meanwhile: clients are told
/// LOADING, and Sentinel, proxy and VRRP beside the store notice nothing.
final class Loading {
    private unowned let server: StoreServer
    private let source: any LoadingSource
    /// Called when all is loaded, or with what is wrong; not for what happens in the first turn.
    private let completion: (LoadingError?) -> Void
    /// Seconds since 1970.
    private let startedAt: Int64
    private var isCancelled = false
    private var lastProgress = StoreServer.nanoseconds()

    /// Small files are loaded in the first turn, before anybody can have connected.
    private static let firstTurn: UInt64 = 50_000_000
    /// A turn: long enough that the loop's own work between two (some 10 us) does not count, short beside the timers of the other roles.
    private static let turn: UInt64 = 4_000_000

    init(server: StoreServer, source: any LoadingSource, completion: @escaping (LoadingError?) -> Void) {
        self.server = server
        self.source = source
        self.completion = completion
        startedAt = server.loop.wallMilliseconds / 1000
    }

    /// Loads for one turn, and leaves the rest to the loop.
    /// - Returns: whether all is loaded already; `completion` is not called then.
    func begin() throws(LoadingError) -> Bool {
        server.gate.insert(.loading)
        server.updatePropagation()
        if try advance(Loading.firstTurn) { return true }
        goOn()
        return false
    }

    /// Gives up: the process ends.
    func cancel() { isCancelled = true }

    private func advance(_ nanoseconds: UInt64) throws(LoadingError) -> Bool {
        guard try source.advance(until: StoreServer.nanoseconds() + nanoseconds) else { return false }
        server.gate.remove(.loading)
        server.updatePropagation()
        try source.finish()
        return true
    }

    private func goOn() {
        server.loop.continueNextIteration(label: "loading") { [weak self] in self?.takeTurn() }
    }

    private func takeTurn() {
        guard !isCancelled else { return }
        do throws(LoadingError) {
            if try advance(Loading.turn) { return completion(nil) }
        } catch {
            return completion(error)
        }
        noteProgress()
        goOn()
    }

    /// Once a second the log says how far it is.
    private func noteProgress() {
        let now = StoreServer.nanoseconds()
        guard now - lastProgress >= 1_000_000_000 else { return }
        lastProgress = now
        server.logger.notice("Loading \(source.path): \(source.position) of \(source.size) bytes (\(percent)%)")
    }

    private var percent: String { InfoSection.fixed(Double(source.position) / Double(max(1, source.size)) * 100) }

    /// The databases that are being filled, where they are not the server's own yet.
    var databases: UnsafeMutableBufferPointer<Database>? { source.reader?.databases }

    /// Its part of INFO's section `persistence`.
    var infoFields: [(String, Any)] {
        let elapsed = server.loop.wallMilliseconds / 1000 - startedAt
        let left = source.size - source.position
        // In the first second nothing can be said; Redis says 1 then.
        let eta = elapsed == 0 ? 1 : elapsed * Int64(left) / Int64(source.position + 1)
        return [
            ("loading_start_time", startedAt), ("loading_total_bytes", source.size), ("loading_rdb_used_mem", source.reader?.usedMemory ?? 0),
            ("loading_loaded_bytes", source.position), ("loading_loaded_perc", percent), ("loading_eta_seconds", eta),
        ]
    }
}
