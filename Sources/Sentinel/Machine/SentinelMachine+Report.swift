import RESP
import Reactor

// What SENTINEL MASTER and its kin, and INFO, tell of the state. Names and order of the fields are Redis 7.0's.
extension SentinelMachine {
    func report(_ instance: Instance) -> Reply {
        let group = instance.group
        let link = instance.link
        var fields: [Reply] = []
        func add(_ name: String, _ value: String) { fields += [.text(name), .text(value)] }
        func add(_ name: String, _ value: Int) { add(name, "\(value)") }
        func age(_ moment: Instant?) -> String { moment.map { "\((now - $0).wholeMilliseconds)" } ?? "0" }

        add("name", instance.name)
        add("ip", instance.endpoint.host)
        add("port", Int(instance.endpoint.port))
        add("runid", instance.runID ?? "")
        add("flags", flagsText(instance))
        add("link-pending-commands", link.expected.count)
        add("link-refcount", link.users)
        if instance.role == .master, group.state != .none { add("failover-state", group.state.rawValue) }
        add("last-ping-sent", age(link.activePing))
        add("last-ok-ping-reply", age(link.lastAvailable))
        add("last-ping-reply", age(link.lastPong))
        if instance.isDown { add("s-down-time", age(instance.downSince)) }
        if instance.flags.contains(.objectivelyDown) { add("o-down-time", age(instance.objectivelyDownSince)) }
        add("down-after-milliseconds", "\(group.settings.downAfter)")
        if instance.role != .sentinel {
            add("info-refresh", age(instance.infoRefreshed))
            add("role-reported", instance.reportsMaster ? "master" : "slave")
            add("role-reported-time", age(instance.roleReportedSince))
        }
        switch instance.role {
        case .master:
            add("config-epoch", "\(group.settings.configEpoch)")
            add("num-slaves", group.replicas.count)
            add("num-other-sentinels", group.sentinels.count)
            add("quorum", group.settings.quorum)
            add("failover-timeout", "\(group.settings.failoverTimeout)")
            add("parallel-syncs", group.settings.parallelSyncs)
            if let script = group.settings.notificationScript { add("notification-script", script) }
            if let script = group.settings.clientReconfigScript { add("client-reconfig-script", script) }
        case .replica:
            add("master-link-down-time", "\(instance.masterLinkDown)")
            add("master-link-status", instance.masterLinkIsUp ? "ok" : "err")
            add("master-host", instance.masterHost ?? "?")
            add("master-port", Int(instance.masterPort))
            add("slave-priority", instance.priority)
            add("slave-repl-offset", "\(instance.replicationOffset)")
            add("replica-announced", instance.isAnnounced ? 1 : 0)
        case .sentinel:
            add("last-hello-message", age(instance.lastHelloReceived))
            add("voted-leader", instance.leader ?? "?")
            add("voted-leader-epoch", "\(instance.leaderEpoch)")
        }
        return .map(fields)
    }

    private func flagsText(_ instance: Instance) -> String {
        let flags = instance.flags
        var words: [String] = []
        if flags.contains(.subjectivelyDown) { words.append("s_down") }
        if flags.contains(.objectivelyDown) { words.append("o_down") }
        words.append(instance.typeName)
        if !instance.link.isConnected { words.append("disconnected") }
        if flags.contains(.saysMasterDown) { words.append("master_down") }
        if flags.contains(.failoverInProgress) { words.append("failover_in_progress") }
        if flags.contains(.promoted) { words.append("promoted") }
        if flags.contains(.reconfigurationSent) { words.append("reconf_sent") }
        if flags.contains(.reconfigurationInProgress) { words.append("reconf_inprog") }
        if flags.contains(.reconfigurationDone) { words.append("reconf_done") }
        if flags.contains(.forcedFailover) { words.append("force_failover") }
        if flags.contains(.scriptKillSent) { words.append("script_kill_sent") }
        if flags.contains(.rebooted) { words.append("master_reboot") }
        return words.joined(separator: ",")
    }

    /// INFO's section `# Sentinel`.
    public func infoSection(runningScripts: Int, queuedScripts: Int) -> String {
        var text = """
            # Sentinel\r
            sentinel_masters:\(groups.count)\r
            sentinel_tilt:\(isTilted ? 1 : 0)\r
            sentinel_tilt_since_seconds:\(isTilted ? (now - tiltSince).wholeMilliseconds / 1000 : -1)\r
            sentinel_running_scripts:\(runningScripts)\r
            sentinel_scripts_queue_length:\(queuedScripts)\r
            sentinel_simulate_failure_flags:0\r

            """
        for (index, group) in groups.enumerated() {
            let status = group.master.flags.contains(.objectivelyDown) ? "odown" : group.master.isDown ? "sdown" : "ok"
            let current = group.currentEndpoint
            text += "master\(index):name=\(group.name),status=\(status),address=\(current.host):\(current.port)"
            text += ",slaves=\(group.replicas.count),sentinels=\(group.sentinels.count + 1)\r\n"
        }
        return text
    }
}
