import Glibc

/// Dates in local time, as HAProxy writes them.
enum DateText {
    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

    private static func local(_ seconds: Int64) -> tm {
        var time = time_t(seconds)
        var parts = tm()
        localtime_r(&time, &parts)
        return parts
    }

    static func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
    static func three(_ value: Int64) -> String { value < 10 ? "00\(value)" : value < 100 ? "0\(value)" : "\(value)" }

    /// `22/Nov/2026:15:36:46.823`.
    static func accept(milliseconds: Int64) -> String {
        let t = local(milliseconds / 1000)
        return "\(two(t.tm_mday))/\(months[Int(t.tm_mon)])/\(t.tm_year + 1900):\(two(t.tm_hour)):\(two(t.tm_min)):\(two(t.tm_sec)).\(three(milliseconds % 1000))"
    }
}
