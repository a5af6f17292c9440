import CLinux
import Glibc
@testable import Reactor
import Testing

extension KernelTests {
    @Suite("out of descriptors")
    struct ExhaustionTests {
        /// Runs `body` in a forked child with at most `limit` descriptors, so that the other tests keep theirs.
        /// - Returns: the child's exit status: 0, or the number of the step that failed.
        func inChild(limit: Int, _ body: () -> Int32) -> Int32 {
            let pid = vigie_fork()
            if pid == 0 {
                for descriptor in Int32(3)..<1024 { close(descriptor) }
                var value = rlimit(rlim_cur: rlim_t(limit), rlim_max: rlim_t(limit))
                setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &value)
                alarm(30)
                _exit(body())
            }
            var status: Int32 = 0
            waitpid(pid, &status, 0)
            return status & 0x7f == 0 ? status >> 8 & 0xff : -(status & 0x7f)
        }

        @Test("without descriptors left accepting waits and does not spin; when some are free again it goes on; a child is still reaped")
        func accepting() {
            let result = inChild(limit: 40) {
                let loop: Loop = EpollLoop()
                let server = Probe()
                guard let listener = try? loop.listen(on: .loopback(port: 0), handler: server) else { return 1 }
                // Both ends are ours: 40 descriptors make fewer than 20 pairs.
                let clients = (0..<12).map { _ in RawClient(port: listener.address.port) }
                guard turn(loop, seconds: 5, until: { server.accepted.count == 12 }) else { return 2 }
                // Each makes an edge of its own; their retries must not add up. Their descriptors are set aside first, or the
                // accepted ends would take them.
                let reserved = (0..<8).map { _ in dup(1) }
                let more = reserved.map { descriptor in
                    defer { turn(loop, seconds: 0.01) { false } }
                    close(descriptor)
                    return RawClient(port: listener.address.port)
                }
                guard turn(loop, seconds: 5, until: { loop.statistics.acceptsFailed > 0 }) else { return 3 }
                turn(loop, seconds: 0.2) { false }
                let iterations = loop.statistics.iterations
                let failures = loop.statistics.acceptsFailed
                turn(loop, seconds: 1) { false }
                if loop.statistics.iterations - iterations > 60 { return 4 }
                if loop.statistics.acceptsFailed - failures > 25 { return 5 }
                let failed = Probe()
                _ = loop.connect(to: listener.address, timeout: .seconds(5), handler: failed)
                guard turn(loop, seconds: 5, until: { failed.closed == [.connectFailed(EMFILE)] }) else { return 6 }
                for client in clients { client.close() }
                guard turn(loop, seconds: 5, until: { server.accepted.count == 20 }) else { return 7 }
                for client in more { client.close() }
                guard turn(loop, seconds: 5, until: { server.closed.count == 20 }) else { return 8 }
                return 0
            }
            #expect(result == 0)
        }

        @Test("a child that cannot be watched by a descriptor is reaped all the same")
        func reaping() {
            let result = inChild(limit: 16) {
                let loop: Loop = EpollLoop()
                var taken: [Int32] = []
                while case let descriptor = dup(0), descriptor >= 0 { taken.append(descriptor) }
                var status: ChildStatus?
                guard (try? loop.fork({ 7 }) { status = $0 }) != nil else { return 1 }
                guard turn(loop, seconds: 5, until: { status == .exited(7) }) else { return 2 }
                return 0
            }
            #expect(result == 0)
        }
    }
}
