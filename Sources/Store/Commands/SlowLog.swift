import Glibc
import RESP

/// The commands that took longest lately (SLOWLOG), newest first, bounded by `slowlog-max-len`.
struct SlowLog {
    struct Entry {
        let id: Int64
        /// Seconds since 1970.
        let time: Int64
        let microseconds: Int64
        let arguments: [[UInt8]]
        let peer: String
        let name: [UInt8]
    }

    /// Newest first.
    var entries: [Entry] = []
    private var nextID: Int64 = 0
    /// Of a longer request the last of these says how many more there were.
    private static let argumentsMax = 32
    private static let argumentLengthMax = 128

    mutating func add(_ client: Client, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int, secrets: Set<Int>, microseconds: Int64, at time: Int64, lengthMax: Int) {
        guard lengthMax > 0 else { return }
        var copies: [[UInt8]] = []
        for i in 0..<min(count, SlowLog.argumentsMax) {
            if i == SlowLog.argumentsMax - 1, count > SlowLog.argumentsMax {
                copies.append(Array("... (\(count - SlowLog.argumentsMax + 1) more arguments)".utf8))
            } else if secrets.contains(i) {
                copies.append(Array("(redacted)".utf8))
            } else if arguments[i].count > SlowLog.argumentLengthMax {
                let rest = arguments[i].count - SlowLog.argumentLengthMax
                copies.append(arguments[i].buffer.prefix(SlowLog.argumentLengthMax) + Array("... (\(rest) more bytes)".utf8))
            } else {
                copies.append(arguments[i].bytes)
            }
        }
        entries.insert(
            Entry(id: nextID, time: time, microseconds: microseconds, arguments: copies, peer: "\(client.connection.peer)", name: client.name), at: 0)
        nextID += 1
        trim(to: lengthMax)
    }

    mutating func trim(to length: Int) {
        if entries.count > length { entries.removeLast(entries.count - length) }
    }

    func reply(_ call: borrowing Call) {
        if call.count > 3 { return call.unknownSubcommandOrArity() }
        var count = 10
        if call.count == 3 {
            guard let asked = call[2].integer, asked >= -1 else { return call.reply.error("ERR count should be greater than or equal to -1") }
            count = asked < 0 ? entries.count : Int(asked)
        }
        call.reply.array(min(count, entries.count))
        for entry in entries.prefix(count) {
            call.reply.array(6)
            call.reply.integer(entry.id)
            call.reply.integer(entry.time)
            call.reply.integer(entry.microseconds)
            call.reply.array(entry.arguments.count)
            for argument in entry.arguments { call.reply.bulk(argument) }
            call.reply.bulk(entry.peer)
            call.reply.bulk(entry.name)
        }
    }
}

/// How long commands take.
///
/// Two looks at the clock cost 40 to 50 ns, as much as a third of a pipelined GET. So what cannot be slow is looked at once in
/// `sampling` calls only, and what is found counts for all of them; everything else is timed each time.
extension StoreServer {
    private static let sampling: UInt64 = 64

    /// Whoever asks for the slow log of commands faster than this, in microseconds, wants to see the quick ones too.
    private static let quickMax = 1000

    /// Decides how many calls of quick commands are timed: all when somebody looks for slow ones among them.
    func updateTiming() {
        let isExact = configuration.slowLogThreshold >= 0 && configuration.slowLogThreshold < StoreServer.quickMax
            || configuration.latencyMonitorThreshold > 0
        samplingMask = isExact ? 0 : StoreServer.sampling - 1
        if !configuration.tracksLatency {
            for slot in commands.all { slot.forgetLatencies() }
        }
    }

    @inline(__always)
    static func nanoseconds() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(truncatingIfNeeded: time.tv_sec) &* 1_000_000_000 &+ UInt64(truncatingIfNeeded: time.tv_nsec)
    }

    /// Counts the time of a command, and remembers a slow one.
    @inline(never)
    func timed(_ client: Client, _ slot: UnsafeMutablePointer<CommandTable.Slot>, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int, since start: UInt64) {
        let took = StoreServer.nanoseconds() &- start
        slot.pointee.nanoseconds &+= slot.pointee.isQuick ? took &* (samplingMask &+ 1) : took
        if configuration.tracksLatency { slot.pointee.latencies.recording(took) }
        let flags = slot.pointee.command.flags
        if configuration.latencyMonitorThreshold > 0 { addLatencySample(flags.contains(.fast) ? "fast-command" : "command", nanoseconds: took) }
        let threshold = configuration.slowLogThreshold
        guard threshold >= 0, took >= UInt64(threshold) &* 1000, !flags.contains(.skipSlowLog) else { return }
        slowLog.add(
            client, arguments, count, secrets: StoreServer.secrets(slot.pointee.fullName, arguments, count),
            microseconds: Int64(took / 1000), at: loop.wallMilliseconds / 1000, lengthMax: configuration.slowLogLength)
    }
}

extension LatencyHistogram? {
    /// Records into the histogram, which is made with the first call.
    fileprivate mutating func recording(_ nanoseconds: UInt64) {
        if case .none = self { self = LatencyHistogram() }
        self!.record(nanoseconds: nanoseconds)
    }
}

extension UnsafeMutablePointer<CommandTable.Slot> {
    fileprivate func forgetLatencies() {
        pointee.latencies = nil
        for subcommand in pointee.subcommands { subcommand.forgetLatencies() }
    }
}
