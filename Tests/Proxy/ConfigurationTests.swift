@testable import Proxy
import Reactor
import Testing

/// The article's haproxy.cfg, without what needs root or names that this machine may lack.
let articleConfiguration = """
    global
        log /dev/log      local0
        log /dev/log      local1 notice
        stats socket /run/haproxy/admin.sock mode 660 level admin
        stats timeout 30s
        daemon

    defaults REDIS
        mode tcp
        timeout connect 4s
        timeout server 30s
        timeout client 30s

    frontend ft_redis
        bind 192.168.0.1:6379 name redis
        default_backend bk_redis

    backend bk_redis
        mode tcp
        option tcplog
        option tcp-check
        tcp-check send AUTH\\ 7xJtpLugAyu6hgPbuB3hX4R\\r\\n
        tcp-check expect string +OK
        tcp-check send PING\\r\\n
        tcp-check expect string +PONG
        tcp-check send info\\ replication\\r\\n
        tcp-check expect string role:master
        tcp-check send QUIT\\r\\n
        tcp-check expect string +OK
        server redis01 192.168.0.4:6379 check inter 1s
        server redis02 192.168.0.5:6379 check inter 1s
        server redis03 192.168.0.6:6379 check inter 1s

    """

@Suite("the meaning of haproxy.cfg")
struct ProxyConfigurationTests {
    @Test("the article's file means what it says")
    func article() throws {
        let c = try ProxyConfiguration.parse(articleConfiguration)
        #expect(c.global.logs.map(\.facility) == [.local0, .local1])
        #expect(c.global.logs.map(\.level) == [.debug, .notice])
        #expect(c.global.statsSockets == [.init(address: .unix("/run/haproxy/admin.sock"), mode: 0o660, level: .admin)])
        #expect(c.global.statsTimeout == .seconds(30))
        #expect(c.global.daemonize)
        #expect(c.sections.map(\.name) == ["ft_redis", "bk_redis"])
        #expect(c.sections.map(\.id) == [2, 3])
        let front = c.sections[0], back = c.sections[1]
        #expect(front.binds.map(\.address) == [.ipv4(0xC0A8_0001, port: 6379)])
        #expect(front.binds[0].name == "redis")
        #expect(front.settings.defaultBackend == "bk_redis")
        #expect(front.settings.timeouts == .init(connect: .seconds(4), client: .seconds(30), server: .seconds(30)))
        #expect(back.settings.options == .tcpLog)
        #expect(back.settings.checkKind == .sequence)
        #expect(back.settings.checkRules.count == 8)
        #expect(back.settings.checkRules[4].action == .send(Array("info replication\r\n".utf8)))
        #expect(back.settings.checkRules[5].action == .expect(.string(Array("role:master".utf8)), inverted: false))
        #expect(back.servers.map(\.name) == ["redis01", "redis02", "redis03"])
        #expect(back.servers[2].address == .ipv4(0xC0A8_0006, port: 6379))
        #expect(back.servers.allSatisfy { $0.settings.isChecked && $0.settings.interval == .seconds(1) && $0.settings.rise == 2 && $0.settings.fall == 3 })
        #expect(c.warnings.allSatisfy { $0.severity == .notice })
    }

    /// A file that is right but for one line.
    static func problems(global: String = "", front: String = "", back: String = "") -> [ProxyConfiguration.Problem] {
        let text = "global\n\(global)\ndefaults\n timeout connect 1s\n timeout client 1s\n timeout server 1s\n no log\nfrontend f\n bind 127.0.0.1:1\n default_backend b\n\(front)\nbackend b\n server s 127.0.0.1:2\n\(back)\n"
        do throws(ProxyConfiguration.Refused) { return try ProxyConfiguration.parse(text).warnings } catch { return error.problems }
    }

    @Test("the file that the tests change is right")
    func right() { #expect(Self.problems() == []) }

    @Test(
        "what is wrong in 'global' is named",
        arguments: [
            ("fooo bar", "unknown keyword 'fooo' in 'global' section"), ("maxcon 3", "did you mean 'maxconn' maybe ?"),
            ("maxconn x", "'maxconn' expects an integer from 1"), ("user nosuchuserzz", "cannot find user id for 'nosuchuserzz'"),
            ("group nosuchgrp", "cannot find group id for 'nosuchgrp'"), ("log", "expects <address> and <facility>"),
            ("log /dev/log local9", "unknown log facility 'local9'"), ("log /dev/log local0 foo", "unknown optional log level 'foo'"),
            ("log /dev/log format rfc5424 local0", "log format 'rfc5424' is not supported"),
            ("log stdout local0", "'stdout' is not supported"), ("daemon x", "'daemon' cannot handle unexpected argument 'x'"),
            ("chroot", "'chroot' expects a directory"), ("nbthread 0", "'nbthread' expects an integer from 1 to 64"),
            ("stats socket", "expects an address or a path"), ("stats socket /tmp/x level foo", "'level' only supports 'user', 'operator', and 'admin' (got 'foo')"),
            ("stats socket /tmp/x mod 5", "unknown keyword 'mod'"), ("stats socket /tmp/x mode 9", "octal file mode"),
            ("stats timeout 5x", "unexpected character 'x' in 'stats timeout'"), ("stats foo", "'stats' only supports"),
            ("setenv A b", "'setenv' is not supported"), ("lua-load x", "'lua-load' is not supported"),
        ])
    func global(line: String, message: String) {
        let found = Self.problems(global: line)
        #expect(found.contains { $0.severity == .alert && $0.line == 2 && $0.message.contains(message) }, "\(found)")
    }

    @Test(
        "what is wrong in a frontend is named",
        arguments: [
            ("tieout client 5s", "unknown keyword 'tieout' in 'frontend' section; did you mean 'timeout' maybe ?"),
            ("bind", "'bind' expects"), ("bind 127.0.0.1", "missing port specification in '127.0.0.1'"),
            ("bind 300.1.1.1:80", "invalid address: '300.1.1.1'"), ("bind 127.0.0.1:80 foo", "unknown keyword 'foo'"),
            ("bind 127.0.0.1:80 ssl crt x", "'ssl' is not supported"), ("bind 127.0.0.1:9-5", "invalid port range"),
            ("bind 127.0.0.1:99999", "invalid port '99999'"), ("mode foo", "unknown proxy mode 'foo'"), ("mode http", "'mode http' is not supported"),
            ("timeout conect 5s", "(got 'conect')"), ("timeout client", "'timeout client' expects one value"),
            ("timeout client 5x", "unexpected character 'x' in 'timeout client'"), ("timeout client 60d", "timer overflow"),
            ("option fooo", "unknown option 'fooo'"), ("use_backend b if x", "'use_backend' is not supported in 'frontend' section"),
            ("acl a src 1.1.1.1", "'acl' is not supported"), ("default_backend nope", "unable to find required default_backend: 'nope'"),
            ("tcp-request connection reject", "'tcp-request' is not supported"),
        ])
    func frontend(line: String, message: String) {
        let found = Self.problems(front: " " + line)
        #expect(found.contains { $0.severity == .alert && $0.line == 11 && $0.message.contains(message) }, "\(found)")
    }

    @Test(
        "what is wrong in a backend is named",
        arguments: [
            ("server", "'server' expects <name> and <addr>[:<port>]"), ("server x", "'server' expects <name>"),
            ("server y 1.2.3.4", "missing port specification"), ("server z 1.2.3.4:99999", "invalid port '99999'"),
            ("server s 1.2.3.4:1", "another server named 's' was already defined at line 13"),
            ("server a 1.2.3.4:1 chek", "unknown keyword 'chek' in 'server b/a'; did you mean 'check' maybe ?"),
            ("server a 1.2.3.4:1 inter", "'inter' expects a delay"), ("server a 1.2.3.4:1 inter foo", "unexpected character 'f' in 'inter'"),
            ("server a 1.2.3.4:1 inter 0", "invalid value 0"), ("server a 1.2.3.4:1 weight 257", "'weight' expects an integer from 0 to 256"),
            ("server a 1.2.3.4:1 ssl", "'ssl' is not supported"), ("server a 1.2.3.4:1 on-marked-down foo", "'on-marked-down' expects"),
            ("server a/b 1.2.3.4:1", "character '/' is not permitted in server name 'a/b'"),
            ("balance foo", "unknown algorithm 'foo'"), ("balance source", "'balance source' is not supported"),
            ("tcp-check foo", "'tcp-check' only supports"), ("tcp-check expect foo bar", "unknown keyword 'foo'"),
            ("tcp-check expect rstring a(", "does not compile"), ("tcp-check send", "expects what to send"),
            ("tcp-check send-binary abc", "even number of hexadecimal digits"), ("tcp-check expect binary zz", "'zz' is not hexadecimal"),
            ("option httpchk", "'option httpchk' is not supported"), ("retries x", "'retries' expects an integer"),
            ("stick-table type ip", "'stick-table' is not supported"), ("cookie A", "'cookie' is not supported"),
        ])
    func backend(line: String, message: String) {
        let found = Self.problems(back: " " + line)
        #expect(found.contains { $0.severity == .alert && $0.line == 14 && $0.message.contains(message) }, "\(found)")
    }

    @Test(
        "what is known and does nothing is warned about",
        arguments: ["errorfile 503 /x", "option httplog", "option forwardfor", "timeout http-request 5s", "fullconn 10", "maxconn 3", "bind 1.2.3.4:80"])
    func warnings(line: String) {
        let found = Self.problems(back: " " + line)
        #expect(found.count == 1 && found[0].severity == .warning && found[0].line == 14, "\(found)")
    }

    @Test("a forgotten backslash does not print the password")
    func secret() {
        let found = Self.problems(back: " tcp-check send AUTH hunter2\\r\\n")
        #expect(found.count == 1 && found[0].severity == .alert && !found[0].message.contains("hunter2"))
    }

    @Test("all problems of a file are reported at once, in the order of its lines")
    func all() {
        let text = "foo\nglobal\n bar\nfrontend f\n bind x\n baz\nbackend f2\nbackend f2\npeers p\n"
        let error = #expect(throws: ProxyConfiguration.Refused.self) { try ProxyConfiguration.parse(text, path: "x.cfg") }
        #expect(error?.problems.filter { $0.severity == .alert }.map(\.line) == [1, 3, 5, 6, 8, 9])
        #expect(error?.description.contains("x.cfg:9: section 'peers' is not supported") == true)
    }

    @Test("defaults are inherited by name or by place, and each section changes its own copy")
    func defaults() throws {
        let c = try ProxyConfiguration.parse(
            """
            defaults A
             timeout connect 1s
             timeout client 1s
             timeout server 1s
             retries 1
             default-server inter 5s rise 1
            defaults B from A
             retries 7
             balance leastconn
            frontend f from A
             bind :1,[::1]:2
             bind 127.0.0.1:10-12
             default_backend b
            backend b
             timeout server 9s
             server one 1.1.1.1:1 check fall 9 fastinter 100ms
            listen l from A
             bind /tmp/socket mode 600
             server two 1.1.1.1:1

            """)
        #expect(c.sections.map(\.settings.retries) == [1, 7, 1])
        #expect(c.sections.map(\.settings.balance) == [.roundrobin, .leastconn, .roundrobin])
        #expect(c.sections[0].binds.map { "\($0.address)" } == ["0.0.0.0:1", "[::1]:2", "127.0.0.1:10", "127.0.0.1:11", "127.0.0.1:12"])
        #expect(c.sections[1].settings.timeouts.server == .seconds(9))
        #expect(c.sections[2].settings.timeouts.server == .seconds(1))
        let one = c.sections[1].servers[0].settings
        #expect((one.interval, one.rise, one.fall, one.fastInterval) == (.seconds(5), 1, 9, .milliseconds(100)))
        #expect(c.sections[2].binds[0].address == .unix("/tmp/socket") && c.sections[2].binds[0].mode == 0o600)
        #expect(c.sections[2].isFrontend && c.sections[2].isBackend)
    }

    @Test(
        "durations have HAProxy's units",
        arguments: [("5", 5_000_000), ("5ms", 5_000_000), ("7us", 7000), ("2s", 2_000_000_000), ("1m", 60_000_000_000), ("1h", 3_600_000_000_000)])
    func durations(text: String, nanoseconds: Int64) throws {
        #expect(try ProxyConfigurationReader.duration(text, for: "x") == .nanoseconds(nanoseconds))
    }
}
