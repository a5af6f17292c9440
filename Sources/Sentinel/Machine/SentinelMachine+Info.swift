import Reactor

// What INFO tells, and what follows from it.
extension SentinelMachine {
    func receiveInfo(_ text: String, from instance: Instance) {
        let report = InfoReport(text)
        let group = instance.group
        let isFirst = instance.infoRefreshed == nil
        instance.infoText = text
        instance.infoRefreshed = now
        noteRunID(report, instance)
        if instance.role == .master {
            for endpoint in report.replicas {
                guard let replica = addReplica(endpoint, to: group) else { continue }
                event(.notice, "+slave", replica, "%@")
                persist()
            }
        }
        guard let isMaster = report.isMaster else { return }
        if !isMaster { noteReplication(report, instance) }
        noteRole(isMaster, instance)
        guard !isTilted else { return }
        if instance.role == .replica {
            if isMaster {
                replicaReportsMaster(instance, report, isFirst: isFirst)
            } else {
                instance.returnedAsMaster = nil
                if !follows(instance, group.master.endpoint) { replicaFollowsAnother(instance) }
                advanceReconfiguration(instance)
            }
        }
    }

    private func noteRunID(_ report: InfoReport, _ instance: Instance) {
        guard let runID = report.runID, runID != instance.runID else { return }
        if instance.runID != nil {
            event(.notice, "+reboot", instance, "%@")
            if instance.role == .master, instance.group.settings.rebootDownAfter != 0 {
                instance.flags.insert(.rebooted)
                instance.rebootedSince = now
            }
        }
        instance.runID = runID
    }

    private func noteReplication(_ report: InfoReport, _ instance: Instance) {
        instance.masterLinkDown = (report.masterLinkDownSeconds ?? 0) * 1000
        instance.masterLinkIsUp = report.masterLinkIsUp
        if let host = report.masterHost, let port = report.masterPort, host != instance.masterHost || port != instance.masterPort {
            instance.masterHost = host
            instance.masterPort = port
            instance.masterConfigurationChanged = now
        }
        if let priority = report.priority { instance.priority = priority }
        if let offset = report.replicationOffset { instance.replicationOffset = offset }
        instance.isAnnounced = report.isAnnounced
    }

    private func noteRole(_ isMaster: Bool, _ instance: Instance) {
        guard isMaster != instance.reportsMaster else { return }
        instance.reportsMaster = isMaster
        instance.roleReportedSince = now
        if !isMaster { instance.masterConfigurationChanged = now }
        let isAsExpected = isMaster == (instance.role == .master)
        event(
            .verbose, isAsExpected ? "+role-change" : "-role-change", instance,
            "%@ new reported role is \(isMaster ? "master" : "slave")")
    }

    // MARK: a replica that is a master

    private func replicaReportsMaster(_ replica: Instance, _ report: InfoReport, isFirst: Bool) {
        let group = replica.group
        if replica.flags.contains(.promoted) {
            if group.state == .waitPromotion { promotionSucceeded(group, replica) }
            return
        }
        // A master that has returned and knows nothing of what happened meanwhile. Nobody can have promoted a process that
        // has only just started; the others' greetings will show whether there was a failover that we missed.
        if replica.returnedAsMaster == nil, group.state == .none, isFirst || replica.roleReportedSince == now {
            let age = report.uptimeSeconds ?? .max
            if age <= 10 { replica.returnedAsMaster = .init(epoch: currentEpoch) }
        }
        convertIfDue(replica)
    }

    /// Makes a replica that says it is a master a replica again.
    ///
    /// Redis waits four hello periods for news of a newer failover. So do we, unless the replica has just been started and
    /// a majority of the Sentinels, we included, has said since then that our configuration is the newest: an election that
    /// we missed would have left its epoch with one of that majority.
    func convertIfDue(_ replica: Instance) {
        let group = replica.group
        guard replica.role == .replica, replica.reportsMaster, !replica.flags.contains(.promoted), group.state == .none,
            looksSane(group.master), let refreshed = replica.infoRefreshed, now - refreshed <= Period.infoInTrouble * 3
        else { return }
        let wait = Period.hello * 4
        if let evidence = replica.returnedAsMaster, evidence.epoch == currentEpoch, group.settings.configEpoch == currentEpoch,
            evidence.witnesses.count + 1 > (group.sentinels.count + 1) / 2, replica.link.isConnected {
            replica.returnedAsMaster = nil
            convert(replica)
        } else if noDown(replica, for: wait), now - replica.roleReportedSince > wait, replica.link.isConnected {
            convert(replica)
        }
    }

    private func convert(_ replica: Instance) {
        sendSlaveof(replica, replica.group.master.endpoint)
        event(.notice, "+convert-to-slave", replica, "%@")
        // Asked again only if it does not help within the usual wait.
        replica.roleReportedSince = now
    }

    private func replicaFollowsAnother(_ replica: Instance) {
        let group = replica.group
        guard group.state == .none else { return }
        let wait = group.failoverTimeout
        guard looksSane(group.master), noDown(replica, for: wait), now - replica.masterConfigurationChanged > wait,
            replica.link.isConnected
        else { return }
        sendSlaveof(replica, group.master.endpoint)
        event(.notice, "+fix-slave-config", replica, "%@")
        replica.masterConfigurationChanged = now
    }

    private func looksSane(_ master: Instance) -> Bool {
        guard let refreshed = master.infoRefreshed else { return false }
        return master.reportsMaster && master.flags.isDisjoint(with: [.subjectivelyDown, .objectivelyDown]) && now - refreshed < Period.info * 2
    }

    private func noDown(_ instance: Instance, for wait: Duration) -> Bool {
        let latest = max(instance.downSince ?? .zero, instance.objectivelyDownSince ?? .zero)
        return latest == .zero || now - latest > wait
    }
}
