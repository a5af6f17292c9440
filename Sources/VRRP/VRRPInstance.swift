import Glibc
import Logging
import Reactor

/// One virtual router at work: its state machine, its sockets, its addresses, its timer.
final class VRRPInstance {
    /// Whether it may serve, for its own reasons.
    enum Health { case unknown, good, bad }

    /// What the instance needs of the node that it belongs to.
    struct Surroundings {
        let loop: Loop
        let netlink: RouteNetlink
        let arp: ARPSocket
        let logger: Logger
        let network: () -> NetworkView
        /// It entered a state, or waits for its group.
        let onChange: (VRRPInstance, VirtualRouter.Action) -> Void
    }

    let configuration: InstanceConfiguration
    private(set) var router: VirtualRouter
    private let around: Surroundings
    private var socket: (interface: UInt32, socket: RawIPv4Socket)?
    private var timer: TimerID?
    private var lastRenewal = Instant.zero
    private var lastComplaint = ""
    private var lastComplaintAt = Instant.zero
    private var lastSendProblem: Int32 = 0

    init(_ configuration: InstanceConfiguration, waitsForGroup: Bool, around: Surroundings) {
        self.configuration = configuration
        self.around = around
        var parameters = configuration.router
        parameters.waitsForGroup = waitsForGroup
        router = VirtualRouter(parameters)
    }

    var name: String { configuration.name }
    private var now: Instant { around.loop.now }

    // MARK: the interface

    private var link: NetworkLink? { around.network().link(named: configuration.interface) }

    /// Where our adverts come from.
    private var sourceAddress: UInt32? {
        configuration.sourceAddress ?? link.flatMap { around.network().primaryAddress(of: $0.index, excluding: virtualAddresses.map(\.address)) }
    }

    /// Whether the interface can be used: it is there, up and has an address to send from.
    var hasUsableInterface: Bool {
        guard let link, sourceAddress != nil, openSocket(on: link) else { return false }
        return !configuration.tracksOwnInterface || link.isUp && link.isRunning
    }

    private func openSocket(on link: NetworkLink) -> Bool {
        if let socket {
            if socket.interface == link.index { return true }
            closeSocket()
        }
        do throws(SystemError) {
            let made = try RawIPv4Socket(loop: around.loop, protocol: Advert.ipProtocol, interface: link) { [weak self] in self?.received($0) }
            socket = (link.index, made)
            if configuration.unicastPeers.isEmpty { try made.join(configuration.multicastGroup, interface: link.index) }
            return true
        } catch {
            closeSocket()
            around.logger.error("(\(name)) cannot use interface \(link.name): \(error)")
            return false
        }
    }

    private func closeSocket() {
        socket?.socket.close()
        socket = nil
    }

    // MARK: events

    /// Takes away addresses that an earlier process left behind when it was killed.
    func removeLeftovers() {
        around.logger.info("(\(name)) removing VIPs.")
        for address in virtualAddresses where around.network().has(address) { around.netlink.remove(address) }
    }

    func start() { perform(router.start(at: now)) }
    func fail() { perform(router.fail(at: now)) }
    func recover() { perform(router.recover(at: now)) }
    func becomeMaster() { perform(router.becomeMaster(at: now)) }
    func becomeBackup() { perform(router.becomeBackup(at: now)) }
    func track(adjustment: Int) { perform(router.track(adjustment: adjustment, at: now)) }

    func stop() {
        perform(router.stop())
        if let timer { around.loop.cancel(timer) }
        timer = nil
        closeSocket()
    }

    private func received(_ packet: IPv4Packet) {
        guard let ours = sourceAddress, packet.source != ours else { return }
        let isMulticast = packet.destination >> 28 == 0xE
        guard isMulticast == configuration.unicastPeers.isEmpty else { return }
        do throws(AdvertRefusal) {
            // The id comes first: damaged adverts of other routers are theirs to complain about.
            guard packet.payload.count > 1, packet.payload[1] == configuration.router.virtualRouterID else { return }
            let advert = try Advert(decoding: packet.payload, from: packet.source, to: packet.destination)
            if !isMulticast, configuration.checksUnicastSource, !configuration.unicastPeers.contains(packet.source) {
                return complain("it is no unicast_peer", about: packet.source)
            }
            if let reason = router.refusal(of: advert, timeToLive: isMulticast ? packet.timeToLive : nil) {
                return complain(reason, about: packet.source)
            }
            perform(router.receive(advert, from: packet.source, ourAddress: ours, at: now))
        } catch {
            complain("\(error)", about: packet.source)
        }
    }

    /// The same complaint is made once a minute: a wrong neighbour must not fill the disk.
    private func complain(_ reason: String, about sender: UInt32) {
        let complaint = "(\(name)) ignoring advert from \(SocketAddress.ipv4(sender, port: 0).host): \(reason)"
        if complaint == lastComplaint, now < lastComplaintAt + .seconds(60) { return }
        (lastComplaint, lastComplaintAt) = (complaint, now)
        around.logger.warning("\(complaint)")
    }

    private func schedule() {
        if let timer { around.loop.cancel(timer) }
        timer = nil
        let deadline = router.nextDeadline
        guard deadline < .distantFuture else { return }
        timer = around.loop.schedule(at: deadline, label: "VRRP") { [weak self] in
            guard let self else { return }
            timer = nil
            perform(router.tick(at: now))
        }
    }

    // MARK: actions

    private func perform(_ actions: [VirtualRouter.Action]) {
        for action in actions {
            switch action {
            case .sendAdvert(let priority): send(priority)
            case .addAddresses: addAddresses()
            case .removeAddresses: removeAddresses()
            case .announceAddresses(let repeats): announce(repeats)
            case .log(.info, let text): around.logger.info("\(text)")
            case .log(.warning, let text): around.logger.warning("\(text)")
            case .entered, .waitsForGroup: around.onChange(self, action)
            }
        }
        schedule()
    }

    private func send(_ priority: UInt8) {
        guard let socket = socket?.socket, let source = sourceAddress else { return }
        let advert = Advert(
            version: configuration.router.version, virtualRouterID: configuration.router.virtualRouterID, priority: priority,
            intervalCentiseconds: configuration.router.intervalCentiseconds, addresses: configuration.router.addresses,
            password: configuration.router.password)
        let isUnicast = !configuration.unicastPeers.isEmpty
        var problem: Int32 = 0
        for destination in isUnicast ? configuration.unicastPeers : [configuration.multicastGroup] {
            let timeToLive = isUnicast ? configuration.unicastTimeToLive : Advert.timeToLive
            let result = socket.send(advert.encoded(from: source, to: destination), from: source, to: destination, timeToLive: timeToLive)
            if result != 0 { problem = result }
        }
        if problem != 0, problem != lastSendProblem {
            around.logger.warning("(\(name)) cannot send adverts: \(String(cString: strerror(problem)))")
        }
        lastSendProblem = problem
        if router.state == .master, priority > 0, now - lastRenewal >= .seconds(1) { renewAddresses() }
    }

    /// The virtual addresses as the kernel is to have them; those of missing interfaces are left out.
    ///
    /// They live a second longer than the others wait for our adverts: when this process is killed or hangs, the kernel
    /// takes them away at about the time at which another router takes them over, and no two hosts have them for long.
    private var virtualAddresses: [InterfaceAddress] {
        let wait = router.masterDownInterval.wholeNanoseconds
        let seconds = UInt32(max(3, (wait + 999_999_999) / 1_000_000_000 + 1))
        return (configuration.addresses + configuration.excludedAddresses).compactMap { virtual in
            guard let link = around.network().link(named: virtual.device ?? configuration.interface) else { return nil }
            var address = InterfaceAddress(interface: link.index, address: virtual.address, prefixLength: virtual.prefixLength)
            address.scope = virtual.scope
            address.broadcast = virtual.broadcast
            address.label = virtual.label
            address.lifetimeSeconds = seconds
            return address
        }
    }

    private func addAddresses() {
        lastRenewal = now
        let wanted = virtualAddresses
        if wanted.count < configuration.addresses.count + configuration.excludedAddresses.count {
            around.logger.error("(\(name)) a virtual address names an interface that does not exist")
        }
        for address in wanted { add(address) }
    }

    private func renewAddresses() {
        lastRenewal = now
        for address in virtualAddresses { add(address) }
    }

    private func add(_ address: InterfaceAddress) {
        around.netlink.add(address) { [logger = around.logger, name] problem in
            guard problem != 0 else { return }
            let host = SocketAddress.ipv4(address.address, port: 0).host
            logger.error("(\(name)) cannot set address \(host)/\(address.prefixLength): \(String(cString: strerror(problem)))")
        }
    }

    private func removeAddresses() {
        for address in virtualAddresses {
            around.netlink.remove(address) { [logger = around.logger, name] problem in
                guard problem != 0, problem != EADDRNOTAVAIL, problem != ENODEV else { return }
                let host = SocketAddress.ipv4(address.address, port: 0).host
                logger.error("(\(name)) cannot remove address \(host)/\(address.prefixLength): \(String(cString: strerror(problem)))")
            }
        }
    }

    private func announce(_ repeats: Int) {
        for address in virtualAddresses {
            guard let link = around.network().links[address.interface] else { continue }
            let host = SocketAddress.ipv4(address.address, port: 0).host
            around.logger.info("(\(name)) Sending/queueing gratuitous ARPs on \(link.name) for \(host)")
            for _ in 0..<repeats { around.arp.announce(address.address, on: link) }
        }
    }

    /// Somebody took an address of ours away while we are master: it is set again, after a moment in which a change of
    /// state of our own may explain it.
    func addressVanished(_ address: InterfaceAddress) {
        guard router.state == .master, virtualAddresses.contains(where: { $0.interface == address.interface && $0.address == address.address }) else { return }
        around.loop.schedule(after: .milliseconds(100), label: "VRRP address") { [weak self] in
            guard let self, router.state == .master,
                let ours = virtualAddresses.first(where: { $0.interface == address.interface && $0.address == address.address }),
                !around.network().has(ours)
            else { return }
            around.logger.warning("(\(name)) address \(SocketAddress.ipv4(ours.address, port: 0).host) was removed, setting it again")
            add(ours)
            announce(1)
        }
    }
}
