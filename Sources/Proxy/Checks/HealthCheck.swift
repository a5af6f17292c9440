/// One run of a server's health check: told what happens on its connection, answers with what to do next.
///
/// Rules are worked through in order. Whatever has come since the last `send` is what an `expect` looks at, so several
/// `expect` lines can look at one answer; a pattern that is not there yet may still come, until the server ends the
/// connection or the time is up. That is HAProxy's reading (configuration manual, "tcp-check expect").
public struct HealthCheck: Sendable {
    public enum Action: Equatable, Sendable {
        /// Opens a (new) connection, to this port or the server's own.
        case connect(port: UInt16?)
        case send([UInt8])
        /// The run is over; its connection can be closed.
        case finish(CheckResult)
    }

    /// Bytes of an answer that are looked at; more are as good as the answer's end. HAProxy's buffer size.
    public static let answerMax = 16_384

    private let rules: [CheckRule]
    private let kind: ProxyConfiguration.CheckKind
    /// Index of the rule being worked on; -1 on the connection that precedes the rules.
    private var step: Int
    private var answer: [UInt8] = []
    private var isConnected = false
    public private(set) var isFinished = false

    public init(rules: [CheckRule], kind: ProxyConfiguration.CheckKind) {
        self.rules = kind == .connect ? [] : rules
        self.kind = kind
        if case .connect? = self.rules.first?.action { step = 0 } else { step = -1 }
    }

    // MARK: what happens

    public mutating func start() -> [Action] {
        if step == 0, case .connect(let port) = rules[0].action { return [.connect(port: port)] }
        return [.connect(port: nil)]
    }

    public mutating func connected() -> [Action] {
        isConnected = true
        step += 1
        return advance(isAnswerComplete: false)
    }

    public mutating func received(_ bytes: UnsafeRawBufferPointer) -> [Action] {
        let room = HealthCheck.answerMax - answer.count
        answer.append(contentsOf: bytes.prefix(room))
        return advance(isAnswerComplete: answer.count == HealthCheck.answerMax)
    }

    /// The server has ended the connection.
    public mutating func ended() -> [Action] { advance(isAnswerComplete: true) }

    /// The connection could not be made, or broke; `reason` is the errno in words.
    public mutating func failed(_ reason: String) -> [Action] {
        finish(isConnected ? .socketError : .layer4Connection, reason + place)
    }

    public mutating func timedOut() -> [Action] {
        finish(isConnected ? .layer7Timeout : .layer4Timeout, place)
    }

    // MARK: the rules

    private mutating func advance(isAnswerComplete: Bool) -> [Action] {
        guard !isFinished else { return [] }
        var actions: [Action] = []
        while step < rules.count {
            let rule = rules[step]
            switch rule.action {
            case .connect(let port):
                isConnected = false
                answer.removeAll()
                return actions + [.connect(port: port)]
            case .send(let bytes):
                answer.removeAll()
                actions.append(.send(bytes))
            case .expect(let pattern, let isInverted):
                switch compare(rule, pattern, isInverted, isAnswerComplete) {
                case .wait: return actions
                case .failed(let result): return actions + finish(result.status, result.information)
                case .passed: break
                }
            }
            step += 1
        }
        guard kind == .sequence, !rules.isEmpty else { return actions + finish(.layer4OK, "") }
        return actions + finish(.layer7OK, rules.last?.successMessage ?? "(tcp-check)")
    }

    private enum Comparison { case wait, passed, failed(CheckResult) }

    private func compare(_ rule: CheckRule, _ pattern: CheckRule.Pattern, _ isInverted: Bool, _ isComplete: Bool) -> Comparison {
        let comment = rule.comment
        if answer.isEmpty {
            guard isComplete else { return .wait }
            let quoted = comment.map { " comment: '\($0)'" } ?? ""
            return .failed(CheckResult(.layer7Response, rule.errorMessage ?? "TCPCHK got an empty response at step \(step + 1)\(quoted)"))
        }
        if let least = rule.receivedMin, answer.count < least, !isComplete { return .wait }
        let isThere =
            switch pattern {
            case .string(let bytes), .binary(let bytes): contains(bytes)
            case .regex(let text): RegularExpression.matches(text, answer)
            }
        if !isThere, !isComplete, rule.receivedMin == nil { return .wait }
        if isThere != isInverted { return .passed }
        let what = isInverted ? "matched unwanted content" : "did not match content"
        let plain = comment.map { " comment: \($0)" } ?? ""
        return .failed(CheckResult(.layer7Response, rule.errorMessage ?? "TCPCHK \(what) \(pattern.content) at step \(step + 1)\(plain)"))
    }

    /// Whether the answer holds the pattern anywhere. O(answer × pattern).
    private func contains(_ pattern: [UInt8]) -> Bool {
        guard answer.count >= pattern.count else { return false }
        return (0...(answer.count - pattern.count)).contains { answer[$0...].starts(with: pattern) }
    }

    private mutating func finish(_ status: CheckResult.Status, _ information: String) -> [Action] {
        guard !isFinished else { return [] }
        isFinished = true
        return [.finish(CheckResult(status, information))]
    }

    /// Where the run stands, in HAProxy's words.
    private var place: String {
        guard kind == .sequence else { return "" }
        guard step >= 0, step < rules.count else { return " at initial connection step of tcp-check" }
        let rule = rules[step]
        let what: String =
            switch rule.action {
            case .connect(let port): port.map { "connect port \($0)" } ?? "connect"
            case .send: "send"
            case .expect(let pattern, _): pattern.description
            }
        let comment = rule.comment.map { " comment: '\($0)'" } ?? ""
        return " at step \(step + 1) of tcp-check (\(what))\(comment)"
    }
}
