import Glibc
import RESP

/// A number for the data set that depends on its contents only, not on how they lie in memory or in which order they came: the same as
/// Redis's DEBUG DIGEST for the same data.
struct DataDigest {
    private(set) var bytes = [UInt8](repeating: 0, count: 20)
    var text: String { SHA.hexadecimal(bytes) }

    /// For what has no order: whichever comes first, the sum is the same.
    mutating func add(_ data: Argument) { add(SHA.one(data.buffer)) }

    private mutating func add(_ hash: [UInt8]) {
        for i in 0..<20 { bytes[i] ^= hash[i] }
    }

    /// For what comes in a certain order.
    mutating func mix(_ data: Argument) {
        add(data)
        bytes = bytes.withUnsafeBufferPointer { SHA.one($0) }
    }

    private mutating func mix(number: UInt32) {
        withUnsafeBytes(of: number.bigEndian) { mix(Argument($0)) }
    }

    private mutating func add(_ part: DataDigest) { part.bytes.withUnsafeBytes { add(Argument($0)) } }

    /// Adds a value, with its time to live but without its key. O(n).
    mutating func add(value entry: Entry) {
        mix(number: UInt32(entry.type.rawValue))
        switch entry.type {
        case .string: withUnsafeTemporaryAllocation(byteCount: 24, alignment: 8) { mix(entry.string($0.baseAddress!)) }
        case .list: QuickList(entry.pointer).forEach { value in value.withText { mix($0) } }
        case .set: StoredSet(entry).forEach { value in value.withText { add($0) } }
        case .hash:
            StoredHash(entry).forEach { field, value in
                var part = DataDigest()
                field.withText { part.mix($0) }
                value.withText { part.mix($0) }
                add(part)
            }
        case .sortedSet:
            SortedSet(entry).forEach { member, score in
                var part = DataDigest()
                part.mix(member)
                DataDigest.seventeenDigits(score).withUnsafeBytes { part.mix(Argument($0)) }
                add(part)
            }
        case .stream:
            Stream(entry).forEach(from: .zero, to: .max) { item in
                item.id.withText(separator: 0x2E) { mix($0) }
                item.forEach { value in value.withText { mix($0) } }
                return true
            }
        }
        if entry.hasExpiry { add(Argument("!!expire!!")) }
    }

    /// printf's `%.17g`.
    private static func seventeenDigits(_ value: Double) -> [UInt8] {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { buffer in
            let count = withVaList([value]) { vsnprintf(buffer.baseAddress!, buffer.count, "%.17g", $0) }
            return buffer.prefix(Int(count)).map { UInt8(bitPattern: $0) }
        }
    }

    /// The whole data set. O(n).
    init(_ databases: UnsafeMutableBufferPointer<Database>) {
        for db in databases where db.count > 0 {
            mix(number: UInt32(db.id))
            db.entries.forEach { element in
                let entry = Entry(element)
                var part = DataDigest()
                part.mix(entry.key)
                part.add(value: entry)
                add(part)
            }
        }
    }

    init() {}
}
