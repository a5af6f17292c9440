import Glibc
import RESP
import Reactor
import Testing

@testable import Store

@Suite("The table")
struct TableTests {
    let heap = testHeap()

    private func withKey<R>(_ number: Int, _ body: (Argument) -> R) -> R {
        var text = "key:\(number)"
        return text.withUTF8 { body(Argument(UnsafeRawBufferPointer($0))) }
    }

    @Test("random inserts, removes and look-ups agree with a dictionary, through growing and shrinking")
    func model() {
        let table = Table<EntryElement>(heap)
        var model: [Int: UnsafeMutableRawPointer] = [:]
        var generator = SystemRandomNumberGenerator()
        for phase in 0..<6 {
            let growing = phase % 2 == 0
            for _ in 0..<30_000 {
                let number = Int.random(in: 0..<20_000, using: &generator)
                let insert = Int.random(in: 0..<10, using: &generator) < (growing ? 8 : 1)
                withKey(number) { key in
                    let found = table.find(key)
                    #expect(found?.element == model[number])
                    if insert, found == nil {
                        let entry = Entry.makeString(heap, key, key, expiry: nil, clock: 0)
                        table.insert(entry.base)
                        model[number] = entry.base
                    } else if !insert, let found {
                        Entry(table.remove(at: found)).free()
                        model[number] = nil
                    }
                }
                if table.count != model.count { Issue.record("count \(table.count), expected \(model.count)") }
            }
            var seen = 0
            table.forEach { _ in seen += 1 }
            #expect(seen == model.count)
        }
        #expect(table.memory >= table.bucketCount * 64)
        table.freeAll { Entry($0).free() }
        #expect(heap.usedInSlabs == 0)
    }

    @Test("a scan visits everything that was there all the time, and nothing twice, although the table grows and shrinks meanwhile")
    func scan() {
        let table = Table<EntryElement>(heap)
        for number in 0..<2000 { withKey(number) { table.insert(Entry.makeString(heap, $0, $0, expiry: nil, clock: 0).base) } }
        var seen: Set<String> = []
        var cursor: UInt64 = 0
        var round = 0
        repeat {
            cursor = table.scan(cursor) { #expect(seen.insert(Entry($0).key.text).inserted) }
            round += 1
            if round < 200 {
                for number in 0..<100 { withKey(10_000 + round * 100 + number) { table.insert(Entry.makeString(heap, $0, $0, expiry: nil, clock: 0).base) } }
            } else if round < 400 {
                for number in 0..<100 { withKey(10_000 + (round - 199) * 100 + number) { key in if let p = table.remove(key) { Entry(p).free() } } }
            }
        } while cursor != 0
        for number in 0..<2000 { #expect(seen.contains("key:\(number)")) }
        table.freeAll { Entry($0).free() }
        #expect(heap.usedInSlabs == 0)
    }

    @Test("random elements are drawn evenly")
    func fairness() {
        let table = Table<EntryElement>(heap)
        for number in 0..<50 { withKey(number) { table.insert(Entry.makeString(heap, $0, $0, expiry: nil, clock: 0).base) } }
        var generator = SystemRandomNumberGenerator()
        var counts: [UnsafeMutableRawPointer: Int] = [:]
        for _ in 0..<50_000 { counts[table.random(using: &generator)!, default: 0] += 1 }
        #expect(counts.count == 50)
        // 1000 expected, standard deviation 31: ten of those are far outside chance.
        for count in counts.values { #expect(count > 690 && count < 1310) }
        table.freeAll { Entry($0).free() }
        #expect(heap.usedInSlabs == 0)
    }

    @Test("no single operation moves more than a few buckets while a large table grows")
    func bounded() {
        let table = Table<EntryElement>(heap)
        var before: UInt64 = 0
        for number in 0..<300_000 {
            withKey(number) { table.insert(Entry.makeString(heap, $0, $0, expiry: nil, clock: 0).base) }
            let moved = table.state.pointee.moved
            if moved > before { #expect(moved - before <= 2) }
            before = moved
        }
        table.freeAll { Entry($0).free() }
        #expect(heap.usedInSlabs == 0)
    }
}

@Suite("Glob patterns")
struct GlobTests {
    @Test("patterns match as in Redis", arguments: [
        // No pattern but the empty one matches empty text there: KEYS * looks at no pattern at all.
        ("*", "anything", true), ("*", "", false), ("h?llo", "hello", true), ("h?llo", "hllo", false), ("h*llo", "heeeello", true),
        ("h[ae]llo", "hallo", true), ("h[ae]llo", "hillo", false), ("h[^e]llo", "hallo", true), ("h[^e]llo", "hello", false),
        ("h[a-c]llo", "hbllo", true), ("h[a-c]llo", "hdllo", false), ("h\\*llo", "h*llo", true), ("h\\*llo", "hxllo", false),
        ("a*b*c", "aXXbYYc", true), ("a*b*c", "aXXbYY", false), ("[", "[", false), ("", "", true), ("", "x", false), ("**a", "bca", true),
    ])
    func patterns(_ pattern: String, _ text: String, _ expected: Bool) {
        Array(pattern.utf8).withUnsafeBytes { p in
            Array(text.utf8).withUnsafeBytes { t in #expect(Glob.matches(Argument(p), Argument(t)) == expected) }
        }
    }
}
