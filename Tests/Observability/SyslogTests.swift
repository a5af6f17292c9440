import CLinux
import Glibc
import Logging
import Observability
import Reactor
import Testing

@Suite("syslog datagrams")
struct SyslogTests {
    /// A loop with a datagram receiver that remembers what came.
    final class Receiver {
        var messages: [String] = []
        var socket: DatagramSocket!

        init(_ loop: Loop, _ address: SocketAddress) throws {
            let raw = try RawAddress(address)
            socket = try loop.openDatagram(domain: Int32(raw.storage.ss_family), type: Int32(SOCK_DGRAM.rawValue), protocol: 0) { [unowned self] bytes, _ in
                messages.append(String(decoding: bytes, as: UTF8.self))
            }
            try socket.bind(raw)
        }

        var port: UInt16 {
            var address = sockaddr_in()
            var length = socklen_t(MemoryLayout<sockaddr_in>.size)
            _ = withUnsafeMutablePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(socket.descriptor, $0, &length) }
            }
            return UInt16(bigEndian: address.sin_port)
        }
    }

    func turn(_ loop: Loop, until condition: () -> Bool) {
        let limit = loop.now + .seconds(5)
        while !condition(), loop.now < limit { loop.iterate(until: loop.now + .milliseconds(20)) }
    }

    @Test("over UDP a message is <PRI>Mon dd hh:mm:ss tag[pid]: text, in one datagram")
    func udp() throws {
        let loop = EpollLoop()
        let receiver = try Receiver(loop, .loopback(port: 0))
        let syslog = try Syslog(loop: loop, target: .udp(.loopback(port: receiver.port)), tag: "haproxy", pid: 77)
        syslog.send(.alert, .local0, "Server redis/redis01 is DOWN")
        syslog.logger(facility: .daemon).info("plain", metadata: ["k": "v"])
        turn(loop) { receiver.messages.count == 2 }
        try #require(receiver.messages.count == 2)
        let form = #/<(\d+)>(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ 1-3]\d \d\d:\d\d:\d\d haproxy\[77\]: (.*)/#
        let first = try #require(receiver.messages[0].wholeMatch(of: form))
        #expect(first.1 == "129")  // local0 = 16, alert = 1: 16 * 8 + 1
        #expect(first.3 == "Server redis/redis01 is DOWN")
        let second = try #require(receiver.messages[1].wholeMatch(of: form))
        #expect(second.1 == "30")  // daemon = 3, info = 6
        #expect(second.3 == "plain k=v")
        #expect(syslog.messagesSent == 2)
    }

    @Test("a Unix socket that is missing costs a counted message each, and works as soon as it is there")
    func unix() throws {
        try RedisLogTests.withTemporaryDirectory { directory in
            let loop = EpollLoop()
            let path = "\(directory)/log.sock"
            let syslog = try Syslog(loop: loop, target: .unix(path), tag: "Keepalived_vrrp")
            syslog.send(.info, .daemon, "nobody listens")
            #expect(syslog.messagesDropped == 1)
            let receiver = try Receiver(loop, .unix(path))
            syslog.send(.info, .daemon, "now")
            turn(loop) { !receiver.messages.isEmpty }
            #expect(receiver.messages.first?.hasSuffix("]: now") == true)
        }
    }

    @Test("a receiver that does not read makes messages drop, and never the sender wait")
    func full() throws {
        try RedisLogTests.withTemporaryDirectory { directory in
            let loop = EpollLoop()
            let receiver = try Receiver(loop, .unix("\(directory)/log.sock"))
            let syslog = try Syslog(loop: loop, target: .unix("\(directory)/log.sock"), tag: "t")
            for number in 0..<5000 { syslog.send(.info, .daemon, "message \(number)") }
            #expect(syslog.messagesDropped > 0)
            turn(loop) { receiver.messages.count == Int(syslog.messagesSent) }
            #expect(receiver.messages.count == Int(syslog.messagesSent))
            #expect(syslog.messagesSent + syslog.messagesDropped == 5000)
        }
    }

    @Test("what is less grave than asked is not sent, what is too long is cut")
    func limits() throws {
        let loop = EpollLoop()
        let receiver = try Receiver(loop, .loopback(port: 0))
        let syslog = try Syslog(loop: loop, target: .udp(.loopback(port: receiver.port)), tag: "t")
        syslog.lengthMax = 64
        let logger = syslog.logger(facility: .local1, least: .notice)
        logger.info("hidden")
        logger.notice("\(String(repeating: "x", count: 500))")
        turn(loop) { !receiver.messages.isEmpty }
        #expect(receiver.messages.count == 1)
        #expect(receiver.messages.first?.utf8.count == 64)
    }

    @Test("facilities, severities and targets are read from the words of the configuration files")
    func names() {
        #expect(SyslogFacility(name: "local0")?.rawValue == 16)
        #expect(SyslogFacility(name: "local7")?.rawValue == 23)
        #expect(SyslogFacility(name: "daemon")?.rawValue == 3)
        #expect(SyslogFacility(name: "local8") == nil)
        #expect(SyslogSeverity(name: "emerg") == .emergency)
        #expect(SyslogSeverity(name: "err")?.rawValue == 3)
        #expect(SyslogSeverity(name: "loud") == nil)
        #expect(Syslog.Target("/dev/log") == .unix("/dev/log"))
        #expect(Syslog.Target("127.0.0.1") == .udp(.loopback(port: 514)))
        #expect(Syslog.Target("127.0.0.1:5514") == .udp(.loopback(port: 5514)))
        #expect(Syslog.Target("[::1]:99") == .udp(SocketAddress(numeric: "::1", port: 99)!))
        #expect(Syslog.Target("127.0.0.1:x") == nil)
        #expect(Syslog.Target("nowhere.example") == nil)
    }
}
