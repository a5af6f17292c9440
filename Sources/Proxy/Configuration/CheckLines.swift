import Configuration
import Glibc

/// `tcp-check`.
extension ProxyConfigurationReader {
    func checkRule(_ words: [Word]) throws(Rejection) -> CheckRule {
        switch words.first?.text {
        case "connect": return try connectRule(words.dropFirst())
        case "send": return try sendRule(words.dropFirst(), "send") { word throws(Rejection) in word.bytes }
        case "send-binary": return try sendRule(words.dropFirst(), "send-binary") { word throws(Rejection) in try self.hexadecimal(word, "send-binary") }
        case "expect": return try expectRule(words.dropFirst())
        case "comment":
            throw Rejection("'tcp-check comment' on a line of its own is not supported; write 'comment TEXT' at the end of the rule")
        case "send-lf", "send-binary-lf", "set-var", "set-var-fmt", "unset-var":
            throw Rejection("'tcp-check \(words[0].text)' is not supported (supported: connect, send, send-binary, expect)")
        default:
            throw Rejection("'tcp-check' only supports 'connect', 'send', 'send-binary', 'expect'. but got '\(words.first?.text ?? "")'")
        }
    }

    private func connectRule(_ words: ArraySlice<Word>) throws(Rejection) -> CheckRule {
        var words = words
        var port: UInt16?
        var comment: String?
        while let word = words.popFirst()?.text {
            switch word {
            case "port":
                guard let value = words.popFirst()?.text else { throw Rejection("'tcp-check connect' : 'port' expects a number") }
                port = UInt16(try integer(value, for: "tcp-check connect port", in: 1...65_535))
            case "comment":
                guard let text = words.popFirst()?.text else { throw Rejection("'tcp-check connect' : 'comment' expects a string") }
                comment = text
            case "default", "linger": break
            default: throw Rejection("'tcp-check connect' : '\(word)' is not supported (supported: port, default, linger, comment)")
            }
        }
        return CheckRule(.connect(port: port), comment: comment)
    }

    private func sendRule(_ words: ArraySlice<Word>, _ name: String, _ bytes: (Word) throws(Rejection) -> [UInt8]) throws(Rejection) -> CheckRule {
        var words = words
        guard let data = words.popFirst(), !data.bytes.isEmpty else { throw Rejection("'tcp-check \(name)' : expects what to send as argument.") }
        var rule = CheckRule(.send(try bytes(data)))
        while let word = words.popFirst()?.text {
            guard word == "comment", let text = words.popFirst()?.text else {
                // What is sent may be a password: it is not repeated.
                throw Rejection("'tcp-check \(name)' : expects one argument, and 'comment TEXT' (write a blank within the argument as '\\ ').")
            }
            rule.comment = text
        }
        return rule
    }

    private func expectRule(_ words: ArraySlice<Word>) throws(Rejection) -> CheckRule {
        let supported = "min-recv, comment, [!] string, [!] rstring, [!] binary, on-success, on-error"
        var words = words
        var rule = CheckRule(.connect(port: nil))
        var isInverted = false
        var pattern: CheckRule.Pattern?
        while let word = words.popFirst()?.text {
            if word == "!" {
                isInverted = true
                continue
            }
            var name = word
            if name.hasPrefix("!") {
                isInverted = true
                name.removeFirst()
            }
            guard ["min-recv", "comment", "string", "rstring", "binary", "on-success", "on-error"].contains(name) else {
                let known = ["rbinary", "string-lf", "binary-lf", "status", "rstatus", "fhdr", "hdr", "ok-status", "error-status", "tout-status", "status-code"].contains(name)
                throw Rejection("'tcp-check expect' : \(known ? "'\(name)' is not supported" : "unknown keyword '\(name)'") (supported: \(supported))")
            }
            guard let argument = words.popFirst(), !argument.bytes.isEmpty else { throw Rejection("'tcp-check expect' : '\(name)' expects an argument") }
            switch name {
            case "min-recv": rule.receivedMin = try integer(argument.text, for: "tcp-check expect min-recv", in: 0...HealthCheck.answerMax)
            case "comment": rule.comment = argument.text
            case "on-success": rule.successMessage = argument.text
            case "on-error": rule.errorMessage = argument.text
            default:
                if pattern != nil { throw Rejection("'tcp-check expect' : only on pattern expected") }
                switch name {
                case "string": pattern = .string(argument.bytes)
                case "binary": pattern = .binary(try hexadecimal(argument, "expect binary"))
                default:
                    if let problem = RegularExpression.problem(in: argument.text) {
                        throw Rejection("'tcp-check expect' : regex '\(argument.text)' does not compile: \(problem)")
                    }
                    pattern = .regex(argument.text)
                }
            }
        }
        guard let pattern else { throw Rejection("'tcp-check expect' : expects one of \(supported)") }
        rule.action = .expect(pattern, inverted: isInverted)
        return rule
    }

    private func hexadecimal(_ word: Word, _ name: String) throws(Rejection) -> [UInt8] {
        let digits = Array(word.text)
        guard digits.count % 2 == 0 else { throw Rejection("'tcp-check \(name)' : an even number of hexadecimal digits is expected (got \(digits.count))") }
        var bytes: [UInt8] = []
        for index in stride(from: 0, to: digits.count, by: 2) {
            guard let byte = UInt8(String(digits[index...index + 1]), radix: 16) else {
                throw Rejection("'tcp-check \(name)' : '\(digits[index])\(digits[index + 1])' is not hexadecimal")
            }
            bytes.append(byte)
        }
        return bytes
    }
}

/// POSIX extended regular expressions (regcomp(3)).
enum RegularExpression {
    /// Why the pattern does not compile; nil when it does.
    static func problem(in pattern: String) -> String? {
        var compiled = regex_t()
        let code = regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB)
        if code == 0 {
            regfree(&compiled)
            return nil
        }
        var text = [CChar](repeating: 0, count: 200)
        regerror(code, &compiled, &text, text.count)
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    static func matches(_ pattern: String, _ bytes: [UInt8]) -> Bool {
        var compiled = regex_t()
        guard regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB) == 0 else { return false }
        defer { regfree(&compiled) }
        return (bytes + [0]).withUnsafeBufferPointer { buffer in
            buffer.withMemoryRebound(to: CChar.self) { regexec(&compiled, $0.baseAddress!, 0, nil, 0) == 0 }
        }
    }
}
