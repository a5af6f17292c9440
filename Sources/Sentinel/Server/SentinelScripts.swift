import Glibc
import Logging
import RESP
import Reactor

/// Runs notification and reconfiguration scripts, a bounded number at a time.
///
/// A script that ends with 1, or by a signal, is run again later, up to ten times; any other code ends it. One that runs
/// longer than a minute is killed. So Redis Sentinel does.
final class SentinelScripts {
    private struct Job {
        let arguments: [String]
        var attempts = 0
    }

    static let runningMax = 16
    static let queueMax = 256
    static let attemptsMax = 10
    static let timeMax = Duration.seconds(60)
    static let firstRetry = Duration.seconds(30)

    private let loop: Loop
    private let logger: Logger
    private var waiting: [Job] = []
    private var runningJobs: [Int32: (job: Job, since: Instant, limit: TimerID)] = [:]
    private var retries: Set<TimerID> = []
    private var isStopped = false

    init(loop: Loop, logger: Logger) {
        self.loop = loop
        self.logger = logger
    }

    var running: Int { runningJobs.count }
    var queued: Int { waiting.count + retries.count }

    func run(_ script: String, _ arguments: [String]) {
        guard waiting.count < SentinelScripts.queueMax else {
            logger.warning("more than \(SentinelScripts.queueMax) scripts wait: \(script) \(arguments.first ?? "") is not run")
            return
        }
        waiting.append(Job(arguments: [script] + arguments))
        startWaiting()
    }

    /// Starts nothing more and forgets what waits; what runs is left to end.
    func stop() {
        isStopped = true
        waiting.removeAll()
        for timer in retries { loop.cancel(timer) }
        retries.removeAll()
    }

    private func startWaiting() {
        while !isStopped, runningJobs.count < SentinelScripts.runningMax, !waiting.isEmpty { start(waiting.removeFirst()) }
    }

    private func start(_ started: Job) {
        var job = started
        job.attempts += 1
        var child: Int32 = 0
        do throws(SystemError) {
            child = try loop.spawn(job.arguments) { [weak self] status in self?.ended(child, status) }
        } catch {
            logger.warning("-script-error \(job.arguments[0]): \(error)")
            return
        }
        let limit = loop.schedule(after: SentinelScripts.timeMax, label: "sentinel script") { [weak self] in
            guard let self else { return }
            logger.warning("-script-timeout \(job.arguments[0]) \(child)")
            loop.sendSignal(SIGKILL, toChild: child)
        }
        runningJobs[child] = (job, loop.now, limit)
    }

    private func ended(_ child: Int32, _ status: ChildStatus) {
        guard let (job, _, limit) = runningJobs.removeValue(forKey: child) else { return }
        loop.cancel(limit)
        switch status {
        case .exited(0): break
        case .exited(1), .signalled: retry(job)
        case .exited(let code): logger.warning("-script-error \(job.arguments[0]) ended with code \(code)")
        }
        startWaiting()
    }

    private func retry(_ job: Job) {
        guard !isStopped, job.attempts < SentinelScripts.attemptsMax else {
            logger.warning("-script-error \(job.arguments[0]) failed \(job.attempts) times and is given up")
            return
        }
        var timer: TimerID!
        timer = loop.schedule(after: SentinelScripts.firstRetry * (1 << (job.attempts - 1)), label: "sentinel script") { [weak self] in
            guard let self else { return }
            retries.remove(timer)
            waiting.append(job)
            startWaiting()
        }
        retries.insert(timer)
    }

    /// SENTINEL PENDING-SCRIPTS.
    var report: Reply {
        let running = runningJobs.map { child, entry in
            row(entry.job, [.text("status"), .text("running"), .text("pid"), .text("\(child)"), .text("run-time"), .text("\((loop.now - entry.since).wholeMilliseconds)")])
        }
        return .array(running + waiting.map { row($0, [.text("status"), .text("scheduled"), .text("pid"), .text("0"), .text("run-delay"), .text("0")]) })
    }

    private func row(_ job: Job, _ state: [Reply]) -> Reply {
        .map([.text("argv"), .texts(job.arguments)] + state + [.text("retry-num"), .text("\(job.attempts)")])
    }
}
