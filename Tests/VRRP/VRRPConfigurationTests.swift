import Configuration
import Testing

@testable import VRRP

@Suite("keepalived.conf as VRRP reads it")
struct VRRPConfigurationTests {
    private func read(_ text: String) throws -> VRRPConfiguration {
        try VRRPConfiguration.read(KeepalivedConfiguration.parse(text, file: "k.conf"), file: "k.conf")
    }

    private func problems(_ text: String) -> [String] {
        do {
            _ = try read(text)
            return []
        } catch let error as VRRPConfigurationProblems {
            return error.problems.map(\.description)
        } catch {
            return ["\(error)"]
        }
    }

    /// An instance with everything that it needs, and `more`.
    private func instance(_ more: String, name: String = "VI_1", id: Int = 51) -> String {
        "vrrp_instance \(name) {\ninterface eth0\nvirtual_router_id \(id)\nvirtual_ipaddress { 192.168.0.1 }\n\(more)\n}\n"
    }

    @Test("the article's file is read as it stands")
    func article() throws {
        let read = try VRRPConfiguration.load(path: "configs/article/haproxy-01/etc/keepalived/keepalived.conf")
        #expect(read.routerID == "haproxy01")
        #expect(read.mail == MailSettings(recipients: ["ops@example.org"], sender: "haproxy01@example.org", server: "192.168.0.100", connectTimeout: .seconds(15)))
        let script = try #require(read.scripts.first)
        #expect(script.check.arguments == ["/usr/bin/killall", "-0", "haproxy"])
        #expect(script.remedies.map(\.arguments) == [["/usr/sbin/service", "haproxy", "restart"]])
        #expect(script.interval == .seconds(9) && script.timeout == .seconds(3))
        #expect(script.weight == TrackingWeight(weight: 20) && script.rise == 2 && script.fall == 4)
        #expect(read.groups.first?.members == ["VI_1"])
        let instance = try #require(read.instances.first)
        #expect(instance.interface == "eth0" && instance.router.virtualRouterID == 51 && instance.router.priority == 101)
        #expect(instance.router.intervalCentiseconds == 500 && !instance.router.preempts && instance.smtpAlert == true)
        #expect(instance.addresses == [VirtualAddress(address: ip(192, 168, 0, 1), prefixLength: 24, device: "eth0")])
        #expect(read.warnings.count == 1)
        #expect(read.warnings[0].message.contains("more than one 'script'"))
    }

    @Test("what is unset has Keepalived's value")
    func defaults() throws {
        let router = try #require(try read(instance("")).instances.first).router
        #expect(router.priority == 100 && router.intervalCentiseconds == 100 && router.version == .v2 && router.preempts)
        #expect(router.garpDelay == .seconds(5) && router.garpRepeat == 5 && router.downTimerAdverts == 3)
    }

    @Test("addresses have prefix, device, broadcast, scope and label")
    func addresses() throws {
        let text = "vrrp_instance V {\ninterface eth0\nvirtual_router_id 1\nvirtual_ipaddress {\n10.0.0.1/30 dev eth1 brd + scope link label eth1:v\n10.9.9.9\n}\n}"
        let expected = VirtualAddress(address: ip(10, 0, 0, 1), prefixLength: 30, device: "eth1", scope: 253, broadcast: ip(10, 0, 0, 3), label: "eth1:v")
        #expect(try read(text).instances[0].addresses == [expected, VirtualAddress(address: ip(10, 9, 9, 9))])
    }

    @Test("nopreempt is worth nothing with state MASTER, as Keepalived says")
    func stateMaster() throws {
        let read = try read(instance("state MASTER\nnopreempt"))
        #expect(read.instances[0].router.preempts)
        #expect(read.warnings.map(\.description) == ["k.conf:6: 'nopreempt' does not work with 'state MASTER'; it is ignored"])
    }

    @Test("version 2 has whole seconds, version 3 hundredths")
    func intervals() throws {
        let rounded = try read(instance("advert_int 1.5"))
        #expect(rounded.instances[0].router.intervalCentiseconds == 200 && rounded.warnings.count == 1)
        #expect(try read(instance("advert_int 0.05\nversion 3")).instances[0].router.intervalCentiseconds == 5)
        #expect(problems(instance("version 3\nadvert_int 41")) == ["k.conf:6: advert_int 41: version 3 has at most 40.95 s"])
    }

    @Test("a password is cut to eight bytes and is in no message")
    func password() throws {
        let read = try read(instance("authentication {\nauth_type PASS\nauth_pass secret12345\n}"))
        #expect(read.instances[0].router.password == Array("secret12".utf8))
        #expect(read.warnings.count == 1 && !read.warnings[0].description.contains("secret"))
    }

    @Test("what is wrong is said with its place and what is accepted", arguments: [
        ("priority 256", "k.conf:5: priority '256': accepted is a number from 1 to 255"),
        ("priority", "k.conf:5: 'priority' takes one value, not 0"),
        ("state SLAVE", "k.conf:5: state 'SLAVE': accepted are MASTER and BACKUP"),
        ("authentication {\nauth_type AH\nauth_pass x\n}", "k.conf:6: auth_type AH is not supported; accepted: PASS"),
        ("use_vmac", "k.conf:5: 'use_vmac' is not supported: addresses keep the interface's own hardware address"),
        ("virtual_ipaddress { fe80::1 }", "k.conf:5: 'fe80::1': IPv6 is not supported"),
        ("virtual_ipaddress { 10.0.0.1/33 }", "k.conf:5: '10.0.0.1/33': the prefix length is a number from 1 to 32"),
        ("virtual_ipaddress { host.example }", "k.conf:5: 'host.example' is no IPv4 address"),
        ("track_script { nobody }", "k.conf:5: track_script: there is no vrrp_script 'nobody'"),
        ("advert_int x", "k.conf:5: advert_int 'x': accepted are seconds from 0.01 to 255.0"),
    ])
    func errors(line: String, message: String) {
        #expect(problems(instance(line)) == [message])
    }

    @Test("an unknown keyword is refused wherever it stands")
    func unknownKeywords() {
        #expect(problems(instance("colour blue")).first?.hasPrefix("k.conf:5: unknown keyword 'colour' in vrrp_instance; accepted: state,") == true)
        #expect(problems("mystery\n" + instance("")).first?.hasPrefix("k.conf:1: unknown keyword 'mystery' at the top level") == true)
        #expect(problems("virtual_server 10.0.0.1 80 {\n}\n" + instance("")) == ["k.conf:1: 'virtual_server' is not supported: Vigie does not balance through LVS"])
        #expect(problems("vrrp_script s {\nscript /bin/true\ncolour 1\n}\n" + instance("")).first?.hasPrefix("k.conf:3: unknown keyword 'colour' in vrrp_script") == true)
    }

    @Test("all problems are told at once")
    func several() {
        let text = "vrrp_sync_group G {\ngroup { VI_9 }\n}\n" + instance("priority 0") + instance("", name: "VI_2")
        #expect(problems(text) == [
            "k.conf:8: priority '0': accepted is a number from 1 to 255",
            "k.conf:1: vrrp_sync_group 'G': there is no vrrp_instance 'VI_9'",
            "k.conf:10: virtual_router_id 51 on eth0 is 'VI_1' already",
        ])
        #expect(problems("") == ["k.conf:0: no vrrp_instance"])
        #expect(problems("vrrp_instance X {\n}") == [
            "k.conf:1: vrrp_instance 'X' has no 'interface'", "k.conf:1: vrrp_instance 'X' has no 'virtual_router_id'",
            "k.conf:1: vrrp_instance 'X' has no 'virtual_ipaddress'",
        ])
    }

    @Test("command lines are cut as a shell would")
    func commands() {
        #expect(VRRPConfiguration.Reader.split("/bin/sh -c 'a \"b c\"' \"d e\"f") == ["/bin/sh", "-c", "a \"b c\"", "d ef"])
        #expect(VRRPConfiguration.Reader.split("x 'y") == nil)
    }

    @Test("script security refuses what others can write")
    func security() {
        let text = "global_defs {\nscript_user root\nenable_script_security\n}\nvrrp_script s {\nscript /dev/null\n}\n" + instance("track_script { s }")
        #expect(problems(text) == ["k.conf:6: script '/dev/null' would run as root, and others than root can write '/dev/null' (enable_script_security)"])
        #expect(problems(text.replacing("/dev/null", with: "/usr/bin/true")).isEmpty)
    }
}
