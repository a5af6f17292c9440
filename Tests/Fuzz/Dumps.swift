import Glibc
@testable import RESP
@testable import Reactor
@testable import Store

// Any bytes as the payload of RESTORE (a kind and its value) are a value or are refused. A value that was taken can be walked
// through, copied, written out and read back, and the copy is written as the same bytes. The same bytes as a bare listpack: what
// passes `validate` has as many entries from the end as from the start.

private var key: Argument { Argument("key") }

private func read(_ payload: UnsafeRawBufferPointer, _ clock: KeyspaceClock, _ heap: Heap) -> RDBReader? {
    var file: [UInt8] = []
    let writer = RDBWriter(compresses: false, checksums: false) {
        file.append(contentsOf: $0)
        return 0
    }
    writer.raw(RDB.magic)
    writer.byte(payload[0])
    writer.string(key)
    writer.raw(UnsafeRawBufferPointer(rebasing: payload[1...]))
    writer.flush()
    var options = RDBReader.Options()
    options.verifiesChecksum = false
    options.isSingleValue = true
    options.stringMax = 1 << 20
    let reader = RDBReader(databaseCount: 1, heap: heap, clock: clock, configuration: StoreConfiguration(), options: options)
    do {
        guard case .done = try file.withUnsafeBytes({ try reader.feed($0) }) else { return nil }
        return reader
    } catch {
        precondition(!"\(error)".isEmpty)
        return nil
    }
}

private func written(_ entry: Entry) -> [UInt8] {
    var bytes: [UInt8] = []
    let writer = RDBWriter(compresses: false, checksums: false) {
        bytes.append(contentsOf: $0)
        return 0
    }
    writer.byte(writer.kind(of: entry).rawValue)
    writer.writeValue(entry)
    writer.flush()
    return bytes
}

private func checkListpack(_ bytes: UnsafeRawBufferPointer, _ heap: Heap) {
    guard Listpack.validate(bytes) else { return }
    let pack = Listpack.copy(heap, bytes)
    defer { pack.free() }
    var forth = 0
    var sum = 0
    pack.forEach {
        forth += 1
        sum &+= $0.withText { $0.count }
    }
    var back = 0
    var place = pack.last
    while let p = place {
        back += 1
        sum &-= pack.value(at: p).withText { $0.count }
        place = pack.previous(p)
    }
    precondition(forth == back && sum == 0, "\(forth) entries from the start, \(back) from the end")
}

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 1 else { return 0 }
    let bytes = UnsafeRawBufferPointer(start: start, count: count)
    let heap = Heap(hash: KeyHash(seed0: 1, seed1: 2))
    checkListpack(bytes, heap)
    if RDB.Kind(rawValue: bytes[0]) != nil { checkDump(bytes, heap) }
    heap.reclaim()
    heap.deallocate()
    return 0
}

private func checkDump(_ bytes: UnsafeRawBufferPointer, _ heap: Heap) {
    let time = UnsafeMutablePointer<Loop.Clock>.allocate(capacity: 1)
    time.initialize(to: Loop.Clock())
    let clock = KeyspaceClock(time)
    defer {
        clock.deallocate()
        time.deallocate()
    }
    guard let reader = read(bytes, clock, heap), let position = reader.databases[0].find(key) else { return }
    let entry = Entry(position.element)
    let copy = entry.copied(to: Argument("copy"), expiry: nil, clock: 0, heap)
    let first = written(entry)
    // A table's order is its own: only what it holds must be as much.
    precondition(first.count == written(copy).count, "a copy is written as \(written(copy).count) bytes instead of \(first.count)")
    copy.freeValue()
    copy.free()
    guard first.withUnsafeBytes({ read($0, clock, heap) }) != nil else { fatalError("what was written is not read back") }
}
