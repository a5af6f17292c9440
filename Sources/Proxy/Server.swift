import Reactor

/// One server of a backend: what it is used for, what its checks say, what it has done.
final class Server {
    /// What an administrator has decreed.
    enum Administration { case ready, drain, maintenance }

    let name: String
    let id: Int
    unowned let backend: Backend
    let settings: ProxyConfiguration.ServerSettings
    var address: SocketAddress
    var administration = Administration.ready
    /// In maintenance because the file says `disabled`, and nobody has said otherwise since.
    var isDisabledByFile = false
    /// Current and configured weight.
    var weight: Int
    var connectionsMax: Int?

    var health: ServerHealth
    var lastResult: CheckResult?
    var lastResultDuration: Duration = .zero
    var checksFailed = 0
    var timesDown = 0
    /// When it last went up or down.
    var lastChange: Instant
    private var downSince: Instant?
    private var downtimeBefore: Duration = .zero
    var checker: ServerChecker?
    /// `disable health` suspends the checks.
    var isCheckSuspended = false

    var counters = Counters()
    /// The balancer's: smooth weighted round robin.
    var turn = 0

    init(_ configured: ProxyConfiguration.Server, backend: Backend, now: Instant) {
        name = configured.name
        id = configured.id
        self.backend = backend
        settings = configured.settings
        address = configured.address
        weight = configured.settings.weight
        connectionsMax = configured.settings.connectionsMax
        health = ServerHealth(rise: configured.settings.rise, fall: configured.settings.fall)
        lastChange = now
        if configured.settings.isDisabled {
            administration = .maintenance
            isDisabledByFile = true
            health.set(up: false)
        }
    }

    var path: String { "\(backend.name)/\(name)" }
    var isChecked: Bool { settings.isChecked }
    /// Up as far as its checks and the administrator's will go.
    var isRunning: Bool { administration != .maintenance && health.isUp }
    /// May be given new sessions.
    var isUsable: Bool { isRunning && administration == .ready && weight > 0 }
    var hasRoom: Bool { connectionsMax.map { counters.current < $0 } ?? true }
    /// In service, and its last check (if there has been one) was good.
    var isPassing: Bool { isUsable && (!isChecked || lastResult?.status.isPass ?? true) }

    /// Time spent down until `now`.
    func downtime(at now: Instant) -> Duration { downtimeBefore + (downSince.map { now - $0 } ?? .zero) }

    func noteChange(isUp: Bool, at now: Instant) {
        lastChange = now
        if isUp {
            if let since = downSince { downtimeBefore += now - since }
            downSince = nil
        } else if downSince == nil {
            downSince = now
        }
    }
}
