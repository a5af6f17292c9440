import CLinux
import Glibc
import Reactor

/// Snapshots as files.
extension RDBReader {
    /// What is wrong with a file, or with getting at it.
    enum FileError: Error, CustomStringConvertible {
        /// There is none.
        case missing(path: String)
        case system(path: String, SystemError)
        case content(path: String, RDBError)

        var description: String {
            switch self {
            case .missing(let path): "\(path): there is no such file"
            case .system(let path, let error): "\(path): \(error)"
            case .content(let path, let error): "\(path): \(error)"
            }
        }
    }

    private static let blockSize = 1 << 18

    /// Reads a whole file. It blocks for as long as that takes.
    /// - Parameter progress: called after each block with the bytes read so far.
    /// - Throws: `FileError` naming the file, and the byte when its content is wrong.
    func read(path: String, progress: (Int) -> Void = { _ in }) throws(FileError) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            if errno == ENOENT { throw .missing(path: path) }
            throw .system(path: path, SystemError("open"))
        }
        defer { close(descriptor) }
        var information = stat()
        if fstat(descriptor, &information) == 0 { size = Int(information.st_size) }
        posix_fadvise(descriptor, 0, 0, Int32(POSIX_FADV_SEQUENTIAL))
        let block = UnsafeMutableRawPointer.allocate(byteCount: RDBReader.blockSize, alignment: 4096)
        defer { block.deallocate() }
        do throws(RDBError) {
            while true {
                let n = Glibc.read(descriptor, block, RDBReader.blockSize)
                if n < 0, errno == EINTR { continue }
                guard n >= 0 else { throw RDBError(offset: bytesRead, reason: "reading fails: \(String(cString: strerror(errno)))") }
                if n == 0 { break }
                if case .done = try feed(UnsafeRawBufferPointer(start: block, count: n)) { return }
                progress(bytesRead)
            }
            try finish()
        } catch {
            throw .content(path: path, error)
        }
    }
}

/// Snapshots that a crash leaves either as they were or whole.
enum SnapshotFile {
    /// - Returns: nil, or what failed.
    static func write(
        path: String, temporary: String, databases: UnsafeMutableBufferPointer<Database>, info: SnapshotInfo, now: Int64,
        compresses: Bool, checksums: Bool, policy: EvictionPolicy
    ) -> SystemError? {
        DurableFile.replace(path, temporary: temporary) { descriptor in
            RDBWriter(descriptor: descriptor, compresses: compresses, checksums: checksums, policy: policy, syncEvery: 32 << 20)
                .write(databases, info, now: now)
        }
    }
}
