import CLinux
import Glibc
import Synchronization

/// Memory as the system gives it, and a reserve for the time when it gives no more.
///
/// A Swift program cannot go on where an allocation fails: there is no way to say so. So the process holds 32 MiB that it does not
/// use. The first allocation that fails gives them back to the system, is made again, and `isExhausted` tells those who can do without
/// more memory to do so, until `recover` has got the reserve back. Only when the reserve is used up too does the process end.
///
/// May be called on any thread.
public enum SystemMemory {
    static let reserveSize = 32 << 20
    /// More than this in one piece does not come out of the reserve: whoever asks can be told no.
    private static let pieceMax = reserveSize / 4

    /// The reserve's address; 0 while there is none.
    private static let reserve = Atomic<UInt>(0)
    private static let exhausted = Atomic<Bool>(false)

    /// The memory of the machine, swap included, in bytes.
    private static let physicalSize: Int = {
        var info = sysinfo()
        guard sysinfo(&info) == 0 else { return .max }
        return Int(clamping: UInt64(info.totalram + info.totalswap) * UInt64(info.mem_unit))
    }()

    /// The system has refused memory, and the reserve is in use.
    public static var isExhausted: Bool { exhausted.load(ordering: .relaxed) }

    /// Sets the reserve aside. Without one the first refusal is the end.
    public static func setAside() { _ = recover() }

    /// Tries to get the reserve back, and as much again, so that what comes next does not need it at once.
    /// - Returns: whether there is memory again.
    public static func recover() -> Bool {
        if reserve.load(ordering: .relaxed) == 0 {
            guard let whole = map(2 * reserveSize) else { return false }
            munmap(whole + reserveSize, reserveSize)
            reserve.store(UInt(bitPattern: whole), ordering: .relaxed)
        }
        exhausted.store(false, ordering: .relaxed)
        return true
    }

    private static func map(_ size: Int, _ flags: Int32 = 0) -> UnsafeMutableRawPointer? {
        let memory = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0)
        return memory == MAP_FAILED ? nil : memory
    }

    /// Gives the reserve back to the system.
    /// - Returns: whether there was one.
    private static func release() -> Bool {
        exhausted.store(true, ordering: .relaxed)
        guard let memory = UnsafeMutableRawPointer(bitPattern: reserve.exchange(0, ordering: .relaxed)) else { return false }
        munmap(memory, reserveSize)
        return true
    }

    @inline(never)
    private static func again(_ size: Int, _ attempt: () -> UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
        size <= pieceMax && release() ? attempt() : nil
    }

    /// A block of malloc's, for a size that a peer has chosen.
    /// - Returns: nil when the system does not give so much.
    @inline(__always)
    public static func allocateIfPossible(_ size: Int) -> UnsafeMutableRawPointer? { malloc(size) ?? again(size) { malloc(size) } }

    /// A block of malloc's.
    @inline(__always)
    public static func allocate(_ size: Int) -> UnsafeMutableRawPointer { allocateIfPossible(size) ?? end(size) }

    /// A block of malloc's at a multiple of `alignment`.
    public static func allocate(_ size: Int, alignment: Int) -> UnsafeMutableRawPointer {
        aligned_alloc(alignment, size) ?? again(size) { aligned_alloc(alignment, size) } ?? end(size)
    }

    /// A block of malloc's made larger or smaller.
    public static func resize(_ block: UnsafeMutableRawPointer, to size: Int) -> UnsafeMutableRawPointer {
        realloc(block, size) ?? again(size) { realloc(block, size) } ?? end(size)
    }

    /// Pages of zeros.
    /// - Returns: nil when the system does not give so many.
    public static func pagesIfPossible(_ size: Int) -> UnsafeMutableRawPointer? { map(size) ?? again(size) { map(size) } }

    /// Pages of zeros that no swap is set aside for.
    public static func pages(_ size: Int) -> UnsafeMutableRawPointer {
        map(size, MAP_NORESERVE) ?? again(size) { map(size, MAP_NORESERVE) } ?? end(size)
    }

    /// Whether the system would give so much in one piece at this moment, and has that much at all: where it promises more than it has
    /// (`vm.overcommit_memory` 1), it ends the process that takes it at its word.
    public static func isThereRoom(for size: Int) -> Bool {
        guard size <= physicalSize, let memory = map(size) else { return false }
        munmap(memory, size)
        return true
    }

    /// Says what could not be had, and ends the process: Redis's words, on standard error, made without memory.
    @inline(never)
    private static func end(_ size: Int) -> UnsafeMutableRawPointer {
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 96) { line in
            var count = 0
            func put(_ text: StaticString) {
                text.withUTF8Buffer { for byte in $0 { line[count] = byte; count += 1 } }
            }
            put("Out Of Memory allocating ")
            var divisor = 1
            while size / divisor >= 10 { divisor *= 10 }
            while divisor > 0 {
                line[count] = UInt8(48 + size / divisor % 10)
                count += 1
                divisor /= 10
            }
            put(" bytes!\n")
            _ = write(STDERR_FILENO, line.baseAddress, count)
        }
        abort()
    }
}
