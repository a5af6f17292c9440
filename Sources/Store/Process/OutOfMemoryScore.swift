import Glibc

/// `oom-score-adj`: whether and how the kernel is told who is to be ended first when memory runs out.
enum OutOfMemoryAdjustment: String, CaseIterable, Sendable {
    case no
    /// The values are added to the score that the process was started with.
    case yes, relative
    case absolute
}

/// What kind of process a score is for: the place of its value in `oom-score-adj-values`.
enum ProcessKind: Int {
    case master, replica, child
}

/// The process's own adjustment of the kernel's score (`oom_score_adj` in proc(5)).
struct OutOfMemoryScore {
    private static let path = "/proc/self/oom_score_adj"
    /// What the process was started with, once it has been changed.
    private(set) var original: Int?

    /// The score that a process of that kind gets; nil for none.
    static func wanted(_ configuration: StoreConfiguration, _ kind: ProcessKind, original: Int) -> Int? {
        let value = configuration.outOfMemoryScores[kind.rawValue]
        switch configuration.outOfMemoryAdjustment {
        case .no: return nil
        case .yes, .relative: return min(max(original + value, -1000), 1000)
        case .absolute: return min(max(value, -1000), 1000)
        }
    }

    /// Sets what the configuration says; with nothing to set, a score that was changed before is set back.
    /// - Returns: 0, or the errno (EACCES: a score below the present one needs CAP_SYS_RESOURCE).
    mutating func apply(_ configuration: StoreConfiguration, _ kind: ProcessKind) -> Int32 {
        if configuration.outOfMemoryAdjustment == .no {
            guard let before = original else { return 0 }
            original = nil
            return OutOfMemoryScore.write(before)
        }
        guard let before = original ?? OutOfMemoryScore.read() else { return errno }
        original = before
        return OutOfMemoryScore.wanted(configuration, kind, original: before).map(OutOfMemoryScore.write) ?? 0
    }

    private static func read() -> Int? {
        ProcessFile.text(path).flatMap { Int($0) }
    }

    private static func write(_ score: Int) -> Int32 {
        let descriptor = open(path, O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return errno }
        defer { close(descriptor) }
        let text = Array("\(score)".utf8)
        return Glibc.write(descriptor, text, text.count) == text.count ? 0 : errno
    }
}

/// Small files of /proc and /sys.
enum ProcessFile {
    /// The first line, of at most 4 KiB; nil when it cannot be read.
    static func text(_ path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = read(descriptor, &bytes, bytes.count)
        guard count >= 0 else { return nil }
        return String(decoding: bytes[..<count].prefix { $0 != 10 }, as: UTF8.self)
    }
}
