import Glibc
import Logging

/// The pieces that log lines of every form are made of, appended as bytes: no formatter, no Foundation.
extension [UInt8] {
    mutating func append(_ text: StaticString) {
        append(contentsOf: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    mutating func append(_ text: String) { append(contentsOf: text.utf8) }

    /// Appends a decimal number with at least `width` digits, padded by `pad`.
    mutating func append(decimal value: Int, width: Int = 0, pad: UInt8 = UInt8(ascii: "0")) {
        let digits = String(value).utf8
        for _ in 0..<Swift.max(0, width - digits.count) { append(pad) }
        append(contentsOf: digits)
    }

    /// Appends the message in one line: a line break inside it would pass for a second log entry.
    mutating func append(message: Logger.Message, metadata: Logger.Metadata?) {
        let start = count
        append(contentsOf: message.description.utf8)
        if let metadata, !metadata.isEmpty {
            for (key, value) in metadata.sorted(by: { $0.key < $1.key }) {
                append(UInt8(ascii: " "))
                append(key)
                append(UInt8(ascii: "="))
                append("\(value)")
            }
        }
        for index in start..<count where self[index] == 10 || self[index] == 13 { self[index] = UInt8(ascii: " ") }
    }
}

/// A moment in local time, as log lines print it.
struct LocalTime {
    let fields: tm
    let millisecond: Int

    /// - Parameter wallMilliseconds: milliseconds since 1970.
    init(wallMilliseconds: Int64) {
        var seconds = time_t(wallMilliseconds / 1000)
        var fields = tm()
        localtime_r(&seconds, &fields)
        self.fields = fields
        millisecond = Int(wallMilliseconds % 1000)
    }

    /// The present, by the kernel's clock.
    init() {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        self.init(wallMilliseconds: Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000)
    }

    /// English and independent of the locale, as both formats ask.
    static func month(_ index: Int32) -> StaticString {
        switch index {
        case 0: "Jan"
        case 1: "Feb"
        case 2: "Mar"
        case 3: "Apr"
        case 4: "May"
        case 5: "Jun"
        case 6: "Jul"
        case 7: "Aug"
        case 8: "Sep"
        case 9: "Oct"
        case 10: "Nov"
        default: "Dec"
        }
    }

    /// `hh:mm:ss`
    func appendTime(to line: inout [UInt8]) {
        line.append(decimal: Int(fields.tm_hour), width: 2)
        line.append(UInt8(ascii: ":"))
        line.append(decimal: Int(fields.tm_min), width: 2)
        line.append(UInt8(ascii: ":"))
        line.append(decimal: Int(fields.tm_sec), width: 2)
    }
}

/// The metadata of the event on top of the handler's own.
func merged(_ own: Logger.Metadata, _ event: Logger.Metadata?) -> Logger.Metadata? {
    guard !own.isEmpty else { return event }
    guard let event else { return own }
    return own.merging(event) { $1 }
}
