import CLinux
import Glibc
import Logging
import Synchronization

/// The log of a store or a Sentinel in Redis's own form, to a file or to standard output:
///
///     PID:ROLE DD Mon YYYY HH:MM:SS.mmm LEVEL message
///     4242:M 22 Nov 2026 15:32:15.123 * Ready to accept connections
///
/// The file is opened for each line, as Redis does: a rotated file needs no signal, and a line is one `write` in append
/// mode, so that lines of a forked child never mix with the parent's. Every field is atomic or immutable; nothing locks.
public final class RedisLog: Sendable {
    /// Who writes, in the letter that Redis prints.
    public enum Role: UInt8, Sendable {
        case master = 0x4D  // M
        case replica = 0x53  // S
        /// A forked child that saves.
        case child = 0x43  // C
        case sentinel = 0x58  // X
    }

    /// The directive `loglevel`: what is less important is not written.
    public enum Verbosity: UInt8, Sendable, CaseIterable {
        case debug, verbose, notice, warning

        /// Reads the word that `redis.conf` uses; nil for any other.
        public init?(name: String) {
            switch name.lowercased() {
            case "debug": self = .debug
            case "verbose": self = .verbose
            case "notice": self = .notice
            case "warning": self = .warning
            default: return nil
            }
        }

        public var name: String { "\(self)" }

        var logLevel: Logger.Level {
            switch self {
            case .debug: .trace
            case .verbose: .info
            case .notice: .notice
            case .warning: .warning
            }
        }
    }

    /// The file's path; empty for standard output.
    public let path: String
    private let roleLetter: Atomic<UInt8>
    private let level: Atomic<UInt8>
    private let lost = Atomic<Int>(0)

    /// - Parameter path: the directive `logfile`; empty is standard output. A relative path is relative to the working
    ///   directory at the time of each line: hand in an absolute one before changing directory.
    public init(path: String, role: Role, verbosity: Verbosity = .notice) {
        self.path = path
        roleLetter = Atomic(role.rawValue)
        level = Atomic(verbosity.rawValue)
    }

    /// Who writes; changes at run time when a store changes sides, and in a forked child.
    public var role: Role {
        get { Role(rawValue: roleLetter.load(ordering: .relaxed))! }
        set { roleLetter.store(newValue.rawValue, ordering: .relaxed) }
    }

    /// What is written; `CONFIG SET loglevel` changes it for every logger of this log.
    public var verbosity: Verbosity {
        get { Verbosity(rawValue: level.load(ordering: .relaxed))! }
        set { level.store(newValue.rawValue, ordering: .relaxed) }
    }

    /// Lines that could not be written (disk full, directory gone, out of descriptors).
    public var linesLost: Int { lost.load(ordering: .relaxed) }

    /// Opens the file once, so that a wrong path is an error at the start and not a silent log.
    /// - Returns: the errno, or 0.
    public func check() -> Int32 {
        if path.isEmpty { return 0 }
        let descriptor = openFile()
        if descriptor < 0 { return errno }
        close(descriptor)
        return 0
    }

    /// A logger that writes here.
    public func logger(label: String = "redis") -> Logger { Logger(label: label) { _ in RedisLogHandler(log: self) } }

    func write(_ event: LogEvent, metadata: Logger.Metadata?) {
        let now = LocalTime()
        var line: [UInt8] = []
        line.reserveCapacity(256)
        line.append(decimal: Int(getpid()))
        line.append(UInt8(ascii: ":"))
        line.append(roleLetter.load(ordering: .relaxed))
        line.append(UInt8(ascii: " "))
        line.append(decimal: Int(now.fields.tm_mday), width: 2)
        line.append(UInt8(ascii: " "))
        line.append(LocalTime.month(now.fields.tm_mon))
        line.append(UInt8(ascii: " "))
        line.append(decimal: Int(now.fields.tm_year) + 1900)
        line.append(UInt8(ascii: " "))
        now.appendTime(to: &line)
        line.append(UInt8(ascii: "."))
        line.append(decimal: now.millisecond, width: 3)
        line.append(UInt8(ascii: " "))
        line.append(RedisLog.mark(of: event.level))
        line.append(UInt8(ascii: " "))
        line.append(message: event.message, metadata: metadata)
        line.append(10)
        let descriptor = path.isEmpty ? STDOUT_FILENO : openFile()
        let written = descriptor < 0 ? -1 : Glibc.write(descriptor, line, line.count)
        if written != line.count { lost.add(1, ordering: .relaxed) }
        if !path.isEmpty, descriptor >= 0 { close(descriptor) }
    }

    private func openFile() -> Int32 { open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o644) }

    /// Redis's marks: `.` debug, `-` verbose, `*` notice, `#` warning.
    static func mark(of level: Logger.Level) -> UInt8 {
        switch level {
        case .trace, .debug: UInt8(ascii: ".")
        case .info: UInt8(ascii: "-")
        case .notice: UInt8(ascii: "*")
        case .warning, .error, .critical: UInt8(ascii: "#")
        }
    }
}

/// swift-log's way into a `RedisLog`. The level is the log's, unless a logger has been given one of its own.
public struct RedisLogHandler: LogHandler {
    let log: RedisLog
    private var ownLevel: Logger.Level?
    public var metadata: Logger.Metadata = [:]

    public init(log: RedisLog) { self.log = log }

    public var logLevel: Logger.Level {
        get { ownLevel ?? log.verbosity.logLevel }
        set { ownLevel = newValue }
    }

    public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    public func log(event: LogEvent) { log.write(event, metadata: merged(metadata, event.metadata)) }
}
