import Glibc
import Logging

/// Lines for whoever started `vigie` in a terminal: `vigie: level: message` on standard error, one `write` each.
public struct StandardErrorHandler: LogHandler {
    public var metadata: Logger.Metadata = [:]
    public var logLevel: Logger.Level
    private let name: String

    /// - Parameter name: what stands before each line; the program's name.
    public init(name: String = "vigie", logLevel: Logger.Level = .notice) {
        self.name = name
        self.logLevel = logLevel
    }

    public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    public func log(event: LogEvent) {
        var line: [UInt8] = []
        line.reserveCapacity(160)
        line.append(name)
        line.append(": " as StaticString)
        // What is merely said needs no level before it; what is wrong does.
        if event.level != .notice {
            line.append(event.level.rawValue)
            line.append(": " as StaticString)
        }
        line.append(message: event.message, metadata: merged(metadata, event.metadata))
        line.append(10)
        write(STDERR_FILENO, line, line.count)
    }
}

extension Logger {
    /// A logger to standard error, for `vigie` itself.
    public static func standardError(name: String = "vigie", level: Logger.Level = .notice) -> Logger {
        Logger(label: name) { _ in StandardErrorHandler(name: name, logLevel: level) }
    }
}
