import Testing

@testable import VRRP

@Suite("SMTP")
struct SMTPSessionTests {
    private let mail = Mail(
        sender: "a@x", recipients: ["b@x", "c@x"], subject: "[r] VRRP Instance VI_1 - Entering MASTER state",
        body: "=> VRRP Instance is now owning VRRP VIPs <=", date: "Sun, 22 Nov 2026 15:33:20 +0000")

    private func talk(_ replies: [String]) -> [SMTPSession.Step] {
        var session = SMTPSession(mail: mail, helloName: "h")
        return replies.map { session.received($0) }
    }

    @Test("a mail is delivered to all recipients")
    func delivery() {
        let steps = talk(["220 hello", "250-sink", "250 SIZE 1", "250 ok", "250 ok", "251 will forward", "354 go", "250 queued"])
        #expect(steps == [
            .send("EHLO h\r\n"), .wait, .send("MAIL FROM:<a@x>\r\n"), .send("RCPT TO:<b@x>\r\n"), .send("RCPT TO:<c@x>\r\n"),
            .send("DATA\r\n"), .send(mail.text), .delivered,
        ])
    }

    @Test("the text is what Keepalived sends")
    func text() {
        #expect(mail.text == """
            Date: Sun, 22 Nov 2026 15:33:20 +0000\r
            From: a@x\r
            Subject: [r] VRRP Instance VI_1 - Entering MASTER state\r
            X-Mailer: Keepalived\r
            To: b@x, c@x\r
            \r
            => VRRP Instance is now owning VRRP VIPs <=\r
            \r
            .\r

            """)
    }

    @Test("a leading dot is doubled")
    func dots() {
        var dotted = mail
        dotted.body = ".hidden"
        #expect(dotted.text.contains("\r\n..hidden\r\n"))
    }

    @Test("a server that does not know EHLO is greeted with HELO")
    func helo() {
        #expect(talk(["220 old", "500 what?", "250 hi"]) == [.send("EHLO h\r\n"), .send("HELO h\r\n"), .send("MAIL FROM:<a@x>\r\n")])
    }

    @Test("one recipient that is refused does not keep the mail from the other")
    func oneRefused() {
        #expect(talk(["220", "250", "250", "550 no such user", "250"]).last == .send("DATA\r\n"))
        #expect(talk(["220", "250", "250", "550 no", "550 such user"]).last == .failed("refused: '550 such user'", isPermanent: true))
    }

    @Test("a refusal for now is told from one for good, and garbage from both")
    func failures() {
        #expect(talk(["421 busy"]) == [.failed("refused: '421 busy'", isPermanent: false)])
        #expect(talk(["220", "250", "553 who?"]).last == .failed("refused: '553 who?'", isPermanent: true))
        #expect(talk(["SSH-2.0-x"]) == [.failed("no SMTP reply: 'SSH-2.0-x'", isPermanent: false)])
        #expect(talk(["220", "250", "250", "250", "250", "354", "452 full"]).last == .failed("refused: '452 full'", isPermanent: false))
    }
}
