/// Where something stands in a configuration: a file and a line counted from 1.
///
/// Options of the command line have a location too: its file is `<command line>`, its line the number of the option.
public struct ConfigurationLocation: Hashable, Sendable, CustomStringConvertible {
    public let file: String
    public let line: Int

    public init(file: String, line: Int) {
        self.file = file
        self.line = line
    }

    public var description: String { "\(file):\(line)" }
}

/// What is wrong in a configuration, and where. Prints as `file:line: message`.
public struct ConfigurationError: Error, Equatable, Sendable, CustomStringConvertible {
    public let location: ConfigurationLocation
    public let message: String

    public init(_ message: String, at location: ConfigurationLocation) {
        self.message = message
        self.location = location
    }

    public var description: String { "\(location): \(message)" }
}
