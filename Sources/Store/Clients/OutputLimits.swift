/// Output buffer limits by class of client (`client-output-buffer-limit`).
extension StoreServer {
    private func outputLimit(of client: Client) -> (hard: Int, soft: Int, seconds: Int) {
        configuration.outputLimits[client.replica != nil ? 1 : client.subscriptions != nil ? 2 : 0]
    }

    /// Tells the connection its hard limit: it closes by itself.
    func applyOutputLimit(_ client: Client) {
        let limit = outputLimit(of: client)
        client.connection.outputLimit = limit.hard > 0 ? limit.hard : .max
    }

    /// Closes clients that have had more waiting than the soft limit for longer than it allows. O(clients), ten times a second.
    func enforceSoftOutputLimits() {
        let now = loop.wallMilliseconds
        for client in clients.values where !client.connection.output.isEmpty || client.overSoftLimitSince != 0 || client.heldMessages != nil {
            let limit = outputLimit(of: client)
            guard limit.soft > 0, client.connection.output.count + (client.heldMessages?.bytes ?? 0) > limit.soft else {
                client.overSoftLimitSince = 0
                continue
            }
            if client.overSoftLimitSince == 0 { client.overSoftLimitSince = now }
            guard now - client.overSoftLimitSince > Int64(limit.seconds) * 1000 else { continue }
            logger.warning("Client \(describe(client)) closed for overcoming of output buffer limits.")
            client.connection.close()
        }
    }
}
