import RESP
import Reactor

// Subjectively and objectively down, and asking the others.
extension SentinelMachine {
    func checkSubjectivelyDown(_ instance: Instance) {
        let group = instance.group
        let link = instance.link
        dropStaleConnections(instance)
        var isDown = false
        if let silence = silenceStart(instance) {
            let deadline = silence + group.downAfter
            isDown = now >= deadline
            if !isDown { wake(group, at: deadline) }
        }
        if instance.role == .master {
            if !instance.reportsMaster {
                // A master that has become a replica, and nobody corrects it.
                let deadline = instance.roleReportedSince + group.downAfter + Period.info * 2
                isDown = isDown || now >= deadline
                wake(group, at: deadline > now ? deadline : .distantFuture)
            }
            if instance.flags.contains(.rebooted), let since = instance.rebootedSince,
                now - since > .milliseconds(group.settings.rebootDownAfter) {
                isDown = true
            }
        }
        if isDown, !instance.isDown {
            instance.flags.insert(.subjectivelyDown)
            instance.downSince = now
            event(.warning, "+sdown", instance, "%@")
            if instance.role == .master {
                // The replicas' offsets are what the choice will be made by: fetched now, they are there when it comes.
                for replica in group.replicas { askInfo(replica) }
                askOthers(group, forced: true)
            }
        } else if !isDown, instance.isDown {
            instance.flags.subtract([.subjectivelyDown, .scriptKillSent])
            event(.warning, "-sdown", instance, "%@")
            if link.isConnected, instance.role != .sentinel { askInfo(instance) }
        }
    }

    /// Since when the process gives no sign of life; nil while nothing is waited for.
    ///
    /// The last good answer to a PING counts, but never by more than two periods before the first unanswered PING: if we did
    /// not ask for a while, silence proves nothing.
    private func silenceStart(_ instance: Instance) -> Instant? {
        let link = instance.link
        guard let trouble = link.activePing ?? (link.isConnected ? nil : link.closedSince) else { return nil }
        return max(link.lastAvailable, trouble - instance.group.pingPeriod * 2)
    }

    /// Connections that look open but have been silent too long are made anew: the other end may have come back from a cut
    /// that TCP has not noticed.
    private func dropStaleConnections(_ instance: Instance) {
        let link = instance.link
        let half = instance.group.downAfter / 2
        if case .open(let since) = link.command, now - since > Period.reconnectLeast, let ping = link.activePing,
            now - ping > half, now - link.lastPong > half {
            closeLink(link, .command)
            wake(instance.group, at: now)
        }
        if case .open(let since) = link.subscription, now - since > Period.reconnectLeast,
            now - link.lastSubscriptionActivity > Period.hello * 3 {
            closeLink(link, .subscription)
            wake(instance.group, at: now)
        }
    }

    func checkObjectivelyDown(_ group: MasterGroup) {
        let master = group.master!
        let agreeing = master.isDown ? 1 + group.sentinels.count { $0.flags.contains(.saysMasterDown) } : 0
        let isDown = agreeing >= group.settings.quorum
        if isDown, !master.flags.contains(.objectivelyDown) {
            master.flags.insert(.objectivelyDown)
            master.objectivelyDownSince = now
            event(.warning, "+odown", master, "%@ #quorum \(agreeing)/\(group.settings.quorum)")
            group.electionTurn = now + electionDelay(group)
        } else if !isDown, master.flags.contains(.objectivelyDown) {
            master.flags.remove(.objectivelyDown)
            event(.warning, "-odown", master, "%@")
            group.electionTurn = nil
            group.splitElections = 0
        }
    }

    // MARK: asking

    /// Asks the other Sentinels whether the master is down for them too, and as a candidate for their vote.
    func askOthers(_ group: MasterGroup, forced: Bool) {
        let master = group.master!
        let isCandidate = group.state == .waitStart
        for sentinel in group.sentinels {
            if let last = sentinel.lastDownReply, now - last > Period.downReplyValid {
                sentinel.flags.remove(.saysMasterDown)
                sentinel.leader = nil
                sentinel.lastDownReply = nil
            }
            guard master.isDown || isCandidate, sentinel.link.isConnected else { continue }
            let isUrgent = isCandidate || !master.flags.contains(.objectivelyDown)
            let period = isUrgent ? Period.askUrgently : Period.ask
            if !forced, let last = sentinel.lastAsked, now - last < period {
                wake(group, at: last + period)
                continue
            }
            // One that does not answer is not asked again and again.
            if !forced, sentinel.link.expected.count >= 20 { continue }
            ask(sentinel, isCandidate: isCandidate)
            wake(group, at: now + period)
        }
    }

    private func ask(_ sentinel: Instance, isCandidate: Bool) {
        let group = sentinel.group
        sentinel.lastAsked = now
        let epoch = isCandidate ? group.failoverEpoch : currentEpoch
        send(
            sentinel.link,
            [
                "SENTINEL", "is-master-down-by-addr", group.master.endpoint.host, "\(group.master.endpoint.port)", "\(epoch)",
                isCandidate ? myID : "*",
            ], expecting: .vote(sentinel, forEpoch: isCandidate ? epoch : nil))
    }

    /// `[is down, leader or *, leader's epoch]`
    func receiveVote(_ reply: Reply, from sentinel: Instance, forEpoch asked: UInt64?) {
        guard let words = reply.elements, words.count == 3, case .integer(let isDown) = words[0], let leader = words[1].string,
            let epoch = words[2].int, epoch >= 0
        else {
            logRefusal("\(sentinel.endpoint) answers is-master-down-by-addr with what is no answer: \(excerpt(reply.errorText ?? "\(reply)"))")
            return
        }
        sentinel.lastDownReply = now
        if isDown == 1 { sentinel.flags.insert(.saysMasterDown) } else { sentinel.flags.remove(.saysMasterDown) }
        if let asked { sentinel.answeredEpoch = max(sentinel.answeredEpoch, asked) }
        guard leader != "*" else { return }
        if leader != sentinel.leader || UInt64(epoch) != sentinel.leaderEpoch, sentinel.leaderEpoch <= UInt64(epoch) {
            log(.warning, "\(sentinel.name) voted for \(excerpt(leader).dropFirst().dropLast()) \(epoch)")
        }
        sentinel.leader = leader
        sentinel.leaderEpoch = UInt64(epoch)
    }
}
