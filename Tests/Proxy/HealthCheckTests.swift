@testable import Proxy
import Testing

@Suite("health checks")
struct HealthCheckTests {
    static func rules() throws -> [CheckRule] { try ProxyConfiguration.parse(articleConfiguration).sections[1].settings.checkRules }

    func receive(_ check: inout HealthCheck, _ text: String) -> [HealthCheck.Action] {
        Array(text.utf8).withUnsafeBytes { check.received($0) }
    }

    @Test("the article's sequence on a master")
    func master() throws {
        var check = HealthCheck(rules: try Self.rules(), kind: .sequence)
        #expect(check.start() == [.connect(port: nil)])
        #expect(check.connected() == [.send(Array("AUTH 7xJtpLugAyu6hgPbuB3hX4R\r\n".utf8))])
        #expect(receive(&check, "+O") == [])
        #expect(receive(&check, "K\r\n") == [.send(Array("PING\r\n".utf8))])
        #expect(receive(&check, "+PONG\r\n") == [.send(Array("info replication\r\n".utf8))])
        #expect(receive(&check, "$99\r\n# Replication\r\nrole:mas") == [])
        #expect(receive(&check, "ter\r\nconnected_slaves:2\r\n") == [.send(Array("QUIT\r\n".utf8))])
        #expect(receive(&check, "+OK\r\n") == [.finish(CheckResult(.layer7OK, "(tcp-check)"))])
        #expect(check.isFinished && check.timedOut() == [])
    }

    @Test("on a replica it waits for the role that does not come, until the time is up")
    func replica() throws {
        var check = HealthCheck(rules: try Self.rules(), kind: .sequence)
        _ = check.start()
        _ = check.connected()
        _ = receive(&check, "+OK\r\n")
        _ = receive(&check, "+PONG\r\n")
        #expect(receive(&check, "$99\r\nrole:slave\r\n") == [])
        #expect(check.timedOut() == [.finish(CheckResult(.layer7Timeout, " at step 6 of tcp-check (expect string 'role:master')"))])
    }

    @Test("how each failure is named")
    func failures() throws {
        func fresh() throws -> HealthCheck {
            var check = HealthCheck(rules: try Self.rules(), kind: .sequence)
            _ = check.start()
            return check
        }
        var check = try fresh()
        #expect(check.failed("Connection refused") == [.finish(CheckResult(.layer4Connection, "Connection refused at initial connection step of tcp-check"))])
        check = try fresh()
        #expect(check.timedOut() == [.finish(CheckResult(.layer4Timeout, " at initial connection step of tcp-check"))])
        check = try fresh()
        _ = check.connected()
        #expect(check.ended() == [.finish(CheckResult(.layer7Response, "TCPCHK got an empty response at step 2"))])
        check = try fresh()
        _ = check.connected()
        _ = receive(&check, "-NOAUTH\r\n")
        #expect(check.ended() == [.finish(CheckResult(.layer7Response, "TCPCHK did not match content '+OK' at step 2"))])
        check = try fresh()
        _ = check.connected()
        #expect(
            check.failed("Connection reset by peer")
                == [.finish(CheckResult(.socketError, "Connection reset by peer at step 2 of tcp-check (expect string '+OK')"))])
    }

    @Test("several expectations look at one answer; what has been sent since begins a new one")
    func buffer() {
        let rules = [
            CheckRule(.send([1])), CheckRule(.expect(.string(Array("b".utf8)), inverted: false)),
            CheckRule(.expect(.string(Array("a".utf8)), inverted: false)), CheckRule(.send([2])),
            CheckRule(.expect(.string(Array("a".utf8)), inverted: false)),
        ]
        var check = HealthCheck(rules: rules, kind: .sequence)
        _ = check.start()
        #expect(check.connected() == [.send([1])])
        #expect(receive(&check, "ab") == [.send([2])])
        #expect(receive(&check, "b") == [])
        #expect(receive(&check, "a") == [.finish(CheckResult(.layer7OK, "(tcp-check)"))])
    }

    @Test("an answer that never ends is cut off, and a pattern that is too late is not there")
    func flood() {
        var check = HealthCheck(rules: [CheckRule(.expect(.string(Array("end".utf8)), inverted: false))], kind: .sequence)
        _ = check.start()
        _ = check.connected()
        let actions = receive(&check, String(repeating: "x", count: HealthCheck.answerMax) + "end")
        #expect(actions == [.finish(CheckResult(.layer7Response, "TCPCHK did not match content 'end' at step 1"))])
    }

    @Test("an unwanted pattern, a least number of bytes, a regular expression")
    func variants() {
        var unwanted = HealthCheck(rules: [CheckRule(.expect(.string(Array("BAD".utf8)), inverted: true))], kind: .sequence)
        _ = unwanted.connected()
        #expect(receive(&unwanted, "good ") == [])
        #expect(unwanted.ended() == [.finish(CheckResult(.layer7OK, "(tcp-check)"))])
        var rule = CheckRule(.expect(.regex("^role:(master|slave)"), inverted: false))
        rule.receivedMin = 6
        var regex = HealthCheck(rules: [rule], kind: .sequence)
        _ = regex.connected()
        #expect(receive(&regex, "role:") == [])
        #expect(receive(&regex, "x") == [.finish(CheckResult(.layer7Response, "TCPCHK did not match content (regex) at step 1"))])
    }

    @Test("a check without rules only connects")
    func plain() {
        var check = HealthCheck(rules: [], kind: .connect)
        #expect(check.start() == [.connect(port: nil)])
        #expect(check.connected() == [.finish(CheckResult(.layer4OK))])
        var refused = HealthCheck(rules: [], kind: .connect)
        _ = refused.start()
        #expect(refused.failed("Connection refused") == [.finish(CheckResult(.layer4Connection, "Connection refused"))])
    }
}

@Suite("a server's health")
struct ServerHealthTests {
    @Test("at start it is up, and one failure from down")
    func start() {
        var health = ServerHealth(rise: 2, fall: 3)
        #expect(health.isUp && health.fraction == "1/3")
        #expect(health.count(passed: false) == .wentDown)
        #expect(health.isZero)
    }

    @Test("rise passes take it up, fall failures take it down, what lies between is counted")
    func counting() {
        var health = ServerHealth(rise: 2, fall: 3)
        #expect(health.count(passed: true) == .counted && health.isFull)
        #expect(health.count(passed: true) == .none)
        #expect(health.count(passed: false) == .counted && health.fraction == "2/3")
        #expect(health.count(passed: false) == .counted && health.fraction == "1/3")
        #expect(health.count(passed: true) == .counted && health.isFull)
        #expect((0..<3).map { _ in health.count(passed: false) } == [.counted, .counted, .wentDown])
        #expect(health.count(passed: false) == .none)
        #expect(health.count(passed: true) == .counted && health.fraction == "1/2" && !health.isUp)
        #expect(health.count(passed: false) == .counted && health.isZero)
        #expect((0..<2).map { _ in health.count(passed: true) } == [.counted, .wentUp])
        #expect(health.isFull)
    }

    @Test("the rhythm is HAProxy's: inter, fastinter in transition, downinter while down")
    func rhythm() {
        var settings = ProxyConfiguration.ServerSettings()
        settings.interval = .seconds(1)
        var health = ServerHealth(rise: 2, fall: 3)
        #expect(HealthCheckSchedule(settings).delay(for: health) == .seconds(1))
        settings.fastInterval = .milliseconds(200)
        settings.downInterval = .seconds(5)
        let schedule = HealthCheckSchedule(settings)
        #expect(schedule.delay(for: health) == .milliseconds(200))
        health.setFull()
        #expect(schedule.delay(for: health) == .seconds(1))
        health.set(up: false)
        #expect(schedule.delay(for: health) == .seconds(5))
        #expect(!schedule.allowsSearch)
    }
}
