/// How fast a stream grows, about, over the last second.
///
/// It is told the stream's end ten times a second while its link works; what it says is used to guess what has been missed since.
struct StreamRate {
    private var last: Int64?
    /// Bytes a second.
    private(set) var perSecond = 0.0
    private static let beatsPerSecond = 10.0

    mutating func add(_ end: Int64) {
        defer { last = end }
        guard let last else { return }
        perSecond += (Double(max(0, end - last)) * StreamRate.beatsPerSecond - perSecond) / StreamRate.beatsPerSecond
    }

    /// Bytes that were written in so many milliseconds, if it went on as before.
    func bytes(in milliseconds: Int64) -> Int64 { Int64(perSecond * Double(milliseconds) / 1000) }
}
