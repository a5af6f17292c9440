import Reactor

/// A frontend: where clients arrive.
final class Frontend: ListenerHandler {
    enum State { case open, paused, stopped }

    let section: ProxyConfiguration.Section
    unowned let node: ProxyNode
    /// nil for a frontend that is disabled by its file and so has nowhere to lead to.
    let backend: Backend?
    private var listeners: [Listener] = []
    private(set) var state = State.stopped
    var counters = Counters()
    var connectionsMax: Int
    /// Connections that were accepted by the kernel's hand while the frontend was full. They hold no session yet.
    private var held: [Connection] = []
    static let heldMax = 1024
    let logs: [ProxyConfiguration.LogTarget]

    init(_ section: ProxyConfiguration.Section, backend: Backend?, connectionsMax: Int, node: ProxyNode) {
        self.section = section
        self.backend = backend
        self.node = node
        self.connectionsMax = connectionsMax
        logs = node.logTargets(of: section)
    }

    var name: String { section.name }
    var id: Int { section.id }
    var isFull: Bool { counters.current >= connectionsMax || node.isFull }

    /// Where it listens, with the ports that the kernel chose.
    var addresses: [SocketAddress] { listeners.map(\.address) }

    /// - Throws: `SystemError` for the first address that cannot be bound; none is then bound.
    func listen() throws(SystemError) {
        guard state != .open else { return }
        for bind in section.binds {
            var options = ListenOptions()
            // The address may be the other host's at the moment (VRRP): it is bound now and works as soon as it comes.
            options.freeBind = true
            if let backlog = bind.backlog ?? section.settings.backlog { options.backlog = Int32(backlog) }
            options.unixMode = bind.mode
            options.unixUser = bind.user
            options.unixGroup = bind.group
            do throws(SystemError) {
                listeners.append(try node.loop.listen(on: bind.address, options: options, handler: self))
            } catch {
                closeListeners()
                throw error
            }
        }
        state = .open
    }

    /// Stops accepting. What is served goes on.
    func close(_ final: State) {
        closeListeners()
        for connection in held { connection.close() }
        held.removeAll()
        state = final
    }

    private func closeListeners() {
        for listener in listeners { listener.close() }
        listeners.removeAll()
    }

    func listener(_ listener: Listener, accepted connection: Connection) {
        guard let backend else { return }
        connection.role = "proxied client"
        connection.setNoDelay(true)
        guard !isFull else {
            hold(connection)
            return
        }
        Session(frontend: self, backend: backend, client: connection).begin()
    }

    /// A full frontend leaves further clients waiting, up to a bound.
    private func hold(_ connection: Connection) {
        guard held.count < Frontend.heldMax else { return }
        connection.pauseReading()
        connection.handler = HeldConnection()
        held.append(connection)
    }

    /// Room has come free.
    func admitHeld() {
        while !isFull, let backend, !held.isEmpty {
            let connection = held.removeFirst()
            guard connection.isOpen else { continue }
            Session(frontend: self, backend: backend, client: connection).begin()
        }
    }
}

/// Nothing is done with a connection that waits for its frontend to have room.
private final class HeldConnection: ConnectionHandler {
    func connectionReceived(_ connection: Connection) {}
    func connectionClosed(_ connection: Connection, _ reason: CloseReason) {}
}
