import CLinux
import Glibc
import RESP

/// Why the append-only file cannot be loaded, and how to mend it.
struct AOFError: Error, CustomStringConvertible {
    let path: String
    /// Where in the file.
    var offset: Int?
    let reason: String
    var remedy = ""

    var description: String {
        "\(path): \(offset.map { "byte \($0): " } ?? "")\(reason)\(remedy.isEmpty ? "" : ". \(remedy)")"
    }
}

/// Looks at the requests of an append-only file: arrays of bulk strings, and lines that begin with `#`.
///
/// Stricter than what a client may send: a file says nothing that we or a Redis have not written.
struct AOFRequest {
    enum Outcome {
        /// So many bytes; the arguments are in the list.
        case command(count: Int, length: Int)
        /// A line that is no command.
        case annotation(length: Int)
        /// It needs this many bytes at least.
        case short(Int)
        /// It is none, from this byte on.
        case bad(at: Int, reason: String)
    }

    /// Longest line of a length, and of an annotation.
    private static let lineMax = 1024

    private(set) var arguments = UnsafeMutablePointer<Argument>.allocate(capacity: 64)
    private var capacity = 64

    func deallocate() { arguments.deallocate() }

    /// Looks at the request at the front of the bytes. O(arguments).
    mutating func parse(_ bytes: UnsafeRawBufferPointer) -> Outcome {
        guard let first = bytes.first else { return .short(1) }
        if first == UInt8(ascii: "#") {
            let line = bytes.prefix(AOFRequest.lineMax)
            if let end = line.firstIndex(of: 10) { return .annotation(length: end + 1) }
            return line.count < AOFRequest.lineMax ? .short(bytes.count + 1) : .bad(at: 0, reason: "an annotation of more than \(AOFRequest.lineMax) bytes")
        }
        var p = 0
        let count: Int
        switch AOFRequest.number(bytes, &p, UInt8(ascii: "*")) {
        case .value(let value): count = value
        case .short: return .short(p + 1)
        case .bad(let at, let reason): return .bad(at: at, reason: reason)
        }
        guard count > 0 else { return .bad(at: 0, reason: "a command of 0 words") }
        for i in 0..<count {
            let start = p
            let size: Int
            switch AOFRequest.number(bytes, &p, UInt8(ascii: "$")) {
            case .value(let value): size = value
            // Each word that is still to come takes six bytes at least.
            case .short: return .short(max(p + 1, start + 6 * (count - i)))
            case .bad(let at, let reason): return .bad(at: at, reason: reason)
            }
            guard bytes.count - p >= size + 2 else { return .short(p + size + 2 + 6 * (count - i - 1)) }
            guard bytes[p + size] == 13, bytes[p + size + 1] == 10 else {
                return .bad(at: p + size, reason: "a word of \(size) bytes is not followed by CR and LF")
            }
            if i == capacity { grow() }
            (arguments + i).initialize(to: Argument(UnsafeRawBufferPointer(rebasing: bytes[p..<(p + size)])))
            p += size + 2
        }
        return .command(count: count, length: p)
    }

    private mutating func grow() {
        let larger = UnsafeMutablePointer<Argument>.allocate(capacity: capacity * 2)
        larger.moveInitialize(from: arguments, count: capacity)
        arguments.deallocate()
        arguments = larger
        capacity *= 2
    }

    private enum Number {
        case value(Int)
        case short
        case bad(Int, String)
    }

    /// The mark, digits, CR and LF at `p`, which moves behind them.
    private static func number(_ bytes: UnsafeRawBufferPointer, _ p: inout Int, _ mark: UInt8) -> Number {
        let start = p
        guard p < bytes.count else { return .short }
        guard bytes[p] == mark else {
            return .bad(p, "\(shown(bytes[p])) stands where '\(Character(Unicode.Scalar(mark)))' belongs")
        }
        var value = 0
        var i = p + 1
        while i < bytes.count, bytes[i] >= 48, bytes[i] <= 57 {
            value = value &* 10 &+ Int(bytes[i] &- 48)
            i += 1
            if i - p > 12 { return .bad(p, "a length of more than 11 digits") }
        }
        guard i + 1 < bytes.count else {
            p = max(i, bytes.count)
            // What is there must not contradict a line's end already.
            return i < bytes.count && bytes[i] != 13 ? .bad(i, "\(shown(bytes[i])) stands in a length") : .short
        }
        guard i > start + 1, bytes[i] == 13, bytes[i + 1] == 10 else { return .bad(i, "\(shown(bytes[i])) stands in a length") }
        p = i + 2
        return .value(value)
    }

    private static func shown(_ byte: UInt8) -> String {
        byte > 32 && byte < 127 ? "'\(Character(Unicode.Scalar(byte)))'" : "byte \(byte)"
    }
}

/// A file read from its front, through a window that grows as far as one request needs.
struct AOFWindow {
    let path: String
    let size: Int
    private let descriptor: Int32
    private var memory: UnsafeMutableRawPointer
    private var capacity = 1 << 18
    private var start = 0
    private var end = 0
    /// Where in the file the window begins.
    private(set) var offset = 0

    init(path: String) throws(AOFError) {
        self.path = path
        descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw AOFError(path: path, reason: "it cannot be opened: \(String(cString: strerror(errno)))") }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            Glibc.close(descriptor)
            throw AOFError(path: path, reason: "it is no ordinary file")
        }
        size = Int(status.st_size)
        posix_fadvise(descriptor, 0, 0, Int32(POSIX_FADV_SEQUENTIAL))
        memory = .allocate(byteCount: capacity, alignment: 16)
    }

    func close() {
        Glibc.close(descriptor)
        memory.deallocate()
    }

    /// What has been read and not consumed.
    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: memory + start, count: end - start) }

    mutating func consume(_ count: Int) {
        start += count
        offset += count
    }

    /// Reads on, so that `count` bytes are in the window.
    /// - Returns: false when the file has fewer.
    mutating func fill(_ count: Int) throws(AOFError) -> Bool {
        if offset + count > size { return false }
        if start > 0 {
            memmove(memory, memory + start, end - start)
            end -= start
            start = 0
        }
        if count > capacity {
            capacity = max(count, min(capacity * 2, size))
            let larger = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
            memcpy(larger, memory, end)
            memory.deallocate()
            memory = larger
        }
        while end < count {
            let n = read(descriptor, memory + end, capacity - end)
            if n < 0, errno == EINTR { continue }
            guard n >= 0 else { throw AOFError(path: path, offset: offset + end, reason: "reading fails: \(String(cString: strerror(errno)))") }
            guard n > 0 else { return false }
            end += n
        }
        return true
    }

    /// Whether a whole command follows behind the front of the window and others up to the very end of the file: then the file
    /// was not cut off, but a length in it is damaged, and to drop what comes would lose commands that are there.
    func hasCommandsBehind(_ isKnown: (Argument) -> Bool) -> Bool {
        let length = min(size - offset - 1, AOFWindow.searchMax)
        guard length > 0 else { return false }
        let tail = UnsafeMutableRawBufferPointer.allocate(byteCount: length, alignment: 16)
        defer { tail.deallocate() }
        guard pread(descriptor, tail.baseAddress!, length, off_t(size - length)) == length else { return false }
        var request = AOFRequest()
        defer { request.deallocate() }
        let bytes = UnsafeRawBufferPointer(tail)
        var candidate = 0
        while let star = bytes[candidate...].firstIndex(of: UInt8(ascii: "*")) {
            candidate = star + 1
            guard star > 0, bytes[star - 1] == 10 else { continue }
            var p = star
            while p < length, case .command(_, let size) = request.parse(UnsafeRawBufferPointer(rebasing: bytes[p...])),
                isKnown(request.arguments[0]) {
                p += size
            }
            if p == length { return true }
            candidate = max(candidate, p + 1)
            if candidate >= length { return false }
        }
        return false
    }

    private static let searchMax = 1 << 20
}
