import Glibc
import RESP

/// One member of a large sorted set with its score, in one allocation that the tree and the table of members share.
///
///     0       8       12
///     | score | count | member bytes ...
struct SortedElement {
    let base: UnsafeMutableRawPointer

    static let headerSize = 12

    @inline(__always) init(_ base: UnsafeMutableRawPointer) { self.base = base }

    @inline(__always)
    static func make(_ heap: Heap, _ member: Argument, score: Double) -> SortedElement {
        let element = SortedElement(heap.allocate(headerSize &+ member.count))
        element.score = score
        element.base.storeBytes(of: UInt32(truncatingIfNeeded: member.count), toByteOffset: 8, as: UInt32.self)
        memcpy(element.base + headerSize, member.base, member.count)
        return element
    }

    @inline(__always) var score: Double {
        get { base.loadUnaligned(as: Double.self) }
        nonmutating set { base.storeBytes(of: newValue, as: Double.self) }
    }

    @inline(__always) func free() { Heap.free(base, SortedElement.headerSize &+ member.count) }
    /// Bytes of the block.
    var memory: Int { Heap.capacity(of: base, SortedElement.headerSize + member.count) }
    /// See `Heap.copyIfSparse`.
    func copyIfSparse() -> SortedElement? { Heap.copyIfSparse(base, SortedElement.headerSize + member.count).map { SortedElement($0) } }

    @inline(__always) var member: Argument {
        Argument(
            base: UnsafePointer((base + SortedElement.headerSize).assumingMemoryBound(to: UInt8.self)),
            count: Int(base.load(fromByteOffset: 8, as: UInt32.self)))
    }
}

/// Where the table of members finds an element's key.
enum SortedElementKey: TableElement {
    @inline(__always)
    static func key(of element: UnsafeMutableRawPointer) -> Argument { SortedElement(element).member }
}

extension Argument {
    /// The order of members with equal scores: byte by byte, the shorter first where one begins the other.
    @inline(__always)
    func isBefore(_ other: Argument) -> Bool {
        let order = memcmp(base, other.base, Swift.min(count, other.count))
        return order != 0 ? order < 0 : count < other.count
    }

    /// The argument as a score: what `double` reads, with a short way for plain decimal numbers.
    ///
    /// Up to 18 digits, of which the value fits 53 bits and at most 22 come after the point, give the nearest double by one
    /// division, since both numbers are exact.
    @inline(__always)
    var score: Double? {
        var i = 0
        let isNegative = count > 0 && base[0] == 0x2D
        if isNegative { i = 1 }
        var mantissa: UInt64 = 0
        var digits = 0
        var fraction = 0
        var hasPoint = false
        while i < count {
            let digit = base[i] &- 48
            if digit <= 9 {
                mantissa = mantissa &* 10 &+ UInt64(digit)
                digits &+= 1
                fraction &+= hasPoint ? 1 : 0
            } else if base[i] == 0x2E, !hasPoint, digits > 0 {
                hasPoint = true
            } else {
                return double
            }
            i &+= 1
        }
        if digits == 0 || digits > 18 || mantissa > 1 << 53 || (hasPoint && fraction == 0) { return double }
        var value = Double(mantissa)
        if fraction > 0 {
            var power = 1.0
            for _ in 0..<fraction { power *= 10 }
            value /= power
        }
        return isNegative ? -value : value
    }
}

extension Argument {
    /// As strtod(3) reads it up to the first zero byte, space before the number and overflow included; nothing at all is 0. Nil for NaN
    /// and for text behind the number.
    var looseDouble: Double? { looseDouble(allowsOverflow: true) }

    /// The same, but that what is too large or too small for a double is none.
    var sortWeight: Double? { looseDouble(allowsOverflow: false) }

    private func looseDouble(allowsOverflow: Bool) -> Double? {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: count + 1) { copy in
            memcpy(copy.baseAddress!, base, count)
            copy[count] = 0
            var end: UnsafeMutablePointer<CChar>?
            errno = 0
            let value = strtod(copy.baseAddress!, &end)
            return end!.pointee == 0 && !value.isNaN && (allowsOverflow || errno != ERANGE) ? value : nil
        }
    }
}
