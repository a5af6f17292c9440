import Logging

/// `maxmemory-clients`: when all clients together take more than that, those that take most are disconnected.
///
/// What a client takes is looked at when it has been served, and of all of them ten times a second, for output grows without requests too.
struct ClientEviction {
    /// The sum of what all clients take, as far as it has been looked at.
    var total = 0
}

extension StoreServer {
    /// Bytes that clients may take together; nil for no limit.
    private var clientMemoryLimit: Int? {
        let limit = configuration.clientMemoryMax
        if limit >= 0 { return limit == 0 ? nil : limit }
        return configuration.maxMemory == 0 ? nil : configuration.maxMemory / 100 * -limit
    }

    var limitsClientMemory: Bool { configuration.clientMemoryMax != 0 }

    /// Whether a client counts and may be disconnected: replicas and masters do not.
    private func isEvictable(_ client: Client) -> Bool { client.replica == nil && !client.isMaster && !client.isNoEvict }

    /// Looks at one client that has just been served.
    func countMemory(_ client: Client) {
        let now = client.replica == nil && !client.isMaster ? client.memory : 0
        clientEviction.total += now - client.countedMemory
        client.countedMemory = now
    }

    /// Looks at all clients. O(clients).
    func countClientMemory() {
        guard limitsClientMemory else { return }
        clientEviction.total = 0
        for client in clients.values {
            client.countedMemory = 0
            countMemory(client)
        }
        evictClients()
    }

    /// Disconnects clients until the others are within the limit. O(clients log clients) when there is anything to do.
    func evictClients() {
        guard let limit = clientMemoryLimit, clientEviction.total > limit else { return }
        let largestFirst = clients.values.filter { isEvictable($0) && $0.connection.isOpen }.sorted { $0.countedMemory > $1.countedMemory }
        for client in largestFirst {
            guard clientEviction.total > limit else { return }
            logger.notice("Evicting client: \(describe(client))")
            statistics.evictedClients += 1
            clientEviction.total -= client.countedMemory
            client.countedMemory = 0
            client.connection.close()
        }
    }
}

extension Client {
    /// Bytes that the session takes: buffers, what is being received, what is queued and watched.
    var memory: Int {
        var bytes = 1024 + connection.bufferBytes + parser.pointee.pendingBytes + name.count
        if let transaction { bytes += transaction.bytes }
        if let watched { bytes += watched.keys.reduce(0) { $0 + $1.key.count + 48 } }
        if let barriers { bytes += barriers.pointee.memory }
        if let heldMessages { bytes += heldMessages.bytes }
        if let subscriptions { bytes += (subscriptions.channels.count + subscriptions.patterns.count + subscriptions.shardChannels.count) * 64 }
        return bytes
    }
}
