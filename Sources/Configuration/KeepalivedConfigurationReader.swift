import Glibc

/// One word of a line, and whether any of it stood in quotes: quoted braces are text.
struct KeepalivedWord: Equatable {
    var text: String
    var isQuoted: Bool
}

/// Builds the tree of statements, file after file.
struct KeepalivedReader {
    /// A statement whose block may still come, or whose block is open.
    private struct Open {
        var keyword: String
        var arguments: [String]
        var location: ConfigurationLocation
        var block: [KeepalivedStatement]?

        var statement: KeepalivedStatement {
            KeepalivedStatement(keyword: keyword, arguments: arguments, block: block, location: location)
        }
    }

    private var top: [KeepalivedStatement] = []
    /// The blocks that are open, the outermost first.
    private var openBlocks: [Open] = []
    /// The last statement, kept back because a brace on a later line would make it a block.
    private var last: Open?
    private var warnings: [ConfigurationError] = []

    static func contents(of path: String) throws(ConfigurationError) -> [UInt8] {
        do {
            return try ConfigurationFile.read(path)
        } catch {
            throw ConfigurationError("\(error)", at: ConfigurationLocation(file: path, line: 0))
        }
    }

    mutating func read(_ text: [UInt8], file: String, depth: Int) throws(ConfigurationError) {
        var number = 0
        for line in text.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
            number += 1
            let location = ConfigurationLocation(file: file, line: number)
            let words = try KeepalivedReader.words(of: Array(line), at: location)
            try read(words, at: location, depth: depth)
        }
    }

    mutating func finish() throws(ConfigurationError) -> KeepalivedConfiguration {
        if let open = openBlocks.last {
            throw ConfigurationError("'\(open.keyword)' opens a block that is not closed by '}'", at: open.location)
        }
        settleLast()
        return KeepalivedConfiguration(statements: top, warnings: warnings)
    }

    /// The words of one line may be several statements, cut by braces.
    private mutating func read(_ words: [KeepalivedWord], at location: ConfigurationLocation, depth: Int) throws(ConfigurationError) {
        guard let first = words.first else { return }
        if !first.isQuoted { try refuseSubstitution(first.text, at: location) }
        if !first.isQuoted, KeepalivedReader.includeKeywords.contains(first.text) {
            settleLast()
            return try include(words.dropFirst().map(\.text), keyword: first.text, at: location, depth: depth)
        }
        var pending: [KeepalivedWord] = []
        for word in words {
            guard !word.isQuoted, word.text == "{" || word.text == "}" else {
                pending.append(word)
                continue
            }
            flush(&pending, at: location)
            if word.text == "{" { try openBlock(at: location) } else { try closeBlock(at: location) }
        }
        flush(&pending, at: location)
    }

    private mutating func flush(_ words: inout [KeepalivedWord], at location: ConfigurationLocation) {
        guard let first = words.first else { return }
        settleLast()
        last = Open(keyword: first.text, arguments: words.dropFirst().map(\.text), location: location)
        words.removeAll()
    }

    /// The last statement turned out to have no block.
    private mutating func settleLast() {
        guard let last else { return }
        self.last = nil
        append(last.statement)
    }

    private mutating func append(_ statement: KeepalivedStatement) {
        if openBlocks.isEmpty { top.append(statement) } else { openBlocks[openBlocks.count - 1].block?.append(statement) }
    }

    private mutating func openBlock(at location: ConfigurationLocation) throws(ConfigurationError) {
        guard var block = last else { throw ConfigurationError("'{' follows no keyword", at: location) }
        last = nil
        block.block = []
        openBlocks.append(block)
    }

    private mutating func closeBlock(at location: ConfigurationLocation) throws(ConfigurationError) {
        settleLast()
        guard let block = openBlocks.popLast() else { throw ConfigurationError("'}' closes no block", at: location) }
        append(block.statement)
    }

    private func refuseSubstitution(_ word: String, at location: ConfigurationLocation) throws(ConfigurationError) {
        let what: String? = switch word.first {
        case "$": "definitions ('$NAME=...')"
        case "@": "conditional lines ('@name')"
        case "~": "sequences ('~SEQ(...)')"
        default: nil
        }
        if let what { throw ConfigurationError("'\(word)': \(what) are not supported", at: location) }
    }

    // MARK: include

    /// `include` and its stricter kinds, which make errors of what `include` passes over.
    private static let includeKeywords: Set<String> = ["include", "includer", "includem", "includew", "includeb", "includea"]

    private mutating func include(_ arguments: [String], keyword: String, at location: ConfigurationLocation, depth: Int) throws(ConfigurationError) {
        guard arguments.count == 1 else { throw ConfigurationError("'\(keyword)' takes one file or pattern", at: location) }
        guard depth < KeepalivedConfiguration.includeDepthMax else {
            throw ConfigurationError("'\(keyword) \(arguments[0])': files include each other more than \(KeepalivedConfiguration.includeDepthMax) deep", at: location)
        }
        var pattern = arguments[0]
        if !pattern.hasPrefix("/"), let slash = location.file.lastIndex(of: "/") { pattern = location.file[...slash] + pattern }
        let files = ConfigurationFile.matches(pattern)
        if files.isEmpty { try passOver("'\(keyword) \(arguments[0])': no file matches", keyword, at: location) }
        for file in files {
            guard access(file, R_OK) == 0 else {
                try passOver("'\(keyword) \(arguments[0])': \(file): \(String(cString: strerror(errno)))", keyword, at: location)
                continue
            }
            try read(try KeepalivedReader.contents(of: file), file: file, depth: depth + 1)
        }
    }

    private mutating func passOver(_ message: String, _ keyword: String, at location: ConfigurationLocation) throws(ConfigurationError) {
        if keyword != "include" { throw ConfigurationError(message, at: location) }
        warnings.append(ConfigurationError(message, at: location))
    }

    // MARK: words

    /// Cuts a line into words. Quotes may begin and end anywhere in a word, as in a shell.
    static func words(of line: [UInt8], at location: ConfigurationLocation) throws(ConfigurationError) -> [KeepalivedWord] {
        var words: [KeepalivedWord] = []
        var word: [UInt8]?
        var isQuoted = false
        func end() {
            if let text = word { words.append(KeepalivedWord(text: String(decoding: text, as: UTF8.self), isQuoted: isQuoted)) }
            word = nil
            isQuoted = false
        }
        var index = 0
        while index < line.count {
            let byte = line[index]
            index += 1
            switch byte {
            case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\r"):
                end()
            case UInt8(ascii: "#"), UInt8(ascii: "!"):
                end()
                return words
            case UInt8(ascii: "{"), UInt8(ascii: "}"):
                end()
                word = [byte]
                end()
            case UInt8(ascii: "\""), UInt8(ascii: "'"):
                isQuoted = true
                word = (word ?? []) + (try quoted(line, from: &index, by: byte, at: location))
            default:
                word = (word ?? []) + [byte]
            }
        }
        end()
        return words
    }

    private static func quoted(_ line: [UInt8], from index: inout Int, by quote: UInt8, at location: ConfigurationLocation) throws(ConfigurationError) -> [UInt8] {
        var text: [UInt8] = []
        while index < line.count {
            let byte = line[index]
            index += 1
            if byte == quote { return text }
            text += byte == UInt8(ascii: "\\") ? escape(line, from: &index) : [byte]
        }
        throw ConfigurationError("a quoted string is not closed on its line", at: location)
    }

    /// The byte that an escape stands for; `index` is behind the backslash.
    private static func escape(_ line: [UInt8], from index: inout Int) -> [UInt8] {
        guard index < line.count else { return [UInt8(ascii: "\\")] }
        let byte = line[index]
        index += 1
        switch byte {
        case UInt8(ascii: "a"): return [7]
        case UInt8(ascii: "b"): return [8]
        case UInt8(ascii: "E"): return [27]
        case UInt8(ascii: "f"): return [12]
        case UInt8(ascii: "n"): return [10]
        case UInt8(ascii: "r"): return [13]
        case UInt8(ascii: "t"): return [9]
        case UInt8(ascii: "v"): return [11]
        case UInt8(ascii: "c"):
            guard index < line.count else { return [byte] }
            index += 1
            return [line[index - 1] & 0x1F]
        case UInt8(ascii: "x"):
            return [number(line, from: &index, radix: 16, digitsMax: Int.max)]
        case UInt8(ascii: "0")...UInt8(ascii: "7"):
            index -= 1
            return [number(line, from: &index, radix: 8, digitsMax: 3)]
        default:
            return [byte]
        }
    }

    private static func number(_ line: [UInt8], from index: inout Int, radix: Int, digitsMax: Int) -> UInt8 {
        var value: UInt8 = 0
        var digits = 0
        while index < line.count, digits < digitsMax, let digit = Character(UnicodeScalar(line[index])).hexDigitValue, digit < radix {
            value = value &* UInt8(radix) &+ UInt8(digit)
            index += 1
            digits += 1
        }
        return value
    }
}
