/// One mail, on its way.
struct Mail: Equatable, Sendable {
    var sender: String
    var recipients: [String]
    var subject: String
    var body: String
    /// RFC 5322 §3.3.
    var date: String

    /// Header and body as DATA sends them, the final dot included (RFC 5321 §4.5.2: a leading dot is doubled).
    var text: String {
        let lines = [
            "Date: \(date)", "From: \(sender)", "Subject: \(subject)", "X-Mailer: Keepalived",
            "To: \(recipients.joined(separator: ", "))", "", body, "",
        ]
        return lines.map { ($0.hasPrefix(".") ? "." : "") + $0 + "\r\n" }.joined() + ".\r\n"
    }
}

/// Delivering one mail to a server: the client's half of SMTP (RFC 5321 §3.1).
///
/// A value: reply lines go in, what to send comes out.
struct SMTPSession {
    enum Step: Equatable {
        case wait
        case send(String)
        /// The server has the mail; QUIT is to be sent.
        case delivered
        /// In words, with the server's reply. A permanent failure is not worth another attempt.
        case failed(String, isPermanent: Bool)
    }

    private enum Awaiting: Equatable { case greeting, ehlo, helo, sender, recipient(Int), data, acceptance, done }

    let mail: Mail
    let helloName: String
    private var awaiting = Awaiting.greeting
    /// Recipients that the server took; one is enough.
    private var accepted = 0

    init(mail: Mail, helloName: String) {
        self.mail = mail
        self.helloName = helloName
    }

    /// - Parameter line: one line of a reply without its line end.
    mutating func received(_ line: String) -> Step {
        let digits = line.prefix(3)
        guard digits.count == 3, let code = Int(digits), (200...599).contains(code) else {
            return fail("no SMTP reply: '\(line.prefix(80))'", isPermanent: false)
        }
        // `250-` continues, `250 ` or `250` ends.
        if line.dropFirst(3).first == "-" { return .wait }
        return step(code, line)
    }

    private mutating func step(_ code: Int, _ line: String) -> Step {
        let isGood = code < 400
        switch awaiting {
        case .greeting:
            guard isGood else { return refused(line, code) }
            return ask("EHLO \(helloName)", .ehlo)
        case .ehlo:
            // Servers older than RFC 1869 know HELO only.
            return isGood ? ask("MAIL FROM:<\(mail.sender)>", .sender) : ask("HELO \(helloName)", .helo)
        case .helo:
            guard isGood else { return refused(line, code) }
            return ask("MAIL FROM:<\(mail.sender)>", .sender)
        case .sender:
            guard isGood else { return refused(line, code) }
            return ask("RCPT TO:<\(mail.recipients[0])>", .recipient(0))
        case .recipient(let index):
            if isGood { accepted += 1 }
            if index + 1 < mail.recipients.count { return ask("RCPT TO:<\(mail.recipients[index + 1])>", .recipient(index + 1)) }
            return accepted > 0 ? ask("DATA", .data) : refused(line, code)
        case .data:
            guard code == 354 else { return refused(line, code) }
            awaiting = .acceptance
            return .send(mail.text)
        case .acceptance:
            guard isGood else { return refused(line, code) }
            awaiting = .done
            return .delivered
        case .done:
            return .wait
        }
    }

    private mutating func ask(_ command: String, _ next: Awaiting) -> Step {
        awaiting = next
        return .send(command + "\r\n")
    }

    private mutating func refused(_ line: String, _ code: Int) -> Step { fail("refused: '\(line.prefix(80))'", isPermanent: code >= 500) }

    private mutating func fail(_ reason: String, isPermanent: Bool) -> Step {
        awaiting = .done
        return .failed(reason, isPermanent: isPermanent)
    }
}
