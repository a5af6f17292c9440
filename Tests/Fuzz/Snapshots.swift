import Glibc
@testable import Reactor
@testable import Store

// Any bytes as an RDB file, fed in pieces, are read or refused; what was read is freed again. A damaged checksum is no
// hindrance: the fuzzer does not know it, and a replica's link does not check it either.

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 1 else { return 0 }
    let heap = Heap(hash: KeyHash(seed0: 1, seed1: 2))
    readSnapshot(start, count, heap)
    heap.reclaim()
    heap.deallocate()
    return 0
}

private func readSnapshot(_ start: UnsafePointer<UInt8>, _ count: Int, _ heap: Heap) {
    let time = UnsafeMutablePointer<Loop.Clock>.allocate(capacity: 1)
    time.initialize(to: Loop.Clock())
    let clock = KeyspaceClock(time)
    defer {
        clock.deallocate()
        time.deallocate()
    }
    var options = RDBReader.Options()
    options.verifiesChecksum = false
    options.stringMax = 1 << 20
    let reader = RDBReader(
        databaseCount: 16, heap: heap, clock: clock, configuration: StoreConfiguration(), options: options)
    let bytes = UnsafeRawBufferPointer(start: start + 1, count: count - 1)
    let piece = Int(start[0]) * 16 + 1
    var offset = 0
    do {
        while offset < bytes.count {
            let size = min(piece, bytes.count - offset)
            let outcome = try reader.feed(UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + size]))
            offset += size
            if case .done = outcome { return }
        }
        try reader.finish()
    } catch {
        // Refused, and the message can be made.
        precondition(!"\(error)".isEmpty)
    }
}
