/// The RDB file format: what its bytes stand for.
///
/// Source: Redis's `rdb.h` for the names and numbers; versions 1 to 12.
///
///     | "REDIS" | version, 4 digits | records ... | 0xFF | CRC-64 of all before it, 8 bytes, little-endian (version 5 on) |
///
/// A record is an opcode with what it needs, or a value type, a key and a value. Lengths are
///
///     00LLLLLL                    6 bits
///     01LLLLLL LLLLLLLL           14 bits
///     10000000 + 4 bytes          32 bits, big-endian
///     10000001 + 8 bytes          64 bits, big-endian
///     11TTTTTT                    no length but a string in a special form: integer of 8, 16 or 32 bits, or compressed
enum RDB {
    static let versionMax = 12
    /// What is written: a Redis 7.0 can read it.
    static let version = 10
    static let magic: StaticString = "REDIS0010"

    enum Opcode: UInt8 {
        case slotInfo = 244
        case functions = 245
        case functionsBeforeRelease = 246
        case moduleAux = 247
        case idle = 248
        case frequency = 249
        case aux = 250
        case resizeDB = 251
        case expiryMilliseconds = 252
        case expirySeconds = 253
        case selectDB = 254
        case end = 255
    }

    enum Kind: UInt8 {
        case string = 0
        case list = 1
        case set = 2
        /// Scores as text.
        case sortedSetText = 3
        case hash = 4
        /// Scores as doubles.
        case sortedSet = 5
        case moduleBeforeRelease = 6
        case module = 7
        case hashZipmap = 9
        case listZiplist = 10
        case setIntset = 11
        case sortedSetZiplist = 12
        case hashZiplist = 13
        /// Nodes are ziplists.
        case quicklist = 14
        case stream1 = 15
        case hashListpack = 16
        case sortedSetListpack = 17
        /// Nodes are listpacks or single long elements.
        case quicklist2 = 18
        case stream2 = 19
        case setListpack = 20
        case stream3 = 21
        case hashMetadataBeforeRelease = 22
        case hashListpackExpiryBeforeRelease = 23
        case hashMetadata = 24
        case hashListpackExpiry = 25

        /// What a user calls it.
        var name: String {
            switch self {
            case .string: "a string"
            case .list, .listZiplist, .quicklist, .quicklist2: "a list"
            case .set, .setIntset, .setListpack: "a set"
            case .sortedSetText, .sortedSet, .sortedSetZiplist, .sortedSetListpack: "a sorted set"
            case .hash, .hashZipmap, .hashZiplist, .hashListpack: "a hash"
            case .moduleBeforeRelease, .module: "a value of a Redis module"
            case .stream1, .stream2, .stream3: "a stream"
            case .hashMetadataBeforeRelease, .hashListpackExpiryBeforeRelease, .hashMetadata, .hashListpackExpiry:
                "a hash whose fields expire"
            }
        }
    }

    /// The special forms of strings.
    enum StringForm: UInt8 {
        case integer8 = 0
        case integer16 = 1
        case integer32 = 2
        case compressed = 3
    }

    /// What a module's data is made of, each behind its kind.
    enum ModuleField: Int {
        case end = 0
        case signed = 1
        case unsigned = 2
        case float = 3
        case double = 4
        case string = 5
    }

    /// The name in a module's number: nine letters of 6 bits, above 10 bits of a version.
    static func moduleName(_ number: UInt64) -> String {
        let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
        return String((0..<9).map { letters[Int(number >> (58 - 6 * UInt64($0)) & 63)] })
    }

    /// How a node of a `quicklist2` lies in the file.
    enum NodeForm: Int {
        case plain = 1
        case packed = 2
    }
}

/// Why bytes are not an RDB file that we can load.
struct RDBError: Error, CustomStringConvertible {
    /// Bytes from the start of the file to the record or element in question.
    let offset: Int
    let reason: String
    /// The key being read, when one was.
    var key: String?

    var description: String {
        "byte \(offset)" + (key.map { ", key '\($0)'" } ?? "") + ": \(reason)"
    }
}

/// What an RDB file says besides its keys; `repl` fields let a replica go on where the file's master was.
struct SnapshotInfo {
    /// The database selected in the replication stream at that moment.
    var replicationDatabase: Int?
    var replicationID: String?
    var replicationOffset: Int64?
    /// It is the base of an append-only file.
    var isAppendOnlyBase = false
    /// The code of libraries of functions.
    var functions: [[UInt8]] = []
}
