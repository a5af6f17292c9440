/// How long calls took, in nanoseconds, as HdrHistogram keeps them with two significant digits: exact up to 255, then 128 steps for each
/// power of two, so that nothing is off by more than a hundredth.
///
/// The layout is HdrHistogram's own, so that percentiles and buckets are printed as Redis prints them. The library itself
/// (hdrhistogram-swift 0.2.0) was measured and left out: recording costs 60 ns instead of 27, a histogram takes 12.3 kB like this one
/// (8.4 when it resizes itself), and its percentiles end at the highest value recorded, where Redis's do not.
struct LatencyHistogram {
    private static let exactBits = 8
    private static let steps = 128
    /// Longer calls count as this long: one second, as in Redis.
    private static let longest: UInt64 = 1_000_000_000
    private static let size = index(of: longest) + 1

    private(set) var total: UInt64 = 0
    private var counts = [UInt32](repeating: 0, count: size)

    private static func index(of value: UInt64) -> Int {
        guard value >= 1 << exactBits else { return Int(value) }
        let shift = 63 - value.leadingZeroBitCount - (exactBits - 1)
        return shift * steps + Int(value >> UInt64(shift))
    }

    /// The longest time that is counted at the index.
    private static func highest(_ index: Int) -> UInt64 {
        guard index >= 1 << exactBits else { return UInt64(index) }
        let shift = index / steps - 1
        return (UInt64(index - shift * steps) + 1) << UInt64(shift) - 1
    }

    mutating func record(nanoseconds: UInt64) {
        counts[LatencyHistogram.index(of: min(max(1, nanoseconds), LatencyHistogram.longest))] &+= 1
        total += 1
    }

    mutating func reset() { self = LatencyHistogram() }

    /// The time that this share of the calls did not exceed, in nanoseconds. O(1) bounded.
    func percentile(_ percent: Double) -> UInt64 {
        let wanted = max(1, UInt64((percent / 100 * Double(total)).rounded(.up)))
        var seen: UInt64 = 0
        for (index, count) in counts.enumerated() {
            seen += UInt64(count)
            if seen >= wanted { return LatencyHistogram.highest(index) }
        }
        return 0
    }

    /// For each power of two, from 1024 ns on, in which calls ended: microseconds, and how many calls took no longer.
    var buckets: [(microseconds: UInt64, count: UInt64)] {
        var result: [(microseconds: UInt64, count: UInt64)] = []
        var seen: UInt64 = 0
        var index = 0
        var bound: UInt64 = 1024
        while seen < total {
            let before = seen
            let last = LatencyHistogram.index(of: bound)
            while index <= last, index < counts.count {
                seen += UInt64(counts[index])
                index += 1
            }
            if seen > before { result.append((LatencyHistogram.highest(last) / 1000, seen)) }
            bound *= 2
        }
        return result
    }
}
