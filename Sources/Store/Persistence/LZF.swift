import Glibc

/// The compression of RDB strings.
///
/// Source: the LZF format as Marc Lehmann's liblzf describes it. A stream of items:
///
///     000LLLLL  L + 1 bytes                      literal bytes
///     LLLooooo  oooooooo                         copy L + 2 bytes from o + 1 bytes back (L = 1 ... 6)
///     111ooooo  LLLLLLLL  oooooooo               copy L + 9 bytes from o + 1 bytes back
enum LZF {
    /// The longest output that one byte of input can stand for, rounded up: three bytes give 264.
    static let expansionMax = 88
    private static let hashBits = 13
    private static let offsetMax = 8192
    private static let matchMax = 264
    private static let literalMax = 32

    /// Expands `source` to exactly `count` bytes at `destination`.
    /// - Returns: false when the input is damaged: it gives fewer or more bytes, or refers to what is not there.
    static func decompress(_ source: UnsafeRawBufferPointer, to destination: UnsafeMutableRawPointer, count: Int) -> Bool {
        let input = source.bindMemory(to: UInt8.self)
        let output = destination.assumingMemoryBound(to: UInt8.self)
        var i = 0
        var o = 0
        while i < input.count {
            let control = Int(input[i])
            i += 1
            if control < literalMax {
                let length = control + 1
                guard length <= input.count - i, length <= count - o else { return false }
                memcpy(output + o, input.baseAddress! + i, length)
                i += length
                o += length
                continue
            }
            var length = control >> 5
            if length == 7 {
                guard i < input.count else { return false }
                length += Int(input[i])
                i += 1
            }
            length += 2
            guard i < input.count else { return false }
            let offset = (control & 0x1F) << 8 + Int(input[i]) + 1
            i += 1
            guard offset <= o, length <= count - o else { return false }
            copyBack(output + o, offset: offset, length)
            o += length
        }
        return o == count
    }

    /// Copies `length` bytes from `offset` bytes back. Where the two overlap the copy reads what it has just written, which is how runs
    /// are told: so the same bytes come again and again, and each copy may be as long as all before it.
    @inline(__always)
    private static func copyBack(_ output: UnsafeMutablePointer<UInt8>, offset: Int, _ length: Int) {
        let source = output - offset
        if offset == 1 {
            memset(output, Int32(source[0]), length)
            return
        }
        var done = 0
        while done < length {
            let n = min(offset + done, length - done)
            memcpy(output + done, source, n)
            done += n
        }
    }

    /// Memory that `compress` needs: the last position of each hash of three bytes, counted on from input to input, so that what an earlier
    /// one has left is told by being too low, and nothing needs clearing (32 KiB for each string were three quarters of a SAVE).
    final class Scratch {
        fileprivate let positions = UnsafeMutablePointer<UInt32>.allocate(capacity: 1 << hashBits)
        /// Where the next input begins; 0 is before every input.
        private var next: UInt32

        /// - Parameter first: where the first input begins; the counting starts again before it would overflow.
        init(startingAt first: UInt32 = 1) {
            next = first
            positions.initialize(repeating: 0, count: 1 << hashBits)
        }

        deinit { positions.deallocate() }

        /// - Returns: the position of the first byte of an input.
        fileprivate func begin(_ count: Int) -> UInt32 {
            if count >= Int(UInt32.max - next) {
                positions.update(repeating: 0, count: 1 << hashBits)
                next = 1
            }
            let first = next
            next += UInt32(count)
            return first
        }
    }

    /// How many bytes are the same at both places, of which the first three are known to be; eight at a time.
    @inline(__always)
    private static func matchLength(_ a: UnsafePointer<UInt8>, _ b: UnsafePointer<UInt8>, limit: Int) -> Int {
        let (a, b) = (UnsafeRawPointer(a), UnsafeRawPointer(b))
        var length = 3
        while length &+ 8 <= limit {
            let difference = a.loadUnaligned(fromByteOffset: length, as: UInt64.self) ^ b.loadUnaligned(fromByteOffset: length, as: UInt64.self)
            if difference != 0 { return length &+ difference.littleEndian.trailingZeroBitCount >> 3 }
            length &+= 8
        }
        while length < limit, a.load(fromByteOffset: length, as: UInt8.self) == b.load(fromByteOffset: length, as: UInt8.self) { length &+= 1 }
        return length
    }

    /// Compresses `source` to at most `room` bytes at `destination`. O(n).
    /// - Returns: how many bytes it came to; nil when that would be more than `room`.
    static func compress(_ source: UnsafeRawBufferPointer, to destination: UnsafeMutableRawPointer, room: Int, scratch: Scratch) -> Int? {
        let input = source.bindMemory(to: UInt8.self)
        let count = input.count
        guard count >= 4, count < Int(UInt32.max) - 1 else { return nil }
        let output = destination.assumingMemoryBound(to: UInt8.self)
        let positions = scratch.positions
        let first = scratch.begin(count)
        var o = 0
        var literalStart = 0

        func putLiterals(upTo end: Int) -> Bool {
            while literalStart < end {
                let length = min(literalMax, end - literalStart)
                guard o + 1 + length <= room else { return false }
                output[o] = UInt8(length - 1)
                memcpy(output + o + 1, input.baseAddress! + literalStart, length)
                o += 1 + length
                literalStart += length
            }
            return true
        }

        var i = 0
        while i + 2 < count {
            let triple = UInt32(input[i]) << 16 | UInt32(input[i + 1]) << 8 | UInt32(input[i + 2])
            let slot = Int((triple &* 0x9E37_79B1) >> UInt32(32 - hashBits))
            let last = positions[slot]
            positions[slot] = first &+ UInt32(truncatingIfNeeded: i)
            let candidate = Int(last) - Int(first)
            guard candidate >= 0, i - candidate <= offsetMax, input[candidate] == input[i],
                input[candidate + 1] == input[i + 1], input[candidate + 2] == input[i + 2]
            else {
                i += 1
                continue
            }
            let length = matchLength(input.baseAddress! + candidate, input.baseAddress! + i, limit: min(matchMax, count - i))
            guard putLiterals(upTo: i), o + 3 <= room else { return nil }
            let offset = i - candidate - 1
            if length - 2 < 7 {
                output[o] = UInt8((length - 2) << 5 | offset >> 8)
                o += 1
            } else {
                output[o] = UInt8(7 << 5 | offset >> 8)
                output[o + 1] = UInt8(length - 9)
                o += 2
            }
            output[o] = UInt8(offset & 0xFF)
            o += 1
            i += length
            literalStart = i
        }
        return putLiterals(upTo: count) ? o : nil
    }
}
