import Configuration
import Glibc
import Testing

@Suite("keepalived.conf's syntax")
struct KeepalivedConfigurationTests {
    private func parse(_ text: String) throws -> [KeepalivedStatement] {
        try KeepalivedConfiguration.parse(text, file: "k.conf").statements
    }

    private func problem(_ text: String) -> String? {
        do {
            _ = try KeepalivedConfiguration.parse(text, file: "k.conf")
            return nil
        } catch {
            return "\(error)"
        }
    }

    @Test("blocks nest, wherever their braces stand, and each statement knows its line")
    func blocks() throws {
        let statements = try parse("""
            ! Settings
            vrrp_sync_group G {
                group
                {
                    VI_1
                }
            }
            vrrp_instance VI_1 { priority 101 # of 254
                virtual_ipaddress { 192.168.0.1/24 dev eth0 } }
            """)
        #expect(statements.map(\.keyword) == ["vrrp_sync_group", "vrrp_instance"])
        let group = try #require(statements[0].block?.first)
        #expect(group.keyword == "group" && group.location.line == 3)
        #expect(group.block?.map(\.keyword) == ["VI_1"])
        let instance = try #require(statements[1].block)
        #expect(instance[0].arguments == ["101"])
        #expect(instance[1].block?.first?.keyword == "192.168.0.1/24")
        #expect(instance[1].block?.first?.arguments == ["dev", "eth0"])
        #expect("\(instance[1].location)" == "k.conf:9")
    }

    @Test("quoted words keep spaces, comment signs and braces, and undo escapes")
    func quotes() throws {
        let statement = try #require(try parse(#"script "/bin/a -b 'c d' #1 {" x"y z"w '\x41\102\n\"'"#).first)
        #expect(statement.arguments == ["/bin/a -b 'c d' #1 {", "xy zw", "AB\n\""])
        #expect(statement.block == nil)
    }

    @Test("include reads every file of the pattern, relative to the including file")
    func include() throws {
        let folder = "/tmp/vigie-keepalived-\(getpid())"
        mkdir(folder, 0o700)
        defer { for name in ["main", "a.conf", "b.conf"] { unlink("\(folder)/\(name)") }; rmdir(folder) }
        func write(_ name: String, _ text: String) {
            let file = fopen("\(folder)/\(name)", "w")
            fputs(text, file)
            fclose(file)
        }
        write("main", "x {\n include *.conf\n}\ninclude nowhere.txt\n")
        write("a.conf", "first 1\n")
        write("b.conf", "\nsecond 2\n")
        let read = try KeepalivedConfiguration.load(path: "\(folder)/main")
        #expect(read.statements.first?.block?.map(\.keyword) == ["first", "second"])
        #expect(read.statements.first?.block?.last?.location == ConfigurationLocation(file: "\(folder)/b.conf", line: 2))
        #expect(read.warnings.map(\.location.line) == [4])
    }

    @Test("what is wrong is said with file and line", arguments: [
        ("a {\n b {\n }\n", "k.conf:1: 'a' opens a block that is not closed by '}'"),
        ("a\n}\n", "k.conf:2: '}' closes no block"),
        ("{\n}", "k.conf:1: '{' follows no keyword"),
        ("script \"/bin/a\nb", "k.conf:1: a quoted string is not closed on its line"),
        ("$X=1", "k.conf:1: '$X=1': definitions ('$NAME=...') are not supported"),
        ("a {\n@host priority 1\n}", "k.conf:2: '@host': conditional lines ('@name') are not supported"),
        ("includer /no/such/file", "k.conf:1: 'includer /no/such/file': /no/such/file: No such file or directory"),
    ])
    func errors(text: String, message: String) {
        #expect(problem(text) == message)
    }

    @Test("bytes without sense never crash the reader")
    func garbage() {
        var seed: UInt64 = 42
        let alphabet = Array("{}\"'\\#!\n \tab0x$@~include".utf8)
        for _ in 0..<2000 {
            var bytes: [UInt8] = []
            for _ in 0..<40 {
                seed = seed &* 6364136223846793005 &+ 1442695040888963407
                bytes.append(alphabet[Int(seed >> 33) % alphabet.count])
            }
            _ = try? KeepalivedConfiguration.parse(String(decoding: bytes, as: UTF8.self), file: "k.conf")
        }
    }
}
