/// What a Redis module has stored beside the keys: it is read over, and spoken of.
///
///     | module (length) | 2 | when (length) | field ... | 0 |
///
///     field:  | 1 or 2 | number as a length |    | 3 | float (4) |    | 4 | double (8) |    | 5 | string |
///
/// A module is its name of nine characters, six bits each, and ten bits of a version.
///
/// Source: `RDB_OPCODE_MODULE_AUX` and `RDB_MODULE_OPCODE_*` of Redis's `rdb.h`, and the comment above `moduleTypeEncodeId`.
extension RDBReader {
    func skipModuleAux() throws(Stop) {
        let module = RDBReader.moduleName(try takeWideLength())
        guard try takeLength() == 2 else { throw bad("the data of the module '\(module)' does not begin with a number") }
        _ = try takeWideLength()
        while true {
            switch try takeLength() {
            case 0:
                warn("data of the module '\(module)' beside the keys was left out: modules are not supported")
                return
            case 1, 2: _ = try takeWideLength()
            case 3: _ = try take(4)
            case 4: _ = try take(8)
            case 5: try withString { _ in }
            case let other: throw bad("a field of kind \(other) in the data of the module '\(module)'; 0 to 5 are known")
            }
        }
    }

    private static let moduleLetters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)

    static func moduleName(_ id: UInt64) -> String {
        String(decoding: (0..<9).map { moduleLetters[Int(id >> UInt64(10 + 6 * (8 - $0))) & 63] }, as: UTF8.self)
    }
}
