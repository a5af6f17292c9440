import Reactor

/// Finds out when a master can be reached again: attempt after attempt at a connection that carries nothing, until one succeeds.
final class MasterProbe: ConnectionHandler {
    private let loop: Loop
    private let address: SocketAddress
    private let source: SocketAddress?
    /// Milliseconds that an attempt may take.
    private let timeout: Int64
    private let reached: () -> Void
    private var connection: Connection?
    private var retry: TimerID?

    /// The pause after an attempt that took its time, and the least time from one that failed at once to the next, in milliseconds.
    private static let pause: Int64 = 5
    private static let rhythm: Int64 = 40

    init(loop: Loop, address: SocketAddress, source: SocketAddress?, timeout: Int64, reached: @escaping () -> Void) {
        self.loop = loop
        self.address = address
        self.source = source
        self.timeout = timeout
        self.reached = reached
        attempt()
    }

    private var began: Int64 = 0

    private func attempt() {
        began = loop.now.milliseconds
        let connection = loop.connect(to: address, from: source, timeout: .milliseconds(timeout), handler: self)
        connection.role = "probe of the way to the master"
        self.connection = connection
    }

    /// Says so, once.
    func connectionOpened(_ connection: Connection) {
        self.connection = nil
        connection.close()
        reached()
    }

    func connectionReceived(_ connection: Connection) {}
    func connectionReachedEnd(_ connection: Connection) { connection.close() }

    func connectionClosed(_ connection: Connection, _ reason: CloseReason) {
        guard self.connection === connection else { return }
        self.connection = nil
        let delay = max(MasterProbe.pause, MasterProbe.rhythm - (loop.now.milliseconds - began))
        retry = loop.schedule(after: .milliseconds(delay), label: "probe of the way to the master") { [weak self] in
            self?.retry = nil
            self?.attempt()
        }
    }

    func end() {
        if let retry { loop.cancel(retry) }
        retry = nil
        let last = connection
        connection = nil
        last?.close()
    }
}
