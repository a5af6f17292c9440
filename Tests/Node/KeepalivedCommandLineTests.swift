import Testing

@testable import Node

@Suite("keepalived's command line")
struct KeepalivedCommandLineTests {
    @Test("without options it is a daemon with Keepalived's files")
    func plain() throws {
        let line = try KeepalivedCommandLine([])
        #expect(line.isDaemon && line.file == "/etc/keepalived/keepalived.conf" && line.pidFiles == ["/run/keepalived.pid"])
        #expect(!line.logsToConsole && line.syslogFacility == .daemon)
    }

    @Test("letters may stand together, values in the same word, behind it or behind an equals sign")
    func forms() throws {
        let line = try KeepalivedCommandLine(["-nlDP", "-f/a", "-p", "/b", "--vrrp_pid=/c", "--log-facility", "3"])
        #expect(!line.isDaemon && line.logsToConsole)
        #expect(line.file == "/a" && line.pidFiles == ["/b", "/c"] && line.syslogFacility == .local3)
        #expect(try KeepalivedCommandLine(["--use-file", "/d", "-lGt"]).file == "/d")
    }

    @Test("what is not understood or cannot be done is refused in words", arguments: [
        (["-Z"], "keepalived: unknown option '-Z'"),
        (["--zip=1"], "keepalived: unknown option '--zip'"),
        (["-nf"], "keepalived: -f needs a value"),
        (["x"], "keepalived: unexpected argument 'x'"),
        (["-S", "9"], "keepalived: -S '9': accepted is a number from 0 to 7, for local0 to local7"),
        (["-V"], "keepalived: -V (--dont-release-vrrp) is not supported: addresses are taken away at the end"),
    ])
    func refusals(arguments: [String], message: String) {
        do throws(Refusal) {
            _ = try KeepalivedCommandLine(arguments)
            Issue.record("accepted")
        } catch {
            #expect(error.lines == [message])
        }
    }
}
