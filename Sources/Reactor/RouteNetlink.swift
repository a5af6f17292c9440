import CLinux
import Glibc

/// A network interface as the kernel describes it.
public struct NetworkLink: Equatable, Sendable {
    public var index: UInt32
    public var name: String
    /// The administrator wants it up.
    public var isUp: Bool
    /// It can carry packets: the cable is in, the other side answers.
    public var isRunning: Bool
    /// The hardware address; empty where there is none.
    public var hardwareAddress: [UInt8]
    /// It does not exist any more.
    public var isGone = false

    public init(index: UInt32, name: String, isUp: Bool, isRunning: Bool, hardwareAddress: [UInt8]) {
        self.index = index
        self.name = name
        self.isUp = isUp
        self.isRunning = isRunning
        self.hardwareAddress = hardwareAddress
    }
}

/// An IPv4 address on an interface.
public struct InterfaceAddress: Hashable, Sendable {
    public var interface: UInt32
    /// In host byte order.
    public var address: UInt32
    public var prefixLength: UInt8
    public var isSecondary = false
    /// rtnetlink(7)'s scope: 0 global, 200 site, 253 link, 254 host, 255 nowhere.
    public var scope: UInt8 = 0
    public var broadcast: UInt32?
    /// `eth0:1` and the like, for ifconfig; at most 15 bytes.
    public var label: String?
    /// The kernel takes the address away after this many seconds unless it is added again; nil is for ever.
    public var lifetimeSeconds: UInt32?

    public init(interface: UInt32, address: UInt32, prefixLength: UInt8) {
        self.interface = interface
        self.address = address
        self.prefixLength = prefixLength
    }
}

/// The kernel's tables of interfaces and IPv4 addresses: read, watched, changed (rtnetlink(7)).
///
/// Each request is acknowledged by the kernel; what others change comes as a `Change`.
public final class RouteNetlink {
    public enum Change: Equatable, Sendable {
        case link(NetworkLink)
        case addressAdded(InterfaceAddress)
        case addressRemoved(InterfaceAddress)
    }

    /// Called for every interface and address after `dump`, and for every later change, our own included.
    public var onChange: ((Change) -> Void)?

    private var socket: DatagramSocket!
    private var sequence: UInt32 = 0
    private var completions: [UInt32: (Int32) -> Void] = [:]

    /// - Throws: `SystemError` when the kernel gives no netlink socket.
    public init(loop: Loop) throws(SystemError) {
        socket = try loop.openDatagram(domain: AF_NETLINK, type: Int32(SOCK_RAW.rawValue), protocol: Int32(NETLINK_ROUTE)) {
            [weak self] bytes, sender in
            // Only the kernel, port 0, is believed.
            if sender.load(sockaddr_nl.self).nl_pid == 0 { self?.received(bytes) }
        }
        var address = sockaddr_nl()
        address.nl_family = sa_family_t(AF_NETLINK)
        address.nl_groups = UInt32(RTMGRP_LINK | RTMGRP_IPV4_IFADDR)
        // The link flaps of a busy host with hundreds of interfaces must fit.
        try? socket.setOption(SOL_SOCKET, SO_RCVBUF, Int32(1 << 20))
        try socket.bind(RawAddress(address))
    }

    public func close() {
        completions.removeAll()
        socket.close()
    }

    /// Reads all interfaces, then all IPv4 addresses, through `onChange`; then calls `completion`.
    /// - Parameter completion: told 0 or an errno.
    public func dump(completion: @escaping (Int32) -> Void) {
        request(type: RouteMessage.getLink, flags: RouteMessage.dump, body: RouteMessage.linkHeader()) { [weak self] problem in
            guard problem == 0, let self else { return completion(problem) }
            let body = RouteMessage.addressHeader(InterfaceAddress(interface: 0, address: 0, prefixLength: 0))
            request(type: RouteMessage.getAddress, flags: RouteMessage.dump, body: body, completion: completion)
        }
    }

    /// Adds an address, or renews the lifetime of one that is there.
    /// - Parameter completion: told 0 or an errno (EPERM without CAP_NET_ADMIN, ENODEV, ...).
    public func add(_ address: InterfaceAddress, completion: @escaping (Int32) -> Void = { _ in }) {
        request(type: RouteMessage.newAddress, flags: RouteMessage.createOrReplace, body: RouteMessage.body(of: address), completion: completion)
    }

    /// Takes an address away.
    /// - Parameter completion: told 0 or an errno (EADDRNOTAVAIL: it was not there).
    public func remove(_ address: InterfaceAddress, completion: @escaping (Int32) -> Void = { _ in }) {
        var plain = address
        plain.lifetimeSeconds = nil
        plain.broadcast = nil
        request(type: RouteMessage.deleteAddress, flags: 0, body: RouteMessage.body(of: plain), completion: completion)
    }

    private func request(type: UInt16, flags: UInt16, body: [UInt8], completion: @escaping (Int32) -> Void) {
        sequence &+= 1
        completions[sequence] = completion
        let message = RouteMessage.message(type: type, flags: flags | RouteMessage.requestWithAck, sequence: sequence, body: body)
        let problem = message.withUnsafeBytes { socket.send($0) }
        if problem != 0 { finish(sequence, problem) }
    }

    private func finish(_ sequence: UInt32, _ problem: Int32) {
        completions.removeValue(forKey: sequence)?(problem)
    }

    private func received(_ bytes: UnsafeRawBufferPointer) {
        RouteMessage.forEach(in: bytes) { message in
            switch message {
            case .done(let sequence, let problem): finish(sequence, problem)
            case .change(let change): onChange?(change)
            case .other: break
            }
        }
    }
}

/// The bytes of rtnetlink messages, in host byte order unless said otherwise.
///
///     0        4      6       8          12     16
///     | length | type | flags | sequence | port | header of the type | attributes ...
///
/// An attribute is its length with these four bytes (2), its type (2), its value, padded to four bytes.
enum RouteMessage {
    static let newLink: UInt16 = 16
    static let deleteLink: UInt16 = 17
    static let getLink: UInt16 = 18
    static let newAddress: UInt16 = 20
    static let deleteAddress: UInt16 = 21
    static let getAddress: UInt16 = 22
    private static let error: UInt16 = 2
    private static let done: UInt16 = 3

    /// NLM_F_REQUEST and NLM_F_ACK.
    static let requestWithAck: UInt16 = 0x1 | 0x4
    /// NLM_F_ROOT and NLM_F_MATCH.
    static let dump: UInt16 = 0x100 | 0x200
    /// NLM_F_CREATE and NLM_F_REPLACE.
    static let createOrReplace: UInt16 = 0x400 | 0x100

    enum Message: Equatable {
        /// The answer to a request is complete; `problem` is 0 or an errno.
        case done(sequence: UInt32, problem: Int32)
        case change(RouteNetlink.Change)
        case other
    }

    static func message(type: UInt16, flags: UInt16, sequence: UInt32, body: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = []
        append(UInt32(16 + body.count), to: &bytes)
        append(type, to: &bytes)
        append(flags, to: &bytes)
        append(sequence, to: &bytes)
        append(UInt32(0), to: &bytes)
        return bytes + body
    }

    /// struct ifinfomsg, all zero: every interface.
    static func linkHeader() -> [UInt8] { [UInt8](repeating: 0, count: 16) }

    /// struct ifaddrmsg: family (1), prefix length (1), flags (1), scope (1), interface index (4).
    static func addressHeader(_ address: InterfaceAddress) -> [UInt8] {
        var bytes: [UInt8] = [UInt8(AF_INET), address.prefixLength, 0, address.scope]
        append(address.interface, to: &bytes)
        return bytes
    }

    static func body(of address: InterfaceAddress) -> [UInt8] {
        var bytes = addressHeader(address)
        appendAttribute(UInt16(IFA_LOCAL), networkOrder(address.address), to: &bytes)
        appendAttribute(UInt16(IFA_ADDRESS), networkOrder(address.address), to: &bytes)
        if let broadcast = address.broadcast { appendAttribute(UInt16(IFA_BROADCAST), networkOrder(broadcast), to: &bytes) }
        if let label = address.label { appendAttribute(UInt16(IFA_LABEL), Array(label.utf8) + [0], to: &bytes) }
        if let seconds = address.lifetimeSeconds {
            // struct ifa_cacheinfo: preferred and valid lifetime, two time stamps that the kernel fills.
            var info: [UInt8] = []
            for value in [seconds, seconds, 0, 0] { append(value, to: &info) }
            appendAttribute(UInt16(IFA_CACHEINFO), info, to: &bytes)
        }
        return bytes
    }

    /// Walks the messages of one datagram; stops at the first that is cut short.
    static func forEach(in bytes: UnsafeRawBufferPointer, _ body: (Message) -> Void) {
        var offset = 0
        while offset + 16 <= bytes.count {
            let length = Int(bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
            guard length >= 16, offset + length <= bytes.count else { return }
            body(parse(UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + length])))
            offset += (length + 3) & ~3
        }
    }

    private static func parse(_ bytes: UnsafeRawBufferPointer) -> Message {
        let type = bytes.loadUnaligned(fromByteOffset: 4, as: UInt16.self)
        let sequence = bytes.loadUnaligned(fromByteOffset: 8, as: UInt32.self)
        switch type {
        case error, done:
            let code = bytes.count >= 20 ? bytes.loadUnaligned(fromByteOffset: 16, as: Int32.self) : 0
            return .done(sequence: sequence, problem: code < 0 ? 0 &- max(code, -Int32.max) : 0)
        case newLink, deleteLink:
            return link(bytes, isGone: type == deleteLink).map { .change(.link($0)) } ?? .other
        case newAddress, deleteAddress:
            guard let address = address(bytes) else { return .other }
            return .change(type == newAddress ? .addressAdded(address) : .addressRemoved(address))
        default:
            return .other
        }
    }

    private static func link(_ bytes: UnsafeRawBufferPointer, isGone: Bool) -> NetworkLink? {
        // A bridge announces its ports with family AF_BRIDGE; those messages are not about the interface itself.
        guard bytes.count >= 32, bytes[16] == UInt8(AF_UNSPEC) else { return nil }
        let flags = bytes.loadUnaligned(fromByteOffset: 24, as: UInt32.self)
        var link = NetworkLink(
            index: bytes.loadUnaligned(fromByteOffset: 20, as: UInt32.self), name: "",
            isUp: flags & UInt32(IFF_UP) != 0, isRunning: flags & UInt32(IFF_RUNNING) != 0, hardwareAddress: [])
        link.isGone = isGone
        forEachAttribute(in: bytes, from: 32) { type, value in
            if type == UInt16(IFLA_IFNAME) { link.name = String(decoding: value.prefix { $0 != 0 }, as: UTF8.self) }
            if type == UInt16(IFLA_ADDRESS) { link.hardwareAddress = Array(value) }
        }
        return link
    }

    private static func address(_ bytes: UnsafeRawBufferPointer) -> InterfaceAddress? {
        guard bytes.count >= 24, bytes[16] == UInt8(AF_INET) else { return nil }
        var result = InterfaceAddress(
            interface: bytes.loadUnaligned(fromByteOffset: 20, as: UInt32.self), address: 0, prefixLength: bytes[17])
        result.isSecondary = bytes[18] & UInt8(IFA_F_SECONDARY) != 0
        result.scope = bytes[19]
        forEachAttribute(in: bytes, from: 24) { type, value in
            guard type == UInt16(IFA_LOCAL), value.count == 4 else { return }
            result.address = UInt32(bigEndian: value.loadUnaligned(as: UInt32.self))
        }
        return result
    }

    private static func forEachAttribute(in bytes: UnsafeRawBufferPointer, from start: Int, _ body: (UInt16, UnsafeRawBufferPointer) -> Void) {
        var offset = start
        while offset + 4 <= bytes.count {
            let length = Int(bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
            guard length >= 4, offset + length <= bytes.count else { return }
            body(
                bytes.loadUnaligned(fromByteOffset: offset + 2, as: UInt16.self),
                UnsafeRawBufferPointer(rebasing: bytes[offset + 4..<offset + length]))
            offset += (length + 3) & ~3
        }
    }

    private static func networkOrder(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value.bigEndian, Array.init) }

    private static func append<T: FixedWidthInteger>(_ value: T, to bytes: inout [UInt8]) {
        withUnsafeBytes(of: value) { bytes.append(contentsOf: $0) }
    }

    private static func appendAttribute(_ type: UInt16, _ value: [UInt8], to bytes: inout [UInt8]) {
        append(UInt16(4 + value.count), to: &bytes)
        append(type, to: &bytes)
        bytes += value
        while bytes.count % 4 != 0 { bytes.append(0) }
    }
}
