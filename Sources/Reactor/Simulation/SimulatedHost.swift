import CLinux
import Glibc

/// A host of a simulated world: its addresses, its cable, its kernel's sockets, the processes that run on it.
public final class SimulatedHost {
    public let name: String
    public let index: Int
    unowned let world: SimulatedWorld
    /// The address that the host itself uses; those that come and go are beside it in `addresses`.
    public let address: UInt32
    /// The IPv4 addresses of its one interface, eth0, in host byte order.
    public private(set) var addresses: [UInt32]
    public private(set) var isLinkUp = true
    public private(set) var isOn = true
    /// How far its wall clock is off; the monotonic one never is.
    public var clockOffset: Duration = .zero
    /// What `spawn` starts, by path: how the program ends, and after how long. A program that is missing here exits with 127.
    public var programs: [String: ([String]) -> (ChildStatus, after: Duration)] = [:]

    /// Whom it believes to have an address (ARP).
    var neighbours: [UInt32: SimulatedHost] = [:]
    var listeners: [SimulatedListener] = []
    var datagramSockets: [SimulatedDatagramSocket] = []
    var onAddressChange: [(InterfaceChange) -> Void] = []
    private var lastPort: UInt16 = 32_767

    enum InterfaceChange {
        case added(UInt32)
        case removed(UInt32)
        case link
    }

    init(world: SimulatedWorld, index: Int, name: String, address: UInt32) {
        self.world = world
        self.index = index
        self.name = name
        self.address = address
        addresses = [address]
    }

    /// Where a client reaches a port of this host.
    public func socketAddress(port: UInt16) -> SocketAddress { .ipv4(address, port: port) }

    /// Starts a process.
    public func start(_ name: String) -> SimulatedLoop {
        precondition(isOn, "\(self.name) is switched off")
        let process = SimulatedLoop(host: self, name: name)
        world.start(process)
        world.record("start", index)
        return process
    }

    public var processes: [SimulatedLoop] { world.processes.filter { $0.host === self && $0.state != .dead } }

    // MARK: faults

    /// Nothing comes or goes any more, and nobody is told but the host's own kernel.
    public func cutCable() {
        isLinkUp = false
        world.record("cut", index)
        for tell in onAddressChange { tell(.link) }
    }

    public func plugCable() {
        isLinkUp = true
        world.record("plug", index)
        for tell in onAddressChange { tell(.link) }
    }

    /// All processes are gone at once, in silence.
    public func powerOff() {
        world.record("off", index)
        isOn = false
        for process in processes { process.vanish() }
        listeners.removeAll()
        datagramSockets.removeAll()
        onAddressChange.removeAll()
        neighbours.removeAll()
        addresses = [address]
    }

    public func powerOn() {
        isOn = true
        world.record("on", index)
    }

    // MARK: addresses

    public func owns(_ address: UInt32) -> Bool { isOn && addresses.contains(address) }

    /// - Returns: whether it is new.
    @discardableResult
    public func add(address: UInt32) -> Bool {
        guard !addresses.contains(address) else { return false }
        addresses.append(address)
        world.record("address added", index, Int(address))
        for tell in onAddressChange { tell(.added(address)) }
        return true
    }

    /// - Returns: whether it was there.
    @discardableResult
    public func remove(address: UInt32) -> Bool {
        guard let position = addresses.firstIndex(of: address) else { return false }
        addresses.remove(at: position)
        world.record("address removed", index, Int(address))
        for tell in onAddressChange { tell(.removed(address)) }
        return true
    }

    /// Tells every host that can hear it that the address is here (gratuitous ARP).
    public func announce(address: UInt32) {
        world.record("arp", index, Int(address))
        for host in world.hosts where host !== self && world.isReachable(self, host) {
            world.after(world.travel(self, host)) { host.neighbours[address] = self }
        }
    }

    /// The Ethernet address: 02:00:00:00:00 and the host's number.
    var hardwareAddress: [UInt8] { [2, 0, 0, 0, UInt8(index >> 8 & 255), UInt8(index & 255)] }

    // MARK: ports

    func ephemeralPort() -> UInt16 {
        lastPort = lastPort == 60_999 ? 32_768 : lastPort + 1
        return lastPort
    }

    func listener(for address: SocketAddress) -> SimulatedListener? {
        listeners.first { $0.accepts(address) }
    }
}
