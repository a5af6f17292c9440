import Logging
import Reactor

/// The store as a role on a loop.
public final class StoreNode {
    let server: StoreServer
    private let loop: Loop

    /// - Parameter configuration: what the files and the command line say.
    public init(loop: Loop, configuration: StoreConfiguration, logger: Logger) {
        self.loop = loop
        server = StoreServer(loop: loop, configuration: configuration, logger: logger)
    }

    /// Binds the addresses and starts to serve.
    /// - Throws: `SystemError` naming the address that cannot be bound.
    public func start() throws(SystemError) {
        var options = ListenOptions()
        options.backlog = server.configuration.tcpBacklog
        _ = try server.listen(on: .loopback(port: server.configuration.port), options: options)
    }
}
