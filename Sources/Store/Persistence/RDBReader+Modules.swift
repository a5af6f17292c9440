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
    func beginModule() throws(Stop) {
        let module = RDB.moduleName(try takeWideLength())
        guard try takeLength() == RDB.ModuleField.unsigned.rawValue else {
            throw bad("the data of the module '\(module)' does not begin with a number")
        }
        _ = try takeLength()
        warn("data of the module '\(module)' beside the keys was left out: modules are not supported")
        stage = .moduleField
    }

    /// Reads over one field of a module's data.
    func readModuleField() throws(Stop) {
        let code = try takeLength()
        switch RDB.ModuleField(rawValue: code) {
        case .end: stage = .record
        case .signed, .unsigned: _ = try takeWideLength()
        case .float: _ = try take(4)
        case .double: _ = try take(8)
        case .string: try withString { _ in }
        case nil: throw bad("a field of kind \(code) in the data of a module; 0 to 5 are known")
        }
    }
}
