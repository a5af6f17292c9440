import Glibc

/// Bytes that several output chains send without a copy of their own, while whoever made the block still appends to it.
///
///     0            8          16
///     | references | capacity | bytes ...
///
/// Promise: bytes that have been written neither move nor change while somebody holds the block. The loop's thread only.
public struct SharedBlock {
    private static let headerSize = 16
    let address: UnsafeMutableRawPointer

    /// - Parameter capacity: bytes that it has room for. The caller holds it.
    public init(capacity: Int) {
        address = malloc(SharedBlock.headerSize + capacity)!
        address.storeBytes(of: 1, as: Int.self)
        address.storeBytes(of: capacity, toByteOffset: 8, as: Int.self)
    }

    init(address: UnsafeMutableRawPointer) { self.address = address }

    public var bytes: UnsafeMutableRawPointer { address + SharedBlock.headerSize }
    public var capacity: Int { address.load(fromByteOffset: 8, as: Int.self) }
    /// Bytes of memory that it takes.
    public var footprint: Int { capacity + SharedBlock.headerSize }
    /// Whether nobody but the caller holds it.
    public var isUnique: Bool { address.load(as: Int.self) == 1 }

    func retain() { address.storeBytes(of: address.load(as: Int.self) + 1, as: Int.self) }

    /// Lets go of it; the last one to do so frees it.
    public func release() {
        let left = address.load(as: Int.self) - 1
        if left == 0 { free(address) } else { address.storeBytes(of: left, as: Int.self) }
    }
}
