import CLinux
import Glibc

/// How much memory is in use, cheaply enough to be asked before every command: the allocator is asked once in an iteration of the loop,
/// and what is freed after that is subtracted.
struct MemoryMeter {
    private var reading = 0
    private var iteration = UInt64.max

    mutating func used(iteration now: UInt64) -> Int {
        if now != iteration {
            let allocator = mallinfo2()
            reading = Int(allocator.uordblks) + Int(allocator.hblkhd)
            iteration = now
        }
        return reading
    }

    /// So many bytes are about to be freed.
    mutating func frees(_ bytes: Int) { reading -= bytes }
}

extension StoreServer {
    /// Bytes in use.
    var usedMemory: Int { memoryMeter.used(iteration: loop.statistics.iterations) }
}
