import CLinux
import Glibc
import RESP

/// MEMORY.
extension StoreServer {
    static let memoryCommands: [Command] = [
        Command(
            container: "MEMORY", since: "4.0.0", summary: "A container for memory diagnostics commands.",
            subcommands: [
                Command(
                    "USAGE", arity: -3, flags: [.readOnly], keys: .range(2, 2), since: "4.0.0",
                    syntax: "key [SAMPLES count:int]", access: "RO",
                    complexity: "O(N) where N is the number of samples.", summary: "Estimates the memory usage of a key."
                ) { call in
                    var samples = 5
                    var i = 3
                    while i < call.count {
                        guard call[i].isWord("samples"), i + 1 < call.count else { return call.syntaxError() }
                        guard let wanted = call.integer(i + 1) else { return }
                        if wanted < 0 { return call.syntaxError() }
                        samples = Int(wanted)
                        i += 2
                    }
                    guard let entry = call.server.peek(call.db, call[2]) else { return call.reply.null() }
                    call.reply.integer(entry.memoryWithValue(samples: samples))
                },
                Command(
                    "STATS", arity: 2, since: "4.0.0",
                    tips: "nondeterministic_output request_policy:all_shards response_policy:special",
                    summary: "Returns details about memory usage."
                ) { call in
                    call.server.memoryStats(call)
                },
                Command(
                    "DOCTOR", arity: 2, since: "4.0.0",
                    tips: "nondeterministic_output request_policy:all_shards response_policy:special",
                    summary: "Outputs a memory problems report."
                ) { call in
                    call.server.memoryDoctor(call)
                },
                Command(
                    "MALLOC-STATS", arity: 2, since: "4.0.0",
                    tips: "nondeterministic_output request_policy:all_shards response_policy:special",
                    summary: "Returns the allocator statistics."
                ) { call in
                    call.reply.verbatim(call.server.heap.description)
                },
                Command(
                    "PURGE", arity: 2, since: "4.0.0",
                    tips: "request_policy:all_shards response_policy:all_succeeded",
                    summary: "Asks the allocator to release memory."
                ) { call in
                    call.server.heap.purge()
                    malloc_trim(0)
                    call.reply.ok()
                },
                help(
                    "MEMORY", since: "4.0.0",
                    [
                        "DOCTOR", "    Return memory problems reports.", "MALLOC-STATS",
                        "    Return internal statistics report from the memory allocator.", "PURGE",
                        "    Attempt to purge dirty pages for reclamation by the allocator.", "STATS",
                        "    Return information about the memory usage of the server.", "USAGE <key> [SAMPLES <count>]",
                        "    Return memory in bytes used by <key> and its value. Nested values are",
                        "    sampled up to <count> times (default: 5, 0 means sample all).",
                    ]),
            ])
    ]

    private func memoryStats(_ call: borrowing Call) {
        let report = MemoryReport(self)
        let reply = call.reply
        func field(_ name: StaticString, _ value: Int) {
            reply.bulk(name)
            reply.integer(value)
        }
        func field(_ name: StaticString, _ value: Double) {
            reply.bulk(name)
            reply.double(value)
        }
        reply.map(27 + report.tables.count)
        field("peak.allocated", report.peak)
        field("total.allocated", report.used)
        field("startup.allocated", report.startup)
        field("replication.backlog", report.backlog)
        field("clients.slaves", report.replicas)
        field("clients.normal", report.clients)
        field("cluster.links", 0)
        field("aof.buffer", 0)
        field("lua.caches", 0)
        field("functions.caches", 0)
        for table in report.tables {
            reply.bulk("db.\(table.id)")
            reply.map(3)
            field("overhead.hashtable.main", table.main)
            field("overhead.hashtable.expires", table.expiring)
            field("overhead.hashtable.slot-to-keys", 0)
        }
        field("overhead.total", report.overhead)
        field("keys.count", report.keys)
        field("keys.bytes-per-key", report.keys == 0 ? 0 : max(0, report.used - report.startup) / report.keys)
        field("dataset.bytes", report.dataset)
        field("dataset.percentage", report.datasetShare)
        field("peak.percentage", Double(report.used) * 100 / Double(max(1, report.peak)))
        field("allocator.allocated", report.used)
        field("allocator.active", report.active)
        field("allocator.resident", report.allocatorResident)
        field("allocator-fragmentation.ratio", report.allocatorFragmentation)
        field("allocator-fragmentation.bytes", report.active - report.used)
        field("allocator-rss.ratio", report.allocatorResidence)
        field("allocator-rss.bytes", report.allocatorResident - report.active)
        field("rss-overhead.ratio", report.residence)
        field("rss-overhead.bytes", report.resident - report.allocatorResident)
        field("fragmentation", report.fragmentation)
        field("fragmentation.bytes", report.resident - report.used)
    }

    private func memoryDoctor(_ call: borrowing Call) {
        let report = MemoryReport(self)
        if report.used < 5 << 20 {
            return call.reply.verbatim("Hi Sam, this instance is empty or is using very little memory, my issues detector can't be used in these conditions. Please, leave for your mission on Earth and fill it with some data. The new Sam and I will be back to our programming as soon as I finished rebooting.\n")
        }
        let complaints = report.complaints(clients: clients.count, hasReplicas: report.replicas > 0)
        if complaints.isEmpty {
            return call.reply.verbatim("Hi Sam, I can't find any memory issue in your instance. I can only account for what occurs on this base.\n")
        }
        var text = "Sam, I detected a few issues in this Redis instance memory implants:\n\n"
        for complaint in complaints { text += " * \(complaint)\n\n" }
        call.reply.verbatim(text + "I'm here to keep you safe, Sam. I want to help you.\n")
    }
}

extension Heap: CustomStringConvertible {
    /// What MEMORY MALLOC-STATS prints: the heap as a whole, then each class of sizes that is in use.
    var description: String {
        let heap = state.pointee
        var text = "used \(heap.used) bytes: \(usedInSlabs) in slabs, \(heap.malloced) in malloc, \(heap.outside - heap.malloced) in pages of their own\n"
        text += "slabs of \(Heap.slabSize) bytes: \(heap.slabs) hold blocks, \(heap.emptySlabs.count) are kept, \(heap.cleanSlabs.count) are given back; "
        text += "\(heap.chunks.count) chunks of \(Heap.chunkSize) bytes\n"
        text += "\(waste) bytes of the slabs are free; \(heap.gravesCount) values wait to be freed\n\n   size   slabs   roomy\n"
        for number in 0..<Heap.classCount where heap.classes[number].slabs > 0 {
            let of = heap.classes[number]
            text += [of.size, of.slabs, of.roomy.count].map { String(repeating: " ", count: max(0, 7 - String($0).count)) + String($0) }
                .joined(separator: " ") + "\n"
        }
        return text
    }
}
