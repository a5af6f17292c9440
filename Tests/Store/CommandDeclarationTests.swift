import RESP
import Testing

@testable import Store

@Suite("Declarations of commands")
struct CommandDeclarationTests {
    /// Every command and subcommand, and how many words name it.
    private let all: [(command: Command, words: Int)] = StoreServer.allCommands.flatMap { command in
        [(command, 1)] + command.subcommands.map { ($0, 2) }
    }

    /// The fewest words that the argument takes.
    private func least(_ node: CommandSyntax.Node) -> Int {
        if node.isOptional { return 0 }
        let word = node.token.isEmpty ? 0 : 1
        return switch node.kind {
        case .token: 1
        case .oneOf: word + (node.children.map(least).min() ?? 0)
        case .block: word + node.children.map(least).reduce(0, +)
        default: word + 1
        }
    }

    @Test("every syntax line reads, and demands as many arguments as the arity")
    func syntax() {
        for (command, words) in all where command.syntax.utf8CodeUnitCount > 0 {
            // A malformed line ends the process here.
            let nodes = CommandSyntax(command.syntax).arguments
            // Of CLIENT KILL's new form every filter may be left out, but not all of them.
            if "\(command.name)" == "KILL" { continue }
            #expect(words + nodes.map(least).reduce(0, +) == abs(command.arity), "\(command.name): \(command.syntax)")
        }
    }

    @Test("a syntax line says names, types, words, groups, versions and repetitions")
    func reading() throws {
        let nodes = CommandSyntax("key value... [GET pattern:pattern#1]... [order(ASC|DESC)@6.2.0] LIMIT limit(offset:int count:int) [withscores=WITH] other:key ip:port!3.0.0").arguments
        #expect(nodes.map(\.name) == ["key", "value", "pattern", "order", "limit", "withscores", "other", "ip:port"])
        #expect(nodes.map(\.kind) == [.key, .string, .pattern, .oneOf, .block, .token, .key, .string])
        #expect(nodes.map(\.keySpecification) == [0, nil, 1, nil, nil, nil, 1, nil])
        #expect(nodes.map(\.isMultiple) == [false, true, true, false, false, false, false, false])
        #expect(nodes.map(\.isOptional) == [false, false, true, true, false, true, false, false])
        #expect(nodes[2].repeatsToken && nodes[2].token == "GET")
        #expect(nodes[3].since == "6.2.0" && nodes[3].children.map(\.token) == ["ASC", "DESC"])
        #expect(nodes[4].token == "LIMIT" && nodes[4].children.map(\.kind) == [.integer, .integer])
        #expect(nodes[5].token == "WITH")
        #expect(nodes[7].deprecatedSince == "3.0.0")
    }

    @Test("key specifications take their place from the declaration, or say it themselves")
    func keys() {
        let made = Command("X", arity: 1, flags: [.write], keys: .destinationAndCounted, since: "1.0.0", access: "OW update 1; RO access 2#; RW ?") { _ in }
        let specifications = KeySpecification.all(of: made)
        #expect(specifications.map(\.begin) == [1, 2, nil])
        #expect(specifications.map(\.place) == [.range(last: 0, step: 1), .counted, .unknown])
        #expect(specifications.map(\.flags) == [["OW", "update"], ["RO", "access"], ["RW"]])
        let plain = KeySpecification.all(of: Command("X", arity: 1, flags: [.readOnly], keys: .everySecond, since: "1.0.0") { _ in })
        #expect(plain.map(\.place) == [.range(last: -1, step: 2)])
        #expect(plain[0].flags == ["RO", "access"])
    }
}

@Suite("Times of commands")
struct LatencyHistogramTests {
    @Test("percentiles are right to a hundredth, and never too small")
    func percentiles() {
        var histogram = LatencyHistogram()
        for nanoseconds in 1...100_000 { histogram.record(nanoseconds: UInt64(nanoseconds)) }
        for (percent, exact) in [(50.0, 50_000.0), (99, 99_000), (99.9, 99_900), (100, 100_000), (1, 1000)] {
            let value = Double(histogram.percentile(percent))
            #expect(value >= exact && value <= exact * 1.01, "p\(percent)")
        }
        #expect(histogram.total == 100_000)
        #expect(histogram.percentile(0) == 1)
    }

    @Test("buckets are Redis's: powers of two from 1024 ns, with the width of a step on top, counting up")
    func buckets() {
        var histogram = LatencyHistogram()
        for nanoseconds: UInt64 in [500, 1000, 1032, 1033, 40_000, 5_000_000, 2_000_000_000] { histogram.record(nanoseconds: nanoseconds) }
        #expect(histogram.buckets.map(\.microseconds) == [1, 2, 66, 8454, 1_082_130])
        #expect(histogram.buckets.map(\.count) == [2, 4, 5, 6, 7])
    }

    @Test("of one second the monitor keeps the worst, and of all seconds the last 160")
    func monitor() {
        var monitor = LatencyMonitor()
        monitor.add("command", milliseconds: 5, at: 1)
        monitor.add("command", milliseconds: 9, at: 1)
        monitor.add("command", milliseconds: 7, at: 1)
        monitor.add("fork", milliseconds: 1, at: 2)
        #expect(monitor.event("command")?.samples.map(\.milliseconds) == [9])
        for second in 2...200 { monitor.add("command", milliseconds: 1, at: Int64(second)) }
        #expect(monitor.event("command")?.samples.count == 160)
        #expect(monitor.event("command")?.worst == 9)
        #expect(monitor.reset(["nosuch", "fork"]) == 1)
        #expect(monitor.reset([]) == 1)
        #expect(monitor.events.isEmpty)
    }
}

@Suite("Hashes")
struct SHATests {
    private func one(_ text: String) -> String { Array(text.utf8).withUnsafeBufferPointer { SHA.hexadecimal(SHA.one($0)) } }
    private func two(_ text: String) -> String { Array(text.utf8).withUnsafeBufferPointer { SHA.hexadecimal(SHA.two256($0)) } }

    @Test("the examples of FIPS 180-4")
    func examples() {
        let long = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"
        #expect(one("abc") == "a9993e364706816aba3e25717850c26c9cd0d89d")
        #expect(one("") == "da39a3ee5e6b4b0d3255bfef95601890afd80709")
        #expect(one(long) == "84983e441c3bd26ebaae4aa1f95129e5e54670f1")
        #expect(two("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        #expect(two("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        #expect(two(long) == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1")
    }
}
