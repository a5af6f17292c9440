import Reactor

// Who may lead the failover.
extension SentinelMachine {
    /// How long we let others start before us: those with a lower id that are alive go first, 30 ms apart, and a little
    /// chance besides. Two candidates in the same moment would split the votes.
    ///
    /// Redis spreads its Sentinels over 100 ms by the phase of their timers.
    func electionDelay(_ group: MasterGroup) -> Duration {
        let rank = group.sentinels.count { $0.isUsable && ($0.runID ?? "") < myID }
        return .milliseconds(min(rank, 5) * 30 + Int.random(in: 0..<15, using: &random))
    }

    /// Gives our vote, once in each epoch, to whoever asks first.
    /// - Returns: for whom we voted last, and when.
    func vote(in group: MasterGroup, epoch: UInt64, for candidate: String) -> (leader: String?, epoch: UInt64) {
        noteEpoch(epoch)
        if group.leaderEpoch < epoch, currentEpoch <= epoch {
            group.leader = candidate
            group.leaderEpoch = epoch
            persist()
            event(.warning, "+vote-for-leader", group.master, "\(candidate) \(epoch)")
            if candidate != myID {
                // Its turn: we try ourselves only when that has come to nothing.
                group.failoverStarted = now
                group.nextFailover = now + group.failoverTimeout * 2 + .milliseconds(Int.random(in: 0..<1000, using: &random))
                group.electionTurn = nil
            }
        }
        return (group.leader, group.leaderEpoch)
    }

    func startFailoverIfNeeded(_ group: MasterGroup) {
        guard group.master.flags.contains(.objectivelyDown), group.state == .none else { return }
        if now < group.nextFailover {
            wake(group, at: group.nextFailover)
            if group.delayLoggedFor != group.nextFailover {
                group.delayLoggedFor = group.nextFailover
                log(.warning, "Next failover delay: I will not start a failover before \((group.nextFailover - now).wholeMilliseconds) ms from now")
            }
            return
        }
        let turn = group.electionTurn ?? now
        if now < turn {
            wake(group, at: turn)
            return
        }
        startFailover(group)
    }

    func startFailover(_ group: MasterGroup, forced: Bool = false) {
        group.master.flags.insert(.failoverInProgress)
        group.state = .waitStart
        group.stateChanged = now
        group.failoverStarted = now
        group.nextFailover = now + group.failoverTimeout * 2
        group.electionTurn = nil
        currentEpoch += 1
        group.failoverEpoch = currentEpoch
        event(.warning, "+new-epoch", group.master, "\(currentEpoch)")
        event(.warning, "+try-failover", group.master, "%@")
        if forced {
            group.master.flags.insert(.forcedFailover)
            persist()
        } else {
            // The requests are on their way while our own vote is written down; nothing is decided before it is.
            askOthers(group, forced: true)
            _ = vote(in: group, epoch: group.failoverEpoch, for: myID)
        }
    }

    private func votesNeeded(_ group: MasterGroup) -> Int { max((group.sentinels.count + 1) / 2 + 1, group.settings.quorum) }

    /// The votes cast in our candidacy's epoch, by candidate.
    private func votes(_ group: MasterGroup) -> [String: Int] {
        var votes: [String: Int] = [:]
        for sentinel in group.sentinels where sentinel.leaderEpoch == group.failoverEpoch {
            if let leader = sentinel.leader { votes[leader, default: 0] += 1 }
        }
        if group.leaderEpoch == group.failoverEpoch, let leader = group.leader { votes[leader, default: 0] += 1 }
        return votes
    }

    /// While we are a candidate: elected, to be waited on, or lost.
    func advanceElection(_ group: MasterGroup) {
        if group.master.flags.contains(.forcedFailover) {
            elected(group)
            return
        }
        let votes = votes(group)
        let needed = votesNeeded(group)
        if votes[myID, default: 0] >= needed {
            elected(group)
            return
        }
        let deadline = group.failoverStarted + min(Period.electionTimeout, group.failoverTimeout)
        if now >= deadline {
            event(.warning, "-failover-abort-not-elected", group.master, "%@")
            abortFailover(group)
        } else if group.leaderEpoch > group.failoverEpoch {
            // We have voted for somebody else since: the place is taken.
            event(.warning, "-failover-abort-not-elected", group.master, "%@")
            abortFailover(group)
        } else if isSplit(group, votes, needed) {
            event(.warning, "-failover-abort-not-elected", group.master, "%@")
            abortFailover(group)
            retrySoon(group)
        } else {
            wake(group, at: deadline)
        }
    }

    /// Nobody can win this epoch any more, although enough Sentinels are there to elect somebody.
    private func isSplit(_ group: MasterGroup, _ votes: [String: Int], _ needed: Int) -> Bool {
        let alive = group.sentinels.filter(\.isUsable)
        guard alive.count + 1 >= needed else { return false }
        let outstanding = alive.count { $0.answeredEpoch < group.failoverEpoch }
        return (votes.values.max() ?? 0) + outstanding < needed
    }

    /// A split vote is tried again after a short random wait that doubles: Redis waits twice the failover's time limit.
    private func retrySoon(_ group: MasterGroup) {
        let delay = Int.random(in: 20..<150, using: &random) << min(group.splitElections, 12)
        group.splitElections += 1
        group.nextFailover = now + min(.milliseconds(delay), group.failoverTimeout * 2)
        group.delayLoggedFor = group.nextFailover
        wake(group, at: group.nextFailover)
    }

    private func elected(_ group: MasterGroup) {
        group.splitElections = 0
        event(.warning, "+elected-leader", group.master, "%@")
        changeState(group, .selectReplica)
        event(.notice, "+failover-state-select-slave", group.master, "%@")
    }
}
