import Glibc
import Reactor
import RESP

/// Reads an RDB file of version 1 to 12 as its bytes come, into databases of its own.
///
/// Promise: whatever the bytes are, it neither crashes nor reserves memory for what has not come: its window grows with the bytes
/// that arrive and holds one string at most, and a compressed string claims no more than its bytes can stand for. After an error
/// nothing of what was read is left.
///
/// The unit of work is a record's header or one element of a collection: each is read again from its first byte when more bytes
/// have come, and `wanted` says how many it takes, so that a long string is not looked at again and again.
final class RDBReader {
    enum Outcome: Equatable {
        /// More bytes must come.
        case needsMore
        /// The file is over; so many of the bytes fed last belonged to it.
        case done(used: Int)
    }

    /// What ends the reading of a unit early.
    enum Stop: Error {
        /// The unit takes this many bytes at least.
        case short(Int)
        case bad(RDBError)
    }

    /// What a reader is to do besides reading.
    struct Options {
        /// Keys whose time is over are left out: on a master, at start. A replica keeps what its master has, and where replicas may
        /// go on from the file's history they stay until they are deleted on the stream.
        var dropsExpired = false
        /// A wrong checksum is an error (`rdbchecksum`).
        var verifiesChecksum = true
        /// Nothing is read behind the first value.
        var isSingleValue = false
        /// The longest string accepted.
        var stringMax = 512 << 20
        /// Milliseconds since 1970.
        var now: Int64 = 0
    }

    enum Stage {
        case magic
        case record
        case element
        case moduleField
        case checksum
        case done
    }

    let options: Options
    /// What has been read; the reader's own until `takeDatabases`.
    private(set) var databases: UnsafeMutableBufferPointer<Database>
    private var ownsDatabases = true
    private(set) var info = SnapshotInfo()
    private(set) var version = 0
    /// The version of the server that wrote it and when, if it says so; milliseconds since 1970.
    private(set) var creator: String?
    private(set) var createdAt: Int64?
    private(set) var usedMemory: Int64?
    private(set) var keysLoaded = 0
    private(set) var keysExpired = 0
    /// Things left out that a user should hear of.
    private(set) var warnings: [String] = []

    // The window: bytes start ..< end of `memory` have come and are not read yet.
    private var memory = UnsafeMutableRawPointer.allocate(byteCount: 65_536, alignment: 16)
    private var capacity = 65_536
    private var start = 0
    private var end = 0
    /// Bytes from the start of the file to `start`.
    private var offset = 0
    /// Where the unit being read has got to, from `start`.
    private var position = 0
    private var wanted = 1
    /// Bytes of the whole file; 0 where that is not known.
    var size = 0
    /// Keys and elements that take less are few: a file of them is loaded into tables that grow.
    private static let elementBytesMin = 8
    /// So many are expected without having come, where the size of the file is not known.
    private static let reservationMax = 1 << 16
    /// Where compressed strings are expanded.
    private let scratch = UnsafeMutableRawPointer.allocate(byteCount: RDBReader.scratchSize, alignment: 16)
    private static let scratchSize = 65_536
    /// Of everything before `unchecked`, a place in `memory`; the rest up to `start` follows in larger pieces than units are.
    private var checksum = CRC64()
    private var unchecked = 0
    var stage = Stage.magic

    private var current: Database
    private var expiry: Int64?
    /// What the file says about the use of the key: seconds since the last, or the LFU counter.
    private var idle: Int64?
    private var frequency: UInt8?
    private var key: [UInt8] = []
    /// The collection being read.
    var building: Building?

    /// An entry that is to go into the table of the current database, and the place in the file where its record is.
    private struct Waiting {
        let entry: Entry
        let hash: UInt64
        let offset: Int
    }
    private static let waitingMax = 32
    private let waiting = UnsafeMutablePointer<Waiting>.allocate(capacity: RDBReader.waitingMax)
    private var waitingCount = 0
    /// Keeps what only loads memory from being left out.
    var touched: UInt64 = 0

    /// A collection whose elements come one after the other.
    struct Building {
        let kind: RDB.Kind
        var builder: CollectionBuilder
        /// Elements still to come, and all of them, as the file says.
        var remaining: Int
        let total: Int
    }

    /// - Parameters:
    ///   - databaseCount: how many databases there may be.
    ///   - hash: the seeded hash that the tables will live with.
    init(databaseCount: Int, heap: Heap, clock: KeyspaceClock, configuration: StoreConfiguration, options: Options) {
        self.options = options
        self.configuration = configuration
        self.heap = heap
        databases = .allocate(capacity: databaseCount)
        for id in 0..<databaseCount { databases.initializeElement(at: id, to: Database(id: id, heap: heap, clock: clock)) }
        current = databases[0]
    }

    let configuration: StoreConfiguration
    let heap: Heap

    deinit {
        memory.deallocate()
        scratch.deallocate()
        if let building { building.builder.free() }
        for i in 0..<waitingCount { drop(waiting[i].entry) }
        waiting.deallocate()
        if ownsDatabases { RDBReader.release(databases) }
    }

    /// Hands the databases over; what they hold is then the caller's to swap in or to `release`.
    func takeDatabases() -> UnsafeMutableBufferPointer<Database> {
        ownsDatabases = false
        return databases
    }

    /// Frees databases with all they hold.
    static func release(_ databases: UnsafeMutableBufferPointer<Database>) {
        for db in databases {
            Database.release(db.state.pointee)
            db.state.deallocate()
        }
        databases.deallocate()
    }

    /// The end of the file has come.
    var isDone: Bool { stage == .done }

    /// Bytes read so far.
    var bytesRead: Int { offset }

    // MARK: feeding

    /// Takes the next bytes of the file. O(n) amortised.
    /// - Throws: `RDBError` naming the byte and what was found there; the reader is of no use then.
    func feed(_ bytes: UnsafeRawBufferPointer) throws(RDBError) -> Outcome {
        append(bytes)
        while end - start >= wanted {
            position = 0
            do throws(Stop) {
                try readUnit()
            } catch {
                switch error {
                case .short(let size):
                    wanted = size
                    continue
                case .bad(let problem):
                    stage = .done
                    throw problem
                }
            }
            consume()
            if stage == .done { return .done(used: bytes.count - (end - start)) }
        }
        return .needsMore
    }

    /// Says that no more bytes will come.
    /// - Throws: `RDBError` unless the file was over.
    func finish() throws(RDBError) {
        guard stage != .done else { return }
        throw RDBError(offset: offset, reason: "the file ends in the middle of \(unfinished) (\(end - start) bytes left over)", key: keyText)
    }

    private var unfinished: String {
        switch stage {
        case .magic: "its header"
        case .record: "a record"
        case .element: "\(building!.kind.name) with \(building!.remaining) elements to come"
        case .moduleField: "a module's data"
        case .checksum: "its checksum"
        case .done: "nothing"
        }
    }

    private func append(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress else { return }
        if start > 0 {
            updateChecksum()
            memmove(memory, memory + start, end - start)
            end -= start
            start = 0
            unchecked = 0
        }
        if end + bytes.count > capacity {
            capacity = max(capacity * 2, end + bytes.count)
            let larger = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
            memcpy(larger, memory, end)
            memory.deallocate()
            memory = larger
        }
        memcpy(memory + end, base, bytes.count)
        end += bytes.count
    }

    /// The unit is done: its bytes leave the window.
    private func consume() {
        start += position
        offset += position
        wanted = 1
        if start == end, capacity > 1 << 20 {
            updateChecksum()
            memory.deallocate()
            capacity = 65_536
            memory = .allocate(byteCount: capacity, alignment: 16)
            start = 0
            end = 0
            unchecked = 0
        }
    }

    /// Takes the units that are done into the checksum.
    private func updateChecksum() {
        guard options.verifiesChecksum, stage != .done else { return }
        checksum.update(UnsafeRawBufferPointer(start: memory + unchecked, count: start - unchecked))
        unchecked = start
    }

    private func readUnit() throws(Stop) {
        switch stage {
        case .magic: try readMagic()
        case .record: try readRecord()
        case .element: try readElement()
        case .moduleField: try readModuleField()
        case .checksum: try readChecksum()
        case .done: break
        }
    }

    // MARK: records

    private func readMagic() throws(Stop) {
        let bytes = try take(9)
        guard memcmp(bytes.baseAddress!, "REDIS", 5) == 0 else {
            throw bad("this is no RDB file: it begins with \(Quoting.quoted(UnsafeRawBufferPointer(rebasing: bytes[0..<5]).bindMemory(to: UInt8.self))), not \"REDIS\"")
        }
        var number = 0
        for byte in bytes[5..<9] {
            guard byte >= 48, byte <= 57 else {
                throw bad("the version is \(Quoting.quoted(UnsafeRawBufferPointer(rebasing: bytes[5..<9]).bindMemory(to: UInt8.self))), not four digits")
            }
            number = number * 10 + Int(byte - 48)
        }
        guard number >= 1, number <= RDB.versionMax else { throw bad("RDB version \(number); versions 1 to \(RDB.versionMax) can be read") }
        version = number
        stage = .record
    }

    private func readRecord() throws(Stop) {
        let type = try takeByte()
        if let opcode = RDB.Opcode(rawValue: type) { return try readOpcode(opcode) }
        guard let kind = RDB.Kind(rawValue: type) else { throw bad("\(type) is neither an opcode nor a kind of value") }
        key.removeAll(keepingCapacity: true)
        try withString { key.append(contentsOf: $0.buffer) }
        try refuseUnsupported(kind)
        if kind == .string {
            return try add(try withString { value in makeEntry { Entry.makeString(heap, $0, value, expiry: $1, clock: $2) } })
        }
        building = try startCollection(kind)
        stage = .element
        if building!.remaining == 0 { try finishCollection() }
    }

    private func readOpcode(_ opcode: RDB.Opcode) throws(Stop) {
        switch opcode {
        case .end:
            try insertWaiting()
            stage = version >= 5 ? .checksum : .done
        case .selectDB:
            let id = try takeLength()
            guard id < databases.count else {
                throw bad("it holds database \(id), and this server has \(databases.count) (see databases in the configuration)")
            }
            try insertWaiting()
            current = databases[id]
        case .resizeDB:
            let keys = try takeLength()
            _ = try takeLength()
            if current.count == 0 { current.entries.reserve(believable(keys)) }
        case .expirySeconds:
            let seconds = try takeNumber(Int32.self)
            expiry = Int64(seconds) * 1000
        case .expiryMilliseconds:
            expiry = try takeNumber(Int64.self)
        case .idle:
            idle = Int64(try takeLength())
        case .frequency:
            frequency = try takeByte()
        case .aux:
            let name = try takeString()
            let value = try takeString()
            note(String(decoding: name, as: UTF8.self), String(decoding: value, as: UTF8.self))
        case .functions:
            info.functions.append(try takeString())
        case .slotInfo:
            for _ in 0..<3 { _ = try takeLength() }
        case .functionsBeforeRelease:
            throw bad("it holds functions in the form of a Redis 7.0 release candidate, which no release reads")
        case .moduleAux:
            try beginModule()
        }
    }

    /// Something was left out that a user should hear of.
    func warn(_ text: String) { warnings.append(text) }

    /// What the file claims to hold, as far as there is room for it in its bytes: room in a table is made for no more than that.
    func believable(_ count: Int) -> Int { min(count, max(RDBReader.reservationMax, size / RDBReader.elementBytesMin)) }

    private func note(_ name: String, _ value: String) {
        switch name {
        case "redis-ver": creator = value
        case "ctime": createdAt = Int64(value).map { $0.multipliedReportingOverflow(by: 1000).partialValue }
        case "used-mem": usedMemory = Int64(value)
        case "repl-stream-db": info.replicationDatabase = Int(value)
        case "repl-id": info.replicationID = value
        case "repl-offset": info.replicationOffset = Int64(value)
        case "aof-base": info.isAppendOnlyBase = value == "1"
        // Unknown fields may come with any version and mean nothing to us.
        default: break
        }
    }

    private func refuseUnsupported(_ kind: RDB.Kind) throws(Stop) {
        switch kind {
        case .moduleBeforeRelease, .module, .hashMetadata, .hashMetadataBeforeRelease,
            .hashListpackExpiry, .hashListpackExpiryBeforeRelease:
            throw bad("the key holds \(kind.name), which is not supported")
        default: break
        }
    }

    private func readChecksum() throws(Stop) {
        let found = try takeNumber(UInt64.self)
        updateChecksum()
        guard found == 0 || !options.verifiesChecksum || found == checksum.value else {
            throw bad("the checksum is \(hexadecimal(found)), but the bytes before it give \(hexadecimal(checksum.value)): the file is damaged")
        }
        stage = .done
    }

    private func hexadecimal(_ value: UInt64) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }

    // MARK: values

    private func readElement() throws(Stop) {
        try readElements()
        if building!.remaining == 0 { try finishCollection() }
    }

    private func finishCollection() throws(Stop) {
        try insertLastMembers()
        let finished = building!
        building = nil
        stage = .record
        guard finished.builder.isValue else {
            finished.builder.free()
            throw bad("the key holds \(finished.kind.name) without elements")
        }
        let value = finished.builder.finish(configuration, heap)
        try add(makeEntry { Entry.make(heap, $0, value.type, value.encoding, expiry: $1, clock: $2, pointer: value.pointer) })
    }

    /// An entry of the key that was read before its value, with what was said of both.
    private func makeEntry(_ make: (_ key: Argument, _ expiry: Int64?, _ clock: UInt32) -> Entry) -> Entry {
        key.withUnsafeBytes { make(Argument($0), expiry, current.clock.clock(idle: idle, frequency: frequency)) }
    }

    /// The record is whole: its entry goes into the database, unless its time is over.
    private func add(_ entry: Entry) throws(Stop) {
        if options.dropsExpired, info.replicationID == nil, let expiry, expiry <= options.now {
            drop(entry)
            keysExpired += 1
        } else {
            (waiting + waitingCount).initialize(to: Waiting(entry: entry, hash: current.entries.hash(entry.key), offset: offset))
            waitingCount += 1
            if waitingCount == RDBReader.waitingMax || options.isSingleValue { try insertWaiting() }
        }
        expiry = nil
        idle = nil
        frequency = nil
        key.removeAll(keepingCapacity: true)
        if options.isSingleValue { stage = .done }
    }

    /// Puts the entries that wait into the table of the current database.
    ///
    /// A table larger than the cache makes each look at a bucket wait for memory, a third of all that loading took; looked at one right
    /// after the other, all buckets are waited for together.
    private func insertWaiting() throws(Stop) {
        let entries = current.entries
        let count = waitingCount
        waitingCount = 0
        guard count > 0 else { return }
        var sum: UInt64 = 0
        if entries.bucketCount > 0 { for i in 0..<count { sum &+= entries.touchBucket(waiting[i].hash) } }
        touched = sum
        for i in 0..<count {
            let (entry, hash) = (waiting[i].entry, waiting[i].hash)
            guard entries.find(entry.key, hash) == nil else {
                let problem = RDBError(offset: waiting[i].offset, reason: "the key is there twice in database \(current.id)", key: RDBReader.text(entry.key.buffer))
                for left in i..<count { drop(waiting[left].entry) }
                throw .bad(problem)
            }
            entries.insert(entry.base, hash)
            if entry.hasExpiry { current.expiring.insert(entry.base, hash) }
            keysLoaded += 1
        }
    }

    private func drop(_ entry: Entry) {
        entry.freeValue()
        entry.free()
    }

    // MARK: pieces, read at `position`

    /// An error at the piece just read.
    func bad(_ reason: String) -> Stop { .bad(RDBError(offset: offset + position, reason: reason, key: keyText)) }

    private var keyText: String? { key.isEmpty ? nil : key.withUnsafeBufferPointer { RDBReader.text($0) } }

    private static func text(_ key: UnsafeBufferPointer<UInt8>) -> String { String(decoding: key.prefix(128), as: UTF8.self) }

    /// The next bytes; they are valid until the unit is over.
    func take(_ count: Int) throws(Stop) -> UnsafeRawBufferPointer {
        guard end - start - position >= count else { throw .short(position + count) }
        let bytes = UnsafeRawBufferPointer(start: memory + start + position, count: count)
        position += count
        return bytes
    }

    func takeByte() throws(Stop) -> UInt8 { try take(1)[0] }

    /// A number as its bytes, little-endian.
    func takeNumber<T: FixedWidthInteger & BitwiseCopyable>(_: T.Type) throws(Stop) -> T {
        T(littleEndian: try take(MemoryLayout<T>.size).loadUnaligned(as: T.self))
    }

    private enum Length {
        case plain(Int)
        case form(RDB.StringForm)
    }

    private func takeLengthOrForm() throws(Stop) -> Length {
        let first = try takeByte()
        switch first >> 6 {
        case 0: return .plain(Int(first & 0x3F))
        case 1: return .plain(Int(first & 0x3F) << 8 | Int(try takeByte()))
        case 2:
            if first == 0x80 { return .plain(Int(UInt32(bigEndian: try take(4).loadUnaligned(as: UInt32.self)))) }
            let value = try takeWideNumber(first)
            guard value < 1 << 48 else { throw bad("a length of \(value) is more than any value can have") }
            return .plain(Int(value))
        default:
            guard let form = RDB.StringForm(rawValue: first & 0x3F) else { throw bad("a string in form \(first & 0x3F), which means nothing") }
            return .form(form)
        }
    }

    private func takeWideNumber(_ first: UInt8) throws(Stop) -> UInt64 {
        guard first == 0x81 else { throw bad("a length begins with byte \(first), which means nothing") }
        return UInt64(bigEndian: try take(8).loadUnaligned(as: UInt64.self))
    }

    /// A number of up to 64 bits in the form of a length.
    func takeWideLength() throws(Stop) -> UInt64 {
        guard end - start - position >= 1 else { throw .short(position + 1) }
        let first = (memory + start + position).load(as: UInt8.self)
        if first >> 6 != 2 || first == 0x80 { return UInt64(try takeLength()) }
        position += 1
        return try takeWideNumber(first)
    }

    func takeLength() throws(Stop) -> Int {
        guard case .plain(let value) = try takeLengthOrForm() else { throw bad("a string's special form stands where a length belongs") }
        return value
    }

    /// A string as an array; for keys, names and elements that are copied anyway.
    func takeString() throws(Stop) -> [UInt8] {
        try withString { bytes in Array(UnsafeRawBufferPointer(start: bytes.raw, count: bytes.count)) }
    }

    /// Reads a string and lends its bytes.
    func withString<R>(_ body: (Argument) -> R) throws(Stop) -> R {
        switch try takeLengthOrForm() {
        case .plain(let size):
            guard size <= options.stringMax else { throw tooLong(size) }
            return body(Argument(try take(size)))
        case .form(.integer8): return lend(Int64(try takeNumber(Int8.self)), body)
        case .form(.integer16): return lend(Int64(try takeNumber(Int16.self)), body)
        case .form(.integer32): return lend(Int64(try takeNumber(Int32.self)), body)
        case .form(.compressed):
            let (source, count) = try takeCompressed()
            // The scratch memory serves for ordinary strings only: it is not to stay as large as the longest.
            let block = count <= RDBReader.scratchSize ? scratch : .allocate(byteCount: count, alignment: 16)
            defer { if block != scratch { block.deallocate() } }
            guard LZF.decompress(source, to: block, count: count) else {
                throw bad("a compressed string of \(source.count) bytes does not give the \(count) bytes that it claims")
            }
            return body(Argument(UnsafeRawBufferPointer(start: block, count: count)))
        }
    }

    private func lend<R>(_ number: Int64, _ body: (Argument) -> R) -> R {
        withUnsafeTemporaryAllocation(byteCount: 24, alignment: 8) { area in
            let n = Decimal.write(number, to: area.baseAddress!)
            return body(Argument(UnsafeRawBufferPointer(start: area.baseAddress!, count: n)))
        }
    }

    private func tooLong(_ size: Int) -> Stop { bad("a string of \(size) bytes; \(options.stringMax) is the most (proto-max-bulk-len)") }

    /// The bytes of a compressed string, and how many they claim to stand for.
    private func takeCompressed() throws(Stop) -> (UnsafeRawBufferPointer, Int) {
        let size = try takeLength()
        let expanded = try takeLength()
        guard size <= options.stringMax else { throw tooLong(size) }
        guard expanded <= options.stringMax else { throw tooLong(expanded) }
        guard expanded <= size * LZF.expansionMax else {
            throw bad("a compressed string claims that its \(size) bytes stand for \(expanded), more than they can")
        }
        return (try take(size), expanded)
    }
}
