import Glibc

/// One statement of a keepalived.conf: a keyword, the words after it, and perhaps a block of statements in braces.
public struct KeepalivedStatement: Equatable, Sendable {
    public let keyword: String
    /// The words after the keyword, quotes and escapes undone.
    public let arguments: [String]
    /// The statements between the braces; nil without braces.
    public let block: [KeepalivedStatement]?
    public let location: ConfigurationLocation

    public init(keyword: String, arguments: [String], block: [KeepalivedStatement]?, location: ConfigurationLocation) {
        self.keyword = keyword
        self.arguments = arguments
        self.block = block
        self.location = location
    }

    /// An error about this statement, at its place.
    public func error(_ message: String) -> ConfigurationError { ConfigurationError(message, at: location) }
}

/// Reads the syntax of keepalived.conf(5): a statement a line, `#` and `!` comments, quoted words, blocks, `include`.
///
/// Definitions (`$NAME=`), conditional lines (`@name`) and sequences (`~SEQ`) are refused: read without them, the file
/// would mean something else.
public struct KeepalivedConfiguration: Equatable, Sendable {
    public let statements: [KeepalivedStatement]
    /// What was passed over, as Keepalived does: an `include` that names no readable file.
    public let warnings: [ConfigurationError]

    /// Files that include each other deeper than this are taken for a circle.
    static let includeDepthMax = 16

    /// Reads a file and what it includes.
    /// - Throws: `ConfigurationError` for what is not keepalived.conf's syntax, or when the file cannot be read.
    public static func load(path: String) throws(ConfigurationError) -> KeepalivedConfiguration {
        var reader = KeepalivedReader()
        try reader.read(try KeepalivedReader.contents(of: path), file: path, depth: 0)
        return try reader.finish()
    }

    /// Reads text; `include` is resolved relative to the folder of `file`.
    public static func parse(_ text: String, file: String) throws(ConfigurationError) -> KeepalivedConfiguration {
        var reader = KeepalivedReader()
        try reader.read(Array(text.utf8), file: file, depth: 0)
        return try reader.finish()
    }
}
