import Glibc
import RESP
import Synchronization

@testable import Store

/// The same random numbers at every run, so that a failure can be seen again (SplitMix64).
struct Seeded: RandomNumberGenerator {
    var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return z ^ z >> 31
    }
}

/// Lends bytes as an argument, from memory of their own so that a read beyond them is seen by the address sanitizer.
func withArgument<Result>(_ bytes: [UInt8], _ body: (Argument) -> Result) -> Result {
    let memory = UnsafeMutablePointer<UInt8>.allocate(capacity: max(1, bytes.count))
    defer { memory.deallocate() }
    for (i, byte) in bytes.enumerated() { memory[i] = byte }
    return body(Argument(base: memory, count: bytes.count))
}

func withArgument<Result>(_ text: String, _ body: (Argument) -> Result) -> Result { withArgument(Array(text.utf8), body) }

/// A value as commands bring them: numbers of every size, short and long strings, strings that nearly are numbers.
func randomValue(_ generator: inout Seeded) -> [UInt8] {
    switch Int.random(in: 0..<12, using: &generator) {
    case 0...2: return Array(String(Int.random(in: -5...140, using: &generator)).utf8)
    case 3: return Array(String(Int.random(in: -5000...5000, using: &generator)).utf8)
    case 4:
        let bits = Int.random(in: 1...63, using: &generator)
        return Array(String(Int64(truncatingIfNeeded: generator.next()) >> Int64(63 - bits)).utf8)
    case 5: return Array(["", "-", "007", "-0", "1.5", "9223372036854775808", "-9223372036854775808", " 1", "1 "].randomElement(using: &generator)!.utf8)
    case 6:
        let edges = [0, 1, 62, 63, 64, 65, 125, 126, 127, 128, 4095, 4096, 4097, 16380, 16381, 16382, 16383]
        return [UInt8](repeating: 120, count: edges.randomElement(using: &generator)!)
    default: return (0..<Int.random(in: 0...90, using: &generator)).map { _ in UInt8.random(in: 97...122, using: &generator) }
    }
}

/// Every heap that tests have made: none is given back, since what lies in it may outlive the test, and none counts as leaked.
private let heaps = Mutex<[Heap]>([])

/// A heap for one test.
func testHeap(_ seed0: UInt64 = 1, _ seed1: UInt64 = 2) -> Heap {
    let heap = Heap(hash: KeyHash(seed0: seed0, seed1: seed1))
    heaps.withLock { $0.append(heap) }
    return heap
}
