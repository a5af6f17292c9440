import Reactor

/// What is known of the host's interfaces and IPv4 addresses, kept by the changes that the kernel reports.
struct NetworkView {
    private(set) var links: [UInt32: NetworkLink] = [:]
    private var addresses: [UInt32: [InterfaceAddress]] = [:]

    mutating func apply(_ change: RouteNetlink.Change) {
        switch change {
        case .link(let link):
            if link.isGone {
                links[link.index] = nil
                addresses[link.index] = nil
            } else {
                links[link.index] = link
            }
        case .addressAdded(let address):
            removeFromList(address)
            addresses[address.interface, default: []].append(address)
        case .addressRemoved(let address):
            removeFromList(address)
        }
    }

    private mutating func removeFromList(_ address: InterfaceAddress) {
        addresses[address.interface]?.removeAll { $0.address == address.address && $0.prefixLength == address.prefixLength }
    }

    func link(named name: String) -> NetworkLink? { links.values.first { $0.name == name } }

    /// Up, and its cable is in.
    func isRunning(_ name: String) -> Bool { link(named: name).map { $0.isUp && $0.isRunning } ?? false }

    func has(_ address: InterfaceAddress) -> Bool {
        addresses[address.interface]?.contains { $0.address == address.address && $0.prefixLength == address.prefixLength } ?? false
    }

    /// The address that the interface's own packets carry: the first that is not a virtual one.
    func primaryAddress(of interface: UInt32, excluding virtual: [UInt32]) -> UInt32? {
        let candidates = (addresses[interface] ?? []).filter { !virtual.contains($0.address) }
        return (candidates.first { !$0.isSecondary } ?? candidates.first)?.address
    }
}
