/// Error replies by their code.
///
/// A chain whose `context` points to one of these counts every error that `ReplyWriter` writes into it; other replies cost nothing.
public struct ErrorCounts {
    public private(set) var total: UInt64 = 0
    public private(set) var byCode: [String: UInt64] = [:]
    /// Raised once, by the first error from now on: the failures of the command being executed.
    public var failures: UnsafeMutablePointer<UInt64>?
    /// Codes counted apart at most: a client can make the server say anything with DEBUG ERROR or a script.
    private static let codesMax = 128

    public init() {}

    /// Counts an error line (`ERR no such key`).
    mutating func count(_ line: UnsafeBufferPointer<UInt8>) {
        total += 1
        if let failures {
            failures.pointee += 1
            self.failures = nil
        }
        let end = line.firstIndex(of: 32)
        count(byCode: end.map { String(decoding: line[..<$0], as: UTF8.self) } ?? "ERR")
    }

    /// Counts an error that no `ReplyWriter` has written.
    public mutating func count(code: String) {
        total += 1
        count(byCode: code)
    }

    private mutating func count(byCode code: String) {
        if byCode.count < ErrorCounts.codesMax || byCode[code] != nil { byCode[code, default: 0] += 1 }
    }

    public mutating func reset() {
        total = 0
        byCode.removeAll()
    }
}
