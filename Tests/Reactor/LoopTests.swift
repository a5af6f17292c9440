import CLinux
import Glibc
@testable import Reactor
import Synchronization
import Testing

extension KernelTests {
@Suite("timers, signals, children, threads, datagrams")
struct LoopTests {
    let loop: Loop = EpollLoop()

    @Test("the heap fires the same timers in the same order as a sorted list, through inserts, cancels and repeats")
    func heapAgainstModel() {
        var random = LoopRandom(seed: 3)
        var heap = TimerHeap()
        var model: [(deadline: UInt64, sequence: Int, interval: UInt64?, id: TimerID, name: Int)] = []
        var fired: [Int] = []
        var now: UInt64 = 0
        var sequence = 0
        for name in 0..<20_000 {
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<5:
                let deadline = now + UInt64.random(in: 0..<500, using: &random)
                let interval = Int.random(in: 0..<20, using: &random) == 0 ? UInt64.random(in: 1..<300, using: &random) : nil
                let id = heap.insert(at: Instant(nanoseconds: deadline), interval: interval.map { .nanoseconds(Int64($0)) }, label: "t") { fired.append(name) }
                sequence += 1
                model.append((deadline, sequence, interval, id, name))
            case 5..<7:
                guard let index = model.indices.randomElement(using: &random) else { continue }
                let wasLive = heap.cancel(model[index].id)
                let isStillLive = heap.cancel(model[index].id)
                #expect(wasLive && !isStillLive)
                model.remove(at: index)
            default:
                now += UInt64.random(in: 0..<40, using: &random)
                while true {
                    let expected = model.indices.filter { model[$0].deadline <= now }
                        .min { (model[$0].deadline, model[$0].sequence) < (model[$1].deadline, model[$1].sequence) }
                    guard let popped = heap.popDue(at: Instant(nanoseconds: now)) else {
                        #expect(expected == nil)
                        break
                    }
                    popped.body()
                    guard let expected else {
                        Issue.record("fired what was not due")
                        return
                    }
                    #expect(fired.last == model[expected].name)
                    if let interval = model[expected].interval {
                        let first = model[expected].deadline
                        model[expected].deadline = first + ((now - first) / interval + 1) * interval
                        sequence += 1
                        model[expected].sequence = sequence
                    } else {
                        model.remove(at: expected)
                    }
                }
            }
            #expect(heap.count == model.count)
            #expect(heap.next?.nanoseconds == model.map(\.deadline).min())
        }
    }

    @Test("timers never fire early and come in order, 10 000 of them alive cost next to nothing")
    func tenThousand() {
        var random = LoopRandom(seed: 5)
        var early = 0
        var outOfOrder = 0
        var fired = 0
        var last = Instant.zero
        for _ in 0..<10_000 { loop.schedule(after: .seconds(3600)) {} }
        for _ in 0..<2000 {
            let deadline = loop.now + .microseconds(Int64.random(in: 0..<200_000, using: &random))
            loop.schedule(at: deadline) {
                fired += 1
                if loop.now < deadline { early += 1 }
                if deadline < last { outOfOrder += 1 }
                last = deadline
            }
        }
        #expect(turn(loop) { fired == 2000 })
        #expect(early == 0)
        #expect(outOfOrder == 0)
        #expect(loop.liveTimers == 10_000)
        let before = loop.statistics.busy
        for _ in 0..<10_000 { loop.cancel(loop.schedule(after: .seconds(60)) {}) }
        #expect(loop.liveTimers == 10_000)
        #expect(loop.statistics.busy == before)
    }

    @Test("a repeating timer keeps its rhythm although its callbacks take time, and skips what was missed")
    func rhythm() {
        let start = loop.now
        var times: [Duration] = []
        let timer = loop.scheduleRepeating(every: .milliseconds(10)) {
            times.append(loop.now - start)
            usleep(3000)
            if times.count == 5 { usleep(35_000) }
        }
        #expect(turn(loop) { times.count == 10 })
        loop.cancel(timer)
        for (index, time) in times.enumerated() {
            // Beats 6 to 8 were missed while the fifth was busy.
            let beat = index < 5 ? index + 1 : index == 5 ? nil : index + 3
            if let beat { #expect(time >= .milliseconds(Int64(10 * beat))) }
        }
        #expect(times[9] < .milliseconds(10 * 9 + 200))
    }

    @Test("a timer that sets itself again at once has its turn once an iteration, and may cancel itself")
    func selfSetting() {
        var count = 0
        func again() {
            count += 1
            loop.schedule(at: .zero) { again() }
        }
        again()
        for _ in 0..<5 { loop.iterate(until: loop.now) }
        #expect(count == 6)
        var beats = 0
        var timer: TimerID?
        timer = loop.scheduleRepeating(every: .microseconds(1)) {
            beats += 1
            loop.cancel(timer!)
        }
        turn(loop, seconds: 0.02) { false }
        #expect(beats == 1)
    }

    @Test("deferred work runs in the same iteration, before the hooks; hooks before sending; endless work leaves room for others")
    func order() {
        var order: [String] = []
        loop.beforeFlush(label: "hook") { order.append("hook") }
        loop.deferWork { [loop] in
            order.append("deferred")
            loop.deferWork { order.append("nested") }
        }
        loop.iterate(until: loop.now)
        #expect(order == ["deferred", "nested", "hook"])
        var endless = 0
        func spin() {
            endless += 1
            loop.deferWork { spin() }
        }
        spin()
        var timer = false
        loop.schedule(after: .zero) { timer = true }
        #expect(turn(loop, seconds: 2) { timer })
    }

    @Test("statistics: the longest callback and whose, time busy, and a report for the slow one")
    func statistics() {
        var reports: [(String, Duration)] = []
        loop.slowCallbackThreshold = .milliseconds(20)
        loop.onSlowCallback = { reports.append(("\($0)", $1)) }
        loop.schedule(after: .zero, label: "slow one") { usleep(30_000) }
        loop.schedule(after: .zero, label: "quick one") {}
        turn(loop) { loop.liveTimers == 0 }
        #expect("\(loop.statistics.longestCallbackLabel)" == "slow one")
        #expect(loop.statistics.longestCallback >= .milliseconds(30))
        #expect(reports.map(\.0) == ["slow one"])
        #expect(loop.statistics.busy >= .milliseconds(30))
        #expect(loop.statistics.iterations > 0)
        loop.resetLongestCallback()
        #expect(loop.statistics.longestCallback == .zero)
        // Waiting is not being busy.
        let before = loop.statistics.busy
        turn(loop, seconds: 0.2) { false }
        #expect(loop.statistics.busy - before < .milliseconds(100))
    }

    @Test("a signal reaches every body that asked for it, in the loop")
    func signals() {
        var seen: [String] = []
        loop.onSignal(SIGUSR2) { seen.append("one") }
        loop.onSignal(SIGUSR2) { seen.append("two") }
        loop.onSignal(SIGHUP) { seen.append("hup") }
        pthread_kill(pthread_self(), SIGUSR2)
        #expect(seen.isEmpty)
        #expect(turn(loop) { seen.count == 2 })
        pthread_kill(pthread_self(), SIGHUP)
        #expect(turn(loop) { seen.count == 3 })
        #expect(seen == ["one", "two", "hup"])
        var mask = sigset_t()
        sigemptyset(&mask)
        sigaddset(&mask, SIGUSR2)
        sigaddset(&mask, SIGHUP)
        pthread_sigmask(SIG_UNBLOCK, &mask, nil)
    }

    @Test("a program's exit status, its death by a signal, its output, and a program that does not exist")
    func spawn() throws {
        var ends: [Int32: ChildStatus] = [:]
        var pipeEnds: [Int32] = [0, 0]
        #expect(pipe(&pipeEnds) == 0)
        let three = try loop.spawn(["/bin/sh", "-c", "echo $GREETING; read x; exit 3"], environment: ["GREETING=hello"], output: pipeEnds[1]) { ends[3] = $0 }
        try loop.spawn(["/bin/sh", "-c", "kill -9 $$"]) { ends[9] = $0 }
        try loop.spawn(["/nonexistent/program"]) { ends[127] = $0 }
        let sleeper = try loop.spawn(["/bin/sleep", "100"]) { ends[15] = $0 }
        #expect(getpgid(sleeper) == sleeper || kill(sleeper, 0) == 0)
        kill(sleeper, SIGTERM)
        #expect(turn(loop) { ends.count == 4 })
        #expect(ends == [3: .exited(3), 9: .signalled(9), 127: .exited(127), 15: .signalled(SIGTERM)])
        close(pipeEnds[1])
        var bytes = [UInt8](repeating: 0, count: 100)
        let count = read(pipeEnds[0], &bytes, 100)
        #expect(Array(bytes.prefix(max(0, count))) == Array("hello\n".utf8))
        close(pipeEnds[0])
        #expect(waitpid(three, nil, WNOHANG) == -1 && errno == ECHILD)
    }

    @Test("a forked child has the parent's memory, none of its sockets, and tells how it ended")
    func fork() throws {
        let probe = Probe()
        let listener = try loop.listen(on: .loopback(port: 0), handler: probe)
        let client = RawClient(port: listener.address.port)
        #expect(turn(loop) { probe.accepted.count == 1 })
        let number: Int32 = 42
        let descriptor = probe.accepted[0].descriptor
        var status: ChildStatus?
        try loop.fork({ fcntl(descriptor, F_GETFD) == -1 ? number : 1 }) { status = $0 }
        // While a child lives on, a connection that we close is closed for the peer.
        var long: ChildStatus?
        let sleeper = try loop.fork({ sleep(20); return 0 }) { long = $0 }
        usleep(50_000)
        probe.accepted[0].close()
        #expect(turn(loop) { client.poll(10)?.isEmpty == true })
        #expect(turn(loop) { status != nil })
        #expect(status == .exited(42))
        kill(sleeper, SIGTERM)
        #expect(turn(loop) { long != nil })
        #expect(long == .signalled(SIGTERM))
        client.close()
        listener.close()
    }

    @Test("blocking work runs on another thread while the loop turns, and its completion in the loop")
    func background() {
        let finished = Mutex(0)
        let here = pthread_self()
        var completions = 0
        var elsewhere = 0
        let thread = Mutex<pthread_t?>(nil)
        for _ in 0..<20 {
            loop.runInBackground {
                usleep(2000)
                finished.withLock { $0 += 1 }
                thread.withLock { $0 = pthread_self() }
            } completion: {
                #expect(pthread_equal(here, pthread_self()) != 0)
                if thread.withLock({ pthread_equal($0!, here) == 0 }) { elsewhere += 1 }
                completions += 1
            }
        }
        #expect(completions == 0)
        #expect(turn(loop) { completions == 20 })
        #expect(finished.withLock { $0 } == 20)
        #expect(elsewhere == 20)
    }

    @Test("datagrams over UDP and Unix sockets, whole, with their sender")
    func datagrams() throws {
        try withTemporaryDirectory { directory in
            for address in [SocketAddress.loopback(port: 0), .unix("\(directory)/socket")] {
                var got: [[UInt8]] = []
                let raw = try RawAddress(address)
                let receiver = try loop.openDatagram(domain: Int32(raw.storage.ss_family), type: Int32(SOCK_DGRAM.rawValue), protocol: 0) { bytes, from in
                    got.append(Array(bytes))
                }
                try receiver.bind(raw)
                var bound = raw
                _ = bound.withMutableSockaddr { getsockname(receiver.descriptor, $0, $1) }
                let sender = try loop.openDatagram(domain: Int32(raw.storage.ss_family), type: Int32(SOCK_DGRAM.rawValue), protocol: 0) { _, _ in }
                for size in 1...200 { #expect(pattern(size).withUnsafeBytes { sender.send($0, to: bound) } == 0 || size > 5) }
                try sender.connect(bound)
                turn(loop) { got.count >= 5 }
                let before = got.count
                #expect(pattern(1000).withUnsafeBytes { sender.send($0) } == 0)
                #expect(turn(loop) { got.count > before && got.last?.count == 1000 })
                #expect(got.first == pattern(1))
                receiver.close()
                sender.close()
            }
        }
        #expect(throws: SystemError.self) { try loop.openDatagram(domain: AF_INET, type: 12345, protocol: 0) { _, _ in } }
    }

    @Test("a loop that goes away closes what it still has")
    func goingAway() throws {
        var local: Loop? = EpollLoop()
        let probe = Probe()
        let listener = try local!.listen(on: .loopback(port: 0), handler: probe)
        let client = RawClient(port: listener.address.port)
        #expect(turn(local!) { probe.accepted.count == 1 })
        probe.accepted[0].output.append("queued")
        local!.runInBackground({}) {}
        local = nil
        #expect(client.poll(10)?.isEmpty == true)
        #expect(probe.accepted[0].phase == .closed)
        probe.accepted[0].output.append("nowhere")
        probe.accepted[0].close()
        client.close()
    }

    @Test("the same seed gives the same random numbers")
    func random() {
        var a = LoopRandom(seed: 9)
        var b = LoopRandom(seed: 9)
        var c = LoopRandom(seed: 10)
        let numbers = (0..<100).map { _ in a.next() }
        #expect(numbers == (0..<100).map { _ in b.next() })
        #expect(numbers != (0..<100).map { _ in c.next() })
    }
}
}
