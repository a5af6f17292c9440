import Reactor

// What the elected leader does.
extension SentinelMachine {
    func changeState(_ group: MasterGroup, _ state: MasterGroup.FailoverState) {
        group.state = state
        group.stateChanged = now
    }

    /// Goes as far as is possible in this moment.
    func advanceFailover(_ group: MasterGroup) {
        var before: MasterGroup.FailoverState
        repeat {
            before = group.state
            switch group.state {
            case .none: break
            case .waitStart: advanceElection(group)
            case .selectReplica: selectReplica(group)
            case .sendSlaveofNoOne: promote(group)
            case .waitPromotion: waitForPromotion(group)
            case .reconfigureReplicas: reconfigureReplicas(group)
            case .updateConfiguration: switchToPromoted(group)
            }
        } while group.state != before && group.state != .none
    }

    func abortFailover(_ group: MasterGroup) {
        group.master.flags.subtract([.failoverInProgress, .forcedFailover])
        changeState(group, .none)
        group.promoted?.flags.remove(.promoted)
        group.promoted = nil
        for replica in group.replicas {
            replica.flags.subtract([.reconfigurationSent, .reconfigurationInProgress, .reconfigurationDone])
        }
    }

    // MARK: choosing

    private func selectReplica(_ group: MasterGroup) {
        if waitsForInfo(group) { return }
        guard let replica = bestReplica(group) else {
            event(.warning, "-failover-abort-no-good-slave", group.master, "%@")
            abortFailover(group)
            return
        }
        event(.warning, "+selected-slave", replica, "%@")
        replica.flags.insert(.promoted)
        group.promoted = replica
        changeState(group, .sendSlaveofNoOne)
        event(.notice, "+failover-state-send-slaveof-noone", replica, "%@")
    }

    /// The choice is made by offsets from after the master's end. They were asked for then; a replica that is slow to
    /// answer is waited for, 100 ms at most.
    private func waitsForInfo(_ group: MasterGroup) -> Bool {
        let limit = group.stateChanged + .milliseconds(100)
        guard now < limit else { return false }
        let since = group.master.isDown ? group.master.downSince ?? now : group.failoverStarted
        var waits = false
        for replica in group.replicas where replica.isUsable && (replica.infoRefreshed ?? .zero) < since {
            if replica.infoAsked == nil { askInfo(replica) }
            waits = true
        }
        if waits { wake(group, at: limit) }
        return waits
    }

    /// By priority, then by what it has of the data, then by id. Those that are down, silent, or cut off from the master for
    /// too long are left out, and those whose priority is 0.
    func bestReplica(_ group: MasterGroup) -> Instance? {
        let master = group.master!
        let downFor = master.isDown ? now - (master.downSince ?? now) : .zero
        let linkDownMax = downFor + group.downAfter * 10
        let infoValid = master.isDown ? Duration.milliseconds(5000) : Period.info * 3
        let candidates = group.replicas.filter { replica in
            guard replica.isUsable, !replica.flags.contains(.objectivelyDown), replica.priority != 0,
                let refreshed = replica.infoRefreshed
            else { return false }
            return now - replica.link.lastAvailable <= .milliseconds(5000) && now - refreshed <= infoValid
                && .milliseconds(replica.masterLinkDown) <= linkDownMax
        }
        return candidates.min { a, b in
            if a.priority != b.priority { return a.priority < b.priority }
            if a.replicationOffset != b.replicationOffset { return a.replicationOffset > b.replicationOffset }
            return (a.runID ?? "~") < (b.runID ?? "~")
        }
    }

    // MARK: promoting

    private func promote(_ group: MasterGroup) {
        guard let replica = group.promoted else { return abortFailover(group) }
        guard replica.link.isConnected else {
            abortIfTooLate(group)
            return
        }
        sendSlaveof(replica, nil)
        event(.notice, "+failover-state-wait-promotion", replica, "%@")
        changeState(group, .waitPromotion)
    }

    private func waitForPromotion(_ group: MasterGroup) { abortIfTooLate(group) }

    private func abortIfTooLate(_ group: MasterGroup) {
        let deadline = group.stateChanged + group.failoverTimeout
        guard now >= deadline else {
            wake(group, at: deadline)
            return
        }
        event(.warning, "-failover-abort-slave-timeout", group.master, "%@")
        abortFailover(group)
    }

    /// INFO says that the replica is a master now: from here on it is the master.
    func promotionSucceeded(_ group: MasterGroup, _ replica: Instance) {
        group.settings.configEpoch = group.failoverEpoch
        changeState(group, .reconfigureReplicas)
        persist()
        event(.warning, "+promoted-slave", replica, "%@")
        event(.warning, "+failover-state-reconf-slaves", group.master, "%@")
        runReconfigurationScript(group, role: "leader", from: group.master.endpoint, to: replica.endpoint)
        sendHelloToAll(group)
    }

    // MARK: the other replicas

    private func reconfigureReplicas(_ group: MasterGroup) {
        guard let promoted = group.promoted else { return abortFailover(group) }
        var underWay = group.replicas.count { !$0.flags.isDisjoint(with: [.reconfigurationSent, .reconfigurationInProgress]) }
        for replica in group.replicas where replica.flags.isDisjoint(with: [.promoted, .reconfigurationDone]) {
            if replica.flags.contains(.reconfigurationSent), let sent = replica.reconfigurationSentAt {
                if now - sent > Period.reconfigurationTimeout {
                    event(.notice, "-slave-reconf-sent-timeout", replica, "%@")
                    replica.flags.remove(.reconfigurationSent)
                    replica.flags.insert(.reconfigurationDone)
                    underWay -= 1
                } else {
                    wake(group, at: sent + Period.reconfigurationTimeout)
                }
                continue
            }
            guard underWay < group.settings.parallelSyncs, replica.link.isConnected,
                !replica.flags.contains(.reconfigurationInProgress)
            else { continue }
            pointToPromoted(replica, promoted, event: "+slave-reconf-sent")
            underWay += 1
        }
        finishIfReconfigured(group, promoted)
    }

    private func pointToPromoted(_ replica: Instance, _ promoted: Instance, event type: String) {
        replica.flags.insert(.reconfigurationSent)
        replica.reconfigurationSentAt = now
        sendSlaveof(replica, promoted.endpoint)
        event(.notice, type, replica, "%@")
    }

    /// A replica on its way to the new master has got one step further.
    func advanceReconfiguration(_ replica: Instance) {
        guard let promoted = replica.group.promoted else { return }
        if replica.flags.contains(.reconfigurationSent), follows(replica, promoted.endpoint) {
            replica.flags.remove(.reconfigurationSent)
            replica.flags.insert(.reconfigurationInProgress)
            event(.notice, "+slave-reconf-inprog", replica, "%@")
        }
        if replica.flags.contains(.reconfigurationInProgress), follows(replica, promoted.endpoint), replica.masterLinkIsUp {
            replica.flags.remove(.reconfigurationInProgress)
            replica.flags.insert(.reconfigurationDone)
            event(.notice, "+slave-reconf-done", replica, "%@")
        }
    }

    private func finishIfReconfigured(_ group: MasterGroup, _ promoted: Instance) {
        guard !promoted.isDown else { return }
        let remaining = group.replicas.filter { $0.flags.isDisjoint(with: [.promoted, .reconfigurationDone]) && !$0.isDown }
        let deadline = group.stateChanged + group.failoverTimeout
        let isTooLate = now >= deadline
        guard remaining.isEmpty || isTooLate else {
            wake(group, at: deadline)
            return
        }
        if !remaining.isEmpty {
            event(.warning, "+failover-end-for-timeout", group.master, "%@")
        }
        event(.warning, "+failover-end", group.master, "%@")
        for replica in remaining where !replica.flags.contains(.reconfigurationSent) && replica.link.isConnected {
            pointToPromoted(replica, promoted, event: "+slave-reconf-sent-be")
        }
        changeState(group, .updateConfiguration)
    }

    private func switchToPromoted(_ group: MasterGroup) {
        guard let promoted = group.promoted else { return abortFailover(group) }
        let old = group.master.endpoint
        event(
            .warning, "+switch-master", group.master,
            "\(group.name) \(old.host) \(old.port) \(promoted.endpoint.host) \(promoted.endpoint.port)")
        resetToNewAddress(group, promoted.endpoint)
    }
}
