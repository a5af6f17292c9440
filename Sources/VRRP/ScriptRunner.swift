import Glibc
import Logging
import Reactor

/// Starts programs as a configured user, with an upper limit to their time.
struct ProgramStarter {
    let loop: Loop

    /// After the polite signal a program has this long before it is killed.
    private static let grace = Duration.seconds(2)

    /// Starts a program; `completion` is called exactly once, never from within this call.
    func start(_ command: ScriptCommand, extra: [String] = [], timeout: Duration?, completion: @escaping (TrackedScript.Outcome) -> Void) -> RunningProgram {
        let program = RunningProgram(loop: loop)
        let path = command.arguments[0]
        guard let resolved = ProgramStarter.find(path) else {
            loop.deferWork(label: "script") { completion(.notRun("cannot run '\(path)': \(String(cString: strerror(ENOENT)))")) }
            return program
        }
        // Changing to the user that we are is refused to those who are not root, and needless.
        let user = command.user.flatMap { $0.uid == geteuid() && $0.gid == getegid() ? nil : (uid: $0.uid, gid: $0.gid) }
        do throws(SystemError) {
            let child = try loop.spawn([resolved] + command.arguments.dropFirst() + extra, user: user) { status in
                program.ended()
                switch status {
                case _ where program.isOverdue: completion(.timedOut)
                case .exited(127): completion(.notRun("cannot run '\(resolved)'"))
                case .exited(let status): completion(.exited(status))
                case .signalled(let signal): completion(.signalled(signal))
                }
            }
            program.began(child)
        } catch {
            let reason = "\(error)"
            loop.deferWork(label: "script") { completion(.notRun(reason)) }
            return program
        }
        if let timeout { program.limit(to: timeout, grace: ProgramStarter.grace) }
        return program
    }

    /// The file that a name without folders means, as a shell finds it.
    static func find(_ program: String) -> String? {
        if program.contains("/") { return access(program, X_OK) == 0 ? program : nil }
        let folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        return folders.map { "\($0)/\(program)" }.first { access($0, X_OK) == 0 }
    }
}

/// A program that was started, until it has ended.
final class RunningProgram {
    private let loop: Loop
    private var child: Int32?
    private var timer: TimerID?
    private(set) var isOverdue = false

    init(loop: Loop) { self.loop = loop }

    fileprivate func began(_ child: Int32) { self.child = child }

    fileprivate func ended() {
        child = nil
        if let timer { loop.cancel(timer) }
    }

    fileprivate func limit(to timeout: Duration, grace: Duration) {
        timer = loop.schedule(after: timeout, label: "script time-out") { [weak self, loop] in
            guard let self, let child else { return }
            isOverdue = true
            loop.sendSignal(SIGTERM, toChild: child)
            timer = loop.schedule(after: grace, label: "script time-out") { [weak self] in
                if let child = self?.child { loop.sendSignal(SIGKILL, toChild: child) }
            }
        }
    }

    func terminate() {
        if let child { loop.sendSignal(SIGTERM, toChild: child) }
    }
}

/// Runs one `vrrp_script` in its rhythm and reports changes of its verdict.
final class ScriptRunner {
    let configuration: ScriptConfiguration
    private(set) var script: TrackedScript
    private let loop: Loop
    private let logger: Logger
    private let onChange: (ScriptRunner) -> Void
    private var rhythm: TimerID?
    private var running: RunningProgram?
    private var lastStatus: Int32 = 0
    private var isStopped = false

    init(loop: Loop, configuration: ScriptConfiguration, logger: Logger, onChange: @escaping (ScriptRunner) -> Void) {
        self.loop = loop
        self.configuration = configuration
        self.logger = logger
        self.onChange = onChange
        script = TrackedScript(
            name: configuration.name, rise: configuration.rise, fall: configuration.fall, startsDown: configuration.startsDown)
    }

    private var timeout: Duration { configuration.timeout ?? configuration.interval }

    func start() {
        run()
        rhythm = loop.scheduleRepeating(every: configuration.interval, label: "vrrp_script") { [weak self] in self?.run() }
    }

    func stop() {
        isStopped = true
        if let rhythm { loop.cancel(rhythm) }
        running?.terminate()
    }

    private func run() {
        // The one before, or a remedy, is still at work: this turn is left out.
        guard running == nil else { return }
        running = ProgramStarter(loop: loop).start(configuration.check, timeout: timeout) { [weak self] in self?.finished($0) }
    }

    private func finished(_ outcome: TrackedScript.Outcome) {
        running = nil
        guard !isStopped else { return }
        if case .exited(let status) = outcome, status != lastStatus {
            lastStatus = status
            logger.info("Script `\(configuration.name)` now returning \(status)")
        }
        if let change = script.finished(outcome) {
            if change.state == .down { logger.warning("\(change.message)") } else { logger.info("\(change.message)") }
            onChange(self)
        }
        if !outcome.isSuccess { remedy(0) }
    }

    private func remedy(_ index: Int) {
        guard !isStopped, index < configuration.remedies.count else { return }
        let command = configuration.remedies[index]
        logger.info("VRRP_Script(\(configuration.name)) failed, running '\(command.arguments.joined(separator: " "))'")
        running = ProgramStarter(loop: loop).start(command, timeout: timeout) { [weak self] outcome in
            guard let self else { return }
            running = nil
            if !outcome.isSuccess { logger.info("'\(command.arguments.joined(separator: " "))': \(outcome.description)") }
            remedy(index + 1)
        }
    }
}
