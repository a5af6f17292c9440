/// The slow moments of each kind of event, by the second (`latency-monitor-threshold`).
struct LatencyMonitor {
    struct Sample {
        /// Seconds since 1970.
        let time: Int64
        var milliseconds: Int64
    }

    struct Event {
        let name: String
        /// The oldest first.
        var samples: [Sample] = []
        var worst: Int64 = 0
    }

    /// In the order in which they were first seen.
    private(set) var events: [Event] = []
    /// Samples kept of each event.
    private static let samplesMax = 160

    func event(_ name: String) -> Event? { events.first { $0.name == name } }

    /// Of one second only the worst is kept.
    mutating func add(_ name: String, milliseconds: Int64, at time: Int64) {
        let index = events.firstIndex { $0.name == name } ?? {
            events.append(Event(name: name))
            return events.count - 1
        }()
        events[index].worst = max(events[index].worst, milliseconds)
        if let last = events[index].samples.last, last.time == time {
            events[index].samples[events[index].samples.count - 1].milliseconds = max(last.milliseconds, milliseconds)
            return
        }
        if events[index].samples.count == LatencyMonitor.samplesMax { events[index].samples.removeFirst() }
        events[index].samples.append(Sample(time: time, milliseconds: milliseconds))
    }

    /// Forgets the events of these names, all of them without any.
    /// - Returns: how many there were.
    mutating func reset(_ names: [String]) -> Int {
        let before = events.count
        events.removeAll { names.isEmpty || names.contains($0.name) }
        return before - events.count
    }
}

extension LatencyMonitor.Event {
    /// LATENCY GRAPH: a column for each sample, and below it how long ago that was.
    func graph(now: Int64) -> String {
        let columns = samples.suffix(LatencyMonitor.Event.columnsMax)
        let high = columns.map(\.milliseconds).max() ?? 0
        let low = columns.map(\.milliseconds).min() ?? 0
        let title = "\(name) - high \(high) ms, low \(low) ms (all time high \(worst) ms)\n"
        let steps = LatencyMonitor.Event.marks.count * LatencyMonitor.Event.rows
        let heights = columns.map { min(steps - 1, Int($0.milliseconds - low) * steps / Int(max(1, high - low))) }
        let labels = columns.map { Array(LatencyMonitor.Event.age(now - $0.time)) }
        var lines: [String] = []
        for row in 0..<LatencyMonitor.Event.rows {
            let base = (LatencyMonitor.Event.rows - row - 1) * LatencyMonitor.Event.marks.count
            lines.append(String(heights.map { height -> Character in
                if height < base { return " " }
                return height - base < LatencyMonitor.Event.marks.count ? LatencyMonitor.Event.marks[height - base] : "|"
            }))
        }
        lines.append(String(repeating: " ", count: columns.count))
        for row in 0..<(labels.map(\.count).max() ?? 0) {
            lines.append(String(labels.map { row < $0.count ? $0[row] : " " }))
        }
        return title + String(repeating: "-", count: LatencyMonitor.Event.columnsMax) + "\n" + lines.map { $0 + "\n" }.joined()
    }

    private static let columnsMax = 80
    private static let rows = 4
    /// From the bottom of a row to its top.
    private static let marks: [Character] = ["_", "o", "#"]

    /// `12s`, `5m`, `3h`, `2d`.
    private static func age(_ seconds: Int64) -> String {
        if seconds < 60 { return "\(seconds)s" }
        if seconds < 3600 { return "\(seconds / 60)m" }
        if seconds < 86_400 { return "\(seconds / 3600)h" }
        return "\(seconds / 86_400)d"
    }

    /// LATENCY DOCTOR's line about the event.
    var report: String {
        let count = Int64(samples.count)
        let average = samples.reduce(0) { $0 + $1.milliseconds } / max(1, count)
        let deviation = samples.reduce(0) { $0 + abs($1.milliseconds - average) } / max(1, count)
        let span = max(1, (samples.last?.time ?? 0) - (samples.first?.time ?? 0))
        let period = Double(span) / Double(max(1, count))
        let tenths = Int64((period * 100).rounded())
        return "\(name): \(count) latency spikes (average \(average)ms, mean deviation \(deviation)ms, period \(tenths / 100).\(String(100 + tenths % 100).dropFirst()) sec). Worst all time event \(worst)ms."
    }
}
