import CLinux
import Glibc
import Reactor

/// A snapshot file that is being loaded, a block at a time.
final class SnapshotLoad {
    let path: String
    let size: Int
    let snapshot: RDBReader
    let began = ContinuousClock.now
    private let descriptor: Int32
    private let block = UnsafeMutableRawPointer.allocate(byteCount: SnapshotLoad.blockSize, alignment: 4096)
    private static let blockSize = 1 << 18

    /// - Throws: `FileError.missing` when there is no such file.
    init(path: String, reader: RDBReader) throws(RDBReader.FileError) {
        self.path = path
        snapshot = reader
        descriptor = open(path, O_RDONLY | O_CLOEXEC)
        var status = stat()
        size = descriptor >= 0 && fstat(descriptor, &status) == 0 ? Int(status.st_size) : 0
        guard descriptor >= 0 else {
            if errno == ENOENT { throw .missing(path: path) }
            throw .system(path: path, SystemError("open"))
        }
        reader.size = size
        posix_fadvise(descriptor, 0, 0, Int32(POSIX_FADV_SEQUENTIAL))
    }

    deinit {
        block.deallocate()
        if descriptor >= 0 { close(descriptor) }
    }

    /// Reads until the monotonic clock, in nanoseconds, has reached `deadline`, one block at least.
    /// - Returns: whether the file is over.
    /// - Throws: `FileError` naming the file, and the byte when its content is wrong.
    func read(until deadline: UInt64) throws(RDBReader.FileError) -> Bool {
        do throws(RDBError) {
            repeat {
                if try readBlock() { return true }
            } while StoreServer.nanoseconds() < deadline
            return false
        } catch {
            throw .content(path: path, error)
        }
    }

    private func readBlock() throws(RDBError) -> Bool {
        var n = Glibc.read(descriptor, block, SnapshotLoad.blockSize)
        while n < 0, errno == EINTR { n = Glibc.read(descriptor, block, SnapshotLoad.blockSize) }
        guard n >= 0 else { throw RDBError(offset: snapshot.bytesRead, reason: "reading fails: \(String(cString: strerror(errno)))") }
        if n == 0 {
            try snapshot.finish()
            return true
        }
        if case .done = try snapshot.feed(UnsafeRawBufferPointer(start: block, count: n)) { return true }
        return false
    }
}

/// The snapshot as what is loaded at start.
final class SnapshotSource: LoadingSource {
    private unowned let persistence: Persistence
    private let load: SnapshotLoad

    init(_ load: SnapshotLoad, _ persistence: Persistence) {
        self.load = load
        self.persistence = persistence
    }

    var size: Int { load.size }
    var position: Int { load.snapshot.bytesRead }
    var path: String { load.path }
    var reader: RDBReader? { load.snapshot }

    func advance(until deadline: UInt64) throws(LoadingError) -> Bool {
        do throws(RDBReader.FileError) { return try load.read(until: deadline) } catch { throw LoadingError(error) }
    }

    func finish() { persistence.use(load) }
}
