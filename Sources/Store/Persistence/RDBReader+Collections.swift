import RESP

/// Makes a collection of the elements that are read for it.
struct CollectionBuilder {
    var count: Int { 0 }

    func finish() -> (type: ValueType, encoding: Encoding, pointer: UnsafeMutableRawPointer) {
        preconditionFailure("no collection is begun")
    }

    func free() {}
}

/// How lists, sets, hashes and sorted sets are read.
extension RDBReader {
    func startCollection(_ kind: RDB.Kind) throws(Stop) -> Building {
        throw bad("the key holds \(kind.name), which cannot be read yet")
    }

    func readElements() throws(Stop) {}
}
