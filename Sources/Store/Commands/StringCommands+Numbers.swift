import Glibc
import RESP

/// Strings that are numbers: INCR and its relatives.
extension StoreServer {
    @inline(__always)
    func increment(_ call: borrowing Call, by delta: Int64) {
        let key = call[1]
        guard let position = lookupForWrite(call.db, key) else {
            let entry = Entry.make(heap, key, .string, .integer, expiry: nil, clock: call.db.accessClock, valueSize: 8)
            entry.integer = delta
            created(call.db, key)
            call.db.add(entry)
            changed(call.db, key, .string, "incrby")
            return call.reply.integer(delta)
        }
        let entry = Entry(position.element)
        guard entry.type == .string else { return call.wrongType() }
        let old: Int64
        if entry.encoding == .integer {
            old = entry.integer
        } else {
            guard let value = withUnsafeTemporaryAllocation(byteCount: 24, alignment: 8, { entry.string($0.baseAddress!).integer })
            else { return call.notAnInteger() }
            old = value
        }
        let (sum, overflow) = old.addingReportingOverflow(delta)
        if overflow { return call.reply.error("ERR increment or decrement would overflow") }
        if entry.encoding == .integer {
            entry.integer = sum
        } else {
            let made = Entry.make(
                heap, entry.key, .string, .integer, expiry: entry.hasExpiry ? entry.expiry : nil, clock: call.db.accessClock, valueSize: 8)
            made.integer = sum
            entry.freeValue()
            call.db.replace(position, with: made)
        }
        changed(call.db, key, .string, "incrby")
        call.reply.integer(sum)
    }

    func incrementFloat(_ call: borrowing Call) {
        let key = call[1]
        let position = lookupForWrite(call.db, key)
        var old: Float80 = 0
        if let position {
            let entry = Entry(position.element)
            guard entry.type == .string else { return call.wrongType() }
            guard let value = withUnsafeTemporaryAllocation(byteCount: 24, alignment: 8, { LongDouble.parse(entry.string($0.baseAddress!)) })
            else { return call.notAFloat() }
            old = value
        }
        guard let delta = LongDouble.parse(call[2]) else { return call.notAFloat() }
        let sum = old + delta
        guard sum.isFinite else { return call.reply.error("ERR increment would produce NaN or Infinity") }
        let text = LongDouble.text(sum)
        if position == nil { created(call.db, key) }
        text.withUnsafeBytes { bytes in
            storeText(call.db, key, position, Argument(bytes))
            call.reply.bulk(Argument(bytes))
        }
        changed(call.db, key, .string, "incrbyfloat")
        // The outcome, not the sum, is passed on: floating point may differ elsewhere.
        propagate(as: [[Array("SET".utf8), key.bytes, text, Array("KEEPTTL".utf8)]])
    }

    /// Stores text that stays text although it may look like a whole number, as `OBJECT ENCODING` tells; the expiry stays.
    private func storeText(_ db: Database, _ key: Argument, _ position: Database.Position?, _ text: Argument) {
        guard text.count <= Entry.embeddedMax else {
            db.setString(key, text, expiry: nil, keepExpiry: true)
            return
        }
        let old = position.map { Entry($0.element) }
        let made = Entry.make(
            heap, key, .string, .embedded, expiry: old.flatMap { $0.hasExpiry ? $0.expiry : nil }, clock: db.accessClock,
            valueSize: 2 + text.count)
        made.writeEmbedded(text)
        guard let position, let old else { return db.add(made) }
        old.freeValue()
        db.replace(position, with: made)
    }
}
