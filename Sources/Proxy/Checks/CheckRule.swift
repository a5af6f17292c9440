/// One line of a `tcp-check` sequence.
public struct CheckRule: Sendable, Equatable {
    public enum Action: Sendable, Equatable {
        /// Opens the connection anew; nil: the server's own check port.
        case connect(port: UInt16?)
        case send([UInt8])
        case expect(Pattern, inverted: Bool)
    }

    public enum Pattern: Sendable, Equatable {
        case string([UInt8])
        case binary([UInt8])
        /// POSIX extended syntax, matched against the answer as text.
        case regex(String)

        /// How HAProxy names it in `at step N of tcp-check (expect ...)`.
        var description: String {
            switch self {
            case .string(let bytes): "expect string '\(String(decoding: bytes, as: UTF8.self))'"
            case .binary(let bytes): "expect binary '\(String(decoding: bytes, as: UTF8.self))'"
            case .regex: "expect regex"
            }
        }

        /// How HAProxy names it in `TCPCHK did not match content ...`.
        var content: String {
            switch self {
            case .string(let bytes): "'\(String(decoding: bytes, as: UTF8.self))'"
            case .binary: "(binary)"
            case .regex: "(regex)"
            }
        }
    }

    public var action: Action
    public var comment: String?
    /// `min-recv`: nothing is compared before so many bytes have come, and then an absent pattern is final.
    public var receivedMin: Int?
    /// `on-success` and `on-error` texts, where given.
    public var successMessage: String?
    public var errorMessage: String?

    public init(_ action: Action, comment: String? = nil) {
        self.action = action
        self.comment = comment
    }

    /// The rules of `option redis-check`.
    static let redisPing = [
        CheckRule(.send(Array("*1\r\n$4\r\nPING\r\n".utf8))), CheckRule(.expect(.string(Array("+PONG\r\n".utf8)), inverted: false)),
    ]
}
