import Glibc
import RESP
import Reactor
import Testing

@testable import Store

/// Databases without a server, and snapshots of them as bytes.
final class SnapshotBench {
    let heap = testHeap(1, 2)
    let loop = EpollLoop()
    var clock: KeyspaceClock { KeyspaceClock(loop.clock) }
    let databases: UnsafeMutableBufferPointer<Database>
    let configuration = StoreConfiguration()

    init(databases count: Int = 16) {
        databases = .allocate(capacity: count)
        for id in 0..<count { databases.initializeElement(at: id, to: Database(id: id, heap: heap, clock: KeyspaceClock(loop.clock))) }
    }

    deinit {
        RDBReader.release(databases)
        heap.reclaim()
    }

    func set(_ key: String, _ value: [UInt8], db: Int = 0, expiry: Int64? = nil) {
        Array(key.utf8).withUnsafeBytes { key in
            _ = value.withUnsafeBytes { databases[db].setString(Argument(key), Argument($0), expiry: expiry) }
        }
    }

    func snapshot(_ info: SnapshotInfo = SnapshotInfo(), compresses: Bool = true) -> [UInt8] {
        var bytes: [UInt8] = []
        let writer = RDBWriter(compresses: compresses) {
            bytes.append(contentsOf: $0)
            return 0
        }
        #expect(writer.write(databases, info, now: 1_700_000_000_000) == 0)
        return bytes
    }

    func reader(_ options: RDBReader.Options = .init()) -> RDBReader {
        RDBReader(databaseCount: databases.count, heap: heap, clock: clock, configuration: configuration, options: options)
    }

    /// The string under a key.
    static func string(_ databases: UnsafeMutableBufferPointer<Database>, _ key: String, db: Int = 0) -> [UInt8]? {
        Array(key.utf8).withUnsafeBytes { key in
            guard let position = databases[db].find(Argument(key)) else { return nil }
            return withUnsafeTemporaryAllocation(byteCount: 24, alignment: 8) { Entry(position.element).string($0.baseAddress!).bytes }
        }
    }
}

/// Feeds bytes in pieces of a size.
func feed(_ reader: RDBReader, _ bytes: [UInt8], pieces: Int = .max) throws -> RDBReader.Outcome {
    var outcome = RDBReader.Outcome.needsMore
    var at = 0
    while at < bytes.count, outcome == .needsMore {
        let size = min(pieces, bytes.count - at)
        outcome = try bytes[at..<at + size].withUnsafeBytes { try reader.feed($0) }
        at += size
    }
    return outcome
}

/// Random bytes that come out the same each time.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return z ^ z >> 31
    }
}

@Suite("RDB: pieces")
struct RDBPieceTests {
    @Test("CRC-64 of 123456789 is Jones's, whatever the pieces")
    func checksum() {
        var whole = CRC64()
        Array("123456789".utf8).withUnsafeBytes { whole.update($0) }
        #expect(whole.value == 0xE9C6_D914_C4B8_D9CA)
        let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        var all = CRC64()
        bytes.withUnsafeBytes { all.update($0) }
        var parts = CRC64()
        for start in stride(from: 0, to: 1000, by: 37) {
            bytes[start..<min(start + 37, 1000)].withUnsafeBytes { parts.update($0) }
        }
        #expect(parts.value == all.value)
    }

    @Test("CRC-64 of long inputs, in lanes, is that of bits one after the other", arguments: [4095, 4096, 4097, 8192, 12_345, 20_000])
    func lanes(count: Int) {
        var generator = SeededGenerator(state: UInt64(count))
        let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
        var slow: UInt64 = 0
        for byte in bytes {
            slow ^= UInt64(byte)
            for _ in 0..<8 { slow = slow & 1 != 0 ? slow >> 1 ^ 0x95AC_9329_AC4B_C9B5 : slow >> 1 }
        }
        var fast = CRC64()
        bytes[..<(count / 3)].withUnsafeBytes { fast.update($0) }
        bytes[(count / 3)...].withUnsafeBytes { fast.update($0) }
        #expect(fast.value == slow)
    }

    @Test("LZF gives back what was compressed, whatever the inputs before have left in its memory")
    func compression() {
        // The positions begin again while this goes on.
        let scratch = LZF.Scratch(startingAt: .max - 100_000)
        var generator = SeededGenerator(state: 1)
        for round in 0..<300 {
            let size = Int.random(in: 4...(round % 10 == 0 ? 40_000 : 400), using: &generator)
            let letters = UInt8.random(in: 1...255, using: &generator)
            let bytes = (0..<size).map { _ in UInt8.random(in: 0...letters, using: &generator) & (round % 2 == 0 ? 3 : 255) }
            var room = [UInt8](repeating: 0, count: size)
            let n = bytes.withUnsafeBytes { source in
                room.withUnsafeMutableBytes { LZF.compress(source, to: $0.baseAddress!, room: size - 4, scratch: scratch) }
            }
            guard let n else { continue }
            var back = [UInt8](repeating: 0, count: size)
            let isWhole = room[0..<n].withUnsafeBytes { source in
                back.withUnsafeMutableBytes { LZF.decompress(source, to: $0.baseAddress!, count: size) }
            }
            #expect(isWhole)
            #expect(back == bytes)
        }
    }

    @Test("damaged LZF is refused, never read or written out of bounds")
    func damagedCompression() {
        var generator = SeededGenerator(state: 2)
        for _ in 0..<20_000 {
            let bytes = (0..<Int.random(in: 0...40, using: &generator)).map { _ in UInt8.random(in: 0...255, using: &generator) }
            var out = [UInt8](repeating: 0, count: 64)
            _ = bytes.withUnsafeBytes { source in
                out.withUnsafeMutableBytes { LZF.decompress(source, to: $0.baseAddress!, count: 64) }
            }
        }
        // Copies from before the beginning.
        let bytes: [UInt8] = [0, 65, 0x20, 5]
        var out = [UInt8](repeating: 0, count: 4)
        let isWhole = bytes.withUnsafeBytes { source in out.withUnsafeMutableBytes { LZF.decompress(source, to: $0.baseAddress!, count: 4) } }
        #expect(!isWhole)
    }
}

@Suite("RDB: whole files")
struct RDBFileTests {
    private func strings() -> SnapshotBench {
        let bench = SnapshotBench()
        for (i, number) in [0, -1, 127, 128, -32_768, 32_768, 2_147_483_647, 2_147_483_648, Int64.min].enumerated() {
            bench.set("number\(i)", Array("\(number)".utf8))
        }
        bench.set("007", Array("007".utf8))
        bench.set("empty", [])
        bench.set("12345", Array("key is a number".utf8), db: 3)
        bench.set("dies", Array("x".utf8), db: 3, expiry: 1_800_000_000_123)
        bench.set("dead", Array("x".utf8), db: 3, expiry: 1_000)
        bench.set("compressed", [UInt8](repeating: 97, count: 5000))
        bench.set("binary", (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* $0 >> 3) })
        return bench
    }

    @Test("strings, expiry and databases come back, in whatever pieces the bytes arrive", arguments: [1, 2, 7, 64, 4096, Int.max])
    func roundTrip(pieces: Int) throws {
        let bench = strings()
        let bytes = bench.snapshot()
        let reader = bench.reader()
        #expect(try feed(reader, bytes, pieces: pieces) != .needsMore)
        try reader.finish()
        #expect(reader.keysLoaded == 16)
        for db in bench.databases {
            #expect(reader.databases[db.id].count == db.count)
            db.entries.forEach { element in
                let entry = Entry(element)
                let found = reader.databases[db.id].find(entry.key)
                #expect(found != nil)
                guard let found else { return }
                let other = Entry(found.element)
                #expect(other.hasExpiry == entry.hasExpiry)
                if entry.hasExpiry { #expect(other.expiry == entry.expiry) }
                #expect(other.encoding == entry.encoding)
            }
        }
        #expect(SnapshotBench.string(reader.databases, "number8") == Array("\(Int64.min)".utf8))
        #expect(SnapshotBench.string(reader.databases, "binary") == SnapshotBench.string(bench.databases, "binary"))
        #expect(SnapshotBench.string(reader.databases, "compressed") == [UInt8](repeating: 97, count: 5000))
    }

    @Test("what follows the file is left to the caller")
    func leftOver() throws {
        let bench = strings()
        let bytes = bench.snapshot()
        let reader = bench.reader()
        #expect(try feed(reader, bytes + Array("*1\r\n".utf8)) == .done(used: bytes.count))
    }

    @Test("the AUX fields for replication come back")
    func replicationFields() throws {
        let bench = SnapshotBench()
        let id = String(repeating: "a", count: 40)
        let bytes = bench.snapshot(SnapshotInfo(replicationDatabase: 2, replicationID: id, replicationOffset: 12_345))
        let reader = bench.reader()
        _ = try feed(reader, bytes)
        #expect(reader.info.replicationID == id)
        #expect(reader.info.replicationOffset == 12_345)
        #expect(reader.info.replicationDatabase == 2)
        #expect(reader.creator == StoreVersion.redis)
        #expect(reader.createdAt == 1_700_000_000_000)
    }

    @Test("keys whose time is over are left out when asked, and kept otherwise")
    func expiredKeys() throws {
        let bytes = strings().snapshot()
        let bench = SnapshotBench()
        let reader = bench.reader(.init(dropsExpired: true, now: 1_700_000_000_000))
        _ = try feed(reader, bytes)
        #expect(reader.keysExpired == 1)
        #expect(SnapshotBench.string(reader.databases, "dead", db: 3) == nil)
        #expect(SnapshotBench.string(reader.databases, "dies", db: 3) == [120])
    }

    @Test("each flipped bit is noticed")
    func flippedBits() throws {
        let bench = SnapshotBench()
        bench.set("key", Array("value".utf8), expiry: 5_000_000_000_000)
        bench.set("other", [UInt8](repeating: 98, count: 200))
        let bytes = bench.snapshot()
        for bit in 0..<bytes.count * 8 {
            var damaged = bytes
            damaged[bit / 8] ^= 1 << UInt8(bit % 8)
            let reader = bench.reader()
            var isRefused = false
            do {
                _ = try feed(reader, damaged)
                try reader.finish()
            } catch { isRefused = true }
            #expect(isRefused, "bit \(bit)")
        }
    }

    @Test("a file cut anywhere is refused with the place")
    func truncated() throws {
        let bytes = strings().snapshot(compresses: true)
        let bench = SnapshotBench()
        for size in Array(stride(from: 0, to: 600, by: 1)) + [bytes.count - 1, bytes.count - 8, bytes.count - 9] {
            let reader = bench.reader()
            #expect(try feed(reader, Array(bytes[0..<size])) == .needsMore)
            #expect(throws: RDBError.self) { try reader.finish() }
        }
    }

    @Test("garbage is refused and costs no more memory than it has bytes")
    func garbage() throws {
        var generator = SeededGenerator(state: 3)
        let bench = SnapshotBench()
        for _ in 0..<20_000 {
            let bytes = Array("REDIS0010".utf8) + (0..<64).map { _ in UInt8.random(in: 0...255, using: &generator) }
            let reader = bench.reader()
            _ = try? feed(reader, bytes)
        }
        #expect(throws: RDBError.self) { try feed(bench.reader(), Array("*1\r\n$4\r\nPING\r\n".utf8)) }
        #expect(throws: RDBError.self) { try feed(bench.reader(), Array("REDIS0099".utf8)) }
        // A string of 2^47 bytes.
        let huge: [UInt8] = Array("REDIS0010".utf8) + [0, 1, 97, 0x81, 0, 0, 128, 0, 0, 0, 0, 0]
        #expect(throws: RDBError.self) { try feed(bench.reader(), huge) }
        // Ten bytes that claim to stand for 400 MB.
        let bomb: [UInt8] = Array("REDIS0010".utf8) + [0, 1, 97, 0xC3, 10, 0x80, 0x18, 0, 0, 0] + [UInt8](repeating: 0, count: 10)
        #expect(throws: RDBError.self) { try feed(bench.reader(), bomb) }
    }

    @Test("an error of the sink ends the writing")
    func failingSink() {
        let bench = strings()
        var calls = 0
        let writer = RDBWriter { _ in
            calls += 1
            return ENOSPC
        }
        #expect(writer.write(bench.databases, SnapshotInfo(), now: 0) == ENOSPC)
        #expect(calls == 1)
    }
}
