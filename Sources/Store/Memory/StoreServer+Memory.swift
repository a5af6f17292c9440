import CLinux
import Glibc
import Reactor

/// What the server knows about its memory between two looks at the allocator.
struct MemoryState {
    /// Bytes that malloc had handed out for anything but the data when it was last asked.
    var other = 0
    /// `other` before there was any data.
    var atStart = 0
    var nextLook: Int64 = 0
    var isFreeing = false
    /// What the data took at the last tick.
    var usedAtTick = 0
    var defragmentation = Defragmentation()
    /// The waste that the last defragmentation left, and when another may begin whatever the waste.
    var wasteLeft = 0
    var nextDefragmentation: Int64 = 0
    /// What may be in use since the system refused more; nil while it gives what is asked for.
    var systemLimit: Int?
}

extension StoreServer {
    /// Bytes in use: keys, values and tables as of this moment, and everything else as of the last tenth of a second. O(1).
    @inline(__always) var usedMemory: Int { heap.used &+ memory.other }

    /// Asks malloc what it has handed out for anything but the data.
    func lookAtMemory() {
        let before = StoreServer.nanoseconds()
        let allocator = mallinfo2()
        memory.other = max(0, Int(allocator.uordblks) + Int(allocator.hblkhd) - heap.state.pointee.malloced)
        if memory.atStart == 0 { memory.atStart = memory.other }
        statistics.peakMemory = max(statistics.peakMemory, usedMemory)
        // It goes through all free blocks: when these are many it is asked seldom.
        let took = Int64(StoreServer.nanoseconds() - before) / 1000
        memory.nextLook = loop.wallMilliseconds + min(10_000, took / 5)
    }

    /// Ten times a second.
    func memoryCron() {
        if loop.wallMilliseconds >= memory.nextLook { lookAtMemory() }
        if memory.systemLimit != nil {
            giveEverythingBack()
            if SystemMemory.recover() { memoryCameBack() }
        }
        statistics.peakMemory = max(statistics.peakMemory, usedMemory)
        giveBackPages()
        for db in databases {
            if db.entries.isResizing { db.entries.step(256) }
            if db.expiring.isResizing { db.expiring.step(256) }
        }
        reclaimLater()
        defragmentIfWasteful()
    }

    /// Slabs without blocks whose pages are kept for good, and those (128 MiB) whose pages are kept for a while.
    private var slabsKept: Int { 16 + heap.state.pointee.slabs / 32 }
    private static let slabsKeptForAWhile = 2048

    /// Gives back a part of the pages that nothing lies on, ten times a second: half of them in 4.4 s. What is freed is often wanted
    /// again at once (a list that is filled and drained, a FLUSHALL before a reload), and a page that comes anew from the system has to be
    /// cleared first: 7 % of all CPU of LPUSH at pipeline 16.
    private func giveBackPages() {
        let surplus = heap.state.pointee.emptySlabs.count - slabsKept
        if surplus > 0 { heap.purge(keep: slabsKept, most: min(64, max(4, surplus / 64))) }
    }

    // MARK: when the system gives no more

    /// The reserve is in use: what is stored now is all that fits. From here on it is as with a `maxmemory` a little below that: keys
    /// are evicted if the policy says so, or what needs memory is refused.
    func memoryRanOut() {
        lookAtMemory()
        let limit = usedMemory - usedMemory / 64
        memory.systemLimit = limit
        logger.warning("""
            The system gives no more memory. Until it does, no more than \(limit) bytes are used: keys are evicted, or commands that need \
            memory are refused, as maxmemory-policy \(configuration.evictionPolicy.rawValue) says.
            """)
        updateGate()
        continueEvicting()
    }

    /// What one command takes more than this of is given only where there is memory for it.
    private static let pieceUnchecked = 1 << 20

    /// Whether one command may take so much more. A replica has no choice: to refuse what its master has done would be to diverge.
    func hasRoom(for size: Int) -> Bool {
        size <= StoreServer.pieceUnchecked || isApplyingMasterStream || isThereRoom(for: size)
    }

    /// Whether a reply of so many elements, however short, can be held: where elements may repeat, their count is whatever a client asks for.
    func hasRoom(forReplyOf count: Int) -> Bool {
        let (size, overflow) = count.multipliedReportingOverflow(by: "$0\r\n\r\n".utf8.count)
        return !overflow && hasRoom(for: size)
    }

    /// Whether the system has so much in one piece for us, if need be after it has got back what we do not use.
    private func isThereRoom(for size: Int) -> Bool {
        if SystemMemory.isThereRoom(for: size) { return true }
        giveEverythingBack()
        return SystemMemory.isThereRoom(for: size)
    }

    private func giveEverythingBack() {
        heap.purge()
        malloc_trim(0)
    }

    private func memoryCameBack() {
        memory.systemLimit = nil
        logger.notice("The system gives memory again.")
        updateGate()
    }

    // MARK: freeing in steps

    /// How long freeing, and moving, may take at a time.
    private static let stepNanoseconds: UInt64 = 500_000

    /// Sees to it that what is to be freed in steps will be.
    @inline(__always)
    func reclaimLater() {
        if heap.isReclaiming, !memory.isFreeing { scheduleFreeing() }
    }

    @inline(never)
    private func scheduleFreeing() {
        memory.isFreeing = true
        loop.schedule(after: .milliseconds(1), label: "store freeing") { [unowned self] in
            memory.isFreeing = false
            let end = StoreServer.nanoseconds() + StoreServer.stepNanoseconds
            repeat { heap.reclaim(256) } while heap.isReclaiming && StoreServer.nanoseconds() < end
            heap.purge(keep: slabsKept + StoreServer.slabsKeptForAWhile, most: 16)
            if heap.isReclaiming { scheduleFreeing() }
        }
    }

    // MARK: defragmentation

    private func defragmentIfWasteful() {
        // While the data is on its way out, what is sparse now will be empty soon: moving it would be wasted (a tenth of the CPU of a
        // sorted set that is drained by ZPOPMIN).
        let isDraining = heap.used < memory.usedAtTick - memory.usedAtTick / 256
        memory.usedAtTick = heap.used
        guard !isDraining else { return }
        guard !memory.defragmentation.isRunning, !heap.isReclaiming, !persistence.isSaving, !gate.contains(.loading) else { return }
        let waste = heap.waste
        // Less than that is left by the slabs that are being filled.
        guard waste > heap.held / 16, waste > 1 << 20 else { return }
        guard waste > memory.wasteLeft + memory.wasteLeft / 4 || loop.wallMilliseconds >= memory.nextDefragmentation else { return }
        memory.nextDefragmentation = loop.wallMilliseconds + 10_000
        memory.wasteLeft = waste
        guard heap.beginEvacuation() else { return }
        memory.defragmentation.begin()
        scheduleDefragmentation()
    }

    private func scheduleDefragmentation() {
        loop.schedule(after: .milliseconds(5), label: "store defragmentation") { [unowned self] in
            // A child shares all pages: moving would copy them.
            if persistence.isSaving { return scheduleDefragmentation() }
            let end = StoreServer.nanoseconds() + StoreServer.stepNanoseconds
            var isDone = false
            repeat { isDone = memory.defragmentation.step(databases, 64) } while !isDone && StoreServer.nanoseconds() < end
            heap.purge(keep: 16, most: 16)
            if !isDone { return scheduleDefragmentation() }
            heap.endEvacuation()
            memory.wasteLeft = heap.waste
        }
    }
}
