// A load generator with a fixed rate: redis-benchmark asks as fast as it is answered, so that a slow server is simply asked less.
// Here each request has its time, whether the one before was answered or not, and latency counts from that time.
//
//     open-loop --port 6379 --rate 50000 --seconds 5 --connections 50 --keys 100000 --size 64 --writes 50
//
// Half of the requests are SETs (--writes, in per cent), the others GETs. Prints one line of JSON: requests, the rate that was
// kept, and percentiles of latency in microseconds. It keeps one CPU busy.

import ArgumentParser
import CLinux
import Glibc

struct Failure: Error, CustomStringConvertible {
    let description: String
    init(_ text: String) { description = text }
}

func nanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// One connection: what waits to be sent, when the unanswered requests were due, and how far the present reply is read.
final class LoadConnection {
    let descriptor: Int32
    private var output: [UInt8] = []
    private var due: [UInt64] = []
    private var firstDue = 0
    /// Bytes of a bulk reply still to come.
    private var bulkLeft = 0
    private var line: [UInt8] = []
    private var buffer = [UInt8](repeating: 0, count: 65_536)

    init(port: UInt16) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        guard result == 0 else { throw Failure("connect to port \(port): errno \(errno)") }
        var on: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, 4)
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
    }

    var unanswered: Int { due.count - firstDue }

    func request(_ bytes: [UInt8], due time: UInt64) {
        due.append(time)
        output += bytes
        flush()
    }

    func flush() {
        while !output.isEmpty {
            let sent = send(descriptor, output, output.count, Int32(MSG_NOSIGNAL))
            if sent <= 0 { return }
            output.removeFirst(sent)
        }
    }

    /// Reads what has come, and tells for each reply how long after its time it came.
    func receive(_ answered: (UInt64) -> Void) throws {
        while true {
            let count = recv(descriptor, &buffer, buffer.count, 0)
            if count < 0 { return }
            if count == 0 { throw Failure("the server closed a connection") }
            let now = nanoseconds()
            var i = 0
            while i < count {
                if bulkLeft > 0 {
                    let taken = min(bulkLeft, count - i)
                    i += taken
                    bulkLeft -= taken
                    if bulkLeft == 0 { complete(now, answered) }
                    continue
                }
                let byte = buffer[i]
                i += 1
                if byte != 10 {
                    line.append(byte)
                    continue
                }
                if line.first == UInt8(ascii: "-") { throw Failure("the server answered \(String(decoding: line, as: UTF8.self))") }
                if line.first == UInt8(ascii: "$"), let length = Int(String(decoding: line.dropFirst().dropLast(), as: UTF8.self)), length >= 0 {
                    bulkLeft = length + 2
                } else {
                    complete(now, answered)
                }
                line.removeAll(keepingCapacity: true)
            }
            if count < buffer.count { return }
        }
    }

    private func complete(_ now: UInt64, _ answered: (UInt64) -> Void) {
        answered(now - due[firstDue])
        firstDue += 1
        if firstDue == due.count {
            due.removeAll(keepingCapacity: true)
            firstDue = 0
        }
    }
}

@main struct OpenLoop: ParsableCommand {
    @Option var port: UInt16
    @Option var rate: Double = 10_000
    @Option var seconds: Double = 5
    @Option var connections = 50
    @Option var keys = 100_000
    @Option var size = 64
    @Option(help: "per cent of the requests") var writes = 50

    func run() throws {
        let epoll = epoll_create1(0)
        let all = try (0..<connections).map { _ in try LoadConnection(port: port) }
        for (i, connection) in all.enumerated() {
            var event = epoll_event()
            event.events = EPOLLIN.rawValue
            event.data.u64 = UInt64(i)
            epoll_ctl(epoll, EPOLL_CTL_ADD, connection.descriptor, &event)
        }
        var events = [epoll_event](repeating: epoll_event(), count: 256)
        let value = String(repeating: "x", count: size)
        var random: UInt64 = 0x9E37_79B9_7F4A_7C15
        func draw(_ bound: Int) -> Int {
            random ^= random << 13
            random ^= random >> 7
            random ^= random << 17
            return Int(random % UInt64(bound))
        }
        var latencies: [UInt32] = []
        latencies.reserveCapacity(Int(rate * seconds))
        let gap = 1e9 / rate, total = Int(rate * seconds)
        let start = nanoseconds() + 1_000_000
        var sent = 0, lag: UInt64 = 0
        let deadline = start + UInt64(seconds * 1e9) + 5_000_000_000
        while latencies.count < total {
            var now = nanoseconds()
            if now > deadline { throw Failure("\(total - latencies.count) of \(total) requests unanswered 5 s after the last") }
            while sent < total, start + UInt64(Double(sent) * gap) <= now {
                let due = start + UInt64(Double(sent) * gap)
                let digits = String(draw(keys))
                let key = "key:" + String(repeating: "0", count: 12 - digits.count) + digits
                let text = draw(100) < writes
                    ? "*3\r\n$3\r\nSET\r\n$16\r\n\(key)\r\n$\(size)\r\n\(value)\r\n" : "*2\r\n$3\r\nGET\r\n$16\r\n\(key)\r\n"
                all[sent % connections].request(Array(text.utf8), due: due)
                sent += 1
                now = nanoseconds()
                lag = max(lag, now - due)
            }
            let count = epoll_wait(epoll, &events, 256, 0)
            for i in 0..<max(0, Int(count)) {
                let connection = all[Int(events[i].data.u64)]
                connection.flush()
                try connection.receive { latencies.append(UInt32(clamping: $0)) }
            }
        }
        let took = Double(nanoseconds() - start) / 1e9
        latencies.sort()
        func percentile(_ p: Double) -> String {
            let microseconds = Double(latencies[min(total - 1, Int(Double(total) * p / 100))]) / 1000
            return String(Double(Int(microseconds * 10)) / 10)
        }
        print("{\"requests\": \(total), \"rate\": \(Int(Double(total) / took)), \"p50\": \(percentile(50)), \"p99\": \(percentile(99)),"
            + " \"p99.9\": \(percentile(99.9)), \"max\": \(percentile(100)), \"generator_lag\": \(lag / 1000)}")
    }
}
