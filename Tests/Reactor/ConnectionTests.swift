import CLinux
import Glibc
@testable import Reactor
import Testing

extension KernelTests {
@Suite("connections over the kernel")
struct ConnectionTests {
    let loop: Loop = EpollLoop()
    let server = Probe()
    let client = Probe()

    func listen(_ options: ListenOptions = .init()) throws -> Listener {
        try loop.listen(on: .loopback(port: 0), options: options, handler: server)
    }

    func connect(_ listener: Listener) -> Connection {
        loop.connect(to: listener.address, timeout: .seconds(5), handler: client)
    }

    @Test("an echo over IPv4, IPv6 and a Unix socket, whose file has the mode that was asked for and goes with the listener")
    func echo() throws {
        try withTemporaryDirectory { directory in
            var options = ListenOptions()
            options.unixMode = 0o660
            for address in [.loopback(port: 0), SocketAddress(numeric: "::1", port: 0)!, .unix("\(directory)/socket")] {
                let server = Probe()
                let client = Probe()
                let listener = try loop.listen(on: address, options: options, handler: server)
                server.onReceive = Probe.echo
                let connection = loop.connect(to: listener.address, timeout: .seconds(5), handler: client)
                connection.output.append("hello")
                #expect(client.opened == 0)
                #expect(turn(loop) { client.received == Array("hello".utf8) })
                if case .unix(let path) = address {
                    var information = stat()
                    #expect(stat(path, &information) == 0)
                    #expect(information.st_mode & 0o777 == 0o660)
                } else {
                    #expect(connection.local == server.accepted[0].peer)
                    #expect(connection.peer == server.accepted[0].local)
                }
                connection.close()
                #expect(turn(loop) { client.closed == [.local] && server.closed == [.endOfStream] })
                listener.close()
                if case .unix(let path) = address { #expect(access(path, F_OK) != 0) }
            }
        }
    }

    @Test("a file that is no socket is not deleted to make place for one")
    func regularFile() throws {
        withTemporaryDirectory { directory in
            close(open("\(directory)/file", O_CREAT | O_WRONLY, 0o600))
            #expect(throws: SystemError.self) { try loop.listen(on: .unix("\(directory)/file"), handler: server) }
            #expect(access("\(directory)/file", F_OK) == 0)
        }
    }

    @Test("a stale socket file is replaced")
    func staleSocket() throws {
        try withTemporaryDirectory { directory in
            let raw = try RawAddress(.unix("\(directory)/socket"))
            let old = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
            try #require(bind(old, to: raw) == 0)
            close(old)
            let listener = try loop.listen(on: .unix("\(directory)/socket"), handler: server)
            listener.close()
        }
    }

    @Test("a listener that closes leaves the socket that a successor has put in its place")
    func successor() throws {
        try withTemporaryDirectory { directory in
            let old = try loop.listen(on: .unix("\(directory)/socket"), handler: server)
            let new = try loop.listen(on: .unix("\(directory)/socket"), handler: server)
            old.close()
            #expect(access("\(directory)/socket", F_OK) == 0)
            new.close()
            #expect(access("\(directory)/socket", F_OK) != 0)
        }
    }

    @Test("with SO_SNDBUF at its minimum and a slow reader, many MB of replies arrive whole and in order", arguments: [false, true])
    func smallestSendBuffer(unix: Bool) throws {
        try withTemporaryDirectory { directory in
            var options = ListenOptions()
            options.sendBufferSize = 1  // the kernel raises it to its minimum, 4608 bytes
            let listener = try loop.listen(on: unix ? .unix("\(directory)/socket") : .loopback(port: 0), options: options, handler: server)
            let payload = pattern(8 << 20)
            let random = UnsafeMutablePointer<LoopRandom>.allocate(capacity: 1)
            random.initialize(to: LoopRandom(seed: 7))
            defer { random.deallocate() }
            // Each request is answered by the next piece, of any size from 1 byte to 200 KiB.
            var sent = 0
            server.onReceive = { connection in
                let requests = connection.input.count
                connection.input.consume(requests)
                for _ in 0..<requests where sent < payload.count {
                    let size = min(payload.count - sent, Int.random(in: 1...(Bool.random(using: &random.pointee) ? 300 : 200_000), using: &random.pointee))
                    payload.withUnsafeBytes { connection.output.append(UnsafeRawBufferPointer(rebasing: $0[sent..<sent + size])) }
                    sent += size
                }
            }
            let connection = loop.connect(to: listener.address, timeout: .seconds(5), handler: client)
            connection.output.append([UInt8](repeating: 0x2E, count: 300))
            var turns = 0
            client.onReceive = { connection in
                client.received.append(contentsOf: connection.input.bytes)
                connection.input.consume(connection.input.count)
                connection.output.append(".")
                turns += 1
                if turns % 16 == 0 {
                    connection.pauseReading()
                    loop.schedule(after: .microseconds(200)) { connection.resumeReading() }
                }
            }
            #expect(turn(loop, seconds: 60) { client.received.count == payload.count })
            #expect(client.received == payload)
            #expect(server.accepted[0].output.isEmpty)
        }
    }

    @Test("a peer that never reads does not make the loop spin, and the rest is served")
    func neverReads() throws {
        let listener = try listen()
        server.onReceive = { connection in
            connection.input.consume(connection.input.count)
            connection.output.append([UInt8](repeating: 1, count: 32 << 20))
        }
        let raw = RawClient(port: listener.address.port, receiveBuffer: 4096)
        defer { raw.close() }
        raw.send("x")
        #expect(turn(loop) { server.calls == 1 })
        turn(loop, seconds: 0.3) { false }
        let before = loop.statistics.iterations
        turn(loop, seconds: 0.5) { false }
        #expect(loop.statistics.iterations - before < 40)
        #expect(server.accepted[0].output.count > 16 << 20)
        // Requests are still taken from it while its replies wait.
        raw.send("y")
        #expect(turn(loop) { server.calls == 2 })
    }

    @Test("the end of one half leaves the other working; both ended, the connection closes by itself")
    func halfClose() throws {
        let listener = try listen()
        server.onEnd = { connection in
            connection.output.append("still here")
            connection.shutdownSending()
        }
        let connection = connect(listener)
        connection.output.append("request")
        connection.shutdownSending()
        client.onEnd = { _ in }
        #expect(turn(loop) { client.received == Array("still here".utf8) })
        #expect(server.received == Array("request".utf8))
        #expect(turn(loop) { client.closed == [.endOfStream] && server.closed == [.endOfStream] })
        #expect(client.ended == 1 && server.ended == 1)
    }

    @Test("a refused connection, a wrong local address and a missing socket say so, after connect has returned")
    func refused() throws {
        let listener = try listen()
        let address = listener.address
        listener.close()
        _ = loop.connect(to: address, timeout: .seconds(5), handler: client)
        #expect(client.closed.isEmpty)
        #expect(turn(loop) { client.closed.count == 1 })
        #expect(client.closed == [.connectFailed(ECONNREFUSED)])
        client.closed = []
        _ = loop.connect(to: .unix("/nonexistent/socket"), timeout: .seconds(5), handler: client)
        #expect(client.closed.isEmpty)
        #expect(turn(loop) { client.closed == [.connectFailed(ENOENT)] })
        client.closed = []
        _ = loop.connect(to: address, from: .ipv4(0xC000_0201, port: 0), timeout: .seconds(5), handler: client)
        #expect(turn(loop) { client.closed == [.connectFailed(EADDRNOTAVAIL)] })
        #expect(loop.liveTimers == 0)
    }

    @Test("an attempt that nobody answers ends at its time limit, and one can be called off before")
    func connectTimeout() throws {
        // A full backlog of 0 swallows further attempts.
        let listening = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(listening) }
        var raw = try RawAddress(.loopback(port: 0))
        try #require(bind(listening, to: raw) == 0)
        #expect(Glibc.listen(listening, 0) == 0)
        _ = raw.withMutableSockaddr { getsockname(listening, $0, $1) }
        let address = raw.socketAddress!
        let fillers = (0..<4).map { _ in loop.connect(to: address, timeout: .seconds(30), handler: Probe()) }
        turn(loop, seconds: 0.1) { false }
        let start = loop.now
        _ = loop.connect(to: address, timeout: .milliseconds(150), handler: client)
        let other = Probe()
        let cancelled = loop.connect(to: address, timeout: .seconds(30), handler: other)
        cancelled.output.append("never sent")
        cancelled.close()
        #expect(other.closed.isEmpty)
        #expect(turn(loop) { !client.closed.isEmpty })
        #expect(client.closed == [.connectTimedOut])
        #expect(loop.now - start >= .milliseconds(150))
        #expect(other.closed == [.local])
        #expect(other.opened == 0)
        for filler in fillers { filler.close() }
    }

    @Test("what the peer says first is read although it came with the news of the connection")
    func greeting() throws {
        let listener = try listen()
        server.onAccept = { $0.output.append("220 hello") }
        for _ in 0..<50 {
            client.received = []
            let connection = connect(listener)
            // Let the greeting arrive before the loop looks.
            #expect(turn(loop, seconds: 2) { client.received == Array("220 hello".utf8) })
            connection.close()
        }
        // The same with both in one event for sure: the peer is a kernel socket that speaks before we poll.
        let listening = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var raw = try RawAddress(.loopback(port: 0))
        _ = raw.withSockaddr { bind(listening, $0, $1) }
        _ = Glibc.listen(listening, 5)
        _ = raw.withMutableSockaddr { getsockname(listening, $0, $1) }
        client.received = []
        _ = loop.connect(to: raw.socketAddress!, timeout: .seconds(5), handler: client)
        let peer = accept(listening, nil, nil)
        _ = "first words".withCString { Glibc.send(peer, $0, strlen($0), 0) }
        #expect(turn(loop, seconds: 2) { client.received == Array("first words".utf8) })
        close(peer)
        close(listening)
    }

    @Test("more connections than one batch are all accepted from one edge")
    func acceptBatches() throws {
        let listener = try listen()
        let clients = (0..<400).map { _ in RawClient(port: listener.address.port) }
        #expect(turn(loop) { server.accepted.count == 400 })
        #expect(loop.statistics.connectionsAccepted == 400)
        for client in clients { client.close() }
        #expect(turn(loop) { server.closed.count == 400 })
    }

    @Test("an event for a descriptor that was closed and given to another connection in the same round is dropped")
    func descriptorReuse() throws {
        let listener = try listen()
        let a = RawClient(port: listener.address.port)
        let b = RawClient(port: listener.address.port)
        #expect(turn(loop) { server.accepted.count == 2 })
        let late = Probe()
        var replacement: Connection?
        var reused: Int32 = -1
        // Both get bytes in one round; whoever is served first closes the other and opens a connection on its number.
        server.onReceive = { [server] connection in
            connection.input.consume(connection.input.count)
            guard replacement == nil else { return }
            let victim = server.accepted.first { $0 !== connection }!
            reused = victim.descriptor
            victim.close()
            replacement = loop.connect(to: listener.address, timeout: .seconds(5), handler: late)
        }
        a.send("x")
        b.send("y")
        usleep(20_000)
        loop.iterate(until: loop.now + .milliseconds(50))
        #expect(replacement?.descriptor == reused)
        #expect(loop.statistics.lateEventsDropped == 1)
        #expect(turn(loop) { late.opened == 1 })
        #expect(late.received.isEmpty && late.closed.isEmpty)
        a.close()
        b.close()
    }

    @Test("a direct receive puts the bytes where they belong, those already there included, and calls once")
    func directReceive() throws {
        let listener = try listen()
        let payload = pattern(3_000_000)
        let destination = UnsafeMutableRawPointer.allocate(byteCount: payload.count, alignment: 16)
        defer { destination.deallocate() }
        var sizes: [Int] = []
        server.onReceive = { connection in
            sizes.append(connection.input.count)
            if sizes.count == 1 {
                connection.input.consume(6)
                connection.input.receiveDirectly(into: destination, count: payload.count)
            } else if connection.input.directRemaining == 0, connection.input.count > 0 {
                #expect(connection.input.bytes.elementsEqual("tail".utf8))
                connection.input.consume(connection.input.count)
            }
        }
        let connection = connect(listener)
        connection.output.append("header")
        connection.output.append(payload)
        connection.output.append("tail")
        #expect(turn(loop) { sizes.count >= 3 || (sizes.count == 2 && sizes.last == 4) })
        #expect(memcmp(destination, payload, payload.count) == 0)
    }

    @Test("a handler that expects a long value is called when it is there in one piece, and short memory is kept after it")
    func expect() throws {
        let listener = try listen()
        let payload = pattern(5_000_000)
        var callsWhileWaiting = 0
        var got: [UInt8] = []
        server.onReceive = { connection in
            guard got.isEmpty else { return }
            callsWhileWaiting += 1
            if connection.input.count < payload.count {
                connection.input.expect(payload.count)
                return
            }
            got = Array(connection.input.bytes.prefix(payload.count))
            connection.input.consume(payload.count)
        }
        let connection = connect(listener)
        connection.output.append(payload)
        connection.output.append("rest")
        #expect(turn(loop) { !got.isEmpty })
        #expect(got == payload)
        #expect(callsWhileWaiting <= 3)
        #expect(turn(loop) { server.accepted[0].input.count == 4 })
        #expect(server.accepted[0].input.state.pointee.capacity <= 65_536)
        // Nothing left to read: no memory at all.
        server.onReceive = nil
        connection.output.append("!")
        #expect(turn(loop) { server.received == Array("rest!".utf8) })
        #expect(server.accepted[0].input.state.pointee.capacity == 0)
    }

    @Test("a request without a hint grows by doubling, and beyond the input limit it closes the connection")
    func inputLimit() throws {
        let listener = try listen()
        server.onReceive = { _ in }
        server.onAccept = { $0.inputLimit = 1_000_000 }
        let connection = connect(listener)
        connection.output.append(pattern(900_000))
        #expect(turn(loop) { server.accepted.first?.input.count == 900_000 })
        #expect(server.accepted[0].input.bytes.elementsEqual(pattern(900_000)))
        connection.output.append(pattern(200_000))
        #expect(turn(loop) { server.closed == [.inputLimitReached] })
    }

    @Test("a paused connection keeps what it has, gets no calls, and goes on where it was")
    func pause() throws {
        let listener = try listen()
        let connection = connect(listener)
        server.onReceive = { connection in
            server.received.append(connection.input.bytes[0])
            connection.input.consume(1)
            connection.pauseReading()
        }
        connection.output.append("abc")
        #expect(turn(loop) { server.received.count == 1 })
        turn(loop, seconds: 0.1) { false }
        #expect(server.received == Array("a".utf8))
        connection.output.append("d")
        turn(loop, seconds: 0.1) { false }
        #expect(server.received == Array("a".utf8))
        for expected in ["ab", "abc", "abcd"] {
            server.accepted[0].resumeReading()
            #expect(turn(loop, seconds: 2) { server.received == Array(expected.utf8) })
        }
    }

    @Test("the end of the stream waits behind a pause")
    func pausedEnd() throws {
        let listener = try listen()
        server.onAccept = { $0.pauseReading() }
        let connection = connect(listener)
        connection.output.append("last words")
        connection.closeAfterFlush()
        #expect(turn(loop) { client.closed == [.local] })
        turn(loop, seconds: 0.1) { false }
        #expect(server.received.isEmpty && server.ended == 0)
        server.accepted[0].resumeReading()
        #expect(turn(loop) { server.ended == 1 })
        #expect(server.received == Array("last words".utf8))
    }

    @Test("closeAfterFlush sends all that is queued, even asked for before the connection is up, and unread requests do not reset it")
    func closeAfterFlush() throws {
        let listener = try listen()
        let payload = pattern(4 << 20)
        let connection = connect(listener)
        connection.output.append(payload)
        connection.closeAfterFlush()
        #expect(turn(loop) { !server.closed.isEmpty })
        #expect(server.received == payload)
        #expect(client.closed == [.local])
        // The other way round: the server says goodbye while requests still come.
        server.onReceive = { connection in
            connection.input.consume(1)
            connection.output.append("-ERR bye")
            connection.closeAfterFlush()
            connection.input.consume(min(1, connection.input.count))
        }
        let raw = RawClient(port: listener.address.port)
        raw.send(String(repeating: "q", count: 100_000))
        var answer: [UInt8] = []
        #expect(turn(loop) {
            if let bytes = raw.poll() {
                answer += bytes
                return bytes.isEmpty
            }
            return false
        })
        #expect(answer == Array("-ERR bye".utf8))
        raw.close()
    }

    @Test("close in the middle of a handler: it may still consume and append, and is told once")
    func closeInHandler() throws {
        let listener = try listen()
        server.onReceive = { connection in
            connection.output.append("dropped")
            connection.close()
            connection.close()
            connection.output.append([UInt8](repeating: 0, count: 100_000))
            for _ in 0..<10_000 { connection.output.append("x") }
            connection.input.consume(1)
        }
        let connection = connect(listener)
        connection.output.append("abc")
        #expect(turn(loop) { server.closed.count == 1 })
        #expect(server.closed == [.local])
        turn(loop, seconds: 0.05) { false }
        #expect(server.closed.count == 1)
        #expect(client.received.isEmpty)
    }

    @Test("more output than the hard limit closes the connection, and the writer finishes safely")
    func hardLimit() throws {
        let listener = try listen()
        server.onAccept = { $0.outputLimit = 1 << 20 }
        server.onReceive = { connection in
            for _ in 0..<100_000 { connection.output.append("0123456789012345678901234567890123456789") }
            connection.input.consume(connection.input.count)
        }
        let raw = RawClient(port: listener.address.port, receiveBuffer: 4096)
        raw.send("x")
        #expect(turn(loop) { server.closed == [.outputLimitReached] })
        raw.close()
    }

    @Test("output above the soft limit for its seconds closes the connection; falling below in time saves it")
    func softLimit() throws {
        let listener = try listen()
        server.onAccept = { $0.setSoftOutputLimit(1 << 20, seconds: 1) }
        server.onReceive = { connection in
            connection.input.consume(connection.input.count)
            connection.output.append([UInt8](repeating: 7, count: 16 << 20))
        }
        let stuck = RawClient(port: listener.address.port, receiveBuffer: 4096)
        stuck.send("x")
        let reading = Probe()
        let good = loop.connect(to: listener.address, timeout: .seconds(5), handler: reading)
        good.output.append("x")
        let start = loop.now
        #expect(turn(loop) { !server.closed.isEmpty })
        #expect(server.closed == [.outputLimitReached])
        #expect(loop.now - start >= .milliseconds(900))
        #expect(reading.received.count == 16 << 20)
        #expect(reading.closed.isEmpty)
        #expect(loop.liveTimers == 0)
        stuck.close()
    }

    @Test("notifyDrained tells when enough has been sent")
    func drained() throws {
        let listener = try listen()
        let connection = connect(listener)
        connection.output.append(pattern(3 << 20))
        connection.notifyDrained(below: 100_000)
        var left = Int.max
        client.onDrained = { left = $0.output.count }
        #expect(turn(loop) { client.drained == 1 })
        #expect(left <= 100_000)
        connection.notifyDrained(below: 0)
        #expect(turn(loop) { client.drained == 2 })
        #expect(left == 0)
    }

    @Test("a reset is told as such, to a half-closed connection too")
    func reset() throws {
        let listener = try listen()
        let raw = RawClient(port: listener.address.port)
        #expect(turn(loop) { server.accepted.count == 1 })
        raw.reset()
        #expect(turn(loop) { server.closed == [.receiveFailed(ECONNRESET)] })
        server.onEnd = { _ in }
        let half = RawClient(port: listener.address.port)
        #expect(turn(loop) { server.accepted.count == 2 })
        shutdown(half.descriptor, Int32(SHUT_WR))
        #expect(turn(loop) { server.ended == 1 })
        half.reset()
        #expect(turn(loop) { server.closed.count == 2 })
        // The kernel's name for a reset after the peer's end.
        #expect(server.closed.last == .receiveFailed(EPIPE))
    }

    @Test("what one iteration appends to a connection that waits for room passes the hooks before it is sent")
    func hooksBeforeSending() throws {
        let listener = try listen()
        var hooksRun = 0
        var bytesAtHook: [Int] = []
        loop.beforeFlush(label: "fsync") {
            hooksRun += 1
            bytesAtHook.append(Int(loop.statistics.bytesSent))
        }
        server.onReceive = { connection in
            connection.input.consume(connection.input.count)
            connection.output.append([UInt8](repeating: 1, count: 4 << 20))
        }
        let raw = RawClient(port: listener.address.port, receiveBuffer: 4096)
        raw.send("x")
        #expect(turn(loop) { server.calls == 1 && loop.statistics.bytesSent > 0 })
        turn(loop, seconds: 0.1) { false }
        // Room appears; within that iteration nothing may be sent before the hook.
        let sentBefore = Int(loop.statistics.bytesSent)
        bytesAtHook = []
        #expect(turn(loop) {
            while let bytes = raw.poll(), !bytes.isEmpty {}
            return Int(loop.statistics.bytesSent) > sentBefore
        })
        #expect(bytesAtHook.last == sentBefore)
        raw.close()
    }

    @Test("an idle connection costs at most 1 KiB of user memory")
    func idleMemory() throws {
        let listener = try listen()
        server.onReceive = Probe.echo
        // Warm: the tables have grown, the pool has its blocks.
        let count = 400
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        try #require(limit.rlim_cur > 2 * 400 + 100)
        func open(_ number: Int) -> [RawClient] {
            let before = server.accepted.count
            let clients = (0..<number).map { _ in RawClient(port: listener.address.port) }
            for client in clients { client.send("PING") }
            #expect(turn(loop) { server.accepted.count == before + number && clients.allSatisfy { ($0.poll(16) ?? []).count == 4 || server.calls >= server.accepted.count } })
            return clients
        }
        server.accepted.reserveCapacity(4 * count)
        let warm = open(count)
        for client in warm { client.close() }
        #expect(turn(loop) { server.closed.count == count })
        server.accepted.removeAll(keepingCapacity: true)
        let single = Connection(
            loop: loop, transport: SocketTransport(descriptor: -1), phase: .open, local: .loopback(port: 1), peer: .loopback(port: 2))
        var bytes = malloc_usable_size(Unmanaged.passUnretained(single).toOpaque())
        bytes += malloc_usable_size(Unmanaged.passUnretained(single.transport as AnyObject).toOpaque())
        bytes += malloc_usable_size(single.input.state) + malloc_usable_size(single.output.state)
        let clients = open(count)
        let idle = server.accepted[0]
        #expect(idle.input.state.pointee.capacity == 0)
        #expect(idle.output.isEmpty)
        // Four allocations with 8 bytes of malloc's each, and the slot in the table of descriptors.
        #expect(bytes + 4 * 8 + 16 <= 1024)
        print("idle connection: \(bytes + 48) bytes")
        for client in clients { client.close() }
        single.close()
    }
}
}
