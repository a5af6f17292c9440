import Logging
import Reactor
import RESP

/// FAILOVER: this master and a replica change places without losing a write.
struct Failover {
    enum State: String {
        case none = "no-failover"
        /// Writes wait until the target has all there is.
        case waiting = "waiting-for-sync"
        /// We follow the target and ask it to take over.
        case inProgress = "failover-in-progress"
    }
    var state = State.none
    /// The replica that is to take over; nil for whichever has everything first.
    var target: (host: String, port: UInt16)?
    /// Milliseconds of the monotonic clock; 0 for no end.
    var deadline: Int64 = 0
    /// When the time is over the target takes over although it lacks something.
    var isForced = false
}

extension Replication {
    var isFailingOver: Bool { failover.state != .none }

    func failOver(_ call: borrowing Call) {
        var request = Failover()
        var timeout: Int64 = 0
        var isAbort = false
        var i = 1
        while i < call.count {
            if call[i].isWord("timeout"), i + 1 < call.count, timeout == 0 {
                guard let value = call[i + 1].integer else { return call.notAnInteger() }
                guard value > 0 else { return call.reply.error("ERR FAILOVER timeout must be greater than 0") }
                timeout = value
                i += 2
            } else if call[i].isWord("abort"), !isAbort {
                isAbort = true
                i += 1
            } else if call[i].isWord("to"), i + 2 < call.count, request.target == nil {
                guard let port = call[i + 2].integer else { return call.notAnInteger() }
                // No replica is at port 0.
                request.target = (call[i + 1].text, UInt16(exactly: port) ?? 0)
                i += 3
            } else if call[i].isWord("force"), !request.isForced {
                request.isForced = true
                i += 1
            } else {
                return call.syntaxError()
            }
        }
        if isAbort {
            guard call.count == 2 else { return call.syntaxError() }
            guard isFailingOver else { return call.reply.error("ERR No failover in progress.") }
            abortFailover("Failover manually aborted")
            return call.reply.ok()
        }
        if let refusal = refusal(of: request, timeout: timeout) { return call.reply.error("ERR \(refusal)") }
        begin(request, timeout: timeout)
        call.reply.ok()
        continueFailover()
    }

    private func refusal(of request: Failover, timeout: Int64) -> String? {
        if isFailingOver { return "FAILOVER already in progress." }
        if isReplica { return "FAILOVER is not valid when server is a replica." }
        if replicas.isEmpty { return "FAILOVER requires connected replicas." }
        if request.isForced, timeout == 0 || request.target == nil {
            return "FAILOVER with force option requires both a timeout and target HOST and IP."
        }
        if let target = request.target {
            guard let replica = replica(at: target) else { return "FAILOVER target HOST and PORT is not a replica." }
            guard replica.replica!.phase == .online || replica.replica!.phase == .settling else { return "FAILOVER target replica is not online." }
        }
        return nil
    }

    private func begin(_ request: Failover, timeout: Int64) {
        failover = request
        failover.state = .waiting
        failover.deadline = timeout > 0 ? server.loop.now.milliseconds + timeout : 0
        server.gate.insert(.paused)
        server.logger.notice("FAILOVER requested\(request.target.map { " to \($0.host):\($0.port)" } ?? "").")
    }

    private func replica(at place: (host: String, port: UInt16)) -> Client? {
        replicas.first { address(of: $0).host == place.host && address(of: $0).port == place.port }
    }

    /// Where a replica can be reached.
    func address(of client: Client) -> (host: String, port: UInt16) {
        (client.replica!.announcedIP ?? client.connection.peer.host, client.replica!.listeningPort)
    }

    /// Goes on when the target has everything, or when the time is over. To be called when either may be so.
    func continueFailover() {
        guard failover.state == .waiting else { return }
        if failover.deadline > 0, server.loop.now.milliseconds >= failover.deadline {
            if failover.isForced, let target = failover.target {
                server.logger.notice("Failover to \(target.host):\(target.port) time out exceeded, failing over.")
                return handOver(to: target)
            }
            return abortFailover("Replica never caught up before timeout")
        }
        let ready = replicas.first { client in
            let replica = client.replica!
            guard replica.phase == .online, client.connection.isOpen, replica.acknowledgedOffset == stream.end else { return false }
            guard let target = failover.target else { return true }
            return address(of: client).host == target.host && address(of: client).port == target.port
        }
        guard let ready else { return }
        server.logger.notice("Failover target is synced, failing over.")
        handOver(to: address(of: ready))
    }

    private func handOver(to target: (host: String, port: UInt16)) {
        failover.target = target
        failover.state = .inProgress
        follow(host: target.host, port: target.port)
    }

    /// The target has answered our PSYNC: it is the master now.
    func failoverAccepted() {
        guard failover.state == .inProgress else { return }
        clearFailover()
    }

    func abortFailover(_ reason: String) {
        guard isFailingOver else { return }
        let target = failover.target.map { " to \($0.host):\($0.port)" } ?? ""
        server.logger.notice("Aborting failover\(target) while \(failover.state == .waiting ? "waiting for target replica to catch up" : "failover is in progress"): \(reason)")
        let wasInProgress = failover.state == .inProgress
        failover = Failover()
        if wasInProgress { promote() }
        clearFailover()
    }

    private func clearFailover() {
        failover = Failover()
        // Whoever waited is told what it is now: done, or READONLY.
        server.unpauseIfOver()
    }

    /// A master that steps down asks us to take over (PSYNC ... FAILOVER).
    /// - Returns: whether we are a master now; otherwise the request has been answered.
    func takeOver(_ call: borrowing Call) -> Bool {
        server.logger.warning("Failover request received for replid \(call[1].text).")
        guard isReplica else {
            call.reply.error("ERR PSYNC FAILOVER can't be sent to a master.")
            return false
        }
        guard call[1].text.lowercased() == replicationID else {
            call.reply.error("ERR PSYNC FAILOVER replid must match my replid.")
            return false
        }
        promote()
        server.logger.notice("MASTER MODE enabled (failover request from 'id=\(call.client.id) addr=\(call.client.connection.peer)')")
        return true
    }
}
