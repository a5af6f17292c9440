import CLinux
import Glibc
import RESP

/// Writes an RDB file of version 10 to a sink, through a buffer, with its checksum.
///
/// The first error of the sink is kept and everything after it is dropped, so that the caller asks once, at the end.
final class RDBWriter {
    /// Takes bytes; answers 0, or the errno that ends the writing.
    typealias Sink = (UnsafeRawBufferPointer) -> Int32

    private let sink: Sink
    private let compresses: Bool
    private let checksums: Bool
    /// Says whether what is known of the use of keys is worth writing, and which it is.
    private let policy: EvictionPolicy
    private static let bufferSize = 65_536
    private let buffer = UnsafeMutableRawPointer.allocate(byteCount: RDBWriter.bufferSize, alignment: 16)
    private var used = 0
    private var checksum = CRC64()
    private let lzf = LZF.Scratch()
    private var compressed = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 16)
    private var compressedCapacity = 4096
    /// The first errno that the sink answered with; 0 for none.
    private(set) var failure: Int32 = 0
    /// Bytes handed to the sink.
    private(set) var bytesWritten = 0
    private(set) var keysWritten = 0
    /// Called after every so many keys with their number.
    var progress: ((Int) -> Void)?
    static let progressEvery = 1024

    /// - Parameters:
    ///   - compresses: strings of more than 20 bytes are compressed where that makes them shorter (`rdbcompression`).
    ///   - checksums: the file ends with its checksum; else with zero, which says that there is none (`rdbchecksum`).
    ///   - policy: under LRU and LFU each key comes with its idle time or its frequency, as in Redis's files.
    init(compresses: Bool = true, checksums: Bool = true, policy: EvictionPolicy = .noEviction, sink: @escaping Sink) {
        self.sink = sink
        self.policy = policy
        self.compresses = compresses
        self.checksums = checksums
    }

    /// Writes to a file, a pipe or a socket; one that does not block is waited for.
    /// - Parameter syncEvery: bytes after which the kernel is told to begin writing to the disk, so that the final fsync does not
    ///   have everything before it; 0 for never.
    convenience init(
        descriptor: Int32, compresses: Bool = true, checksums: Bool = true, policy: EvictionPolicy = .noEviction, syncEvery: Int = 0
    ) {
        var total = 0
        var synced = 0
        self.init(compresses: compresses, checksums: checksums, policy: policy) { bytes in
            let failure = DurableFile.write(bytes, to: descriptor)
            if failure != 0 { return failure }
            total += bytes.count
            if syncEvery > 0, total - synced >= syncEvery {
                if fdatasync(descriptor) != 0 { return errno }
                synced = total
            }
            return 0
        }
    }

    deinit {
        buffer.deallocate()
        compressed.deallocate()
    }

    // MARK: the file

    /// Writes everything in the databases. O(n); it stops early when the sink fails.
    /// - Returns: 0, or the sink's errno.
    func write(_ databases: UnsafeMutableBufferPointer<Database>, _ info: SnapshotInfo, now: Int64) -> Int32 {
        raw(RDB.magic)
        writeAux(info, now: now)
        for code in info.functions { write(function: code) }
        for db in databases where db.count > 0 && failure == 0 { write(db) }
        opcode(.end)
        flush()
        number(checksums ? checksum.value.littleEndian : 0)
        flush()
        return failure
    }

    private func writeAux(_ info: SnapshotInfo, now: Int64) {
        aux("redis-ver", StoreVersion.redis)
        aux("redis-bits", 64)
        aux("ctime", now / 1000)
        aux("used-mem", Int64(clamping: mallinfo2().uordblks))
        if let id = info.replicationID {
            aux("repl-stream-db", Int64(info.replicationDatabase ?? 0))
            aux("repl-id", id)
            aux("repl-offset", info.replicationOffset ?? 0)
        }
        aux("aof-base", info.isAppendOnlyBase ? 1 : 0)
    }

    /// A library of functions.
    func write(function code: [UInt8]) {
        opcode(.functions)
        code.withUnsafeBytes { string(Argument($0)) }
    }

    private func write(_ db: Database) {
        opcode(.selectDB)
        length(db.id)
        opcode(.resizeDB)
        length(db.count)
        length(db.expiring.count)
        db.entries.forEach { element in
            if failure != 0 { return }
            write(Entry(element), db.clock)
            keysWritten &+= 1
            if keysWritten % RDBWriter.progressEvery == 0 { progress?(keysWritten) }
        }
    }

    /// Writes one key: its expiry, its use, kind, name and value.
    func write(_ entry: Entry, _ clock: KeyspaceClock) {
        if entry.hasExpiry {
            opcode(.expiryMilliseconds)
            number(UInt64(bitPattern: entry.expiry).littleEndian)
        }
        switch policy {
        case .allKeysLRU, .volatileLRU:
            opcode(.idle)
            length(Int(clock.idle(entry.clock)))
        case .allKeysLFU, .volatileLFU:
            opcode(.frequency)
            byte(UInt8(clock.frequency(entry.clock)))
        default: break
        }
        byte(kind(of: entry).rawValue)
        string(entry.key)
        writeValue(entry)
    }

    /// Says how the value is going to be written.
    func kind(of entry: Entry) -> RDB.Kind {
        switch entry.type {
        case .string: .string
        case .list, .set, .hash, .sortedSet, .stream: collectionKind(of: entry)
        }
    }

    /// Writes the value without its kind.
    func writeValue(_ entry: Entry) {
        if entry.type != .string { return writeCollection(entry) }
        if entry.encoding == .integer { return integer(entry.integer) }
        withUnsafeTemporaryAllocation(byteCount: 24, alignment: 8) { string(entry.string($0.baseAddress!)) }
    }

    // MARK: pieces

    func opcode(_ opcode: RDB.Opcode) { byte(opcode.rawValue) }

    func aux(_ name: StaticString, _ value: String) {
        opcode(.aux)
        string(Argument(name))
        var value = value
        value.withUTF8 { string(Argument(UnsafeRawBufferPointer($0))) }
    }

    func aux(_ name: StaticString, _ value: Int64) {
        opcode(.aux)
        string(Argument(name))
        integer(value)
    }

    /// A length in its shortest form.
    func length(_ value: Int) {
        if value < 64 {
            byte(UInt8(value))
        } else if value < 16_384 {
            byte(0x40 | UInt8(value >> 8))
            byte(UInt8(value & 0xFF))
        } else if value <= Int(UInt32.max) {
            byte(0x80)
            number(UInt32(value).bigEndian)
        } else {
            byte(0x81)
            number(UInt64(value).bigEndian)
        }
    }

    /// A whole number of 64 bits in the form of a length.
    func length(bits value: UInt64) {
        if value <= UInt64(UInt32.max) { return length(Int(value)) }
        byte(0x81)
        number(value.bigEndian)
    }

    /// A string: as an integer where its text is one, compressed where that pays, else as it is.
    func string(_ value: Argument) {
        if value.count <= 11, let number = value.integer, number >= Int64(Int32.min), number <= Int64(Int32.max) {
            return integer(number)
        }
        if compresses, value.count > 20, writeCompressed(value) { return }
        length(value.count)
        raw(UnsafeRawBufferPointer(start: value.raw, count: value.count))
    }

    /// A whole number as a string: in its own form up to 32 bits, as text beyond.
    func integer(_ value: Int64) {
        if let small = Int8(exactly: value) {
            byte(0xC0 | RDB.StringForm.integer8.rawValue)
            byte(UInt8(bitPattern: small))
        } else if let small = Int16(exactly: value) {
            byte(0xC0 | RDB.StringForm.integer16.rawValue)
            number(UInt16(bitPattern: small).littleEndian)
        } else if let small = Int32(exactly: value) {
            byte(0xC0 | RDB.StringForm.integer32.rawValue)
            number(UInt32(bitPattern: small).littleEndian)
        } else {
            withUnsafeTemporaryAllocation(byteCount: 24, alignment: 8) { area in
                let n = Decimal.write(value, to: area.baseAddress!)
                length(n)
                raw(UnsafeRawBufferPointer(start: area.baseAddress!, count: n))
            }
        }
    }

    /// A double as its 8 bytes (`binary double`).
    func double(_ value: Double) { number(value.bitPattern.littleEndian) }

    private func writeCompressed(_ value: Argument) -> Bool {
        let room = value.count - 4
        if room > compressedCapacity {
            compressed.deallocate()
            compressedCapacity = max(room, compressedCapacity * 2)
            compressed = .allocate(byteCount: compressedCapacity, alignment: 16)
        }
        let bytes = UnsafeRawBufferPointer(start: value.raw, count: value.count)
        guard let n = LZF.compress(bytes, to: compressed, room: room, scratch: lzf) else { return false }
        byte(0xC0 | RDB.StringForm.compressed.rawValue)
        length(n)
        length(value.count)
        raw(UnsafeRawBufferPointer(start: compressed, count: n))
        return true
    }

    func byte(_ value: UInt8) {
        if used == RDBWriter.bufferSize { flush() }
        buffer.storeBytes(of: value, toByteOffset: used, as: UInt8.self)
        used &+= 1
    }

    func number<T: FixedWidthInteger & BitwiseCopyable>(_ value: T) { withUnsafeBytes(of: value) { raw($0) } }

    func raw(_ text: StaticString) { raw(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)) }

    func raw(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress, bytes.count > 0 else { return }
        if bytes.count > RDBWriter.bufferSize - used {
            flush()
            if bytes.count >= RDBWriter.bufferSize { return deliver(bytes) }
        }
        memcpy(buffer + used, base, bytes.count)
        used += bytes.count
    }

    /// Hands what is buffered to the sink.
    func flush() {
        let size = used
        used = 0
        if size > 0 { deliver(UnsafeRawBufferPointer(start: buffer, count: size)) }
    }

    private func deliver(_ bytes: UnsafeRawBufferPointer) {
        guard failure == 0 else { return }
        if checksums { checksum.update(bytes) }
        failure = sink(bytes)
        bytesWritten += bytes.count
    }
}
