import Reactor

// Greetings: how Sentinels find each other, and how a new master becomes known.
extension SentinelMachine {
    /// Takes in a hello message, wherever it came from.
    /// - Returns: why it was refused; nil when it was read.
    @discardableResult
    public func heard(_ text: String, at now: Instant) -> String? {
        enter(now)
        let refusal = receiveHello(text)
        for group in groups where group.nextWake <= now { pass(group) }
        return refusal
    }

    func receiveHello(_ text: String) -> String? {
        let hello: HelloMessage
        do {
            hello = try HelloMessage(text)
        } catch {
            return error.description
        }
        guard hello.runID != myID, let group = groups.first(where: { $0.name == hello.masterName }) else { return nil }
        let known = group.sentinels.first { $0.runID == hello.runID && $0.endpoint == hello.endpoint }
        let sentinel = known ?? discover(hello, in: group)
        noteEpoch(hello.currentEpoch)
        if let sentinel {
            sentinel.lastHelloReceived = now
            noteWitness(hello, in: group)
            if group.settings.configEpoch < hello.configEpoch { adopt(hello, from: sentinel, in: group) }
        }
        return nil
    }

    func noteEpoch(_ epoch: UInt64) {
        guard epoch > currentEpoch else { return }
        currentEpoch = epoch
        persist()
        event(.warning, "+new-epoch", nil, "\(currentEpoch)")
    }

    /// A Sentinel that we did not know, or that has moved.
    private func discover(_ hello: HelloMessage, in group: MasterGroup) -> Instance? {
        let hasMoved = group.sentinels.contains { $0.runID == hello.runID }
        if hasMoved {
            event(.notice, "+sentinel-address-switch", group.master, "%@ ip \(hello.endpoint.host) port \(hello.endpoint.port) for \(hello.runID)")
            // Its link may serve other masters too: wherever it is known it has moved.
            for other in groups {
                guard let index = other.sentinels.firstIndex(where: { $0.runID == hello.runID }) else { continue }
                release(other.sentinels.remove(at: index))
                if other !== group {
                    addSentinel(hello.endpoint, runID: hello.runID, to: other)
                    other.nextWake = now
                }
            }
        } else if let index = group.sentinels.firstIndex(where: { $0.endpoint == hello.endpoint }) {
            // One process at this address, under a new id: the old one does not exist any more and must not count as a voter.
            event(.notice, "+sentinel-invalid-addr", group.sentinels[index], "%@")
            release(group.sentinels.remove(at: index))
        }
        guard let sentinel = addSentinel(hello.endpoint, runID: hello.runID, to: group) else { return nil }
        if !hasMoved { event(.notice, "+sentinel", sentinel, "%@") }
        persist()
        group.nextWake = now
        return sentinel
    }

    /// Somebody has a newer configuration: it is ours now.
    private func adopt(_ hello: HelloMessage, from sentinel: Instance, in group: MasterGroup) {
        group.settings.configEpoch = hello.configEpoch
        let old = group.currentEndpoint
        guard hello.master != group.master.endpoint else {
            // The address is the one that we have; a failover of our own to another one is overruled.
            if group.state != .none { abortFailover(group) }
            persist()
            return
        }
        event(.warning, "+config-update-from", sentinel, "%@")
        event(
            .warning, "+switch-master", group.master,
            "\(group.name) \(group.master.endpoint.host) \(group.master.endpoint.port) \(hello.master.host) \(hello.master.port)")
        runReconfigurationScript(group, role: "observer", from: old, to: hello.master)
        resetToNewAddress(group, hello.master)
    }

    /// Counts who agrees with us since a replica came back as a master.
    private func noteWitness(_ hello: HelloMessage, in group: MasterGroup) {
        for replica in group.replicas {
            guard var evidence = replica.returnedAsMaster else { continue }
            guard hello.currentEpoch == evidence.epoch, hello.configEpoch == group.settings.configEpoch, hello.master == group.master.endpoint
            else {
                replica.returnedAsMaster = nil
                continue
            }
            evidence.witnesses.insert(hello.runID)
            replica.returnedAsMaster = evidence
            if !isTilted { convertIfDue(replica) }
        }
    }
}
