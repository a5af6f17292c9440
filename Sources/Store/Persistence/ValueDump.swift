import Glibc
import RESP

/// One value by itself, as DUMP answers it and RESTORE takes it.
///
///     | kind (1) | value ... | RDB version (2) | CRC-64 of all before it (8) |     little-endian
enum ValueDump {
    private static let footerSize = 10

    static func make(_ entry: Entry, compresses: Bool) -> [UInt8] {
        var bytes: [UInt8] = []
        let writer = RDBWriter(compresses: compresses, checksums: false) {
            bytes.append(contentsOf: $0)
            return 0
        }
        writer.byte(writer.kind(of: entry).rawValue)
        writer.writeValue(entry)
        writer.flush()
        return sealed(bytes)
    }

    /// The bytes with their footer: version and checksum.
    static func sealed(_ bytes: [UInt8]) -> [UInt8] {
        var bytes = bytes
        withUnsafeBytes(of: UInt16(RDB.version).littleEndian) { bytes.append(contentsOf: $0) }
        var checksum = CRC64()
        bytes.withUnsafeBytes { checksum.update($0) }
        withUnsafeBytes(of: checksum.value.littleEndian) { bytes.append(contentsOf: $0) }
        return bytes
    }

    /// How many bytes there are before the footer; nil when the version is unknown or the checksum is wrong.
    static func unsealed(_ dump: Argument) -> Int? {
        guard dump.count >= footerSize else { return nil }
        let end = dump.count - footerSize
        let version = Int(UInt16(littleEndian: (dump.raw + end).loadUnaligned(as: UInt16.self)))
        guard version <= RDB.versionMax else { return nil }
        let said = UInt64(littleEndian: (dump.raw + end + 2).loadUnaligned(as: UInt64.self))
        var checksum = CRC64()
        checksum.update(UnsafeRawBufferPointer(start: dump.raw, count: end + 2))
        return said == checksum.value ? end : nil
    }

    enum Outcome {
        case entry(Entry)
        /// The version is unknown or the checksum is wrong.
        case damaged
        case unreadable
    }

    /// Makes an entry of a dump, by reading a file that holds nothing else.
    static func read(_ dump: Argument, _ key: Argument, expiry: Int64?, server: StoreServer) -> Outcome {
        guard let end = unsealed(dump) else { return .damaged }
        // An opcode in place of a kind would be a record of another sort.
        guard end > 0, RDB.Kind(rawValue: dump[0]) != nil else { return .unreadable }

        var file: [UInt8] = []
        let writer = RDBWriter(compresses: false, checksums: false) {
            file.append(contentsOf: $0)
            return 0
        }
        writer.raw(RDB.magic)
        if let expiry {
            writer.opcode(.expiryMilliseconds)
            writer.number(UInt64(bitPattern: expiry).littleEndian)
        }
        writer.byte(dump[0])
        writer.string(key)
        // The footer too: a length that is wrong may reach into it, as in Redis.
        writer.raw(UnsafeRawBufferPointer(start: dump.raw + 1, count: dump.count - 1))
        writer.flush()
        let reader = server.makeReader(.init(verifiesChecksum: false, isSingleValue: true, stringMax: server.configuration.protoMaxBulkLength))
        // What stands behind the value is not looked at, as by Redis.
        do throws(RDBError) {
            _ = try file.withUnsafeBufferPointer { bytes throws(RDBError) in try reader.feed(UnsafeRawBufferPointer(bytes)) }
        } catch {
            return .unreadable
        }
        guard let position = reader.databases[0].find(key) else { return .unreadable }
        return .entry(reader.databases[0].take(at: position))
    }
}
