import RESP

/// How a time argument counts.
enum ExpiryUnit {
    case seconds, milliseconds, secondsAbsolute, millisecondsAbsolute

    /// Reads EX, PX, EXAT or PXAT.
    init?(_ word: Argument) {
        if word.isWord("ex") { self = .seconds } else if word.isWord("px") { self = .milliseconds }
        else if word.isWord("exat") { self = .secondsAbsolute } else if word.isWord("pxat") { self = .millisecondsAbsolute }
        else { return nil }
    }
}

extension StoreServer {
    /// Reads a time argument that must be positive.
    /// - Returns: milliseconds since 1970; nil after an error reply.
    func expiryTime(_ call: borrowing Call, _ argument: Argument, _ unit: ExpiryUnit) -> Int64? {
        guard let value = argument.integer else {
            call.notAnInteger()
            return nil
        }
        guard value > 0, let time = expiryMoment(value, unit, call.db.now) else {
            call.reply.error("ERR invalid expire time in '\(call.slot.pointee.fullName)' command")
            return nil
        }
        return time
    }

    /// The moment meant, in milliseconds since 1970; nil when it cannot be counted in 64 bits.
    func expiryMoment(_ value: Int64, _ unit: ExpiryUnit, _ now: Int64) -> Int64? {
        var time = value
        if unit == .seconds || unit == .secondsAbsolute {
            let (product, overflow) = time.multipliedReportingOverflow(by: 1000)
            if overflow { return nil }
            time = product
        }
        if unit == .seconds || unit == .milliseconds {
            let (sum, overflow) = time.addingReportingOverflow(now)
            if overflow { return nil }
            time = sum
        }
        return time
    }
}
