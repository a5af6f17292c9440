import Glibc

/// A file operation that failed, with the kernel's errno.
public struct ConfigurationFileError: Error, Equatable, Sendable, CustomStringConvertible {
    public let operation: String
    public let code: Int32

    init(_ operation: String) {
        self.operation = operation
        code = errno
    }

    /// The kernel's words for the errno ("No such file or directory").
    public var reason: String { String(cString: strerror(code)) }
    public var description: String { "\(operation): \(reason)" }
}

/// Reading configuration files, and replacing them so that a crash leaves the old one or the new one, whole.
public enum ConfigurationFile {
    /// Reads a whole file; nil for standard input.
    public static func read(_ path: String?) throws(ConfigurationFileError) -> [UInt8] {
        let descriptor = path.map { open($0, O_RDONLY | O_CLOEXEC) } ?? STDIN_FILENO
        guard descriptor >= 0 else { throw ConfigurationFileError("open \(path ?? "-")") }
        defer { if path != nil { close(descriptor) } }
        var text: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = Glibc.read(descriptor, &chunk, chunk.count)
            if count == 0 { return text }
            if count > 0 {
                text += chunk[..<count]
            } else if errno != EINTR {
                throw ConfigurationFileError("read \(path ?? "-")")
            }
        }
    }

    /// The files that a pattern of `include` means, sorted. A pattern without wildcards is its own match, so that a missing
    /// file is noticed; one with wildcards may match nothing.
    static func matches(_ pattern: String) -> [String] {
        guard pattern.contains(where: { "*?[".contains($0) }) else { return [pattern] }
        var result = glob_t()
        defer { globfree(&result) }
        guard glob(pattern, 0, nil, &result) == 0 else { return [] }
        return (0..<Int(result.gl_pathc)).compactMap { result.gl_pathv[$0].map { String(cString: $0) } }
    }

    /// Replaces a file: a temporary one beside it is written and synced, renamed over it, and the folder is synced. Mode
    /// and owner (where we may) are the old file's.
    public static func replace(_ path: String, with text: [UInt8]) throws(ConfigurationFileError) {
        // A link is followed, so that the file that it names is replaced and not the link.
        var target = path
        if let real = realpath(path, nil) {
            target = String(cString: real)
            free(real)
        }
        let folder = target.lastIndex(of: "/").map { $0 == target.startIndex ? "/" : String(target[..<$0]) } ?? "."
        let temporary = "\(target).\(getpid()).tmp"
        var old = stat()
        let existed = stat(target, &old) == 0

        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, existed ? old.st_mode & 0o7777 : 0o644)
        guard descriptor >= 0 else { throw ConfigurationFileError("create \(temporary)") }
        do throws(ConfigurationFileError) {
            defer { close(descriptor) }
            if existed {
                _ = fchmod(descriptor, old.st_mode & 0o7777)
                _ = fchown(descriptor, old.st_uid, old.st_gid)
            }
            try writeAll(text, to: descriptor, path: temporary)
            guard fsync(descriptor) == 0 else { throw ConfigurationFileError("fsync \(temporary)") }
        } catch {
            unlink(temporary)
            throw error
        }
        guard rename(temporary, target) == 0 else {
            let error = ConfigurationFileError("rename \(temporary) to \(target)")
            unlink(temporary)
            throw error
        }
        let directory = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { throw ConfigurationFileError("open \(folder)") }
        defer { close(directory) }
        guard fsync(directory) == 0 else { throw ConfigurationFileError("fsync \(folder)") }
    }

    private static func writeAll(_ text: [UInt8], to descriptor: Int32, path: String) throws(ConfigurationFileError) {
        var written = 0
        while written < text.count {
            let count = text[written...].withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
            if count >= 0 {
                written += count
            } else if errno != EINTR {
                throw ConfigurationFileError("write \(path)")
            }
        }
    }
}
