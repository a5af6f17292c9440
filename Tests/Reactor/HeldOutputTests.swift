import Glibc
@testable import Reactor
import Testing

/// `Connection.holdOutput(from:)`, `releaseOutput` and `replaceOutput`, as `reply-after-replicas` uses them.
@Suite("output that is held from a position on")
struct HeldOutputTests {
    /// One connection from a server to a client, and what it ought to do.
    ///
    /// Replies are appended, some of which must wait. Those that wait are let go, or replaced, from the first one on.
    final class Scene {
        let world: SimulatedWorld
        let pair: SimulationTests.Pair
        var random: LoopRandom
        /// Every byte that is to arrive, whenever that is.
        var stream: [UInt8] = []
        var waiting: [Range<Int>] = []
        /// Where a disk has what was appended; nil when nothing waits for one.
        var durable: Int?
        private var sealed = 0
        private var isSyncing = false
        private var isSynced = false
        var most = 0

        init(seed: UInt64, hasDisk: Bool) throws {
            world = SimulatedWorld(seed: seed)
            pair = try SimulationTests.Pair(world)
            random = LoopRandom(seed: seed &* 77 &+ 5)
            let (world, pair) = (world, pair)
            world.run(until: { !pair.serverProbe.accepted.isEmpty }, limit: .seconds(10))
            connection.isHoldable = true
            guard hasDisk else { return }
            durable = 0
            pair.server.beforeFlush(label: "disk") { [unowned self] in sync() }
        }

        var connection: Connection { pair.serverProbe.accepted[0] }
        var received: [UInt8] { pair.clientProbe.received }
        /// Nothing may leave from here on.
        var limit: Int { min(waiting.first?.lowerBound ?? stream.count, durable ?? .max) }

        /// What the append-only file does under `appendfsync always`.
        private func sync() {
            let loop = pair.server
            if isSynced {
                isSynced = false
                durable = sealed
                loop.releaseSealedOutput()
            }
            if durable! < stream.count, !isSyncing {
                loop.holdOutput()
                loop.sealOutput()
                (sealed, isSyncing) = (stream.count, true)
                loop.schedule(after: .microseconds(Int64(random.next() % 900))) { [unowned self] in (isSyncing, isSynced) = (false, true) }
            }
            if isSyncing { loop.holdOutput() } else if loop.isHoldingOutput { loop.releaseOutput() }
        }

        private func draw(_ bound: Int) -> Int { Int(random.next() % UInt64(bound)) }

        func act() {
            switch draw(10) {
            case 0...2: append(waits: false)
            case 3...6: append(waits: true)
            case 7, 8: letGo(draw(waiting.count + 1))
            default: replace(draw(waiting.count + 1))
            }
            #expect(connection.outputPosition == stream.count)
        }

        private func append(waits: Bool) {
            let size = draw(150) == 0 ? 700_000 : draw(5) == 0 ? 1 + draw(40_000) : 1 + draw(40)
            let bytes = pattern(size, seed: random.next())
            let start = connection.outputPosition
            connection.output.append(bytes)
            stream += bytes
            guard waits else { return }
            if waiting.isEmpty { connection.holdOutput(from: start) }
            waiting.append(start..<stream.count)
        }

        func letGo(_ number: Int) {
            guard number > 0 else { return }
            waiting.removeFirst(number)
            if let first = waiting.first { connection.holdOutput(from: first.lowerBound) } else { connection.releaseOutput() }
        }

        /// Puts something else in the place of some of the first that wait, and lets them go.
        private func replace(_ number: Int) {
            let chosen = waiting.prefix(number).filter { _ in draw(4) > 0 }
            let replacements = chosen.map { OutputReplacement($0, pattern(draw(200), seed: random.next())) }
            connection.replaceOutput(replacements)
            func moved(_ mark: Int) -> Int { replacements.reduce(mark) { $1.place.upperBound <= mark ? $0 + $1.growth : $0 } }
            durable = durable.map(moved)
            sealed = moved(sealed)
            waiting = waiting.enumerated().map { index, range in
                index < number ? range : moved(range.lowerBound)..<moved(range.upperBound)
            }
            for replacement in replacements.reversed() { stream.replaceSubrange(replacement.place, with: replacement.bytes) }
            letGo(number)
        }

        /// What has arrived is what should have, and no more.
        func check() {
            let count = received.count
            #expect(count >= most && count <= limit, "arrived \(count), allowed \(limit)")
            // What had arrived before was compared then, and the model changes nothing before it.
            guard count > most else { return }
            let isRight = received.withUnsafeBytes { received in
                stream.withUnsafeBytes { memcmp(received.baseAddress! + most, $0.baseAddress! + most, count - most) == 0 }
            }
            #expect(isRight, "bytes \(most) to \(count)")
            most = count
        }
    }

    @Test("random replies, waits, releases and replacements: what arrives is always what the model allows", arguments: [false, true])
    func random(hasDisk: Bool) throws {
        for seed in UInt64(1)...10 {
            let scene = try Scene(seed: seed, hasDisk: hasDisk)
            let server = scene.pair.server
            // A reader that is slow at times: the kernel has no room then.
            var isPaused = false
            for step in 0..<200 {
                // Inside the loop, as everything that happens to a connection.
                server.schedule(after: .zero) { for _ in 0...Int(scene.random.next() % 3) { scene.act() } }
                if step % 40 == 17 {
                    isPaused.toggle()
                    if isPaused { scene.pair.connection.pauseReading() } else { scene.pair.connection.resumeReading() }
                }
                scene.world.run(for: .microseconds(Int64(scene.random.next() % 1500)))
                scene.check()
            }
            scene.pair.connection.resumeReading()
            scene.world.run(for: .seconds(10))
            scene.check()
            #expect(scene.most == scene.waiting.first?.lowerBound ?? scene.stream.count, "all before the first that waits has arrived")
            server.schedule(after: .zero) { scene.letGo(scene.waiting.count) }
            scene.world.run(for: .seconds(10))
            #expect(scene.received == scene.stream)
        }
    }

    @Test("closeAfterFlush waits for what is held, and close does not")
    func closing() throws {
        for waits in [true, false] {
            let scene = try Scene(seed: 3, hasDisk: false)
            let server = scene.pair.server
            server.schedule(after: .zero) {
                scene.connection.output.append("first")
                scene.connection.holdOutput(from: 5)
                scene.connection.output.append("second")
                if waits { scene.connection.closeAfterFlush() } else { scene.connection.close() }
            }
            scene.world.run(for: .seconds(1))
            #expect(scene.pair.clientProbe.ended == (waits ? 0 : 1))
            #expect(scene.received == Array((waits ? "first" : "").utf8))
            guard waits else { continue }
            server.schedule(after: .zero) { scene.connection.releaseOutput() }
            scene.world.run(for: .seconds(1))
            #expect(scene.pair.clientProbe.ended == 1)
            #expect(scene.received == Array("firstsecond".utf8))
        }
    }

    @Test("what is held counts against the output limit")
    func limit() throws {
        let scene = try Scene(seed: 4, hasDisk: false)
        scene.pair.server.schedule(after: .zero) {
            scene.connection.outputLimit = 100_000
            scene.connection.holdOutput(from: 0)
            for _ in 0..<20 { scene.connection.output.append([UInt8](repeating: 1, count: 10_000)) }
        }
        scene.world.run(for: .seconds(1))
        #expect(scene.pair.serverProbe.closed == [.outputLimitReached])
        #expect(scene.received.isEmpty)
    }
}
