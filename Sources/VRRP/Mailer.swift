import Glibc
import Logging
import Reactor

/// Sends mails one after the other and never makes anybody wait: the queue, the attempts and their time are bounded.
final class Mailer {
    private static let queueMax = 32
    private static let attemptsMax = 4
    /// Before the second, third and fourth attempt.
    private static let pauses: [Duration] = [.seconds(2), .seconds(10), .seconds(30)]

    private let loop: Loop
    private let settings: MailSettings
    private let server: String
    private let helloName: String
    private let logger: Logger
    private var queue: [Mail] = []
    private var attempts = 0
    private var delivery: Delivery?
    private var retry: TimerID?
    private var isClosed = false

    /// - Returns: nil when the settings name no server or nobody to write to.
    init?(loop: Loop, settings: MailSettings, logger: Logger) {
        guard let server = settings.server, !settings.recipients.isEmpty else { return nil }
        self.loop = loop
        self.settings = settings
        self.server = server
        self.logger = logger
        helloName = settings.helloName ?? VRRPConfiguration.hostName()
    }

    func send(subject: String, body: String) {
        if queue.count >= Mailer.queueMax {
            logger.warning("SMTP alert queue is full, dropping '\(queue[1].subject)'")
            queue.remove(at: 1)
        }
        let sender = settings.sender ?? "keepalived@\(VRRPConfiguration.hostName())"
        queue.append(Mail(sender: sender, recipients: settings.recipients, subject: subject, body: body, date: date()))
        if queue.count == 1 { startNext() }
    }

    func close() {
        isClosed = true
        queue.removeAll()
        if let retry { loop.cancel(retry) }
        delivery?.abandon()
        delivery = nil
    }

    private func startNext() {
        retry = nil
        guard !isClosed, !queue.isEmpty else { return }
        attempts += 1
        NameResolver.resolve(server, port: settings.port, on: loop) { [weak self] address in
            guard let self, !isClosed else { return }
            if let address { deliver(to: address) } else { finished(.failed("its address is not known", isPermanent: false)) }
        }
    }

    private func deliver(to address: SocketAddress) {
        let session = SMTPSession(mail: queue[0], helloName: helloName)
        delivery = Delivery(loop: loop, address: address, session: session, timeout: settings.connectTimeout) { [weak self] result in
            self?.finished(result)
        }
    }

    private func finished(_ result: SMTPSession.Step) {
        delivery = nil
        guard !isClosed else { return }
        let target = "[\(server)]:\(settings.port)"
        switch result {
        case .failed(let reason, let isPermanent) where !isPermanent && attempts < Mailer.attemptsMax:
            logger.info("SMTP server \(target): \(reason); trying again")
            retry = loop.schedule(after: Mailer.pauses[attempts - 1], label: "SMTP retry") { [weak self] in self?.startNext() }
            return
        case .failed(let reason, _):
            logger.warning("SMTP alert '\(queue[0].subject)' not sent, server \(target): \(reason)")
        default:
            logger.info("SMTP alert successfully sent.")
        }
        queue.removeFirst()
        attempts = 0
        startNext()
    }

    /// Now, as RFC 5322 §3.3 writes it.
    private func date() -> String {
        var seconds = time_t(loop.wallMilliseconds / 1000)
        var local = tm()
        localtime_r(&seconds, &local)
        let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        func two(_ value: some BinaryInteger) -> String { value < 10 ? "0\(value)" : "\(value)" }
        let offset = abs(local.tm_gmtoff) / 60
        let zone = (local.tm_gmtoff < 0 ? "-" : "+") + two(offset / 60) + two(offset % 60)
        return "\(days[Int(local.tm_wday)]), \(two(local.tm_mday)) \(months[Int(local.tm_mon)]) \(1900 + local.tm_year) "
            + "\(two(local.tm_hour)):\(two(local.tm_min)):\(two(local.tm_sec)) \(zone)"
    }
}

/// One attempt to deliver one mail over one connection.
private final class Delivery: ConnectionHandler {
    private static let lineMax = 2048

    private var session: SMTPSession
    private var connection: Connection?
    private var completion: ((SMTPSession.Step) -> Void)?
    private var timer: TimerID?
    private let loop: Loop

    init(loop: Loop, address: SocketAddress, session: SMTPSession, timeout: Duration, completion: @escaping (SMTPSession.Step) -> Void) {
        self.loop = loop
        self.session = session
        self.completion = completion
        let connection = loop.connect(to: address, timeout: timeout, handler: self)
        connection.role = "SMTP"
        connection.inputLimit = Delivery.lineMax
        self.connection = connection
        // For the whole conversation: Keepalived's figure for connecting, twice.
        timer = loop.schedule(after: timeout + timeout, label: "SMTP time-out") { [weak self] in
            self?.finish(.failed("no answer in time", isPermanent: false))
        }
    }

    func abandon() {
        completion = nil
        finish(.wait)
    }

    func connectionReceived(_ connection: Connection) {
        while let end = connection.input.bytes.firstIndex(of: UInt8(ascii: "\n")) {
            let line = String(decoding: connection.input.bytes[..<end], as: UTF8.self)
            connection.input.consume(end + 1)
            let step = session.received(line.hasSuffix("\r") ? String(line.dropLast()) : line)
            switch step {
            case .wait: break
            case .send(let text): connection.output.append(text)
            case .delivered, .failed: return finish(step)
            }
        }
    }

    func connectionReachedEnd(_ connection: Connection) {
        finish(.failed("it closed the connection", isPermanent: false))
    }

    func connectionClosed(_ connection: Connection, _ reason: CloseReason) {
        let words = switch reason {
        case .connectTimedOut: "nobody answers"
        case .connectFailed(let code), .receiveFailed(let code), .sendFailed(let code): String(cString: strerror(code))
        case .inputLimitReached: "a reply line of more than \(Delivery.lineMax) bytes"
        default: "the connection was closed"
        }
        finish(.failed(words, isPermanent: false))
    }

    private func finish(_ result: SMTPSession.Step) {
        if let timer { loop.cancel(timer) }
        timer = nil
        if let connection, connection.phase != .closed {
            if result == .delivered {
                connection.output.append("QUIT\r\n")
                connection.closeAfterFlush()
            } else {
                connection.close()
            }
        }
        connection = nil
        let report = completion
        completion = nil
        report?(result)
    }
}
