import CLinux
import Glibc
import Reactor

/// Where the store's data lives: an allocator of its own for keys, values and the elements of collections, and the seed of their tables.
///
/// Promise: allocating and freeing are a few instructions and touch the block, its slab's record and the heap's; a block costs no
/// header; memory in use is known at any moment; what lies on sparse slabs can be moved away (`Heap+Evacuation.swift`).
///
/// Blocks of one size class lie in a slab of 64 KiB. Slabs are cut from chunks of 4 MiB, whose address is a multiple of their size,
/// so that a block's address, masked, leads to the record of its slab:
///
///     chunk:   | slab 0: the records, a page of them | slab 1 | ... | slab 63 |
///     slab:    | block | block | ... | block | rest |
///
/// Size classes are 4 bytes apart up to 128 bytes, 8 up to 256, 16 up to 512, 32 up to 1 KiB, and then as many to a slab as make the least
/// waste, up to 32 KiB. Blocks of multiples of 64 bytes lie at multiples of 64. Anything larger is malloc's, behind a head of 16 bytes
/// that leads back to the heap:
///
///     large:   | heap (8) | usable bytes (8) | block ... |
///
/// Whoever frees a block says how large a block it had asked for, or any other size on the same side of `slabMax`.
///
/// One thread owns a heap. A forked child may go on with its copy.
struct Heap: @unchecked Sendable {
    typealias Pointer = UnsafeMutableRawPointer

    struct State {
        let hash: KeyHash
        /// Bytes of all blocks in use, of bucket arrays, and of what `charge` was told.
        var used = 0
        /// Of these, bytes that do not lie in slabs, and of these, bytes of malloc.
        var outside = 0
        var malloced = 0
        let classes: UnsafeMutablePointer<SizeClass>
        /// The class of a size: of (size + 3) / 4 up to 1 KiB, then of (size + 63) / 64.
        let classNumbers: UnsafeMutablePointer<UInt8>
        /// A slab of each class from which nothing can be had: what a class begins with, so that `allocate` need not ask for one.
        let full: UnsafeMutablePointer<Slab>
        /// Slabs that hold blocks.
        var slabs = 0
        /// Slabs without blocks whose pages are still ours, and those whose pages are not.
        var emptySlabs = SlabList()
        var cleanSlabs = SlabList()
        /// The records of slab 0 of each chunk, whose `used` counts the chunk's slabs that are not clean.
        var chunks = SlabList()
        /// Slabs from which everything is to be moved.
        var evacuated = SlabList()
        /// What is to be freed in steps, how much that is, and how often it came to an end.
        var graves: UnsafeMutablePointer<Grave>?
        var gravesCount = 0
        var gravesEmptied = 0
    }

    /// What is known about the slabs of one size.
    struct SizeClass {
        let size: Int
        let capacity: Int
        /// Where blocks come from until it is full.
        var current: UnsafeMutablePointer<Slab>
        /// Slabs with room, but for the current one and those about to be emptied.
        var roomy = SlabList()
        var slabs = 0
    }

    /// The record of a slab.
    struct Slab {
        let base: Pointer
        let heap: UnsafeMutablePointer<State>
        var previous: UnsafeMutablePointer<Slab>?
        var next: UnsafeMutablePointer<Slab>?
        /// Bytes of a block.
        var size: UInt32
        /// Blocks in use.
        var used: UInt32
        /// From this byte on nothing has been used yet, up to `limit`.
        var fresh: UInt32
        var limit: UInt32
        /// When so few blocks are in use, `freed` has something to do.
        var wake: Int32
        /// The first freed block, in units of 4 bytes; each begins with the number of the next.
        var free: UInt16
        var number: UInt8
        var place: Place
    }

    /// What a slab is for.
    enum Place: UInt8 {
        /// Its pages have been given back, or were never touched.
        case clean
        case empty
        case current
        /// Too little is free to bother.
        case full
        case roomy
        case evacuated
    }

    /// Slabs in no order.
    struct SlabList {
        var first: UnsafeMutablePointer<Slab>?
        var count = 0
    }

    let state: UnsafeMutablePointer<State>

    static let slabSize = 1 << 16
    static let chunkSize = 1 << 22
    /// The largest block that lies in a slab.
    static let slabMax = 1 << 15
    static let largeHead = 16
    static let none: UInt16 = .max

    @inline(__always) var hash: KeyHash { state.pointee.hash }
    /// Bytes in use: what the blocks take, without what is free in their slabs. O(1).
    @inline(__always) var used: Int { state.pointee.used }

    // MARK: blocks

    /// A block of at least `size` bytes, its contents undefined. O(1).
    @inline(__always)
    func allocate(_ size: Int) -> Pointer {
        if size > 1024 { return allocateLonger(size) }
        return allocate(class: Int(state.pointee.classNumbers[(size &+ 3) >> 2]))
    }

    @inline(__always)
    func allocate(class number: Int) -> Pointer {
        let of = state.pointee.classes + number
        let slab = of.pointee.current
        state.pointee.used &+= of.pointee.size
        let free = slab.pointee.free
        if free != Heap.none {
            let block = slab.pointee.base + Int(free) &* 4
            slab.pointee.free = block.load(as: UInt16.self)
            slab.pointee.used &+= 1
            return block
        }
        let fresh = slab.pointee.fresh
        if fresh < slab.pointee.limit {
            slab.pointee.fresh = fresh &+ slab.pointee.size
            slab.pointee.used &+= 1
            return slab.pointee.base + Int(fresh)
        }
        return allocateFromNextSlab(number)
    }

    @inline(never)
    private func allocateLonger(_ size: Int) -> Pointer {
        if size > Heap.slabMax { return allocateLarge(size) }
        return allocate(class: classNumber(size))
    }

    func classNumber(_ size: Int) -> Int {
        size <= 1024
            ? Int(state.pointee.classNumbers[(size &+ 3) >> 2]) : Int(state.pointee.classNumbers[257 &+ (size &+ 63) >> 6])
    }

    /// Frees a block of any heap. O(1).
    @inline(__always)
    static func free(_ block: Pointer, _ size: Int) {
        if size > slabMax { return freeLarge(block) }
        let slab = slab(of: block)
        block.storeBytes(of: slab.pointee.free, as: UInt16.self)
        slab.pointee.free = UInt16(truncatingIfNeeded: (UInt(bitPattern: block) & UInt(slabSize &- 1)) >> 2)
        slab.pointee.used &-= 1
        slab.pointee.heap.pointee.used &-= Int(slab.pointee.size)
        if Int32(truncatingIfNeeded: slab.pointee.used) == slab.pointee.wake { Heap(state: slab.pointee.heap).freed(slab) }
    }

    /// Loads what `free` of a small block looks at.
    @inline(__always)
    static func touch(_ block: Pointer) -> UInt64 { UInt64(slab(of: block).pointee.free) }

    @inline(__always)
    static func slab(of block: Pointer) -> UnsafeMutablePointer<Slab> {
        let address = UInt(bitPattern: block)
        let records = recordsAddress(ofChunk: address & ~UInt(chunkSize &- 1))
        return UnsafeMutablePointer<Slab>(bitPattern: records &+ (address >> 16 & 63) &* 64).unsafelyUnwrapped
    }

    /// Chunks have their records at different places, so that these do not all compete for the same lines of the cache.
    @inline(__always)
    private static func recordsAddress(ofChunk chunk: UInt) -> UInt { chunk &+ (chunk >> 22 & 15) << 12 }

    /// The heap that a block is from.
    @inline(__always)
    static func of(_ block: Pointer, _ size: Int) -> Heap {
        if size > slabMax { return Heap(state: block.load(fromByteOffset: -largeHead, as: UnsafeMutablePointer<State>.self)) }
        return Heap(state: slab(of: block).pointee.heap)
    }

    /// Bytes that a block has room for.
    @inline(__always)
    static func capacity(of block: Pointer, _ size: Int) -> Int {
        size > slabMax ? block.load(fromByteOffset: -8, as: Int.self) : Int(slab(of: block).pointee.size)
    }

    /// Bytes that a block would have room for.
    func capacity(for size: Int) -> Int { size > Heap.slabMax ? size : state.pointee.classes[classNumber(size)].size }

    /// Makes a block larger or smaller, in another place if it must be.
    /// - Returns: the block with its first bytes as they were.
    static func resize(_ block: Pointer, from old: Int, to new: Int) -> Pointer {
        if old <= slabMax, new <= slabMax {
            let slab = slab(of: block)
            let room = Int(slab.pointee.size)
            // It has the room, and is not smaller by so much that moving it would save anything worth having.
            if new <= room, new >= old || new >= room &- max(8, room >> 4) { return block }
        } else if old > slabMax, new > slabMax {
            return resizeLarge(block, to: new)
        }
        let made = Heap.of(block, old).allocate(new)
        memcpy(made, block, min(old, new))
        free(block, old)
        return made
    }

    // MARK: large blocks

    @inline(never)
    private func allocateLarge(_ size: Int) -> Pointer {
        adopt(SystemMemory.allocate(size + Heap.largeHead))
    }

    private func adopt(_ whole: Pointer) -> Pointer {
        let usable = malloc_usable_size(whole) - Heap.largeHead
        whole.storeBytes(of: state, as: UnsafeMutablePointer<State>.self)
        whole.storeBytes(of: usable, toByteOffset: 8, as: Int.self)
        charge(usable + Heap.largeHead)
        return whole + Heap.largeHead
    }

    @inline(never)
    private static func freeLarge(_ block: Pointer) {
        Heap.of(block, .max).charge(-(capacity(of: block, .max) + largeHead))
        Glibc.free(block - largeHead)
    }

    private static func resizeLarge(_ block: Pointer, to size: Int) -> Pointer {
        let heap = Heap.of(block, .max)
        heap.charge(-(capacity(of: block, .max) + largeHead))
        return heap.adopt(SystemMemory.resize(block - largeHead, to: size + largeHead))
    }

    /// Counts memory of malloc that belongs to the data.
    @inline(__always)
    func charge(_ bytes: Int) {
        state.pointee.malloced &+= bytes
        chargePages(bytes)
    }

    /// Counts pages that belong to the data but are no slab's.
    @inline(__always)
    func chargePages(_ bytes: Int) {
        state.pointee.used &+= bytes
        state.pointee.outside &+= bytes
    }

    // MARK: arrays

    /// From this size on an array has pages of its own.
    static let pagesMin = 1 << 20

    /// Memory of zeros at a multiple of 64. With pages of its own it is not counted: see `chargePages`.
    /// - Returns: nil when the system does not give so much in one piece.
    func allocateArray(_ size: Int) -> Pointer? {
        if size >= Heap.pagesMin {
            // Fresh pages are zero already and are touched only when used.
            return SystemMemory.pagesIfPossible(size)
        }
        let memory: Pointer
        if size > Heap.slabMax {
            memory = SystemMemory.allocate(size, alignment: 64)
            charge(malloc_usable_size(memory))
        } else {
            memory = allocate(size)
        }
        memset(memory, 0, size)
        return memory
    }

    func freeArray(_ memory: Pointer, _ size: Int) {
        if size >= Heap.pagesMin {
            munmap(memory, size)
        } else if size > Heap.slabMax {
            charge(-malloc_usable_size(memory))
            Glibc.free(memory)
        } else {
            Heap.free(memory, size)
        }
    }
}
