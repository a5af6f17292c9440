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
            if offset >= length {
                memcpy(output + o, output + o - offset, length)
            } else {
                // The copy reads what it has just written: that is how runs are told.
                for k in 0..<length { output[o + k] = output[o + k - offset] }
            }
            o += length
        }
        return o == count
    }

    /// Memory that `compress` needs: the last position of each hash of three bytes.
    final class Scratch {
        fileprivate let positions = UnsafeMutablePointer<UInt32>.allocate(capacity: 1 << hashBits)
        deinit { positions.deallocate() }
    }

    /// Compresses `source` to at most `room` bytes at `destination`. O(n).
    /// - Returns: how many bytes it came to; nil when that would be more than `room`.
    static func compress(_ source: UnsafeRawBufferPointer, to destination: UnsafeMutableRawPointer, room: Int, scratch: Scratch) -> Int? {
        let input = source.bindMemory(to: UInt8.self)
        let count = input.count
        guard count >= 4, count <= Int(UInt32.max) else { return nil }
        let output = destination.assumingMemoryBound(to: UInt8.self)
        let positions = scratch.positions
        positions.update(repeating: .max, count: 1 << hashBits)
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
            let candidate = Int(positions[slot])
            positions[slot] = UInt32(i)
            guard candidate != Int(UInt32.max), i - candidate <= offsetMax, input[candidate] == input[i],
                input[candidate + 1] == input[i + 1], input[candidate + 2] == input[i + 2]
            else {
                i += 1
                continue
            }
            let limit = min(matchMax, count - i)
            var length = 3
            while length < limit, input[candidate + length] == input[i + length] { length += 1 }
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
