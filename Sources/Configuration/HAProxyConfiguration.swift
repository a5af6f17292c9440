import Glibc

/// A file in HAProxy's configuration language, cut into sections, lines and words (HAProxy configuration manual §2.1 - 2.3).
///
/// Only the language is known here, no keyword's meaning. Every word keeps its line, so that whoever gives it a meaning
/// can name file and line in an error.
public struct HAProxyConfiguration: Sendable {
    /// One argument after quotes and escapes have been resolved. `\xNN` can produce any byte, so it is bytes first.
    public struct Word: Sendable, Equatable {
        public let bytes: [UInt8]
        public var text: String { String(decoding: bytes, as: UTF8.self) }

        public init(bytes: [UInt8]) { self.bytes = bytes }
        public init(_ text: String) { bytes = Array(text.utf8) }
    }

    /// A line that holds at least one word.
    public struct Line: Sendable {
        /// Counted from 1.
        public let number: Int
        public let words: [Word]

        public var keyword: String { words[0].text }
        /// The arguments behind the keyword.
        public var arguments: ArraySlice<Word> { words.dropFirst() }
    }

    /// A section's opening line and what follows it up to the next.
    public struct Section: Sendable {
        public let opening: Line
        public internal(set) var lines: [Line] = []

        /// `global`, `defaults`, `frontend`, `backend`, `listen`, ...
        public var kind: String { opening.keyword }
    }

    /// What is wrong, or worth knowing, at one place of the file, in the form in which HAProxy prints it.
    public struct Problem: Error, Sendable, CustomStringConvertible, Equatable {
        public enum Severity: String, Sendable {
            /// The file is not usable.
            case alert = "ALERT"
            /// It is usable, but something in it does not do what its author may expect.
            case warning = "WARNING"
            case notice = "NOTICE"
        }

        public let severity: Severity
        public let file: String
        /// 0 when no single line is to blame.
        public let line: Int
        public let message: String

        public init(_ severity: Severity, file: String, line: Int, _ message: String) {
            self.severity = severity
            self.file = file
            self.line = line
            self.message = Problem.printable(message)
        }

        /// What a broken file holds must not steer the terminal that its error is shown on.
        private static func printable(_ text: String) -> String {
            guard text.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) else { return text }
            var result = ""
            for scalar in text.unicodeScalars {
                if scalar.properties.generalCategory == .control {
                    let digits = String(scalar.value, radix: 16)
                    result += "\\x" + (digits.count < 2 ? "0" : "") + digits
                } else {
                    result.unicodeScalars.append(scalar)
                }
            }
            return result
        }

        /// `file:line: message`, as `vigie check` prints it.
        public var description: String { line > 0 ? "\(file):\(line): \(message)" : "\(file): \(message)" }

        /// `[ALERT]    (pid) : config : parsing [file:line] : message`, as HAProxy prints it.
        public func haproxyLine(pid: Int32) -> String {
            let tag = "[\(severity.rawValue)]".padding(to: 10)
            let place = line > 0 ? "parsing [\(file):\(line)] : " : ""
            return "\(tag) (\(pid)) : config : \(place)\(message)"
        }
    }

    /// Words that open a section in HAProxy 2.6.
    public static let sectionKeywords: Set<String> = [
        "global", "defaults", "frontend", "backend", "listen", "peers", "resolvers", "userlist", "mailers", "cache",
        "program", "http-errors", "ring", "fcgi-app", "log-forward", "crt-store", "traces",
    ]

    /// More than this is no configuration file.
    public static let sizeMax = 16 << 20

    public let path: String
    public private(set) var sections: [Section] = []
    /// Everything that the language itself forbids, in the order of the lines.
    public private(set) var problems: [Problem] = []

    /// Cuts `contents`; `path` is only used in messages and for `${.FILE}`.
    public init(path: String, contents: [UInt8], environment: [String: String]) {
        self.path = path
        var number = 0
        var start = contents.startIndex
        while start < contents.endIndex {
            number += 1
            let end = contents[start...].firstIndex(of: UInt8(ascii: "\n"))
            var line = contents[start..<(end ?? contents.endIndex)]
            // A file written on Windows: HAProxy takes the carriage return as the end of the line, too.
            if line.last == UInt8(ascii: "\r") { line = line.dropLast() }
            add(line, number: number, environment: environment)
            guard let end else {
                problems.append(Problem(
                    .alert, file: path, line: number,
                    "Missing LF on last line, file might have been truncated at position \(line.count + 1)."))
                break
            }
            start = end + 1
        }
    }

    /// Reads the file with the process's environment. A file that cannot be read is a problem like any other.
    public init(path: String) {
        guard let file = fopen(path, "re") else {
            self.init(path: path, contents: [], environment: [:])
            problems = [Problem(.alert, file: path, line: 0, "Could not open configuration file \(path) : \(String(cString: strerror(errno)))")]
            return
        }
        defer { fclose(file) }
        var contents: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while contents.count <= HAProxyConfiguration.sizeMax {
            let count = fread(&chunk, 1, chunk.count, file)
            if count == 0 { break }
            contents += chunk[..<count]
        }
        let failure: String? =
            if ferror(file) != 0 { String(cString: strerror(errno)) }
            else if contents.count > HAProxyConfiguration.sizeMax { "more than \(HAProxyConfiguration.sizeMax) bytes" }
            else { nil }
        self.init(path: path, contents: failure == nil ? contents : [], environment: HAProxyConfiguration.processEnvironment())
        if let failure { problems = [Problem(.alert, file: path, line: 0, "Could not read configuration file \(path) : \(failure)")] }
    }

    private static func processEnvironment() -> [String: String] {
        var result: [String: String] = [:]
        var cursor = environ
        while let entry = cursor.pointee {
            let text = String(cString: entry)
            if let equals = text.firstIndex(of: "=") { result[String(text[..<equals])] = String(text[text.index(after: equals)...]) }
            cursor += 1
        }
        return result
    }

    private mutating func add(_ bytes: ArraySlice<UInt8>, number: Int, environment: [String: String]) {
        let section = sections.last?.opening.words.last?.text ?? ""
        let pseudo = [".FILE": path, ".LINE": String(number), ".SECTION": section]
        var lexer = HAProxyLineLexer(bytes: bytes) { pseudo[$0] ?? environment[$0] }
        let words: [Word]
        do throws(HAProxyLineLexer.Failure) {
            words = try lexer.cut()
        } catch {
            // HAProxy shows the line, too. Here it is not: what a check sends may be a password.
            problems.append(Problem(.alert, file: path, line: number, "\(error.message) at position \(error.position + 1)"))
            return
        }
        guard let first = words.first else { return }
        let line = Line(number: number, words: words)
        if HAProxyConfiguration.sectionKeywords.contains(first.text) {
            sections.append(Section(opening: line))
        } else if first.text.hasPrefix(".") {
            problems.append(Problem(
                .alert, file: path, line: number,
                "'\(first.text)': conditional blocks (.if, .notice, ...) are not supported; keep only the lines that apply"))
        } else if sections.isEmpty {
            problems.append(Problem(
                .alert, file: path, line: number,
                "unknown keyword '\(first.text)' out of section. (sections: \(HAProxyConfiguration.sectionKeywords.sorted().joined(separator: ", ")))"))
        } else {
            sections[sections.count - 1].lines.append(line)
        }
    }
}

/// Cuts one line into words: blanks separate, `#` starts a comment, `\` escapes, `"` quotes weakly (variables are
/// expanded), `'` strongly.
struct HAProxyLineLexer {
    struct Failure: Error {
        let message: String
        /// Counted from 0.
        let position: Int
    }

    private let bytes: ArraySlice<UInt8>
    private let start: Int
    private var index: Int
    private let lookUp: (String) -> String?
    private var words: [HAProxyConfiguration.Word] = []
    private var word: [UInt8] = []
    /// Something of a word has been seen, if only an empty pair of quotes.
    private var isInWord = false

    init(bytes: ArraySlice<UInt8>, lookUp: @escaping (String) -> String?) {
        self.bytes = bytes
        start = bytes.startIndex
        index = bytes.startIndex
        self.lookUp = lookUp
    }

    mutating func cut() throws(Failure) -> [HAProxyConfiguration.Word] {
        while index < bytes.endIndex {
            let byte = bytes[index]
            switch byte {
            case UInt8(ascii: " "), UInt8(ascii: "\t"):
                finishWord()
                index += 1
            case UInt8(ascii: "#"):
                index = bytes.endIndex
            case UInt8(ascii: "\\"):
                isInWord = true
                try escape()
            case UInt8(ascii: "'"):
                isInWord = true
                try strongQuote()
            case UInt8(ascii: "\""):
                isInWord = true
                try weakQuote()
            case 0:
                throw Failure(message: "unsupported NUL byte", position: index - start)
            default:
                isInWord = true
                word.append(byte)
                index += 1
            }
        }
        finishWord()
        return words
    }

    private mutating func finishWord() {
        if isInWord { words.append(.init(bytes: word)) }
        word.removeAll(keepingCapacity: true)
        isInWord = false
    }

    /// `\n`, `\r`, `\t`, `\xNN`, or a character that loses its meaning; any other character keeps its backslash.
    private mutating func escape() throws(Failure) {
        let at = index - start
        index += 1
        guard index < bytes.endIndex else { throw Failure(message: "truncated or invalid escape sequence", position: at) }
        let byte = bytes[index]
        index += 1
        switch byte {
        case UInt8(ascii: "n"): word.append(0x0a)
        case UInt8(ascii: "r"): word.append(0x0d)
        case UInt8(ascii: "t"): word.append(0x09)
        case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\\"), UInt8(ascii: "#"), UInt8(ascii: "'"), UInt8(ascii: "\""), UInt8(ascii: "$"):
            word.append(byte)
        case UInt8(ascii: "x"):
            let digits = bytes[index...].prefix(2)
            guard digits.count == 2, let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 16) else {
                throw Failure(message: "truncated or invalid hexadecimal sequence", position: at)
            }
            word.append(value)
            index += 2
        default:
            word.append(UInt8(ascii: "\\"))
            word.append(byte)
        }
    }

    private mutating func strongQuote() throws(Failure) {
        let at = index - start
        guard let end = bytes[(index + 1)...].firstIndex(of: UInt8(ascii: "'")) else {
            throw Failure(message: "unmatched quote", position: at)
        }
        word += bytes[(index + 1)..<end]
        index = end + 1
    }

    private mutating func weakQuote() throws(Failure) {
        let at = index - start
        index += 1
        while index < bytes.endIndex {
            let byte = bytes[index]
            switch byte {
            case UInt8(ascii: "\""):
                index += 1
                return
            case UInt8(ascii: "\\"):
                try escape()
            case UInt8(ascii: "$"):
                try variable()
            default:
                word.append(byte)
                index += 1
            }
        }
        throw Failure(message: "unmatched quote", position: at)
    }

    /// `$NAME`, `${NAME}`, `${NAME-default}`, `${NAME[*]}`; one that is not set is empty.
    private mutating func variable() throws(Failure) {
        let at = index - start
        index += 1
        let hasBrace = index < bytes.endIndex && bytes[index] == UInt8(ascii: "{")
        if hasBrace { index += 1 }
        let nameStart = index
        while index < bytes.endIndex, isNameByte(bytes[index]) || (index == nameStart && bytes[index] == UInt8(ascii: ".")) { index += 1 }
        let name = String(decoding: bytes[nameStart..<index], as: UTF8.self)
        guard let first = bytes[nameStart..<index].first, !(UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) else {
            throw Failure(message: "unsupported character in variable name", position: index - start)
        }
        guard hasBrace else {
            word += Array((lookUp(name) ?? "").utf8)
            return
        }
        var splits = false
        var replacement: ArraySlice<UInt8> = []
        if bytes[index...].starts(with: Array("[*]".utf8)) {
            splits = true
            index += 3
        }
        if index < bytes.endIndex, bytes[index] == UInt8(ascii: "-") {
            let end = bytes[index...].firstIndex(of: UInt8(ascii: "}")) ?? bytes.endIndex
            replacement = bytes[(index + 1)..<end]
            index = end
        }
        guard index < bytes.endIndex, bytes[index] == UInt8(ascii: "}") else {
            throw Failure(message: "missing closing brace of a variable", position: at)
        }
        index += 1
        let value = lookUp(name).map { Array($0.utf8) } ?? Array(replacement)
        guard splits else {
            word += value
            return
        }
        let parts = value.split(whereSeparator: { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") })
        for (offset, part) in parts.enumerated() {
            if offset > 0 {
                finishWord()
                isInWord = true
            }
            word += part
        }
    }

    private func isNameByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "_"):
            true
        default: false
        }
    }
}

fileprivate extension String {
    func padding(to width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
