import RESP

/// What people see of replication: ROLE and INFO.
extension Replication {
    /// ROLE's reply.
    func role(_ reply: ReplyWriter) {
        if isReplica {
            let master = server.configuration.replicaOf!
            reply.array(5)
            reply.bulk("slave")
            reply.bulk(master.host)
            reply.integer(Int(master.port))
            reply.bulk(link?.stateName ?? "connect")
            reply.integer(isLinkUp ? stream.end : -1)
            return
        }
        reply.array(3)
        reply.bulk("master")
        reply.integer(stream.end)
        let online = replicas.filter { $0.replica!.phase == .online }
        reply.array(online.count)
        for client in online {
            reply.array(3)
            reply.bulk(client.replica!.announcedIP ?? client.connection.peer.host)
            reply.bulk(String(client.replica!.listeningPort))
            reply.bulk(String(client.replica!.acknowledgedOffset))
        }
    }

    /// The section `replication` of INFO.
    func infoSection() -> String {
        var lines = ["# Replication", "role:\(isReplica ? "slave" : "master")"]
        let seconds = server.loop.now.milliseconds / 1000
        if isReplica, let master = server.configuration.replicaOf {
            lines += [
                "master_host:\(master.host)", "master_port:\(master.port)",
                "master_link_status:\(isLinkUp ? "up" : "down")",
                "master_last_io_seconds_ago:\(isLinkUp ? seconds - (link!.lastInteraction / 1000) : -1)",
                "master_sync_in_progress:\(link?.isTransferring == true ? 1 : 0)",
                "slave_read_repl_offset:\(hasMasterHistory ? stream.end + Int64(link?.unapplied ?? 0) : 1)",
                "slave_repl_offset:\(hasMasterHistory ? stream.end : 1)",
            ]
            if let link, link.isTransferring {
                let share = link.transferTotal > 0 ? Double(link.transferRead) * 100 / Double(link.transferTotal) : 0
                lines += [
                    "master_sync_total_bytes:\(link.transferTotal)", "master_sync_read_bytes:\(link.transferRead)",
                    "master_sync_left_bytes:\(link.transferTotal - link.transferRead)", "master_sync_perc:\(twoDecimals(share))",
                    "master_sync_last_io_seconds_ago:\(seconds - link.lastInteraction / 1000)",
                ]
            }
            if !isLinkUp { lines.append("master_link_down_since_seconds:\(link.map { ($0.downSince == 0 ? -1 : seconds - $0.downSince / 1000) } ?? -1)") }
            lines += [
                "slave_priority:\(server.configuration.replicaPriority)",
                "slave_read_only:\(server.configuration.isReplicaReadOnly ? 1 : 0)", "replica_announced:\(server.configuration.isReplicaAnnounced ? 1 : 0)",
            ]
        }
        lines.append("connected_slaves:\(replicas.count)")
        if server.configuration.minReplicasToWrite > 0, server.configuration.minReplicasMaxLag > 0 { lines.append("min_slaves_good_slaves:\(goodReplicas)") }
        lines += server.confirmation.infoFields
        for (i, client) in replicas.enumerated() {
            let replica = client.replica!
            let lag = replica.phase == .online ? seconds - replica.acknowledgedAt / 1000 : 0
            lines.append("slave\(i):ip=\(address(of: client).host),port=\(replica.listeningPort),state=\(replica.stateName),offset=\(replica.acknowledgedOffset),lag=\(lag)")
        }
        lines += [
            "master_failover_state:\(failover.state.rawValue)", "master_replid:\(replicationID)", "master_replid2:\(secondID)",
            "master_repl_offset:\(stream.end)", "second_repl_offset:\(secondOffset)", "repl_backlog_active:\(stream.isOpen ? 1 : 0)",
            "repl_backlog_size:\(stream.backlogSize)", "repl_backlog_first_byte_offset:\(stream.isOpen ? stream.firstOffset : 0)",
            "repl_backlog_histlen:\(stream.historyCount)",
        ]
        return lines.map { $0 + "\r\n" }.joined()
    }

    private func twoDecimals(_ value: Double) -> String {
        let hundredths = Int((value * 100).rounded())
        return "\(hundredths / 100).\(hundredths % 100 < 10 ? "0" : "")\(hundredths % 100)"
    }
}
