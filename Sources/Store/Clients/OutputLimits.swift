/// Output buffer limits by class of client (`client-output-buffer-limit`).
extension StoreServer {
    private func outputLimit(of client: Client) -> (hard: Int, soft: Int, seconds: Int) {
        guard client.replica != nil else { return configuration.outputLimits[client.subscriptions != nil ? 2 : 0] }
        var limit = configuration.outputLimits[1]
        // A partial resynchronisation may send the whole backlog at once, and its memory is there anyway.
        if limit.hard > 0 { limit.hard = max(limit.hard, configuration.backlogSize) }
        return limit
    }

    /// Tells the connection its hard limit: it closes by itself.
    func applyOutputLimit(_ client: Client) {
        let limit = outputLimit(of: client)
        client.connection.outputLimit = limit.hard > 0 ? limit.hard : .max
    }

    /// Closes clients that have had more waiting than the soft limit for longer than it allows. O(clients), ten times a second.
    func enforceSoftOutputLimits() {
        let now = loop.wallMilliseconds
        for client in clients.values where client.replica != nil || !client.connection.output.isEmpty || client.overSoftLimitSince != 0 || client.heldMessages != nil {
            let limit = outputLimit(of: client)
            guard limit.soft > 0, client.queuedOutput + (client.heldMessages?.bytes ?? 0) > limit.soft else {
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

extension Client {
    /// Bytes that wait to be sent to the client; of a replica also those that wait for its snapshot to be over.
    var queuedOutput: Int { connection.output.count + (replica == nil ? 0 : server.replication.lag(of: self)) }
}
