import Logging
import Synchronization

/// The last lines of a log, in memory: what the status page shows, and what tests of behaviour over time look at.
public final class RecentLog: Sendable {
    public struct Entry: Sendable, Equatable {
        public var level: Logger.Level
        public var message: String
    }

    private let kept = Mutex<[Entry]>([])
    private let limit: Int

    /// - Parameter limit: how many lines are kept; the oldest go first.
    public init(limit: Int = 1000) {
        precondition(limit > 0)
        self.limit = limit
    }

    /// Oldest first.
    public var entries: [Entry] { kept.withLock { $0 } }
    public var messages: [String] { entries.map(\.message) }

    public func contains(_ part: String) -> Bool { entries.contains { $0.message.contains(part) } }

    /// A logger that writes here.
    public func logger(label: String = "recent", level: Logger.Level = .trace) -> Logger {
        Logger(label: label) { _ in RecentLogHandler(log: self, logLevel: level) }
    }

    func append(_ entry: Entry) {
        kept.withLock {
            // Dropping a quarter at a time keeps an append O(1) on average.
            if $0.count >= limit { $0.removeFirst(max(1, limit / 4)) }
            $0.append(entry)
        }
    }
}

/// swift-log's way into a `RecentLog`.
public struct RecentLogHandler: LogHandler {
    let log: RecentLog
    public var metadata: Logger.Metadata = [:]
    public var logLevel: Logger.Level

    init(log: RecentLog, logLevel: Logger.Level) {
        self.log = log
        self.logLevel = logLevel
    }

    public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    public func log(event: LogEvent) {
        var text: [UInt8] = []
        text.append(message: event.message, metadata: merged(metadata, event.metadata))
        log.append(.init(level: event.level, message: String(decoding: text, as: UTF8.self)))
    }
}
