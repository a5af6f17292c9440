import CLinux
import Glibc
import Reactor

/// What INFO and MEMORY say about memory.
struct MemoryReport {
    let used: Int
    let peak: Int
    let startup: Int
    /// Of slabs and of malloc: in use or between what is; and with what is kept for later.
    let active: Int
    let allocatorResident: Int
    let resident: Int
    /// All that the machine has.
    let system: Int
    /// The stream's blocks: as much of them as the backlog may take, ...
    let backlog: Int
    let clients: Int
    /// ... and what is there beyond that because replicas need it, with their connections' own buffers.
    let replicas: Int
    /// All of the stream's blocks.
    let streamMemory: Int
    /// Bytes of the tables of each database that has any keys.
    let tables: [(id: Int, main: Int, expiring: Int)]
    let keys: Int

    var overhead: Int { tables.reduce(startup + backlog + clients + replicas) { $0 + $1.main + $1.expiring } }
    var dataset: Int { max(0, used - overhead) }
    /// Of what there is beyond a server without data.
    var datasetShare: Double { Double(dataset) * 100 / Double(max(1, used - startup)) }
    var fragmentation: Double { Double(resident) / Double(max(1, used)) }
    var allocatorFragmentation: Double { Double(active) / Double(max(1, used)) }
    var allocatorResidence: Double { Double(allocatorResident) / Double(max(1, active)) }
    var residence: Double { Double(resident) / Double(max(1, allocatorResident)) }

    init(_ server: StoreServer) {
        server.lookAtMemory()
        let heap = server.heap.state
        used = server.usedMemory
        peak = server.statistics.peakMemory
        startup = server.memory.atStart
        let malloc = mallinfo2()
        let pages = heap.pointee.outside - heap.pointee.malloced
        active = server.heap.held + pages + Int(malloc.uordblks) + Int(malloc.hblkhd)
        allocatorResident = active + server.heap.kept + max(0, Int(malloc.fordblks) - Int(malloc.keepcost))
        let page = sysconf(Int32(_SC_PAGESIZE))
        system = sysconf(Int32(_SC_PHYS_PAGES)) * page
        resident = MemoryReport.residentPages() * page
        var clients = 0
        var replicas = 0
        for client in server.clients.values {
            if client.replica != nil { replicas += client.connection.ownBufferBytes } else { clients += client.connection.bufferBytes }
        }
        self.clients = clients
        let stream = server.replication.stream
        let excess = server.replication.excessMemory
        self.replicas = replicas + excess
        backlog = stream.memory - excess
        streamMemory = stream.memory
        tables = server.databases.filter { $0.count > 0 }.map { ($0.id, $0.entries.memory, $0.expiring.memory) }
        keys = server.databases.reduce(0) { $0 + $1.count }
    }

    /// The second number of /proc/self/statm (proc(5)).
    private static func residentPages() -> Int {
        let descriptor = open("/proc/self/statm", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return 0 }
        defer { close(descriptor) }
        var text = [UInt8](repeating: 0, count: 128)
        let count = read(descriptor, &text, text.count)
        let words = String(decoding: text.prefix(max(0, count)), as: UTF8.self).split(separator: " ")
        return words.count > 1 ? Int(words[1]) ?? 0 : 0
    }

    // MARK: MEMORY DOCTOR

    /// What is the matter, in sentences; empty when nothing is.
    func complaints(clients count: Int, hasReplicas: Bool) -> [String] {
        var list: [String] = []
        if Double(peak) > Double(used) * 1.5 {
            list.append("Peak memory: there were times when this instance used more than 150% of what it uses now (\(peak) bytes). Resident memory follows in steps as the defragmentation gives pages back.")
        }
        if fragmentation > 1.4, resident - used > 10 << 20 {
            list.append("High fragmentation: \(resident) bytes are resident for \(used) that are used. MEMORY PURGE gives back what is kept for later; what lies sparse is moved together by itself.")
        }
        if count > 0, clients / count > 200 << 10 {
            list.append("Big client buffers: the clients' buffers take \(clients / count) bytes each on average. Look at CLIENT LIST for who does not read his replies.")
        }
        if hasReplicas, replicas > 10 << 20 {
            list.append("Big replica buffers: \(replicas) bytes wait for replicas that read too slowly.")
        }
        return list
    }
}
