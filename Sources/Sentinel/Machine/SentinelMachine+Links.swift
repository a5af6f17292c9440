import RESP
import Reactor

// Connections, and what is sent on them by the clock.
extension SentinelMachine {
    /// Opens what is closed, at once the first time, then at the ping's rhythm.
    func reconnect(_ instance: Instance) {
        let link = instance.link
        let pause = max(instance.group.pingPeriod, .milliseconds(100))
        if link.command == .closed {
            if let last = link.lastCommandAttempt, now - last < pause {
                wake(instance.group, at: last + pause)
            } else {
                link.lastCommandAttempt = now
                link.command = .opening
                actions.append(.open(link.id, .command, link.endpoint))
            }
        }
        guard link.hasSubscription, link.subscription == .closed else { return }
        if let last = link.lastSubscriptionAttempt, now - last < pause {
            wake(instance.group, at: last + pause)
        } else {
            link.lastSubscriptionAttempt = now
            link.subscription = .opening
            actions.append(.open(link.id, .subscription, link.endpoint))
        }
    }

    func markClosed(_ link: Link, _ channel: Channel) {
        switch channel {
        case .command:
            if link.isConnected { link.closedSince = now }
            link.command = .closed
            link.expected.removeAll()
            for group in groups {
                for instance in group.instances where instance.link === link { instance.infoAsked = nil }
            }
        case .subscription:
            link.subscription = .closed
        }
    }

    func closeLink(_ link: Link, _ channel: Channel) {
        actions.append(.close(link.id, channel))
        markClosed(link, channel)
    }

    /// AUTH where there is a password, and a name that CLIENT LIST shows.
    func login(_ link: Link, _ instance: Instance, _ channel: Channel) {
        let settings = instance.group.settings
        var user: String?
        var password: String?
        if instance.role == .sentinel {
            user = configuration.sentinelPassword == nil ? nil : configuration.sentinelUser
            password = configuration.sentinelPassword ?? configuration.requirePass
        } else {
            user = settings.authUser
            password = settings.authPassword
        }
        func send(_ words: [String]) {
            if channel == .command {
                self.send(link, words, expecting: .login)
            } else {
                actions.append(.send(link.id, channel, words))
            }
        }
        let renamed = instance.role == .sentinel ? [:] : settings.renamedCommands
        if let password { send([renamed["AUTH"] ?? "AUTH"] + (user.map { [$0] } ?? []) + [password]) }
        send([renamed["CLIENT"] ?? "CLIENT", "SETNAME", "sentinel-\(myID.prefix(8))-\(channel == .command ? "cmd" : "pubsub")"])
    }

    /// Sends on the command connection and notes what the reply will be.
    func send(_ link: Link, _ words: [String], expecting expected: Link.Expected) {
        link.expected.append(expected)
        actions.append(.send(link.id, .command, words))
    }

    /// A command under the name that this master's stores give it.
    func command(_ name: String, for instance: Instance) -> String {
        instance.role == .sentinel ? name : instance.group.settings.renamedCommands[name] ?? name
    }

    func ping(_ link: Link) {
        link.lastPing = now
        if link.activePing == nil { link.activePing = now }
        send(link, ["PING"], expecting: .ping)
    }

    func askInfo(_ instance: Instance) {
        guard instance.role != .sentinel, instance.link.isConnected else { return }
        instance.infoAsked = now
        send(instance.link, [command("INFO", for: instance)], expecting: .info(instance))
    }

    /// INFO, PING and hello when their time has come.
    func sendPeriodically(_ instance: Instance) {
        let link = instance.link
        let group = instance.group
        guard link.isConnected else { return }
        guard link.expected.count < SentinelMachine.pendingMax else { return }

        if instance.role != .sentinel {
            let due = instance.infoRefreshed.map { $0 + infoPeriod(of: instance) } ?? now
            if let asked = instance.infoAsked {
                // Not answered yet: asked once more after a second, unless the process answers nothing at all.
                if now - asked < Period.infoInTrouble {
                    wake(group, at: asked + Period.infoInTrouble)
                } else if due <= now, link.expected.count < 10 {
                    askInfo(instance)
                }
            } else if due <= now {
                askInfo(instance)
            } else {
                wake(group, at: due)
            }
        }
        let pingDue = (link.lastPing ?? .zero) + group.pingPeriod
        if pingDue <= now {
            ping(link)
            wake(group, at: now + group.pingPeriod)
        } else {
            wake(group, at: pingDue)
        }
        let helloDue = instance.lastHelloSent.map { $0 + Period.hello } ?? now
        if helloDue <= now {
            sendHello(to: instance)
            wake(group, at: now + Period.hello)
        } else {
            wake(group, at: helloDue)
        }
    }

    /// Ten seconds; one while something is being decided that INFO tells; sooner still while a failover waits for it.
    private func infoPeriod(of instance: Instance) -> Duration {
        let group = instance.group
        let isInFailover = group.state != .none
        if instance.flags.contains(.promoted), group.state == .waitPromotion { return .milliseconds(20) }
        if !instance.flags.isDisjoint(with: [.reconfigurationSent, .reconfigurationInProgress]) { return .milliseconds(100) }
        if instance.role == .replica {
            if isInFailover || group.master.flags.contains(.objectivelyDown) || instance.masterLinkDown > 0 { return Period.infoInTrouble }
            // Something will have to be put right: a replica that says it is a master, or follows somebody else.
            if instance.reportsMaster || !follows(instance, group.master.endpoint) { return Period.infoInTrouble }
        } else if instance.reportsMaster == false {
            return Period.infoInTrouble
        }
        return Period.info
    }

    func follows(_ replica: Instance, _ endpoint: Endpoint) -> Bool {
        replica.masterHost == endpoint.host && replica.masterPort == endpoint.port
    }

    func sendHello(to instance: Instance) {
        guard let localHost = instance.link.localHost else { return }
        instance.lastHelloSent = now
        let group = instance.group
        let hello = HelloMessage(
            endpoint: Endpoint(host: configuration.announceHost ?? localHost, port: configuration.announcePort ?? configuration.port),
            runID: myID, currentEpoch: currentEpoch, masterName: group.name, master: group.currentEndpoint,
            configEpoch: group.settings.configEpoch)
        send(instance.link, [command("PUBLISH", for: instance), HelloMessage.channel, hello.text], expecting: .hello(instance))
    }

    /// Says hello to everybody now: the master has changed.
    func sendHelloToAll(_ group: MasterGroup) {
        for instance in group.instances where instance.link.isConnected { sendHello(to: instance) }
    }

    // MARK: replies

    func receiveReply(_ reply: Reply, _ link: Link) {
        guard !link.expected.isEmpty else {
            logRefusal("\(link.endpoint) sent a reply that nobody asked for: closing the connection")
            closeLink(link, .command)
            return
        }
        switch link.expected.removeFirst() {
        case .nothing, .hello: break
        case .login:
            if let error = reply.errorText, !error.hasPrefix("ERR unknown") {
                logRefusal("\(link.endpoint) refuses our log in: \(excerpt(error))")
            }
        case .ping: receivePong(reply, link)
        case .info(let instance):
            instance.infoAsked = nil
            if !instance.isReleased, let text = reply.string { receiveInfo(text, from: instance) }
        case .vote(let sentinel, let epoch):
            if !sentinel.isReleased { receiveVote(reply, from: sentinel, forEpoch: epoch) }
        case .reconfiguration(let instance, let target):
            if !instance.isReleased { receiveReconfiguration(reply, from: instance, target: target) }
        }
    }

    /// Any of three answers means that the process is alive and will serve; other errors count as silence.
    private func receivePong(_ reply: Reply, _ link: Link) {
        let text = reply.string ?? reply.errorText ?? ""
        if text == "PONG" || text.hasPrefix("LOADING") || text.hasPrefix("MASTERDOWN") {
            link.lastAvailable = now
            link.activePing = nil
            if text == "PONG" {
                for group in groups where group.master.link === link { group.master.flags.remove(.rebooted) }
            }
        } else if text.hasPrefix("BUSY") {
            killScript(link)
        }
        link.lastPong = now
    }

    /// A script has kept a store busy until it is down for us: end it.
    private func killScript(_ link: Link) {
        for group in groups {
            for instance in group.instances where instance.link === link && instance.isDown && !instance.flags.contains(.scriptKillSent) {
                instance.flags.insert(.scriptKillSent)
                send(link, [command("SCRIPT", for: instance), "KILL"], expecting: .nothing)
                return
            }
        }
    }

    private func receiveReconfiguration(_ reply: Reply, from instance: Instance, target: String) {
        let errors = (reply.elements ?? [reply]).compactMap(\.errorText)
        // A store that was started without a file can't rewrite it: that is its owner's choice.
        for error in errors where !error.contains("running without a config file") {
            log(.warning, "\(instance.name) answers SLAVEOF \(target) with: \(excerpt(error))")
        }
    }

    func receivePublished(_ reply: Reply, _ link: Link) {
        link.lastSubscriptionActivity = now
        guard let words = reply.elements, words.count == 3, words[0].string == "message",
            words[1].string == HelloMessage.channel, let text = words[2].string
        else { return }
        if let refusal = receiveHello(text) { logRefusal("\(link.endpoint) passed on a \(refusal)") }
    }

    /// Makes the store a replica of `endpoint`, or a master for nil, writes that into its file, and closes its clients'
    /// connections so that they ask anew who is the master.
    func sendSlaveof(_ instance: Instance, _ endpoint: Endpoint?) {
        let link = instance.link
        let target = endpoint.map { [$0.host, "\($0.port)"] } ?? ["NO", "ONE"]
        send(link, [command("MULTI", for: instance)], expecting: .nothing)
        send(link, [command("SLAVEOF", for: instance)] + target, expecting: .nothing)
        send(link, [command("CONFIG", for: instance), "REWRITE"], expecting: .nothing)
        for type in ["normal", "pubsub"] {
            send(link, [command("CLIENT", for: instance), "KILL", "TYPE", type], expecting: .nothing)
        }
        send(link, [command("EXEC", for: instance)], expecting: .reconfiguration(instance, target: target.joined(separator: " ")))
        // What has come of it is known a round trip later.
        askInfo(instance)
    }
}
