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

/// Writes a snapshot so that a reader of `path` finds either the old file or the whole new one, whatever happens meanwhile.
enum SnapshotFile {
    /// Writes under a temporary name beside `path`, syncs, renames, and syncs the folder.
    /// - Returns: nil, or what failed.
    static func write(
        path: String, temporary: String, databases: UnsafeMutableBufferPointer<Database>, info: SnapshotInfo, now: Int64,
        compresses: Bool, checksums: Bool, policy: EvictionPolicy
    ) -> SystemError? {
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { return SystemError("open \(temporary)") }
        func fail(_ what: String, _ code: Int32) -> SystemError {
            close(descriptor)
            unlink(temporary)
            errno = code
            return SystemError("\(what) \(temporary)")
        }
        let writer = RDBWriter(descriptor: descriptor, compresses: compresses, checksums: checksums, policy: policy, syncEvery: 32 << 20)
        let failure = writer.write(databases, info, now: now)
        if failure != 0 { return fail("write to", failure) }
        if fsync(descriptor) != 0 { return fail("fsync of", errno) }
        close(descriptor)
        if rename(temporary, path) != 0 {
            let error = SystemError("rename \(temporary) to \(path)")
            unlink(temporary)
            return error
        }
        return syncFolder(of: path)
    }

    /// A rename is on the disk only once its folder is.
    private static func syncFolder(of path: String) -> SystemError? {
        let folder = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { return SystemError("open the folder \(folder)") }
        defer { close(descriptor) }
        return fsync(descriptor) == 0 || errno == EINVAL ? nil : SystemError("fsync of the folder \(folder)")
    }
}
