import Glibc
@testable import RESP
@testable import Reactor

// Any bytes, cut into any pieces, make requests, "more bytes must come" or a failure; and however they are cut, and whether several
// requests are looked for at once or each by itself, the same requests. A failure may come later when they are cut: the parser does
// not look before a long request could be complete.

private func feed(_ bytes: UnsafeRawBufferPointer, piece: Int, looksAhead: Bool) -> [[UInt8]] {
    let shared = UnsafeMutableRawPointer.allocate(byteCount: 65_536, alignment: 64)
    let area = ArgumentArea()
    let input = InputBuffer()
    defer {
        input.deallocate()
        area.deallocate()
        shared.deallocate()
    }
    var parser = RequestParser(area: area)
    var requests: [[UInt8]] = []
    var offset = 0
    while offset < bytes.count {
        let direct = input.directRemaining
        let (target, room) = direct > 0 ? (input.state.pointee.direct!, direct) : input.target(sharedArea: shared, size: 65_536)!
        let size = min(piece, room, bytes.count - offset)
        memcpy(target, bytes.baseAddress! + offset, size)
        offset += size
        if direct > 0 {
            input.state.pointee.direct = target + size
            input.state.pointee.directRemaining -= size
            if size < direct { continue }
        } else {
            input.received(size)
        }
        input.forgetExpectation()
        func take(_ first: Int, _ count: Int) {
            var request: [UInt8] = []
            for index in first..<first + count {
                request.append(contentsOf: UnsafeBufferPointer(start: area.base[index].base, count: area.base[index].count))
                request.append(0)
            }
            requests.append(request)
        }
        loop: while true {
            if looksAhead, case let found = parser.lookAhead(input), found > 0 {
                var end = 0
                for span in UnsafeBufferPointer(start: area.spans, count: found) {
                    precondition(span.end > end && span.end <= input.count)
                    end = span.end
                    take(span.first, span.count)
                }
                input.consume(end)
                continue
            }
            switch parser.next(input, bulkMax: 1 << 20, argumentsMax: 1 << 16, isAuthenticated: true) {
            case .request:
                take(0, parser.count)
                parser.finish(input)
            case .incomplete:
                break loop
            case .failure(let text):
                precondition(!text.isEmpty)
                return requests
            }
        }
        input.settle(sharedArea: shared, size: 65_536)
    }
    return requests
}

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 1 else { return 0 }
    let bytes = UnsafeRawBufferPointer(start: start + 1, count: count - 1)
    let piece = Int(start[0]) + 1
    let whole = feed(bytes, piece: .max, looksAhead: false)
    for (how, other) in [
        ("cut", feed(bytes, piece: piece, looksAhead: false)), ("together", feed(bytes, piece: .max, looksAhead: true)),
        ("cut and together", feed(bytes, piece: piece, looksAhead: true)),
    ] where whole != other {
        let texts = [whole, other].map { $0.map { String(decoding: $0, as: UTF8.self) } }
        fatalError("the same bytes gave \(texts[0]) one by one and \(texts[1]) \(how)")
    }
    return 0
}
