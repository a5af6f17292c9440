import CLinux
import Glibc

/// An IPv4 packet as a raw socket delivers it, its header taken apart (RFC 791 §3.1).
public struct IPv4Packet {
    public let source: UInt32
    public let destination: UInt32
    public let timeToLive: UInt8
    public let payload: UnsafeRawBufferPointer

    /// - Returns: nil when the bytes are no whole IPv4 packet.
    public init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= 20, bytes[0] >> 4 == 4 else { return nil }
        let headerLength = Int(bytes[0] & 15) * 4
        let total = Int(bytes[2]) << 8 | Int(bytes[3])
        guard headerLength >= 20, total >= headerLength, total <= bytes.count else { return nil }
        timeToLive = bytes[8]
        source = UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 12, as: UInt32.self))
        destination = UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt32.self))
        payload = UnsafeRawBufferPointer(rebasing: bytes[headerLength..<total])
    }
}

/// One IP protocol on one interface: receives its packets, sends its own with the source address of our choice.
public final class RawIPv4Socket {
    private var socket: DatagramSocket!
    private let ipProtocol: UInt8

    /// - Parameter interface: index and name; packets of other interfaces are not seen.
    /// - Throws: `SystemError`: EPERM without CAP_NET_RAW.
    public init(loop: Loop, protocol ipProtocol: UInt8, interface: NetworkLink, onReceive: @escaping (IPv4Packet) -> Void) throws(SystemError) {
        self.ipProtocol = ipProtocol
        socket = try loop.openDatagram(domain: AF_INET, type: Int32(SOCK_RAW.rawValue), protocol: Int32(ipProtocol)) { bytes, _ in
            if let packet = IPv4Packet(bytes) { onReceive(packet) }
        }
        do throws(SystemError) {
            var name = ifreq()
            withUnsafeMutableBytes(of: &name) { $0.copyBytes(from: interface.name.utf8.prefix(15)) }
            try socket.setOption(SOL_SOCKET, SO_BINDTODEVICE, name)
            let ip = Int32(IPPROTO_IP)
            try socket.setOption(ip, IP_HDRINCL, Int32(1))
            try socket.setOption(ip, IP_MULTICAST_LOOP, Int32(0))
            // Only groups joined by this socket, not those that other programs on the host joined.
            try socket.setOption(ip, IP_MULTICAST_ALL, Int32(0))
            try socket.setOption(ip, IP_MULTICAST_IF, membership(0, interface.index))
        } catch {
            socket.close()
            throw error
        }
    }

    /// Receives what is sent to a multicast group on the interface.
    public func join(_ group: UInt32, interface: UInt32) throws(SystemError) {
        try socket.setOption(Int32(IPPROTO_IP), IP_ADD_MEMBERSHIP, membership(group, interface))
    }

    private func membership(_ group: UInt32, _ interface: UInt32) -> ip_mreqn {
        ip_mreqn(imr_multiaddr: in_addr(s_addr: group.bigEndian), imr_address: in_addr(s_addr: 0), imr_ifindex: Int32(interface))
    }

    /// Sends one packet with precedence "internetwork control", as routing protocols do; checksum and identification of
    /// the IP header are the kernel's work.
    /// - Returns: 0 or an errno.
    @discardableResult
    public func send(_ payload: [UInt8], from source: UInt32, to destination: UInt32, timeToLive: UInt8) -> Int32 {
        var packet: [UInt8] = [0x45, 0xC0, 0, 0, 0, 0, 0, 0, timeToLive, ipProtocol, 0, 0]
        let length = UInt16(20 + payload.count)
        packet[2] = UInt8(length >> 8)
        packet[3] = UInt8(length & 255)
        for address in [source, destination] { withUnsafeBytes(of: address.bigEndian) { packet.append(contentsOf: $0) } }
        packet += payload
        var to = sockaddr_in()
        to.sin_family = sa_family_t(AF_INET)
        to.sin_addr.s_addr = destination.bigEndian
        return packet.withUnsafeBytes { socket.send($0, to: RawAddress(to)) }
    }

    public func close() { socket.close() }
}

/// Sends ARP packets; receives none.
public final class ARPSocket {
    private let socket: DatagramSocket

    /// - Throws: `SystemError`: EPERM without CAP_NET_RAW.
    public init(loop: Loop) throws(SystemError) {
        socket = try loop.openDatagram(domain: AF_PACKET, type: Int32(SOCK_RAW.rawValue), protocol: 0) { _, _ in }
    }

    /// Broadcasts that `address` is at `link` now: a request in which sender and target are the address (RFC 5227 §3).
    /// - Returns: 0 or an errno.
    @discardableResult
    public func announce(_ address: UInt32, on link: NetworkLink) -> Int32 {
        guard link.hardwareAddress.count == 6 else { return EOPNOTSUPP }
        var to = sockaddr_ll()
        to.sll_family = UInt16(AF_PACKET)
        to.sll_protocol = UInt16(ARPFrame.etherType).bigEndian
        to.sll_ifindex = Int32(link.index)
        to.sll_halen = 6
        return ARPFrame.gratuitous(address, hardwareAddress: link.hardwareAddress).withUnsafeBytes { socket.send($0, to: RawAddress(to)) }
    }

    public func close() { socket.close() }
}

/// The bytes of an ARP packet on Ethernet (RFC 826).
enum ARPFrame {
    static let etherType = 0x0806

    static func gratuitous(_ address: UInt32, hardwareAddress: [UInt8]) -> [UInt8] {
        let broadcast = [UInt8](repeating: 0xFF, count: 6)
        let ip = withUnsafeBytes(of: address.bigEndian, Array.init)
        let ethernet = broadcast + hardwareAddress + [0x08, 0x06]
        let kind: [UInt8] = [0, 1, 0x08, 0, 6, 4, 0, 1]
        return ethernet + kind + hardwareAddress + ip + broadcast + ip
    }
}
