import Configuration
import Glibc

/// What is wrong with a manifest.
struct AOFManifestError: Error, Equatable, CustomStringConvertible {
    /// From 1; 0 for the file as a whole.
    let line: Int
    let reason: String
    var description: String { line > 0 ? "line \(line): \(reason)" : reason }
}

/// The list of files that together are the append-only file of Redis 7: one base, then increments in the order in which they
/// were written. Files of the past ("history") are still there only to be removed.
///
///     file appendonly.aof.2.base.rdb seq 2 type b
///     file appendonly.aof.1.incr.aof seq 1 type h
///     file appendonly.aof.2.incr.aof seq 2 type i
///
/// A line is pairs of a name and a value in any order; other names than these mean nothing. `#` begins a comment.
struct AOFManifest: Equatable {
    enum Kind: String {
        case base = "b"
        case history = "h"
        case increment = "i"
    }

    struct File: Equatable {
        let name: String
        let sequence: Int64
    }

    var base: File?
    var increments: [File] = []
    var history: [File] = []
    /// The highest numbers given so far: a number is never given twice.
    private(set) var baseSequence: Int64 = 0
    private(set) var incrementSequence: Int64 = 0

    private static let lineMax = 1024

    init() {}

    /// The files that hold the data, in the order in which they are to be loaded.
    var loadOrder: [File] { (base.map { [$0] } ?? []) + increments }

    // MARK: reading

    init(parsing bytes: [UInt8]) throws(AOFManifestError) {
        var number = 0
        for line in bytes.split(separator: 10, omittingEmptySubsequences: false).dropLast(bytes.last == 10 ? 1 : 0) {
            number += 1
            if line.first == UInt8(ascii: "#") { continue }
            guard line.count < AOFManifest.lineMax else {
                throw AOFManifestError(line: number, reason: "\(line.count) bytes; \(AOFManifest.lineMax - 1) are the most")
            }
            do throws(AOFManifestError) {
                try add(Array(line))
            } catch {
                throw AOFManifestError(line: number, reason: error.reason)
            }
        }
        guard base != nil || !increments.isEmpty else {
            let past = history.first.map { " that is to be loaded: '\($0.name)' is history (type h)" } ?? ""
            throw AOFManifestError(line: 0, reason: "it names no file\(past)")
        }
        // Increments become history together with the base that they belong to. One bit makes h of i, and the data would be gone.
        if base != nil, let lost = history.first, history.allSatisfy({ $0.name.contains(".incr.") }) {
            throw AOFManifestError(line: 0, reason: "'\(lost.name)' is history (type h) without a base that is: if it is to be loaded its type is i, else remove its line")
        }
        // What is history still lies in the folder under its name.
        let past = history.map(\.sequence).max() ?? 0
        baseSequence = max(baseSequence, past)
        incrementSequence = max(incrementSequence, past)
    }

    private mutating func add(_ line: [UInt8]) throws(AOFManifestError) {
        let shown = String(decoding: line.prefix(200), as: UTF8.self)
        guard let words = RedisConfiguration.splitArguments(line), words.count >= 6, words.count.isMultiple(of: 2) else {
            throw AOFManifestError(line: 0, reason: "'\(shown)' is not of the form 'file NAME seq NUMBER type b|h|i'")
        }
        var fields: [String: String] = [:]
        for i in stride(from: 0, to: words.count, by: 2) {
            // A line end that is damaged makes one line of two: the second must not take the place of the first.
            guard fields.updateValue(String(decoding: words[i + 1], as: UTF8.self), forKey: String(decoding: words[i], as: UTF8.self).lowercased()) == nil else {
                throw AOFManifestError(line: 0, reason: "'\(shown)' says '\(String(decoding: words[i], as: UTF8.self))' twice")
            }
        }
        guard let name = fields["file"], !name.isEmpty, let sequence = fields["seq"], let type = fields["type"] else {
            throw AOFManifestError(line: 0, reason: "'\(shown)' lacks one of file, seq and type")
        }
        guard !name.contains("/") else { throw AOFManifestError(line: 0, reason: "the file '\(name)' is a path; accepted is a name") }
        guard let sequence = Int64(sequence), sequence > 0 else {
            throw AOFManifestError(line: 0, reason: "seq '\(sequence)' is no number above 0")
        }
        guard let kind = Kind(rawValue: type) else {
            throw AOFManifestError(line: 0, reason: "type '\(type)'; accepted are b, h and i")
        }
        let file = File(name: name, sequence: sequence)
        switch kind {
        case .base:
            if let base { throw AOFManifestError(line: 0, reason: "a second base, '\(name)' after '\(base.name)'") }
            base = file
            baseSequence = sequence
        case .history: history.append(file)
        case .increment:
            guard sequence > incrementSequence else {
                throw AOFManifestError(line: 0, reason: "seq \(sequence) of '\(name)' is not above \(incrementSequence), the one before it")
            }
            increments.append(file)
            incrementSequence = sequence
        }
    }

    // MARK: writing

    var text: String {
        func line(_ file: File, _ kind: Kind) -> String {
            let name = file.name.utf8.contains { $0 <= 32 || $0 == 0x22 || $0 == 0x27 || $0 == 0x5C || $0 >= 127 }
                ? Array(file.name.utf8).withUnsafeBufferPointer { Quoting.quoted($0) } : file.name
            return "file \(name) seq \(file.sequence) type \(kind.rawValue)\n"
        }
        return (base.map { line($0, .base) } ?? "") + history.map { line($0, .history) }.joined()
            + increments.map { line($0, .increment) }.joined()
    }

    // MARK: changing

    /// Puts a new base in place of the old one, which becomes history with all increments but the last `kept`.
    /// - Returns: the new base's name.
    mutating func replaceBase(prefix: String, isSnapshot: Bool, keepingIncrements kept: Int) -> String {
        if let base { history.append(base) }
        history += increments.dropLast(kept)
        increments = Array(increments.suffix(kept))
        baseSequence += 1
        let file = File(name: "\(prefix).\(baseSequence).base.\(isSnapshot ? "rdb" : "aof")", sequence: baseSequence)
        base = file
        return file.name
    }

    /// Adds an increment behind the others.
    /// - Returns: its name.
    mutating func addIncrement(prefix: String) -> String {
        incrementSequence += 1
        increments.append(File(name: "\(prefix).\(incrementSequence).incr.aof", sequence: incrementSequence))
        return increments.last!.name
    }

    /// Makes a file of the time before Redis 7 the base.
    mutating func adoptSingleFile(_ name: String) {
        baseSequence = 1
        base = File(name: name, sequence: 1)
    }
}
