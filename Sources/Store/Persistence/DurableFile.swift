import CLinux
import Glibc
import Reactor

/// Files that a crash leaves either as they were or whole.
enum DurableFile {
    /// Writes under a temporary name, syncs, renames, and syncs the folder: a reader of `path` finds either the old file or the
    /// whole new one, whatever happens meanwhile.
    /// - Parameters:
    ///   - temporary: in the same file system as `path`.
    ///   - body: writes to the descriptor; answers 0, or the errno.
    /// - Returns: nil, or what failed; `temporary` is gone then.
    static func replace(_ path: String, temporary: String, _ body: (_ descriptor: Int32) -> Int32) -> SystemError? {
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { return SystemError("open \(temporary)") }
        func fail(_ what: String, _ code: Int32) -> SystemError {
            close(descriptor)
            unlink(temporary)
            return SystemError("\(what) \(temporary)", code: code)
        }
        let failure = body(descriptor)
        if failure != 0 { return fail("write to", failure) }
        if fsync(descriptor) != 0 { return fail("fsync of", errno) }
        close(descriptor)
        if let error = move(temporary, to: path) {
            unlink(temporary)
            return error
        }
        return nil
    }

    /// Renames a file, and syncs the folder that it is in then: only with that is the name on the disk.
    static func move(_ old: String, to new: String) -> SystemError? {
        guard rename(old, new) == 0 else { return SystemError("rename \(old) to \(new)") }
        return syncFolder(of: new)
    }

    static func syncFolder(of path: String) -> SystemError? {
        let folder = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { return SystemError("open the folder \(folder)") }
        defer { close(descriptor) }
        return fsync(descriptor) == 0 || errno == EINVAL ? nil : SystemError("fsync of the folder \(folder)")
    }

    /// Makes a folder that is not there yet, and syncs the one that it is in.
    static func makeFolder(_ path: String) -> SystemError? {
        if mkdir(path, 0o755) == 0 { return syncFolder(of: path) }
        var status = stat()
        let code = errno
        if code == EEXIST, stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR { return nil }
        return SystemError("make the folder \(path)", code: code)
    }

    /// Writes all bytes; a descriptor that does not block is waited for.
    /// - Returns: 0, or the errno.
    static func write(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32) -> Int32 {
        var rest = bytes
        while rest.count > 0 {
            let n = Glibc.write(descriptor, rest.baseAddress!, rest.count)
            if n >= 0 {
                rest = UnsafeRawBufferPointer(rebasing: rest[n...])
            } else if errno == EAGAIN || errno == EWOULDBLOCK {
                var waiting = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                poll(&waiting, 1, -1)
            } else if errno != EINTR {
                return errno
            }
        }
        return 0
    }

    /// - Returns: the bytes of a file; nil when there is none of the name.
    static func size(of path: String) -> Int? {
        var status = stat()
        return stat(path, &status) == 0 ? Int(status.st_size) : nil
    }

    /// A whole file, which must be small.
    /// - Returns: nil when there is none of the name.
    static func read(_ path: String) throws(SystemError) -> [UInt8]? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            if errno == ENOENT || errno == ENOTDIR { return nil }
            throw SystemError("open \(path)")
        }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        while true {
            let (n, code) = withUnsafeTemporaryAllocation(byteCount: 65_536, alignment: 16) { area -> (Int, Int32) in
                let n = Glibc.read(descriptor, area.baseAddress!, area.count)
                if n > 0 { bytes.append(contentsOf: area[0..<n]) }
                return (n, errno)
            }
            if n == 0 { return bytes }
            if n < 0, code != EINTR { throw SystemError("read \(path)", code: code) }
        }
    }

    /// The names in a folder; none when it is not there.
    static func names(in folder: String) -> [String] {
        guard let stream = opendir(folder) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }
}
