import Glibc

/// One directive of a redis.conf or sentinel.conf, with its place.
public struct RedisDirective: Equatable, Sendable {
    /// The first word, in lower case: Redis compares names without regard to case.
    public let name: String
    /// The words after the name as bytes: quotes and escapes undone, any byte possible.
    public let rawArguments: [[UInt8]]
    public let location: ConfigurationLocation

    /// The words after the name as text; bytes that are not UTF-8 become U+FFFD.
    public var arguments: [String] { rawArguments.map { String(decoding: $0, as: UTF8.self) } }

    public init(name: String, rawArguments: [[UInt8]], location: ConfigurationLocation) {
        self.name = name
        self.rawArguments = rawArguments
        self.location = location
    }

    /// An error about this directive, at its place.
    public func error(_ message: String) -> ConfigurationError { ConfigurationError(message, at: location) }
}

/// Reads the syntax that redis.conf and sentinel.conf share: a directive a line, `#` comments, quoted words, `include`.
///
/// The format's document is the head of Debian's /etc/redis/redis.conf; behaviour where that is silent is Redis 7.0's.
public enum RedisConfiguration {
    /// Files that include each other deeper than this are taken for a circle.
    static let includeDepthMax = 16

    /// Reads a file, what it includes, and the options of the command line, in the order in which they count: a later
    /// directive overrides an earlier one, the command line everything.
    ///
    /// - Parameters:
    ///   - path: the file; `-` is standard input; nil for none.
    ///   - overrides: the command line after the file, in Redis's style: `["--port", "7000", "--save", ""]`; a `-` at its end is
    ///     standard input, which counts before the options.
    /// - Throws: `ConfigurationError` naming file and line, with what could not be read.
    public static func load(path: String?, overrides: [String] = []) throws(ConfigurationError) -> [RedisDirective] {
        var directives: [RedisDirective] = []
        if let path {
            let start = ConfigurationLocation(file: path == "-" ? "<standard input>" : path, line: 0)
            try append(file: path, named: start.file, from: start, depth: 0, to: &directives)
        }
        var overrides = overrides
        if overrides.last == "-", path != "-" {
            overrides.removeLast()
            directives += try load(path: "-")
        }
        for directive in try parseOverrides(overrides) {
            try append(directive, depth: 0, to: &directives)
        }
        return directives
    }

    /// Reads text without following `include`: each directive as it stands.
    public static func parse(_ text: some Collection<UInt8>, file: String) throws(ConfigurationError) -> [RedisDirective] {
        var directives: [RedisDirective] = []
        var number = 0
        for line in text.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
            number += 1
            let location = ConfigurationLocation(file: file, line: number)
            if let directive = try parse(line: Array(line), at: location) { directives.append(directive) }
        }
        return directives
    }

    /// Turns `--name value ... --name value` into directives. As in Redis an argument that begins with `--` starts a
    /// directive (and may hold its values too: `"--port 7000"`), unless the one before it still has no value: then it is that.
    /// `--save` without a value means `save ""`.
    public static func parseOverrides(_ arguments: [String]) throws(ConfigurationError) -> [RedisDirective] {
        var directives: [RedisDirective] = []
        var words: [[UInt8]] = []
        func finish(_ words: [[UInt8]]) {
            guard let first = words.first else { return }
            let name = lowercased(first)
            let values = name == "save" && words.count == 1 ? [[]] : Array(words.dropFirst())
            let location = ConfigurationLocation(file: "<command line>", line: directives.count + 1)
            directives.append(RedisDirective(name: name, rawArguments: values, location: location))
        }
        for argument in arguments {
            let location = ConfigurationLocation(file: "<command line>", line: directives.count + 1)
            let wantsValue = words.count == 1 && lowercased(words[0]) != "save"
            if argument.hasPrefix("--"), !wantsValue {
                finish(words)
                guard let option = splitArguments(Array(argument.utf8.dropFirst(2))), !option.isEmpty else {
                    throw ConfigurationError("'\(argument)' is not an option: expected --name and its values", at: location)
                }
                words = option
            } else if words.isEmpty {
                throw ConfigurationError("'\(argument)' stands where an option was expected: --name and its values", at: location)
            } else {
                words.append(Array(argument.utf8))
            }
        }
        finish(words)
        return directives
    }

    /// Splits a line into words, undoing quotes: in double quotes `\n \r \t \b \a \xHH` and `\` before any other byte, in
    /// single quotes only `\'`. A closing quote is followed by a space or the end.
    /// - Returns: nil when a quote is not closed.
    public static func splitArguments(_ line: [UInt8]) -> [[UInt8]]? {
        var words: [[UInt8]] = []
        var i = 0
        while true {
            while i < line.count, isSpace(line[i]) { i += 1 }
            guard i < line.count else { return words }
            var word: [UInt8] = []
            while i < line.count, !isSpace(line[i]), line[i] != 0 {
                switch line[i] {
                case UInt8(ascii: "\""):
                    guard let end = readDoubleQuoted(line, from: i + 1, into: &word) else { return nil }
                    i = end
                case UInt8(ascii: "'"):
                    guard let end = readSingleQuoted(line, from: i + 1, into: &word) else { return nil }
                    i = end
                default:
                    word.append(line[i])
                    i += 1
                }
            }
            words.append(word)
            if i < line.count, line[i] == 0 { return words }
        }
    }

    /// The word as it can stand in a file: bare when it reads back as itself, otherwise in double quotes with escapes.
    public static func quote(_ word: some Collection<UInt8>) -> String {
        let isPlain = !word.isEmpty && word.allSatisfy {
            $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "'") && $0 != UInt8(ascii: "\\")
        } && word.first != UInt8(ascii: "#")
        if isPlain { return String(decoding: word, as: UTF8.self) }
        var text = "\""
        for byte in word {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): text += "\\" + String(UnicodeScalar(byte))
            case UInt8(ascii: "\n"): text += "\\n"
            case UInt8(ascii: "\r"): text += "\\r"
            case UInt8(ascii: "\t"): text += "\\t"
            case 0x07: text += "\\a"
            case 0x08: text += "\\b"
            case 0x20..<0x7F: text += String(UnicodeScalar(byte))
            default: text += "\\x" + hexDigit(byte >> 4) + hexDigit(byte & 15)
            }
        }
        return text + "\""
    }

    public static func quote(_ word: String) -> String { quote(Array(word.utf8)) }

    // MARK: lines

    /// The directive of one line; nil for blank lines and comments.
    static func parse(line: [UInt8], at location: ConfigurationLocation) throws(ConfigurationError) -> RedisDirective? {
        var line = line[...]
        while let last = line.last, isSpace(last) { line.removeLast() }
        while let first = line.first, isSpace(first) { line.removeFirst() }
        if line.isEmpty || line.first == UInt8(ascii: "#") { return nil }
        guard let words = splitArguments(Array(line)) else {
            throw ConfigurationError("unbalanced quotes: a quote must be closed, and followed by a space or the line's end", at: location)
        }
        guard let name = words.first else { return nil }
        return RedisDirective(name: lowercased(name), rawArguments: Array(words.dropFirst()), location: location)
    }

    private static func readDoubleQuoted(_ line: [UInt8], from start: Int, into word: inout [UInt8]) -> Int? {
        var i = start
        while i < line.count {
            let byte = line[i]
            if byte == UInt8(ascii: "\\"), i + 3 < line.count, line[i + 1] == UInt8(ascii: "x"),
                let high = hexValue(line[i + 2]), let low = hexValue(line[i + 3]) {
                word.append(high << 4 | low)
                i += 4
            } else if byte == UInt8(ascii: "\\"), i + 1 < line.count {
                word.append(unescape(line[i + 1]))
                i += 2
            } else if byte == UInt8(ascii: "\"") {
                return endsWord(line, at: i + 1) ? i + 1 : nil
            } else {
                word.append(byte)
                i += 1
            }
        }
        return nil
    }

    private static func readSingleQuoted(_ line: [UInt8], from start: Int, into word: inout [UInt8]) -> Int? {
        var i = start
        while i < line.count {
            if line[i] == UInt8(ascii: "\\"), i + 1 < line.count, line[i + 1] == UInt8(ascii: "'") {
                word.append(line[i + 1])
                i += 2
            } else if line[i] == UInt8(ascii: "'") {
                return endsWord(line, at: i + 1) ? i + 1 : nil
            } else {
                word.append(line[i])
                i += 1
            }
        }
        return nil
    }

    private static func endsWord(_ line: [UInt8], at i: Int) -> Bool { i >= line.count || isSpace(line[i]) }

    private static func unescape(_ byte: UInt8) -> UInt8 {
        switch byte {
        case UInt8(ascii: "n"): UInt8(ascii: "\n")
        case UInt8(ascii: "r"): UInt8(ascii: "\r")
        case UInt8(ascii: "t"): UInt8(ascii: "\t")
        case UInt8(ascii: "b"): 0x08
        case UInt8(ascii: "a"): 0x07
        default: byte
        }
    }

    private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }

    private static func hexValue(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }

    private static func hexDigit(_ value: UInt8) -> String { String(value, radix: 16) }

    private static func lowercased(_ word: [UInt8]) -> String { String(decoding: word, as: UTF8.self).lowercased() }

    // MARK: files

    private static func append(
        file path: String, named name: String, from origin: ConfigurationLocation, depth: Int, to directives: inout [RedisDirective]
    ) throws(ConfigurationError) {
        let text: [UInt8]
        do {
            text = try ConfigurationFile.read(path == "-" && depth == 0 ? nil : path)
        } catch {
            throw ConfigurationError("can't read '\(path)': \(error.reason)", at: origin)
        }
        for directive in try parse(text, file: name) { try append(directive, depth: depth, to: &directives) }
    }

    private static func append(_ directive: RedisDirective, depth: Int, to directives: inout [RedisDirective]) throws(ConfigurationError) {
        guard directive.name == "include" else {
            directives.append(directive)
            return
        }
        guard directive.arguments.count == 1 else {
            throw directive.error("include takes one file or pattern, found \(directive.arguments.count)")
        }
        guard depth < includeDepthMax else {
            throw directive.error("files include each other more than \(includeDepthMax) deep: is there a circle?")
        }
        let pattern = directive.arguments[0]
        for path in ConfigurationFile.matches(pattern) {
            try append(file: path, named: path, from: directive.location, depth: depth + 1, to: &directives)
        }
    }
}
