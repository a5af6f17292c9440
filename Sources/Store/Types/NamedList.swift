import Glibc
import RESP

/// A name in a block of its own.
struct Name {
    private let base: UnsafeMutableRawPointer
    private let count: Int

    init(_ heap: Heap, _ text: Argument) {
        base = heap.allocate(max(1, text.count))
        count = text.count
        memcpy(base, text.base, text.count)
    }

    var text: Argument { Argument(UnsafeRawBufferPointer(start: base, count: count)) }
    var memory: Int { Heap.capacity(of: base, max(1, count)) }
    func free() { Heap.free(base, max(1, count)) }
}

/// Blocks in the order of their names, bytes compared: a stream's groups, and a group's consumers, which are few.
struct NamedList {
    typealias Pointer = UnsafeMutableRawPointer

    private var items: UnsafeMutablePointer<Pointer>?
    private var capacity = 0
    private(set) var count = 0

    var memory: Int { items.map { Heap.capacity(of: $0, capacity * 8) } ?? 0 }
    var last: Pointer? { count == 0 ? nil : items![count - 1] }

    func forEach(_ visit: (Pointer) -> Void) {
        for i in 0..<count { visit(items![i]) }
    }

    /// How many names come before one.
    private func rank(_ name: Argument, _ nameOf: (Pointer) -> Argument) -> Int {
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) / 2
            if nameOf(items![middle]).isBefore(name) { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// O(log n).
    func find(_ name: Argument, _ nameOf: (Pointer) -> Argument) -> Pointer? {
        let index = rank(name, nameOf)
        return index < count && nameOf(items![index]) == name ? items![index] : nil
    }

    /// Adds a block whose name is not there. O(n).
    mutating func insert(_ heap: Heap, _ item: Pointer, _ nameOf: (Pointer) -> Argument) {
        let index = rank(nameOf(item), nameOf)
        if count == capacity {
            let larger = max(2, capacity * 2)
            let block = items.map { Heap.resize($0, from: capacity * 8, to: larger * 8) } ?? heap.allocate(larger * 8)
            items = block.assumingMemoryBound(to: Pointer.self)
            capacity = larger
        }
        memmove(items! + (index + 1), items! + index, (count - index) * 8)
        items![index] = item
        count += 1
    }

    /// Takes out a block that is there. O(n).
    mutating func remove(_ item: Pointer, _ nameOf: (Pointer) -> Argument) {
        let index = rank(nameOf(item), nameOf)
        count -= 1
        memmove(items! + index, items! + (index + 1), (count - index) * 8)
    }

    mutating func removeLast() { count -= 1 }

    mutating func free(_ heap: Heap) {
        if let items { Heap.free(items, capacity * 8) }
        items = nil
    }
}
