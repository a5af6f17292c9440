import RESP

/// Libraries of functions that came with a snapshot, an append-only file or a master: kept as they are and passed on, so that nothing is
/// lost. There is no engine that could run them yet.
struct FunctionLibraries {
    struct Library {
        let name: [UInt8]
        let code: [UInt8]
    }

    /// In the order of their arrival.
    private(set) var all: [Library] = []

    var codes: [[UInt8]] { all.map(\.code) }
    var isEmpty: Bool { all.isEmpty }

    init() {}
    init(_ codes: [[UInt8]]) { for code in codes { keep(code) } }

    /// Keeps a library, in place of one of the same name.
    mutating func keep(_ code: [UInt8]) {
        let library = Library(name: FunctionLibraries.name(of: code) ?? [], code: code)
        if let index = all.firstIndex(where: { !$0.name.isEmpty && $0.name == library.name }) {
            all[index] = library
        } else {
            all.append(library)
        }
    }

    /// - Returns: whether there was one.
    mutating func remove(named name: [UInt8]) -> Bool {
        guard let index = all.firstIndex(where: { $0.name == name }) else { return false }
        all.remove(at: index)
        return true
    }

    mutating func removeAll() { all = [] }

    /// The name in the first line of a library, `#!lua name=mylib`.
    static func name(of code: [UInt8]) -> [UInt8]? {
        guard code.starts(with: "#!".utf8) else { return nil }
        let words = code.prefix { $0 != 10 }.split { $0 == 32 || $0 == 13 }
        let mark = Array("name=".utf8)
        return words.first { $0.starts(with: mark) }.map { Array($0.dropFirst(mark.count)) }
    }
}

extension StoreServer {
    /// Puts libraries in place of those that are here.
    func adopt(functions codes: [[UInt8]]) {
        functions = FunctionLibraries(codes)
        noteFunctions()
    }

    func noteFunctions() {
        guard !functions.isEmpty else { return }
        logger.warning("Libraries of functions: \(functions.all.count) are kept and passed on, but functions cannot be run yet")
    }
}

// MARK: payloads of FUNCTION DUMP

extension FunctionLibraries {
    /// All libraries as records of a snapshot, with DUMP's footer.
    func dump(compresses: Bool) -> [UInt8] {
        var bytes: [UInt8] = []
        let writer = RDBWriter(compresses: compresses, checksums: false) {
            bytes.append(contentsOf: $0)
            return 0
        }
        for library in all { writer.write(function: library.code) }
        writer.flush()
        return ValueDump.sealed(bytes)
    }

    /// - Returns: the code of the libraries; nil when the payload is damaged.
    static func read(_ payload: Argument, server: StoreServer) -> [[UInt8]]? {
        guard let end = ValueDump.unsealed(payload) else { return nil }
        var file: [UInt8] = []
        let writer = RDBWriter(compresses: false, checksums: false) {
            file.append(contentsOf: $0)
            return 0
        }
        writer.raw(RDB.magic)
        writer.raw(UnsafeRawBufferPointer(start: payload.raw, count: end))
        writer.opcode(.end)
        writer.number(UInt64(0))
        writer.flush()
        let reader = server.makeReader(.init(verifiesChecksum: false, stringMax: server.configuration.protoMaxBulkLength))
        guard case .done? = try? file.withUnsafeBytes({ try reader.feed($0) }) else { return nil }
        return reader.info.functions
    }
}
