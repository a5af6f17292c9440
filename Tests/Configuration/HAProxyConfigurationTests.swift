import Configuration
import Testing

@Suite("the language of haproxy.cfg")
struct HAProxyConfigurationTests {
    func read(_ text: String, _ environment: [String: String] = [:]) -> HAProxyConfiguration {
        HAProxyConfiguration(path: "h.cfg", contents: Array(text.utf8), environment: environment)
    }

    /// The words of one line of a section.
    func words(_ line: String, _ environment: [String: String] = [:]) -> [String] {
        let file = read("global\n\(line)\n", environment)
        return file.sections.first?.lines.first?.words.map(\.text) ?? []
    }

    @Test("blanks separate words, a hash begins a comment, a backslash takes the meaning of both")
    func plain() {
        #expect(words("  tcp-check \t send   info\\ replication\\r\\n # comment") == ["tcp-check", "send", "info replication\r\n"])
        #expect(words("a \\# b\\\\c \\\"d\\' e\\tf \\x41\\x0a") == ["a", "#", "b\\c", "\"d'", "e\tf", "A\n"])
        #expect(words("a\\qb") == ["a\\qb"])
        #expect(words("# nothing") == [])
    }

    @Test("a byte that is no text is kept")
    func bytes() {
        #expect(read("global\na \\xff\\x00\n").sections[0].lines[0].words[1].bytes == [0xff, 0])
    }

    @Test("weak quotes protect blanks and expand variables, strong quotes protect everything")
    func quotes() {
        let environment = ["HOME": "/root", "LIST": "a b  c", "EMPTY": ""]
        #expect(words("x \"a b # 'c'\" 'a \"b\" \\n $HOME'", environment) == ["x", "a b # 'c'", "a \"b\" \\n $HOME"])
        #expect(words("x \"$HOME/a\" \"${HOME}b\" $HOME \"\\$HOME\"", environment) == ["x", "/root/a", "/rootb", "$HOME", "$HOME"])
        #expect(words("x \"${NONE-def}\" \"${EMPTY-def}\" \"$NONE\"", environment) == ["x", "def", "", ""])
        #expect(words("x \"${LIST[*]}\" end", environment) == ["x", "a", "b", "c", "end"])
        #expect(words("x foo\"b ar\"'b az'", environment) == ["x", "foob arb az"])
        #expect(words("x \"${.FILE}:${.LINE}:${.SECTION}\"") == ["x", "h.cfg:2:global"])
    }

    @Test("sections hold their lines, each with its number")
    func sections() {
        let file = read("# top\n\nglobal\n daemon\n\ndefaults REDIS\n mode tcp\nbackend b\n server a 1.1.1.1:1\r\n")
        #expect(file.problems.isEmpty)
        #expect(file.sections.map(\.kind) == ["global", "defaults", "backend"])
        #expect(file.sections[1].opening.arguments.map(\.text) == ["REDIS"])
        #expect(file.sections[2].lines[0].number == 9)
        #expect(file.sections[2].lines[0].words.map(\.text) == ["server", "a", "1.1.1.1:1"])
    }

    @Test(
        "what the language forbids is named with file and line, and reading goes on",
        arguments: [
            ("foo bar\n", 1, "unknown keyword 'foo' out of section."),
            ("global\n a 'b\n", 2, "unmatched quote at position 4"),
            ("global\n a \"b\n", 2, "unmatched quote at position 4"),
            ("global\n a \\xzz\n", 2, "truncated or invalid hexadecimal sequence at position 4"),
            ("global\n a \\\n", 2, "truncated or invalid escape sequence at position 4"),
            ("global\n a \"$1\"\n", 2, "unsupported character in variable name"),
            ("global\n a \"${B\"\n", 2, "missing closing brace of a variable"),
            ("global\n .if 1\n", 2, "conditional blocks"),
            ("global\n daemon", 2, "Missing LF on last line"),
        ])
    func problems(text: String, line: Int, message: String) {
        let file = read(text)
        #expect(file.problems.count == 1)
        #expect(file.problems.first?.line == line)
        #expect(file.problems.first?.message.contains(message) == true)
        #expect(file.problems.first?.description.hasPrefix("h.cfg:\(line): ") == true)
    }

    @Test("every line's problem is found, and no secret is repeated")
    func all() {
        let file = read("foo\nglobal\n a 'x\n tcp-check send \"AUTH hunter2\n b\n")
        #expect(file.problems.map(\.line) == [1, 3, 4])
        #expect(!file.problems.map(\.message).joined().contains("hunter2"))
        #expect(file.sections[0].lines.map(\.keyword) == ["b"])
    }

    @Test("a file that is not there is a problem in words")
    func missing() {
        let file = HAProxyConfiguration(path: "/nonexistent/haproxy.cfg")
        #expect(file.problems.map(\.message) == ["Could not open configuration file /nonexistent/haproxy.cfg : No such file or directory"])
    }

    @Test("problems print as HAProxy prints them")
    func haproxyForm() {
        let problem = HAProxyConfiguration.Problem(.alert, file: "h.cfg", line: 7, "what it is")
        #expect(problem.haproxyLine(pid: 12) == "[ALERT]    (12) : config : parsing [h.cfg:7] : what it is")
    }
}
