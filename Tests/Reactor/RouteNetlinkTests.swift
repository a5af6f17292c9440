import CLinux
import Glibc
import Testing

@testable import Reactor

@Suite("rtnetlink")
struct RouteNetlinkTests {
    @Test("a request to set an address has the layout that the kernel wants")
    func layout() {
        var address = InterfaceAddress(interface: 2, address: 0xC0A8_0001, prefixLength: 24)
        address.lifetimeSeconds = 17
        let bytes = RouteMessage.message(type: RouteMessage.newAddress, flags: RouteMessage.createOrReplace | RouteMessage.requestWithAck, sequence: 7, body: RouteMessage.body(of: address))
        #expect(bytes == [
            60, 0, 0, 0, 20, 0, 0x05, 0x05, 7, 0, 0, 0, 0, 0, 0, 0,
            2, 24, 0, 0, 2, 0, 0, 0,
            8, 0, 2, 0, 192, 168, 0, 1,
            8, 0, 1, 0, 192, 168, 0, 1,
            20, 0, 6, 0, 17, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ])
    }

    @Test("the loopback interface and its address are in the kernel's tables")
    func dump() throws {
        let loop = EpollLoop()
        let netlink = try RouteNetlink(loop: loop)
        var links: [NetworkLink] = []
        var addresses: [InterfaceAddress] = []
        var answer: Int32?
        netlink.onChange = { change in
            switch change {
            case .link(let link): links.append(link)
            case .addressAdded(let address): addresses.append(address)
            case .addressRemoved: break
            }
        }
        netlink.dump { answer = $0; loop.stop() }
        loop.schedule(after: .seconds(5)) { loop.stop() }
        loop.run()
        #expect(answer == 0)
        let lo = try #require(links.first { $0.name == "lo" })
        #expect(addresses.contains { $0.interface == lo.index && $0.address == 0x7F00_0001 && $0.prefixLength == 8 })
        netlink.close()
    }

    @Test("an address on an interface that does not exist is refused with the kernel's errno")
    func refusal() throws {
        let loop = EpollLoop()
        let netlink = try RouteNetlink(loop: loop)
        var answer: Int32?
        netlink.add(InterfaceAddress(interface: 999_999, address: 0x0A00_0001, prefixLength: 32)) { answer = $0; loop.stop() }
        loop.schedule(after: .seconds(5)) { loop.stop() }
        loop.run()
        #expect(answer == ENODEV || answer == EPERM)
        netlink.close()
    }

    @Test("messages that are cut short or lie about their length are left alone")
    func garbage() {
        var seed: UInt64 = 3
        for round in 0..<3000 {
            var bytes = RouteMessage.message(type: UInt16(16 + round % 6), flags: 0, sequence: 1, body: RouteMessage.body(of: InterfaceAddress(interface: 1, address: 2, prefixLength: 3)) + [UInt8](repeating: 0, count: 40))
            for _ in 0..<4 {
                seed = seed &* 6364136223846793005 &+ 1442695040888963407
                bytes[Int(seed >> 40) % bytes.count] = UInt8(truncatingIfNeeded: seed >> 33)
            }
            bytes.prefix(Int(seed >> 45) % bytes.count).withUnsafeBytes { RouteMessage.forEach(in: $0) { _ in } }
        }
    }

    @Test("a gratuitous ARP is the frame that Keepalived sends")
    func arp() {
        let frame = ARPFrame.gratuitous(0xC0A8_0001, hardwareAddress: [0xF6, 0x2B, 0xD2, 0xBA, 0xD7, 0x9C])
        #expect(frame == [
            0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xF6, 0x2B, 0xD2, 0xBA, 0xD7, 0x9C, 0x08, 0x06,
            0, 1, 8, 0, 6, 4, 0, 1, 0xF6, 0x2B, 0xD2, 0xBA, 0xD7, 0x9C, 192, 168, 0, 1,
            0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 192, 168, 0, 1,
        ])
    }

    @Test("an IPv4 packet is taken apart, and nothing that is none")
    func packets() {
        var bytes: [UInt8] = [0x45, 0xC0, 0, 24, 0, 1, 0, 0, 255, 112, 0, 0, 192, 168, 0, 2, 224, 0, 0, 18, 1, 2, 3, 4, 99]
        bytes.withUnsafeBytes {
            let packet = IPv4Packet($0)
            #expect(packet?.timeToLive == 255 && packet?.source == 0xC0A8_0002 && packet?.destination == 0xE000_0012)
            #expect(packet.map { Array($0.payload) } == [1, 2, 3, 4])
        }
        bytes[3] = 26
        bytes.withUnsafeBytes { #expect(IPv4Packet($0) == nil) }
        bytes[0] = 0x4F
        bytes.withUnsafeBytes { #expect(IPv4Packet($0) == nil) }
    }
}
