import Reactor

/// Runs one server's health checks on the loop: `HealthCheckSchedule` says when, `HealthCheck` what.
final class ServerChecker {
    private let loop: Loop
    private unowned let server: Server
    private let schedule: HealthCheckSchedule
    private let timeouts: ProxyConfiguration.Timeouts
    private var regularTimer: TimerID?
    private var searchTimer: TimerID?
    private var runs: [CheckRun] = []
    private(set) var isRunning = false
    /// Told of each result, with the time the run took.
    var onResult: ((CheckResult, Duration) -> Void)?

    init(loop: Loop, server: Server, timeouts: ProxyConfiguration.Timeouts) {
        self.loop = loop
        self.server = server
        self.timeouts = timeouts
        schedule = HealthCheckSchedule(server.settings)
    }

    var isInProgress: Bool { !runs.isEmpty }
    var isSearching: Bool { searchTimer != nil }

    /// Begins to check, the first time `delay` from now.
    func start(after delay: Duration = .zero) {
        guard !isRunning else { return }
        isRunning = true
        regularTimer = loop.schedule(after: delay, label: "health check") { [weak self] in self?.beginRegular() }
    }

    /// Checks no more; what is under way is dropped without a result.
    func stop() {
        isRunning = false
        if let regularTimer { loop.cancel(regularTimer) }
        regularTimer = nil
        search(false)
        dropRuns()
    }

    /// Starts or ends the additional checks of a server that is looked for.
    func search(_ on: Bool) {
        if on, searchTimer == nil, isRunning, schedule.allowsSearch {
            searchTimer = loop.scheduleRepeating(every: HealthCheckSchedule.searchInterval, label: "health check") { [weak self] in
                self?.beginRun(isRegular: false)
            }
        } else if !on, let timer = searchTimer {
            loop.cancel(timer)
            searchTimer = nil
        }
    }

    private func dropRuns() {
        for run in runs { run.abandon() }
        runs.removeAll()
    }

    private func beginRegular() {
        regularTimer = nil
        beginRun(isRegular: true)
    }

    private func beginRun(isRegular: Bool) {
        guard isRunning else { return }
        if runs.count >= HealthCheckSchedule.overlapMax {
            if isRegular { scheduleRegular(startedAt: loop.now) }
            return
        }
        let run = CheckRun(
            loop: loop, server: server, connectTimeout: schedule.connectTimeout(timeouts),
            answerTimeout: schedule.answerTimeout(timeouts), wholeTimeout: schedule.interval)
        runs.append(run)
        run.begin { [weak self] result in self?.finished(run, isRegular: isRegular, result) }
    }

    private func finished(_ run: CheckRun, isRegular: Bool, _ result: CheckResult) {
        runs.removeAll { $0 === run }
        // A pass speaks for the server's present; older runs that still wait would only repeat its past.
        var nextIsMissing = isRegular
        if result.status.isPass {
            nextIsMissing = nextIsMissing || regularTimer == nil
            dropRuns()
        }
        onResult?(result, loop.now - run.startedAt)
        if isRunning, nextIsMissing, regularTimer == nil { scheduleRegular(startedAt: run.startedAt) }
    }

    private func scheduleRegular(startedAt: Instant) {
        let due = max(startedAt + schedule.delay(for: server.health), loop.now)
        regularTimer = loop.schedule(at: due, label: "health check") { [weak self] in self?.beginRegular() }
    }
}

/// One check on its connection.
final class CheckRun: ConnectionHandler {
    private let loop: Loop
    private unowned let server: Server
    private let connectTimeout: Duration
    private let answerTimeout: Duration?
    private let wholeTimeout: Duration
    private var check: HealthCheck
    private var connection: Connection?
    private var timer: TimerID?
    private var completion: ((CheckResult) -> Void)?
    let startedAt: Instant

    init(loop: Loop, server: Server, connectTimeout: Duration, answerTimeout: Duration?, wholeTimeout: Duration) {
        self.loop = loop
        self.server = server
        self.connectTimeout = connectTimeout
        self.answerTimeout = answerTimeout
        self.wholeTimeout = wholeTimeout
        startedAt = loop.now
        check = HealthCheck(rules: server.backend.section.settings.checkRules, kind: server.backend.section.settings.checkKind)
    }

    func begin(_ completion: @escaping (CheckResult) -> Void) {
        self.completion = completion
        perform(check.start())
    }

    /// Ends the run without a result.
    func abandon() {
        completion = nil
        letGo()
    }

    private func letGo() {
        if let timer { loop.cancel(timer) }
        timer = nil
        // What the last rule sends must leave; otherwise a check has nothing to lose, and a reset leaves no TIME-WAIT behind, of
        // which there would be one a second per server.
        if let connection {
            if connection.output.isEmpty { connection.close(reset: true) } else { connection.closeAfterFlush() }
        }
        connection = nil
    }

    private func perform(_ actions: [HealthCheck.Action]) {
        for action in actions {
            switch action {
            case .connect(let port): connect(port: port)
            case .send(let bytes): connection?.output.append(bytes)
            case .finish(let result):
                letGo()
                let last = completion
                completion = nil
                last?(result)
            }
        }
    }

    private func connect(port: UInt16?) {
        connection?.close(reset: true)
        let settings = server.settings
        var target = settings.checkAddress ?? server.address
        if let chosen = port ?? settings.checkPort { target = target.with(port: chosen) } else if target.port == 0 { target = target.with(port: server.address.port) }
        setTimer(after: connectTimeout)
        // The timer above is the time limit; the connection's own would only be a second one.
        let connection = loop.connect(to: target, from: settings.source, timeout: connectTimeout + .seconds(1), handler: self)
        connection.role = "health check"
        self.connection = connection
    }

    private func setTimer(after delay: Duration) {
        if let timer { loop.cancel(timer) }
        timer = loop.schedule(after: max(delay, .zero), label: "health check time-out") { [weak self] in
            guard let self else { return }
            perform(check.timedOut())
        }
    }

    func connectionOpened(_ connection: Connection) {
        guard connection === self.connection else { return }
        setTimer(after: answerTimeout ?? (startedAt + wholeTimeout) - loop.now)
        perform(check.connected())
    }

    func connectionReceived(_ connection: Connection) {
        guard connection === self.connection else { return }
        let actions = check.received(connection.input.bytes)
        connection.input.consume(connection.input.count)
        perform(actions)
    }

    func connectionReachedEnd(_ connection: Connection) {
        guard connection === self.connection else { return }
        perform(check.ended())
        connection.close()
    }

    func connectionClosed(_ connection: Connection, _ reason: CloseReason) {
        guard connection === self.connection else { return }
        self.connection = nil
        switch reason {
        case .connectFailed(let code), .receiveFailed(let code), .sendFailed(let code):
            perform(check.failed(SystemError("", code: code).reason))
        case .connectTimedOut: perform(check.timedOut())
        default: perform(check.ended())
        }
    }
}
