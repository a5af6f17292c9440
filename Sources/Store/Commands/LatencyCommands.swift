import Glibc
import RESP

/// LATENCY: slow moments by event, and how long each command takes.
extension StoreServer {
    private static let flags: CommandFlags = [.admin, .noScript, .loading, .stale]

    static let latencyCommands: [Command] = [
        Command(
            container: "LATENCY", since: "2.8.13", summary: "A container for latency diagnostics commands.",
            subcommands: [
                Command(
                    "LATEST", arity: 2, flags: flags, since: "2.8.13",
                    tips: "nondeterministic_output request_policy:all_nodes response_policy:special",
                    summary: "Returns the latest latency samples for all events."
                ) { call in
                    let events = call.server.latency.events
                    call.reply.array(events.count)
                    for event in events {
                        call.reply.array(4)
                        call.reply.bulk(event.name)
                        call.reply.integer(event.samples.last?.time ?? 0)
                        call.reply.integer(event.samples.last?.milliseconds ?? 0)
                        call.reply.integer(event.worst)
                    }
                },
                Command(
                    "HISTORY", arity: 3, flags: flags, since: "2.8.13",
                    syntax: "event", tips: "nondeterministic_output request_policy:all_nodes response_policy:special",
                    summary: "Returns timestamp-latency samples for an event."
                ) { call in
                    let samples = call.server.latency.event(call[2].text)?.samples ?? []
                    call.reply.array(samples.count)
                    for sample in samples {
                        call.reply.array(2)
                        call.reply.integer(sample.time)
                        call.reply.integer(sample.milliseconds)
                    }
                },
                Command(
                    "RESET", arity: -2, flags: flags, since: "2.8.13",
                    syntax: "[event...]", tips: "request_policy:all_nodes response_policy:all_succeeded",
                    summary: "Resets the latency data for one or more events."
                ) { call in
                    call.server.loop.resetLongestCallback()
                    call.reply.integer(call.server.latency.reset((2..<max(2, call.count)).map { call[$0].text }))
                },
                Command(
                    "GRAPH", arity: 3, flags: flags, since: "2.8.13",
                    syntax: "event", tips: "nondeterministic_output request_policy:all_nodes response_policy:special",
                    summary: "Returns a latency graph for an event."
                ) { call in
                    let server = call.server
                    guard let event = server.latency.event(call[2].text) else {
                        return call.reply.error("ERR No samples available for event '\(call[2].text)'")
                    }
                    call.reply.verbatim(event.graph(now: server.loop.wallMilliseconds / 1000))
                },
                Command(
                    "DOCTOR", arity: 2, flags: flags, since: "2.8.13",
                    tips: "nondeterministic_output request_policy:all_nodes response_policy:special",
                    summary: "Returns a human-readable latency analysis report."
                ) { call in
                    call.reply.verbatim(call.server.latencyReport())
                },
                Command(
                    "HISTOGRAM", arity: -2, flags: flags, since: "7.0.0",
                    syntax: "[command...]", tips: "nondeterministic_output request_policy:all_nodes response_policy:special",
                    complexity: "O(N) where N is the number of commands with latency information being retrieved.",
                    summary: "Returns the cumulative distribution of latencies of a subset or all commands."
                ) { call in call.server.replyHistograms(call) },
                help(
                    "LATENCY", since: "2.8.13",
                    [
                        "DOCTOR", "    Return a human readable latency analysis report.", "GRAPH <event>",
                        "    Return an ASCII latency graph for the <event> class.", "HISTORY <event>",
                        "    Return time-latency samples for the <event> class.", "LATEST",
                        "    Return the latest latency samples for all events.", "RESET [<event> ...]",
                        "    Reset latency data of one or more <event> classes.", "    (default: reset all data for all event classes)",
                        "HISTOGRAM [COMMAND ...]",
                        "    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.",
                        "    If no commands are specified then all histograms are replied.",
                    ]),
            ])
    ]

    /// Notes a slow moment, if it is one.
    func addLatencySample(_ event: String, nanoseconds: UInt64) {
        let threshold = configuration.latencyMonitorThreshold
        guard threshold > 0 else { return }
        let milliseconds = Int64(nanoseconds / 1_000_000)
        if milliseconds >= threshold { latency.add(event, milliseconds: milliseconds, at: loop.wallMilliseconds / 1000) }
    }

    private func latencyReport() -> String {
        let longest = loop.statistics
        let loopReport = "The longest callback of the loop so far took \(longest.longestCallback.wholeNanoseconds / 1000) microseconds: \(longest.longestCallbackLabel).\n"
        if latency.events.isEmpty, configuration.latencyMonitorThreshold == 0 {
            return "Latency monitoring is off: CONFIG SET latency-monitor-threshold <milliseconds> turns it on. " + loopReport
        }
        if latency.events.isEmpty {
            return "No event has taken \(configuration.latencyMonitorThreshold) ms or longer since the samples were last reset. " + loopReport
        }
        let lines = latency.events.enumerated().map { "\($0 + 1). \($1.report)\n" }.joined()
        return "Slow moments were seen:\n\n" + lines + "\n" + loopReport + "SLOWLOG GET names the commands behind the events `command` and `fast-command`.\n"
    }

    // MARK: histograms

    /// The commands with their subcommands that have been timed.
    func timedSlots() -> [UnsafeMutablePointer<CommandTable.Slot>] {
        commands.all.flatMap { [$0] + $0.pointee.subcommands }.filter { $0.pointee.latencies != nil }
    }

    private func replyHistograms(_ call: borrowing Call) {
        var chosen: [UnsafeMutablePointer<CommandTable.Slot>] = []
        if call.count == 2 { chosen = timedSlots() }
        for i in 2..<max(2, call.count) {
            guard let slot = slot(named: call[i]) else { continue }
            chosen += ([slot] + slot.pointee.subcommands).filter { $0.pointee.latencies != nil }
        }
        call.reply.map(chosen.count)
        for slot in chosen {
            let histogram = slot.pointee.latencies!
            // Of a command that is timed by samples the histogram has those only: it is the shape of all calls.
            let calls = slot.pointee.calls
            call.reply.bulk(slot.pointee.fullName)
            call.reply.map(2)
            call.reply.bulk("calls")
            call.reply.integer(Int64(calls))
            call.reply.bulk("histogram_usec")
            let buckets = histogram.buckets
            call.reply.map(buckets.count)
            for bucket in buckets {
                call.reply.integer(Int64(bucket.microseconds))
                call.reply.integer(Int64((Double(bucket.count) * Double(calls) / Double(histogram.total)).rounded()))
            }
        }
    }
}
