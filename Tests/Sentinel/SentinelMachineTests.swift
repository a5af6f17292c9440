import RESP
import Reactor
import Testing

@testable import Sentinel

@Suite("the Sentinel machine")
struct SentinelMachineTests {
    @Test("a master that answers is never down; one that is silent is, within the limit and not before")
    func subjectivelyDown() {
        let scene = Scene()
        scene.run(.seconds(60))
        #expect(scene.names("+sdown").isEmpty)
        scene.kill(Scene.master)
        scene.run(.milliseconds(900))
        #expect(scene.names("+sdown").isEmpty)
        scene.run(.milliseconds(110))
        #expect(scene.names("+sdown") == ["+sdown"])
        #expect(scene.events.last { $0.name == "+sdown" }?.message == "master m 10.0.0.1 6379")
    }

    @Test("one Sentinel's opinion is no objective fact")
    func notAlone() {
        let scene = Scene()
        scene.run(.seconds(5))
        scene.kill(Scene.master)
        scene.run(.seconds(30))
        #expect(scene.names("+odown").isEmpty && scene.names("+try-failover").isEmpty)
    }

    @Test("with a quorum and a majority the replica with most data becomes the master, at once")
    func failover() throws {
        let scene = Scene()
        for endpoint in Scene.sentinels { scene.votes[endpoint] = { (1, $0, $0 == "*" ? 0 : $1) } }
        scene.offsets = [Scene.replicas[0]: 100, Scene.replicas[1]: 200]
        scene.run(.seconds(5))
        scene.kill(Scene.master)
        scene.run(.milliseconds(1150))
        #expect(scene.currentMaster == "10.0.0.3:6379")
        let expected = [
            "+sdown", "+odown", "+new-epoch", "+try-failover", "+vote-for-leader", "+elected-leader", "+failover-state-select-slave",
            "+selected-slave", "+failover-state-send-slaveof-noone", "+failover-state-wait-promotion", "-role-change", "+promoted-slave",
            "+failover-state-reconf-slaves", "+slave-reconf-sent", "+slave-reconf-inprog", "+slave-reconf-done", "+failover-end",
            "+switch-master", "+slave", "+slave",
        ]
        #expect(scene.names().drop { $0 != "+sdown" }.prefix(expected.count) == expected[...])
        let words = scene.sent.filter { $0.to == Scene.replicas[1] }.map { $0.words.joined(separator: " ") }
        let start = try #require(words.firstIndex(of: "MULTI"))
        let transaction = [
            "MULTI", "SLAVEOF NO ONE", "CONFIG REWRITE", "CLIENT KILL TYPE normal", "CLIENT KILL TYPE pubsub", "EXEC", "INFO",
        ]
        #expect(words[start...].prefix(transaction.count) == transaction[...])
        #expect(scene.machine.snapshot.masters[0].endpoint == Scene.replicas[1])
        #expect(scene.machine.snapshot.masters[0].configEpoch == 1)
        let vote = try #require(scene.order.firstIndex(of: "+vote-for-leader"))
        let promotion = try #require(scene.order.firstIndex(of: "send 10.0.0.3 SLAVEOF"))
        #expect(scene.order[..<promotion].lastIndex(of: "persist")! >= vote - 1, "the vote is saved before anything comes of it")
    }

    @Test("replicas that are down are not promoted")
    func noGoodReplica() {
        let scene = Scene(quorum: 1, sentinelCount: 0)
        scene.run(.seconds(5))
        for replica in Scene.replicas { scene.kill(replica) }
        scene.run(.seconds(3))
        scene.kill(Scene.master)
        scene.run(.seconds(2))
        #expect(scene.names("-failover") == ["-failover-abort-no-good-slave"])
    }

    @Test("one vote in an epoch, whoever asks afterwards, and it is saved")
    func oneVote() {
        let scene = Scene()
        func ask(_ epoch: Int, _ candidate: Character) -> [Reply]? {
            scene.machine.command(["is-master-down-by-addr", "10.0.0.1", "6379", "\(epoch)", Scene.id(candidate)], at: scene.now).elements
        }
        let saves = scene.saves
        #expect(ask(5, "8") == [.integer(0), .text(Scene.id("8")), .integer(5)])
        scene.settle()
        #expect(scene.saves > saves)
        #expect(ask(5, "9") == [.integer(0), .text(Scene.id("8")), .integer(5)])
        #expect(ask(4, "9") == [.integer(0), .text(Scene.id("8")), .integer(5)])
        #expect(ask(6, "9") == [.integer(0), .text(Scene.id("9")), .integer(6)])
        #expect(scene.machine.snapshot.masters[0].leaderEpoch == 6 && scene.machine.snapshot.currentEpoch == 6)
    }

    @Test("who has voted for another does not start a failover of its own for twice the time limit")
    func waitsForTheOther() {
        let scene = Scene(failoverTimeout: 5000)
        for endpoint in Scene.sentinels { scene.votes[endpoint] = { _, _ in (1, "*", 0) } }
        scene.run(.seconds(5))
        scene.kill(Scene.master)
        _ = scene.machine.command(["is-master-down-by-addr", "10.0.0.1", "6379", "1", Scene.id("8")], at: scene.now)
        scene.run(.seconds(9))
        #expect(scene.names("+odown") == ["+odown"] && scene.names("+try-failover").isEmpty)
        scene.run(.seconds(3))
        #expect(scene.names("+try-failover").count >= 1)
    }

    @Test("votes that are split are cast again soon, in a new epoch")
    func splitVote() {
        let scene = Scene()
        scene.votes[Scene.sentinels[0]] = { candidate, epoch in
            candidate == "*" ? (1, "*", 0) : epoch < 3 ? (1, Scene.id("8"), epoch) : (1, candidate, epoch)
        }
        scene.run(.seconds(5))
        scene.kill(Scene.sentinels[1])
        scene.run(.seconds(3))
        scene.kill(Scene.master)
        scene.run(.seconds(2))
        #expect(scene.names("-failover-abort-not-elected").count == 2)
        #expect(scene.machine.currentEpoch == 3 && scene.names("+switch-master").count == 1)
    }

    @Test("an election that nobody can win ends, and is not tried again at once")
    func noMajority() {
        let scene = Scene(quorum: 1)
        scene.run(.seconds(5))
        for sentinel in Scene.sentinels { scene.kill(sentinel) }
        scene.run(.seconds(2))
        scene.kill(Scene.master)
        scene.run(.seconds(15))
        #expect(scene.names("+try-failover").count == 1 && scene.names("-failover-abort-not-elected").count == 1)
        #expect(scene.names("+selected-slave").isEmpty)
    }

    @Test("a newer configuration is taken over, an older one is not")
    func configuration() {
        let scene = Scene()
        scene.run(.seconds(3))
        scene.hello(from: 0, epoch: 4, master: Scene.replicas[0], configEpoch: 4)
        #expect(scene.currentMaster == "10.0.0.2:6379")
        #expect(scene.names("+config-update-from").count == 1 && scene.names("+switch-master").count == 1)
        scene.hello(from: 1, epoch: 4, master: Scene.replicas[1], configEpoch: 3)
        #expect(scene.currentMaster == "10.0.0.2:6379")
        #expect(scene.machine.snapshot.currentEpoch == 4)
    }

    @Test("a Sentinel that has moved, or was made anew at its old address, is one voter and not two")
    func moved() {
        let scene = Scene()
        func hello(_ id: Character, _ endpoint: Endpoint) {
            let text = HelloMessage(
                endpoint: endpoint, runID: Scene.id(id), currentEpoch: 0, masterName: "m", master: Scene.master, configEpoch: 0
            ).text
            scene.machine.heard(text, at: scene.now)
            scene.settle()
        }
        hello("8", Endpoint(host: "10.0.0.20", port: 26379))
        hello("7", Scene.sentinels[1])
        let known = scene.machine.snapshot.masters[0].knownSentinels
        #expect(Set(known.map(\.runID)) == [Scene.id("8"), Scene.id("7")])
        #expect(Set(known.map(\.endpoint.host)) == ["10.0.0.20", "10.0.0.9"])
        #expect(scene.names("+sentinel-address-switch").count == 1 && scene.names("+sentinel-invalid-addr").count == 1)
    }

    @Test("having stood still for more than two seconds, it only watches for half a minute")
    func tilt() {
        let scene = Scene(quorum: 1, sentinelCount: 0)
        scene.run(.seconds(5))
        scene.now += .seconds(3)
        scene.kill(Scene.master)
        scene.run(.seconds(20))
        #expect(scene.names().contains("+tilt") && scene.names("+sdown").isEmpty)
        scene.run(.seconds(15))
        #expect(scene.names().firstIndex(of: "-tilt")! < scene.names().firstIndex(of: "+sdown") ?? 0)
    }

    @Test("a pause shorter than that does not make an answering master look silent")
    func pause() {
        let scene = Scene(downAfter: 200)
        scene.run(.seconds(5))
        scene.now += .milliseconds(1500)
        scene.run(.seconds(2))
        #expect(scene.names("+sdown").isEmpty)
    }

    @Test("a replica that has just started and says it is a master follows as soon as a majority agrees with us")
    func returningMaster() {
        let scene = Scene()
        scene.run(.seconds(3))
        scene.kill(Scene.replicas[0])
        scene.run(.seconds(3))
        scene.restartAsMaster(Scene.replicas[0])
        scene.run(.milliseconds(500))
        #expect(scene.names("+convert-to-slave").isEmpty, "nobody has said anything yet")
        scene.hello(from: 0)
        #expect(scene.names("+convert-to-slave") == ["+convert-to-slave"])
        #expect(scene.roles[Scene.replicas[0]] == "slave")
    }

    @Test("... but not when it has run for long: then four greetings are waited for")
    func masterOfLongStanding() {
        let scene = Scene()
        scene.run(.seconds(3))
        scene.roles[Scene.replicas[0]] = "master"
        scene.run(.seconds(11))
        scene.hello(from: 0)
        scene.hello(from: 1)
        #expect(scene.names("+convert-to-slave").isEmpty)
        scene.run(.seconds(12))
        #expect(scene.names("+convert-to-slave") == ["+convert-to-slave"])
    }

    @Test("... nor when there is news of another epoch")
    func newsOfAnotherEpoch() {
        let scene = Scene()
        scene.run(.seconds(3))
        scene.kill(Scene.replicas[0])
        scene.run(.seconds(3))
        scene.restartAsMaster(Scene.replicas[0])
        scene.run(.milliseconds(500))
        scene.hello(from: 0, epoch: 9)
        scene.hello(from: 1)
        scene.run(.milliseconds(100))
        #expect(scene.names("+convert-to-slave").isEmpty)
    }

    @Test("replies that nobody asked for, and answers that are none, do no harm")
    func nonsense() {
        let scene = Scene()
        var generator = LoopRandom(seed: 5)
        let replies: [Reply] = [
            .null, .nullArray, .array([]), .array([.integer(1)]), .error("ERR"), .integer(7), .text("role:master\r\nslave0:ip=x,port=0"),
            .array([.text("1"), .null, .text("x")]), .map([.null, .null]), .array([.integer(1), .text("*"), .integer(-5)]),
            .push([.text("message"), .text("__sentinel__:hello"), .text("x")]), .bulk([0xFF, 0x00, 0x2C]),
        ]
        for _ in 0..<3000 {
            let link = LinkID(number: Int.random(in: 0..<12, using: &generator))
            let reply = replies.randomElement(using: &generator)!
            scene.machine.received(reply, on: link, Bool.random(using: &generator) ? .command : .subscription, at: scene.now)
            scene.settle()
            scene.run(.milliseconds(3))
        }
        #expect(scene.currentMaster == "10.0.0.1:6379")
    }
}
