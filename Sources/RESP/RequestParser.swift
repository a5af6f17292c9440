import Glibc
import Reactor

/// Reads requests from the front of an input buffer: arrays of bulk strings, and inline commands.
///
/// The arguments of a request that lies whole in the buffer point into it. A bulk string of `directThreshold` bytes or more
/// that has not arrived whole is received straight into memory of its own, which the command may keep.
///
/// Source: RESP specification; limits and error texts as Redis 7.2 has them.
public struct RequestParser: ~Copyable {
    /// What `next` found.
    public enum Outcome {
        /// A request; `count` and the arguments say which. Follow with `finish`.
        case request
        /// More bytes must come first.
        case incomplete
        /// What came is not RESP: the line of the error to send, after which the connection closes.
        case failure([UInt8])
    }

    /// Bulk strings at least this long get memory of their own.
    public static let directThreshold = 32_768
    /// Longest line of an inline command, and of a length.
    public static let lineMax = 65_536
    public static let unauthenticatedBulkMax = 16_384
    public static let unauthenticatedArgumentsMax = 10

    private let area: ArgumentArea

    /// Bytes of the request found, from the front of the buffer; nil when it did not lie whole in the buffer.
    public var sizeInBuffer: Int? { pending == nil ? consumed : nil }
    /// How many arguments the request found has.
    public private(set) var count = 0
    private var consumed = 0
    /// Fewer readable bytes than this cannot complete the request.
    private var needed = 0

    /// A request that has a long bulk string under way.
    private var pending: Pending?

    /// Bytes of memory that a request under way has of its own.
    public var pendingBytes: Int { pending?.owned.reduce(0) { $0 + $1.count } ?? 0 }

    private struct Pending {
        var total: Int
        /// One block for each argument so far; all owned, `count + 2` bytes long at least behind `headroom`.
        var owned: [(block: UnsafeMutableRawPointer, count: Int)]
        var isReceiving = false
    }

    /// Free bytes in front of a directly received argument, for the owner's header.
    public static let headroom = 16

    /// - Parameter area: where the arguments are put; shared by all parsers of a loop, since a request is dealt with at once.
    public init(area: ArgumentArea) { self.area = area }

    deinit { releasePending() }

    /// The arguments of the request found.
    @inline(__always) public var arguments: UnsafeMutablePointer<Argument> { area.base }

    private func releasePending() {
        for argument in pending?.owned ?? [] { free(argument.block) }
    }

    /// Looks for a request at the front of `input`.
    /// - Parameters:
    ///   - bulkMax: longest bulk string accepted (`proto-max-bulk-len`).
    ///   - argumentsMax: most arguments accepted.
    @inline(__always)
    public mutating func next(_ input: InputBuffer, bulkMax: Int, argumentsMax: Int, isAuthenticated: Bool) -> Outcome {
        let available = input.count
        if available < needed || (available == 0 && pending == nil) { return .incomplete }
        if pending != nil { return resume(input, bulkMax: bulkMax, isAuthenticated: isAuthenticated) }
        let base = UnsafePointer(input.base!.assumingMemoryBound(to: UInt8.self))
        if base[0] != 0x2A { return inline(base, available) }

        var p = 1
        let header = RequestParser.number(base, available, &p)
        guard case .value(let total) = header else {
            return lengthProblem(header, available, "ERR Protocol error: invalid multibulk length", "ERR Protocol error: too big mbulk count string")
        }
        if total > argumentsMax { return .failure(Array("ERR Protocol error: invalid multibulk length".utf8)) }
        if !isAuthenticated, total > RequestParser.unauthenticatedArgumentsMax {
            return .failure(Array("ERR Protocol error: unauthenticated multibulk length".utf8))
        }
        if total <= 0 {
            count = 0
            consumed = p
            return .request
        }
        // What the client announces is not believed: room comes with the arguments themselves.
        area.reserve(min(total, 1024))
        var index = 0
        while index < total {
            if p >= available { return wait(available + 1, available, total - index) }
            let length = RequestParser.bulkLength(base, available, &p, bulkMax: bulkMax, isAuthenticated: isAuthenticated)
            guard case .value(let size) = length else {
                if case .malformed(let message) = length { return .failure(message) }
                return wait(available + 1, available, total - index)
            }
            if available - p < size + 2 {
                if size >= RequestParser.directThreshold {
                    return startDirect(input, total: total, read: index, payloadAt: p, size: size)
                }
                return wait(p + size + 2, available, total - index - 1, input)
            }
            area.reserve(index + 1, keeping: index)
            arguments[index] = Argument(base: base + p, count: size)
            p += size + 2
            index += 1
        }
        count = total
        consumed = p
        needed = 0
        return .request
    }

    /// Finds as many whole requests at the front of the buffer as are there, up to `ArgumentArea.spansMax`, and consumes nothing.
    ///
    /// It stops before everything that is not an ordinary, complete array of bulk strings: `next` deals with that, limits and
    /// errors included.
    /// - Returns: how many; their spans and arguments are in the area.
    @inline(__always)
    public mutating func lookAhead(_ input: InputBuffer) -> Int {
        let available = input.count
        if available < needed || available < 4 || pending != nil { return 0 }
        let base = UnsafePointer(input.base.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self))
        let arguments = area.base
        let capacity = area.capacity
        var found = 0
        var used = 0
        var p = 0
        scan: while found < ArgumentArea.spansMax {
            let first = used
            guard let total = RequestParser.shortNumber(base, available, &p, 0x2A), total > 0, used &+ total <= capacity else { break }
            for _ in 0..<total {
                guard let size = RequestParser.shortNumber(base, available, &p, 0x24), available &- p >= size &+ 2 else { break scan }
                arguments[used] = Argument(base: base + p, count: size)
                used &+= 1
                p &+= size &+ 2
            }
            area.spans[found] = RequestSpan(first: first, count: total, end: p, tag: 0, hash: 0)
            found &+= 1
        }
        if found > 0 { needed = 0 }
        return found
    }

    /// Reads the mark, at most five digits, CR and LF.
    @inline(__always)
    private static func shortNumber(_ base: UnsafePointer<UInt8>, _ available: Int, _ p: inout Int, _ mark: UInt8) -> Int? {
        var i = p
        guard available &- i >= 4, base[i] == mark else { return nil }
        var value = Int(base[i &+ 1] &- 48)
        if value > 9 { return nil }
        i &+= 2
        // A zero stands alone: with other digits behind it the length is malformed.
        let end = value == 0 ? i : min(available &- 1, i &+ 4)
        while i < end {
            let digit = base[i] &- 48
            if digit > 9 { break }
            value = value &* 10 &+ Int(digit)
            i &+= 1
        }
        guard i < available &- 1, base[i] == 13 else { return nil }
        p = i &+ 2
        return value
    }

    /// Drops the request found from the input and lets go of memory that no command kept.
    @inline(__always)
    public mutating func finish(_ input: InputBuffer) {
        input.consume(consumed)
        consumed = 0
        needed = 0
        if pending != nil { dropPending() }
    }

    private mutating func dropPending() {
        releasePending()
        pending = nil
    }

    /// Arguments have memory of their own, as long ones do.
    public var hasLongArguments: Bool { pending != nil }

    /// Hands over the memory of an argument that was received directly.
    /// - Returns: the start of a malloc block whose payload begins `headroom` bytes in; nil when the argument lies in the buffer.
    public mutating func takeOwnership(of index: Int) -> UnsafeMutableRawPointer? {
        guard let p = pending, p.owned[index].count >= RequestParser.directThreshold else { return nil }
        let block = p.owned[index].block
        // Freed as a null pointer later on: the slot stays so that the indices stay.
        pending!.owned[index].block = malloc(1)!
        return block
    }

    /// The request goes on behind what has arrived: it is looked at again when `size` bytes are there.
    ///
    /// A long request of many arguments is looked at again only when twice as much has come, or as much as it must have at
    /// least; otherwise one that comes in small pieces would cost the square of its length.
    private mutating func wait(_ size: Int, _ available: Int, _ argumentsLeft: Int, _ input: InputBuffer? = nil) -> Outcome {
        needed = available < 4096 ? size : max(size, min(available * 2, size + 6 * argumentsLeft))
        input?.expect(needed)
        return .incomplete
    }

    // MARK: long bulk strings

    private mutating func startDirect(_ input: InputBuffer, total: Int, read: Int, payloadAt offset: Int, size: Int) -> Outcome {
        var owned: [(block: UnsafeMutableRawPointer, count: Int)] = []
        for i in 0..<read { owned.append(RequestParser.copy(arguments[i])) }
        pending = Pending(total: total, owned: owned)
        input.consume(offset)
        return receive(size, input)
    }

    private mutating func receive(_ size: Int, _ input: InputBuffer) -> Outcome {
        guard let block = SystemMemory.allocateIfPossible(RequestParser.headroom + size + 2) else {
            return .failure(Array("ERR Protocol error: out of memory for a bulk string of \(size) bytes".utf8))
        }
        pending!.owned.append((block, size))
        pending!.isReceiving = true
        needed = 0
        input.receiveDirectly(into: block + RequestParser.headroom, count: size + 2)
        return .incomplete
    }

    private static func copy(_ argument: Argument) -> (block: UnsafeMutableRawPointer, count: Int) {
        let block = SystemMemory.allocate(headroom + argument.count + 2)
        memcpy(block + headroom, argument.base, argument.count)
        return (block, argument.count)
    }

    private mutating func resume(_ input: InputBuffer, bulkMax: Int, isAuthenticated: Bool) -> Outcome {
        if pending!.isReceiving {
            if input.directRemaining > 0 { return .incomplete }
            pending!.isReceiving = false
        }
        while pending!.owned.count < pending!.total {
            let available = input.count
            guard available > 0 else { return .incomplete }
            let base = UnsafePointer(input.base!.assumingMemoryBound(to: UInt8.self))
            var p = 0
            let length = RequestParser.bulkLength(base, available, &p, bulkMax: bulkMax, isAuthenticated: isAuthenticated)
            guard case .value(let size) = length else {
                if case .malformed(let message) = length { return .failure(message) }
                needed = available + 1
                return .incomplete
            }
            if available - p < size + 2 {
                if size >= RequestParser.directThreshold {
                    input.consume(p)
                    return receive(size, input)
                }
                return wait(p + size + 2, available, 0, input)
            }
            pending!.owned.append(RequestParser.copy(Argument(base: base + p, count: size)))
            input.consume(p + size + 2)
        }
        count = pending!.total
        area.reserve(count)
        for (i, argument) in pending!.owned.enumerated() {
            let payload = UnsafePointer((argument.block + RequestParser.headroom).assumingMemoryBound(to: UInt8.self))
            arguments[i] = Argument(base: payload, count: argument.count)
        }
        consumed = 0
        needed = 0
        return .request
    }

    // MARK: lines

    private enum Length {
        case value(Int)
        case incomplete
        case malformed([UInt8])
    }

    /// Reads `$number CR LF` at `p` and moves behind it. As in Redis nothing is said of a line before it is complete.
    @inline(__always)
    private static func bulkLength(_ base: UnsafePointer<UInt8>, _ available: Int, _ p: inout Int, bulkMax: Int, isAuthenticated: Bool) -> Length {
        let mark = base[p]
        let start = p
        p += 1
        let length = mark == 0 || mark == 13 ? .incomplete : number(base, available, &p)
        if case .value(let size) = length, mark == 0x24, size >= 0, size <= bulkMax, isAuthenticated || size <= unauthenticatedBulkMax {
            return length
        }
        if case .incomplete = length {
            p = start
            if mark == 13, available - start > 1 { return .malformed(expectedDollar(mark)) }
            return available - start > lineMax ? .malformed(Array("ERR Protocol error: too big bulk count string".utf8)) : .incomplete
        }
        if mark != 0x24 { return .malformed(expectedDollar(mark)) }
        if case .value(let size) = length, size >= 0, size <= bulkMax {
            return .malformed(Array("ERR Protocol error: unauthenticated bulk length".utf8))
        }
        return .malformed(Array("ERR Protocol error: invalid bulk length".utf8))
    }

    /// Reads `number CR LF` at `p` and moves behind it. What is behind CR is not looked at, as in Redis; nor is anything behind a
    /// zero byte, which ends the line unfinished.
    @inline(__always)
    private static func number(_ base: UnsafePointer<UInt8>, _ available: Int, _ p: inout Int) -> Length {
        var i = p
        var value = 0
        while i < available, i - p < 18 {
            let digit = base[i] &- 48
            if digit > 9 { break }
            value = value &* 10 &+ Int(digit)
            i += 1
        }
        // Canonical digits, and the line's end is there: nearly always.
        if i + 1 < available, base[i] == 13, i > p, base[p] != 48 || i == p + 1 {
            p = i + 2
            return .value(value)
        }
        return unusualNumber(base, available, &p)
    }

    @inline(never)
    private static func unusualNumber(_ base: UnsafePointer<UInt8>, _ available: Int, _ p: inout Int) -> Length {
        guard let end = find(13, base + p, available - p), p + end + 1 < available else { return .incomplete }
        guard let value = Argument(base: base + p, count: end).integer else { return .malformed([]) }
        p += end + 2
        return .value(Int(value))
    }

    /// Where the byte is first; nil when it is not there, or a zero byte comes before it.
    private static func find(_ byte: UInt8, _ base: UnsafePointer<UInt8>, _ count: Int) -> Int? {
        guard let found = memchr(base, Int32(byte), count) else { return nil }
        let offset = UnsafePointer(found.assumingMemoryBound(to: UInt8.self)) - base
        return memchr(base, 0, offset) == nil ? offset : nil
    }

    private func lengthProblem(_ length: Length, _ available: Int, _ malformed: StaticString, _ tooLong: StaticString) -> Outcome {
        if case .incomplete = length { return available > RequestParser.lineMax ? .failure(Argument(tooLong).bytes) : .incomplete }
        return .failure(Argument(malformed).bytes)
    }

    /// The byte is repeated as it came, but an error stays one line.
    private static func expectedDollar(_ found: UInt8) -> [UInt8] {
        Array("ERR Protocol error: expected '$', got '".utf8) + [found == 13 || found == 10 ? 32 : found, 0x27]
    }

    // MARK: inline commands

    private mutating func inline(_ base: UnsafePointer<UInt8>, _ available: Int) -> Outcome {
        guard var length = RequestParser.find(10, base, available) else {
            return available > RequestParser.lineMax ? .failure(Array("ERR Protocol error: too big inline request".utf8)) : .incomplete
        }
        let lineEnd = length + 1
        if length > 0, base[length - 1] == 13 { length -= 1 }
        guard let words = RequestParser.split(UnsafeBufferPointer(start: base, count: length)) else {
            return .failure(Array("ERR Protocol error: unbalanced quotes in request".utf8))
        }
        if words.isEmpty {
            count = 0
        } else {
            // The words live as owned blocks: quoting makes them differ from the bytes in the buffer.
            var owned: [(block: UnsafeMutableRawPointer, count: Int)] = []
            for word in words { owned.append(word.withUnsafeBytes { RequestParser.copy(Argument($0)) }) }
            pending = Pending(total: words.count, owned: owned)
            area.reserve(words.count)
            for (i, argument) in owned.enumerated() {
                let payload = UnsafePointer((argument.block + RequestParser.headroom).assumingMemoryBound(to: UInt8.self))
                arguments[i] = Argument(base: payload, count: argument.count)
            }
            count = words.count
        }
        consumed = lineEnd
        return .request
    }

    /// Splits a line into words as Redis does: spaces between words, `"..."` with escapes, `'...'` with `\'`.
    /// - Returns: nil when a quote is not closed or is followed by something else than a space.
    public static func split(_ line: UnsafeBufferPointer<UInt8>) -> [[UInt8]]? {
        func isSpace(_ c: UInt8) -> Bool { c == 32 || (c >= 9 && c <= 13) || c == 0 }
        // Vertical tab and form feed part words only where one has not begun.
        func endsWord(_ c: UInt8) -> Bool { c == 32 || c == 10 || c == 13 || c == 9 || c == 0 }
        func hex(_ c: UInt8) -> UInt8? {
            switch c {
            case 48...57: c - 48
            case 97...102: c - 87
            case 65...70: c - 55
            default: nil
            }
        }
        var words: [[UInt8]] = []
        var i = 0
        while true {
            while i < line.count, isSpace(line[i]) { i += 1 }
            if i >= line.count { return words }
            var word: [UInt8] = []
            scan: while i < line.count, !endsWord(line[i]) {
                let quote = line[i]
                guard quote == 0x22 || quote == 0x27 else {
                    word.append(quote)
                    i += 1
                    continue
                }
                i += 1
                while true {
                    guard i < line.count else { return nil }
                    let c = line[i]
                    if c == quote {
                        i += 1
                        if i < line.count, !isSpace(line[i]) { return nil }
                        break scan
                    }
                    if c == 0x5C, i + 1 < line.count {
                        let e = line[i + 1]
                        if quote == 0x27 {
                            if e == 0x27 {
                                word.append(0x27)
                                i += 2
                                continue
                            }
                        } else if e == 0x78, i + 3 < line.count, let high = hex(line[i + 2]), let low = hex(line[i + 3]) {
                            word.append(high << 4 | low)
                            i += 4
                            continue
                        } else {
                            switch e {
                            case 0x6E: word.append(10)
                            case 0x72: word.append(13)
                            case 0x74: word.append(9)
                            case 0x62: word.append(8)
                            case 0x61: word.append(7)
                            default: word.append(e)
                            }
                            i += 2
                            continue
                        }
                    }
                    word.append(c)
                    i += 1
                }
            }
            words.append(word)
        }
    }
}
