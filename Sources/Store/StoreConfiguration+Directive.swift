import Configuration
import Glibc
import RESP

/// Why a value was not accepted, in Redis's words where it has any.
struct DirectiveError: Error, Equatable {
    let message: String
    init(_ message: String) { self.message = message }
}

/// One directive of redis.conf: how its values look, where the value is kept, and what it does here.
struct Directive: Sendable {
    /// What setting the directive does.
    enum Standing: Sendable, Equatable {
        case applied
        /// Accepted, checked and kept, but nothing follows from it; a value that is not the default is warned about, with this reason.
        case ineffective(String)
        /// Any value but the default is refused with these words: what it asks for is not there, and to go on without it
        /// would be wrong.
        case refused(String)
    }

    /// When it may be set.
    enum Access: Sendable {
        case any
        /// Only in the file or on the command line.
        case immutable
        /// At run time only where `enable-protected-configs` says so.
        case protected
    }

    let name: String
    var alias: String?
    var access = Access.any
    var standing = Standing.applied
    /// The value is never logged.
    var isSecret = false
    /// Takes any number of words.
    var takesMany = false
    /// Several lines add up instead of the last one counting.
    var isRepeatable = false
    /// A pattern of CONFIG GET does not match it: it must be named.
    var isHidden = false
    let read: @Sendable (StoreConfiguration) -> [UInt8]
    let write: @Sendable (StoreConfiguration, [[UInt8]]) throws(DirectiveError) -> Void
    /// The values of the lines that CONFIG REWRITE writes; one line with the value if nil.
    var rewrite: (@Sendable (StoreConfiguration) -> [String])?

    init(
        _ name: String, read: @escaping @Sendable (StoreConfiguration) -> [UInt8],
        write: @escaping @Sendable (StoreConfiguration, [[UInt8]]) throws(DirectiveError) -> Void
    ) {
        self.name = name
        self.read = read
        self.write = write
    }

    func alias(_ name: String) -> Directive { with { $0.alias = name } }
    var immutable: Directive { with { $0.access = .immutable } }
    var protected: Directive { with { $0.access = .protected } }
    var secret: Directive { with { $0.isSecret = true } }
    var hidden: Directive { with { $0.isHidden = true } }
    func standing(_ standing: Standing) -> Directive { with { $0.standing = standing } }

    func with(_ change: (inout Directive) -> Void) -> Directive {
        var copy = self
        change(&copy)
        return copy
    }

    /// Checks the number of words and what the standing allows, and sets the value.
    func set(_ configuration: StoreConfiguration, _ words: [[UInt8]]) throws(DirectiveError) {
        guard takesMany || words.count == 1 else { throw DirectiveError("wrong number of arguments") }
        let before = read(configuration)
        try write(configuration, words)
        if case .refused(let reason) = standing, read(configuration) != read(StoreConfiguration()) {
            let found = String(decoding: read(configuration), as: UTF8.self)
            let accepted = String(decoding: read(StoreConfiguration()), as: UTF8.self)
            try write(configuration, takesMany ? StoreConfiguration.words(before) : [before])
            throw DirectiveError("\(name) '\(found)' is refused: \(reason); accepted is '\(accepted)'")
        }
    }

    func isDefault(_ configuration: StoreConfiguration) -> Bool { read(configuration) == read(StoreConfiguration()) }
}

/// How values look.
enum DirectiveValue: Sendable {
    case flag
    case integer(ClosedRange<Int64>)
    /// An integer that is taken for the nearest one in the second range.
    case clamped(ClosedRange<Int64>, to: ClosedRange<Int64>)
    case octal(ClosedRange<Int64>)
    /// Bytes with an optional unit.
    case memory(ClosedRange<Int64>)
    /// One of these words.
    case choice([String])
    case hostname
    case text

    /// The value in the form that CONFIG GET shows.
    func canonical(_ words: [[UInt8]]) throws(DirectiveError) -> String {
        let text = String(decoding: words.first ?? [], as: UTF8.self)
        switch self {
        case .flag: return try StoreConfiguration.flag(text) ? "yes" : "no"
        case .integer(let range): return "\(try StoreConfiguration.integer(text, range))"
        case .clamped(let range, let used): return "\(min(max(try StoreConfiguration.integer(text, range), used.lowerBound), used.upperBound))"
        case .octal(let range): return String(try StoreConfiguration.octal(text, range), radix: 8)
        case .memory(let range): return "\(try StoreConfiguration.memory(text, range))"
        case .choice(let accepted): return try StoreConfiguration.choice(text, accepted)
        case .hostname:
            guard text.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-" || $0 == ".") }) else {
                throw DirectiveError("Hostnames may only contain alphanumeric characters, hyphens or dots")
            }
            return text
        case .text: return text
        }
    }
}

/// Making directives: one function for each kind of value and place.
extension Directive {
    typealias Path<Value> = ReferenceWritableKeyPath<StoreConfiguration, Value> & Sendable

    static func flag(_ name: String, _ path: Path<Bool>) -> Directive {
        Directive(name, read: { Array(($0[keyPath: path] ? "yes" : "no").utf8) }) { configuration, words throws(DirectiveError) in
            configuration[keyPath: path] = try StoreConfiguration.flag(String(decoding: words[0], as: UTF8.self))
        }
    }

    static func integer<N: FixedWidthInteger & Sendable>(_ name: String, _ path: Path<N>, _ range: ClosedRange<Int64>) -> Directive {
        Directive(name, read: { Array("\($0[keyPath: path])".utf8) }) { configuration, words throws(DirectiveError) in
            configuration[keyPath: path] = N(try StoreConfiguration.integer(String(decoding: words[0], as: UTF8.self), range))
        }
    }

    /// - Parameter least: what smaller values are taken for.
    static func memory(_ name: String, _ path: Path<Int>, _ range: ClosedRange<Int64>, least: Int = 0) -> Directive {
        var directive = Directive(name, read: { Array("\($0[keyPath: path])".utf8) }) { configuration, words throws(DirectiveError) in
            configuration[keyPath: path] = max(least, Int(try StoreConfiguration.memory(String(decoding: words[0], as: UTF8.self), range)))
        }
        directive.rewrite = { [StoreConfiguration.withUnit(Int64($0[keyPath: path]))] }
        return directive
    }

    static func text(_ name: String, _ path: Path<String>) -> Directive {
        Directive(name, read: { Array($0[keyPath: path].utf8) }) { configuration, words throws(DirectiveError) in
            configuration[keyPath: path] = String(decoding: words[0], as: UTF8.self)
        }
    }

    /// The name of a file in a folder that another directive names.
    static func fileName(_ name: String, _ path: Path<String>) -> Directive {
        let text = text(name, path)
        return Directive(name, read: text.read) { configuration, words throws(DirectiveError) in
            guard !words[0].contains(UInt8(ascii: "/")) else { throw DirectiveError("\(name) can't be a path, just a filename") }
            guard !words[0].isEmpty else { throw DirectiveError("\(name) can't be empty") }
            try text.write(configuration, words)
        }
    }

    static func bytes(_ name: String, _ path: Path<[UInt8]>) -> Directive {
        Directive(name, read: { $0[keyPath: path] }) { configuration, words throws(DirectiveError) in
            configuration[keyPath: path] = words[0]
        }
    }

    static func choice<Choice: CaseIterable & RawRepresentable<String> & Sendable>(_ name: String, _ path: Path<Choice>) -> Directive {
        Directive(name, read: { Array($0[keyPath: path].rawValue.utf8) }) { configuration, words throws(DirectiveError) in
            let word = try StoreConfiguration.choice(String(decoding: words[0], as: UTF8.self), Choice.allCases.map(\.rawValue))
            configuration[keyPath: path] = Choice(rawValue: word)!
        }
    }

    /// A directive that is checked and kept as text, without effect.
    /// - Parameter reason: why nothing follows from it.
    static func kept(_ name: String, _ value: DirectiveValue, _ standard: String, because reason: String) -> Directive {
        kept(name, value, standard, standing: .ineffective(reason))
    }

    static func kept(_ name: String, _ value: DirectiveValue, _ standard: String, standing: Standing) -> Directive {
        var directive = Directive(
            name, read: { Array(($0.ineffective[name] ?? standard).utf8) }
        ) { configuration, words throws(DirectiveError) in
            configuration.ineffective[name] = try value.canonical(words)
        }
        directive.standing = standing
        if case .memory = value {
            directive.rewrite = { [StoreConfiguration.withUnit(Int64($0.ineffective[name] ?? standard) ?? 0)] }
        }
        return directive
    }
}

/// Reading values.
extension StoreConfiguration {
    static func flag(_ text: String) throws(DirectiveError) -> Bool {
        switch text.lowercased() {
        case "yes": true
        case "no": false
        default: throw DirectiveError("argument must be 'yes' or 'no'")
        }
    }

    static func integer(_ text: String, _ range: ClosedRange<Int64>) throws(DirectiveError) -> Int64 {
        // The digits and nothing else: no plus sign, no zeros in front.
        guard let value = Int64(text), text == "\(value)" else { throw DirectiveError("argument couldn't be parsed into an integer") }
        return try inRange(value, range)
    }

    static func octal(_ text: String, _ range: ClosedRange<Int64>) throws(DirectiveError) -> Int64 {
        guard let value = Int64(text, radix: 8) else { throw DirectiveError("argument couldn't be parsed as an octal number") }
        return try inRange(value, range)
    }

    static func memory(_ text: String, _ range: ClosedRange<Int64>) throws(DirectiveError) -> Int64 {
        guard let value = unsignedBytes(text) else { throw DirectiveError("argument must be a memory value") }
        guard value <= UInt64(range.upperBound) else { throw outside(range) }
        return try inRange(Int64(value), range)
    }

    private static func inRange(_ value: Int64, _ range: ClosedRange<Int64>) throws(DirectiveError) -> Int64 {
        guard range.contains(value) else { throw outside(range) }
        return value
    }

    private static func outside(_ range: ClosedRange<Int64>) -> DirectiveError {
        DirectiveError("argument must be between \(range.lowerBound) and \(range.upperBound) inclusive")
    }

    static func choice(_ text: String, _ accepted: [String]) throws(DirectiveError) -> String {
        guard let found = accepted.first(where: { $0 == text.lowercased() }) else {
            throw DirectiveError("argument(s) must be one of the following: \(accepted.joined(separator: ", "))")
        }
        return found
    }

    /// Reads `100`, `1k` (1000), `1kb` (1024), `5mb`, `2gb` in any case; nil for anything else.
    static func bytes(_ text: String) -> Int64? { unsignedBytes(text).flatMap { Int64(exactly: $0) } }

    private static func unsignedBytes(_ text: String) -> UInt64? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        guard let number = UInt64(digits) else { return nil }
        let unit: UInt64
        switch text.dropFirst(digits.count).lowercased() {
        case "", "b": unit = 1
        case "k": unit = 1000
        case "kb": unit = 1024
        case "m": unit = 1_000_000
        case "mb": unit = 1 << 20
        case "g": unit = 1_000_000_000
        case "gb": unit = 1 << 30
        default: return nil
        }
        let (value, overflow) = number.multipliedReportingOverflow(by: unit)
        return overflow ? nil : value
    }

    /// Bytes in the largest unit that divides them, as CONFIG REWRITE writes them.
    static func withUnit(_ bytes: Int64) -> String {
        for (unit, name) in [(Int64(1) << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb")] where bytes != 0 && bytes % unit == 0 {
            return "\(bytes / unit)\(name)"
        }
        return "\(bytes)"
    }

    /// Splits a value of several words as CONFIG SET takes it.
    static func words(_ value: [UInt8]) -> [[UInt8]] { value.isEmpty ? [[]] : RedisConfiguration.splitArguments(value) ?? [value] }
}
