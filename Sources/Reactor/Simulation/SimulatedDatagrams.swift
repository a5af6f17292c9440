import CLinux
import Glibc

/// A datagram or raw IPv4 socket, or a Unix datagram socket, of a simulated host. Multicast reaches every host on the
/// Ethernet with a socket that has joined the group.
class SimulatedDatagramSocket: DatagramSocket {
    unowned let process: SimulatedLoop
    let host: SimulatedHost
    private let isRaw: Bool
    private let domain: Int32
    private let ipProtocol: Int32
    private var bound: SocketAddress?
    private var connected: RawAddress?
    private var groups: Set<UInt32> = []
    private var includesHeader = false
    private var loopsMulticast = true
    private var multicastTTL: UInt8 = 1
    private var queue: [(bytes: [UInt8], from: RawAddress)] = []
    private(set) var isClosed = false
    private let number: Int
    /// A kernel's buffer of the default size holds about as many short datagrams.
    private static let queueMax = 256

    init(process: SimulatedLoop, domain: Int32, type: Int32, protocol ipProtocol: Int32, onReceive: @escaping (UnsafeRawBufferPointer, RawAddress) -> Void) {
        self.process = process
        self.domain = domain
        self.ipProtocol = ipProtocol
        host = process.host
        isRaw = type & 0xf == Int32(SOCK_RAW.rawValue)
        number = process.world.nextNumber()
        super.init(onReceive: onReceive)
    }

    override var descriptor: Int32 { isClosed ? -1 : Int32(truncatingIfNeeded: number) }

    override func bind(_ address: RawAddress) throws(SystemError) {
        guard var target = address.socketAddress else { return }
        if case .ipv4(let number, let port) = target {
            guard target.isWildcard || number >> 24 == 127 || host.owns(number) else { throw SystemError("bind \(target)", code: EADDRNOTAVAIL) }
            if port == 0, !isRaw { target = target.with(port: host.ephemeralPort()) }
        }
        guard isRaw || !host.datagramSockets.contains(where: { $0 !== self && $0.bound == target }) else {
            throw SystemError("bind \(target)", code: EADDRINUSE)
        }
        bound = target
    }

    override func connect(_ address: RawAddress) throws(SystemError) { connected = address }

    override func setOption<T>(_ level: Int32, _ name: Int32, _ value: T) throws(SystemError) {
        guard level == Int32(IPPROTO_IP) else { return }
        let bytes = withUnsafeBytes(of: value) { Array($0) }
        let isOn = bytes.contains { $0 != 0 }
        // struct ip_mreq and ip_mreqn both begin with the group, in network order.
        let group = bytes.count >= 4 ? bytes.prefix(4).reduce(UInt32(0)) { $0 << 8 | UInt32($1) } : 0
        switch name {
        case IP_HDRINCL: includesHeader = isOn
        case IP_MULTICAST_LOOP: loopsMulticast = isOn
        case IP_MULTICAST_TTL: multicastTTL = bytes[0]
        case IP_ADD_MEMBERSHIP: groups.insert(group)
        case IP_DROP_MEMBERSHIP: groups.remove(group)
        default: break
        }
    }

    @discardableResult
    override func send(_ bytes: UnsafeRawBufferPointer, to address: RawAddress?) -> Int32 {
        guard !isClosed else { return EBADF }
        guard let target = (address ?? connected)?.socketAddress else { return EDESTADDRREQ }
        switch target {
        case .unix:
            guard let receiver = host.datagramSockets.first(where: { $0.bound == target }) else { return ENOENT }
            guard receiver.queue.count < SimulatedDatagramSocket.queueMax else { return EAGAIN }
            receiver.take(Array(bytes), from: RawAddress())
            return 0
        case .ipv6:
            return EAFNOSUPPORT
        case .ipv4(let destination, let port):
            return sendIPv4(Array(bytes), destination, port)
        }
    }

    private func sendIPv4(_ payload: [UInt8], _ destination: UInt32, _ port: UInt16) -> Int32 {
        let world = process.world
        if !isRaw, bound == nil { bound = .anyIPv4(port: host.ephemeralPort()) }
        var source = host.address
        if case .ipv4(let own, _)? = bound, own != 0 { source = own }
        if destination >> 24 == 127 { source = destination }
        var packet = payload
        if isRaw { packet = completeHeader(payload, &source, destination) }
        let from = try! RawAddress(.ipv4(source, port: isRaw ? 0 : bound!.port))
        let target = SocketAddress.ipv4(destination, port: port)
        if destination >> 28 == 0xE {
            for other in world.hosts where other !== host || loopsMulticast { carry(packet, from, target, to: other) }
            return 0
        }
        switch world.route(from: host, to: target) {
        case .host(let other): carry(packet, from, target, to: other)
        case .silent: break
        case .nobody: return host.isLinkUp ? 0 : ENETUNREACH
        }
        return 0
    }

    /// What a raw socket sends has its IP header from the kernel, or from the sender with length and checksum from the
    /// kernel (raw(7)).
    private func completeHeader(_ payload: [UInt8], _ source: inout UInt32, _ destination: UInt32) -> [UInt8] {
        var packet = payload
        if !includesHeader {
            let isMulticast = destination >> 28 == 0xE
            packet = [0x45, 0, 0, 0, 0, 0, 0, 0, isMulticast ? multicastTTL : 64, UInt8(truncatingIfNeeded: ipProtocol), 0, 0]
            for address in [source, destination] { withUnsafeBytes(of: address.bigEndian) { packet.append(contentsOf: $0) } }
            packet += payload
        }
        guard packet.count >= 20 else { return packet }
        packet[2] = UInt8(packet.count >> 8)
        packet[3] = UInt8(packet.count & 255)
        let given = packet[12..<16].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        if given == 0 {
            withUnsafeBytes(of: source.bigEndian) { packet.replaceSubrange(12..<16, with: $0) }
        } else {
            source = given
        }
        packet[10] = 0
        packet[11] = 0
        var sum = stride(from: 0, to: 20, by: 2).reduce(UInt32(0)) { $0 + UInt32(packet[$1]) << 8 + UInt32(packet[$1 + 1]) }
        while sum > 0xFFFF { sum = sum & 0xFFFF + sum >> 16 }
        packet[10] = UInt8(~sum >> 8 & 255)
        packet[11] = UInt8(~sum & 255)
        return packet
    }

    /// One datagram on its way to one host, with what may happen to it.
    private func carry(_ packet: [UInt8], _ from: RawAddress, _ target: SocketAddress, to other: SimulatedHost) {
        let world = process.world
        let isLocal = other === host
        if !isLocal, world.chance(world.network.datagramLoss) {
            world.record("datagram lost", number, other.index)
            return
        }
        let copies = !isLocal && world.chance(world.network.datagramDuplication) ? 2 : 1
        for _ in 0..<copies {
            var delay = world.travel(host, other)
            let extra = world.network.datagramDelay.wholeNanoseconds
            if !isLocal, extra > 0 { delay = delay + .nanoseconds(Int64.random(in: 0...extra, using: &world.random)) }
            let (sender, isRaw, ipProtocol, number) = (host, isRaw, ipProtocol, number)
            world.after(delay) {
                guard world.isReachable(sender, other), other.isOn else { return }
                world.record("datagram", number, other.index, packet.count)
                for socket in other.datagramSockets where socket.wants(target, isRaw: isRaw, ipProtocol: ipProtocol) { socket.take(packet, from: from) }
            }
        }
    }

    private func wants(_ target: SocketAddress, isRaw raw: Bool, ipProtocol protocolNumber: Int32) -> Bool {
        guard domain == AF_INET, raw == isRaw, case .ipv4(let destination, let port) = target else { return false }
        if destination >> 28 == 0xE, !groups.contains(destination) { return false }
        if raw { return protocolNumber == ipProtocol }
        guard let bound, bound.port == port else { return false }
        if case .ipv4(let own, _) = bound { return own == 0 || own == destination }
        return false
    }

    func take(_ bytes: [UInt8], from: RawAddress) {
        guard !isClosed, queue.count < SimulatedDatagramSocket.queueMax else { return }
        queue.append((bytes, from))
        process.post(self, .readable)
    }

    override func ready(_ events: Readiness) {
        let batch = queue
        queue.removeAll()
        for (bytes, from) in batch where !isClosed { bytes.withUnsafeBytes { onReceive($0, from) } }
    }

    override func close() {
        isClosed = true
        process.withdraw(self)
        host.datagramSockets.removeAll { $0 === self }
    }
}

/// A packet socket: what it sends is looked at for gratuitous ARP, and it receives nothing.
final class SimulatedPacketSocket: SimulatedDatagramSocket {
    override func bind(_ address: RawAddress) throws(SystemError) {}

    override func send(_ bytes: UnsafeRawBufferPointer, to address: RawAddress?) -> Int32 {
        // Ethernet header (14), then hardware, protocol, sizes, operation (8), then the sender's hardware address (6) and address.
        guard bytes.count >= 42, bytes[12] == 0x08, bytes[13] == 0x06 else { return 0 }
        func address(at offset: Int) -> UInt32 { UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)) }
        if address(at: 28) == address(at: 38) { host.announce(address: address(at: 28)) }
        return 0
    }
}

/// A netlink socket to the simulated kernel's tables: one loopback, one Ethernet interface, IPv4 addresses.
final class SimulatedRouteSocket: SimulatedDatagramSocket {
    private var isListening = false

    override func bind(_ address: RawAddress) throws(SystemError) {
        guard !isListening else { return }
        isListening = true
        host.onAddressChange.append { [weak self] change in
            guard let self, !isClosed else { return }
            switch change {
            case .added(let address): answer(self.address(RouteMessage.newAddress, 0, address))
            case .removed(let address): answer(self.address(RouteMessage.deleteAddress, 0, address))
            case .link: answer(link(0, ethernet: true))
            }
        }
    }

    override func send(_ bytes: UnsafeRawBufferPointer, to address: RawAddress?) -> Int32 {
        guard bytes.count >= 16 else { return EINVAL }
        let type = bytes.loadUnaligned(fromByteOffset: 4, as: UInt16.self)
        let sequence = bytes.loadUnaligned(fromByteOffset: 8, as: UInt32.self)
        switch type {
        case RouteMessage.getLink:
            answer(link(sequence, ethernet: false) + link(sequence, ethernet: true))
            answer(outcome(sequence, 0))
        case RouteMessage.getAddress:
            answer(host.addresses.flatMap { self.address(RouteMessage.newAddress, sequence, $0) })
            answer(outcome(sequence, 0))
        case RouteMessage.newAddress, RouteMessage.deleteAddress:
            guard let number = addressAttribute(bytes) else {
                answer(outcome(sequence, EINVAL))
                return 0
            }
            if type == RouteMessage.newAddress {
                host.add(address: number)
                answer(outcome(sequence, 0))
            } else {
                answer(outcome(sequence, host.remove(address: number) ? 0 : EADDRNOTAVAIL))
            }
        default:
            answer(outcome(sequence, EOPNOTSUPP))
        }
        return 0
    }

    private func addressAttribute(_ bytes: UnsafeRawBufferPointer) -> UInt32? {
        var offset = 24
        while offset + 4 <= bytes.count {
            let length = Int(bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
            guard length >= 4, offset + length <= bytes.count else { return nil }
            if bytes.loadUnaligned(fromByteOffset: offset + 2, as: UInt16.self) == UInt16(IFA_LOCAL), length == 8 {
                return UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: offset + 4, as: UInt32.self))
            }
            offset += (length + 3) & ~3
        }
        return nil
    }

    private func answer(_ message: [UInt8]) {
        var kernel = sockaddr_nl()
        kernel.nl_family = sa_family_t(AF_NETLINK)
        take(message, from: RawAddress(kernel))
    }

    /// NLMSG_ERROR, with 0 for success.
    private func outcome(_ sequence: UInt32, _ problem: Int32) -> [UInt8] {
        RouteMessage.message(type: 2, flags: 0, sequence: sequence, body: withUnsafeBytes(of: -problem) { Array($0) } + [UInt8](repeating: 0, count: 16))
    }

    private func address(_ type: UInt16, _ sequence: UInt32, _ number: UInt32) -> [UInt8] {
        var description = InterfaceAddress(interface: 2, address: number, prefixLength: 24)
        description.label = "eth0"
        return RouteMessage.message(type: type, flags: 0, sequence: sequence, body: RouteMessage.body(of: description))
    }

    /// struct ifinfomsg: family (2), hardware type (2), index (4), flags (4), change mask (4); then name and hardware address.
    private func link(_ sequence: UInt32, ethernet: Bool) -> [UInt8] {
        var flags = UInt32(IFF_UP)
        if host.isLinkUp || !ethernet { flags |= UInt32(IFF_RUNNING) }
        var body: [UInt8] = [0, 0]
        for value in [UInt16(ethernet ? 1 : 772)] { withUnsafeBytes(of: value) { body.append(contentsOf: $0) } }
        for value in [UInt32(ethernet ? 2 : 1), flags, 0] { withUnsafeBytes(of: value) { body.append(contentsOf: $0) } }
        func attribute(_ type: Int, _ value: [UInt8]) {
            for field in [UInt16(4 + value.count), UInt16(type)] { withUnsafeBytes(of: field) { body.append(contentsOf: $0) } }
            body += value
            while body.count % 4 != 0 { body.append(0) }
        }
        attribute(3, Array((ethernet ? "eth0" : "lo").utf8) + [0])  // IFLA_IFNAME
        attribute(1, ethernet ? host.hardwareAddress : [UInt8](repeating: 0, count: 6))  // IFLA_ADDRESS
        return RouteMessage.message(type: RouteMessage.newLink, flags: 0, sequence: sequence, body: body)
    }
}
