import RESP

/// WAIT and WAITAOF: clients that want to know how far their writes have come.
extension Replication {
    func acknowledged(_ offset: Int64) -> Int {
        replicas.count { $0.replica!.isCounted && $0.replica!.acknowledgedOffset >= offset }
    }

    func wait(_ call: borrowing Call) {
        if isReplica {
            return call.reply.error("ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is configured to be writable (which is not the default) writes to replicas are just local and are not propagated.")
        }
        guard let count = call.integer(1) else { return }
        guard let timeout = call[2].integer else { return call.reply.error("ERR timeout is not an integer or out of range") }
        guard timeout >= 0 else { return call.reply.error("ERR timeout is negative") }
        let offset = call.client.lastWriteOffset
        let have = acknowledged(offset)
        if have >= count || server.executionDepth > 0 { return call.reply.integer(have) }
        let state = BlockedState(.replicas(offset: offset, count: Int(count))) { [unowned self] client in
            client.reply.integer(acknowledged(offset))
        }
        server.block(call.client, state, timeout: timeout)
        wantsAcknowledgements = true
    }

    /// Answers those whose writes have reached enough replicas.
    func serveWaiting() {
        guard server.blocking.count > 0 else { return }
        for client in server.clients.values {
            switch client.blocked?.reason {
            case .replicas(let offset, let count):
                let have = acknowledged(offset)
                guard have >= count else { continue }
                server.unblock(client)
                client.reply.integer(have)
            case .disks(let offset, let local, let count):
                let (here, there) = onDisk(offset)
                guard here >= local, there >= count else { continue }
                server.unblock(client)
                replyOnDisk(client, offset)
            default:
                continue
            }
            server.goOn(client)
        }
    }

    // MARK: WAITAOF

    /// Whether our append-only file has this offset on the disk (0 or 1), and how many replicas' have.
    private func onDisk(_ offset: Int64) -> (here: Int, there: Int) {
        let there = replicas.count { $0.replica!.isCounted && $0.replica!.syncedOffset >= offset && $0.replica!.syncedOffset > 0 }
        return (server.appendOnlyFile.syncedOffset.map { $0 >= offset ? 1 : 0 } ?? 0, there)
    }

    private func replyOnDisk(_ client: Client, _ offset: Int64) {
        let (here, there) = onDisk(offset)
        client.reply.array(2)
        client.reply.integer(here)
        client.reply.integer(there)
    }

    func waitForDisks(_ call: borrowing Call) {
        guard let local = call.integer(1) else { return }
        guard local >= 0, local <= 1 else { return call.reply.error("ERR value is out of range, must be between 0 and 1") }
        guard let count = call.integer(2) else { return }
        guard count >= 0 else { return call.reply.error("ERR value is out of range, must be positive") }
        guard let timeout = call[3].integer else { return call.reply.error("ERR timeout is not an integer or out of range") }
        guard timeout >= 0 else { return call.reply.error("ERR timeout is negative") }
        if isReplica {
            return call.reply.error("ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just local and are not propagated.")
        }
        if local > 0, !server.configuration.appendsOnly {
            return call.reply.error("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.")
        }
        let offset = call.client.lastWriteOffset
        let (here, there) = onDisk(offset)
        if here >= local && there >= count || server.executionDepth > 0 { return replyOnDisk(call.client, offset) }
        let state = BlockedState(.disks(offset: offset, local: Int(local), count: Int(count))) { [unowned self] client in
            replyOnDisk(client, offset)
        }
        server.block(call.client, state, timeout: timeout)
        wantsAcknowledgements = true
    }
}
