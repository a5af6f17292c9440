import Configuration
import Glibc
import Testing

private func words(_ line: String) -> [String]? {
    RedisConfiguration.splitArguments(Array(line.utf8))?.map { String(decoding: $0, as: UTF8.self) }
}

private func temporaryFolder() -> String {
    var template = Array("/tmp/vigie-configuration-XXXXXX".utf8CString)
    return String(cString: mkdtemp(&template))
}

private func remove(_ folder: String) {
    var found = glob_t()
    glob("\(folder)/*", 0, nil, &found)
    for i in 0..<Int(found.gl_pathc) { unlink(found.gl_pathv[i]!) }
    globfree(&found)
    rmdir(folder)
}

private func write(_ text: String, to path: String) { try! ConfigurationFile.replace(path, with: Array(text.utf8)) }

@Suite("redis.conf syntax")
struct RedisConfigurationTests {
    @Test("words, double quotes with escapes and single quotes are read as Redis reads them")
    func splitting() {
        #expect(words("save 900 1") == ["save", "900", "1"])
        #expect(words("  a\t b ") == ["a", "b"])
        #expect(words(#"requirepass "a\"b\\c\n\x41""#) == ["requirepass", "a\"b\\c\nA"])
        #expect(words(#"x 'it\'s' ''"#) == ["x", "it's", ""])
        #expect(words(#"foo"bar" baz"#) == ["foobar", "baz"])
        #expect(words(#"x '\n'"#) == ["x", #"\n"#])
        #expect(RedisConfiguration.splitArguments(Array(#""\xff\x0""#.utf8)) == [[0xFF, UInt8(ascii: "x"), UInt8(ascii: "0")]])
    }

    @Test("a quote that is not closed, or not followed by a space, is refused with file and line", arguments: [
        #"requirepass "abc"#, "requirepass 'abc", #"requirepass "abc"def"#, "requirepass 'abc'd",
    ])
    func unbalanced(line: String) {
        let error = #expect(throws: ConfigurationError.self) {
            try RedisConfiguration.parse(Array("port 1\n\(line)\n".utf8), file: "r.conf")
        }
        #expect(error?.description.hasPrefix("r.conf:2: unbalanced quotes") == true)
    }

    @Test("comments and blank lines are skipped, names are lower case, lines keep their number")
    func lines() throws {
        let read = try RedisConfiguration.parse(Array("# a\n\n  PORT 7000\r\n\t# b\nbind 1.1.1.1 ::1".utf8), file: "f")
        #expect(read.map(\.name) == ["port", "bind"])
        #expect(read.map(\.arguments) == [["7000"], ["1.1.1.1", "::1"]])
        #expect(read.map(\.location.line) == [3, 5])
    }

    @Test("include follows patterns in order, in place; a missing plain file is refused, a pattern may match nothing")
    func include() throws {
        let folder = temporaryFolder()
        defer { remove(folder) }
        write("port 2\n", to: "\(folder)/b.conf")
        write("port 1\n", to: "\(folder)/a.conf")
        write("port 0\ninclude \(folder)/[ab].conf\ninclude \(folder)/*.none\nport 3\n", to: "\(folder)/main")
        let read = try RedisConfiguration.load(path: "\(folder)/main", overrides: ["--port", "4"])
        #expect(read.map { $0.arguments[0] } == ["0", "1", "2", "3", "4"])
        #expect(read[1].location == ConfigurationLocation(file: "\(folder)/a.conf", line: 1))
        #expect(read[4].location.description == "<command line>:1")

        write("port 0\ninclude \(folder)/none.conf\n", to: "\(folder)/main")
        let error = #expect(throws: ConfigurationError.self) { try RedisConfiguration.load(path: "\(folder)/main") }
        #expect(error?.description == "\(folder)/main:2: can't read '\(folder)/none.conf': No such file or directory")

        write("include \(folder)/main\n", to: "\(folder)/main")
        #expect(throws: ConfigurationError.self) { try RedisConfiguration.load(path: "\(folder)/main") }
    }

    @Test("options of the command line become directives")
    func overrides() throws {
        let read = try RedisConfiguration.parseOverrides(["--port", "7000", "--save", "", "--bind", "a", "b", "--appendonly yes", "--save"])
        #expect(read.map(\.name) == ["port", "save", "bind", "appendonly", "save"])
        #expect(read.map(\.arguments) == [["7000"], [""], ["a", "b"], ["yes"], [""]])
        #expect(throws: ConfigurationError.self) { try RedisConfiguration.parseOverrides(["7000"]) }
    }

    @Test("what is quoted reads back as itself", arguments: ["plain", "", "two words", "#x", "\"", "'", "\\", "\n\r\t\u{7}\u{8}\0", "é"])
    func quoting(word: String) {
        #expect(words("x " + RedisConfiguration.quote(word)) == ["x", word])
    }

    @Test("a rewritten file keeps comments and order, replaces in place, drops what is gone and appends what is new")
    func rewriting() {
        let old = """
            # mine
            port 1
            sentinel monitor a 1.1.1.1 1 2
            dir /tmp

            sentinel known-replica a 1.1.1.2 1
            sentinel known-replica a 1.1.1.3 1
            include /etc/x.conf
            """
        var rewriter = RedisConfigurationRewriter(Array(old.utf8))
        rewriter.set("port", lines: ["port 2"])
        rewriter.set("sentinel monitor", lines: ["sentinel monitor a 1.1.1.2 1 2"])
        rewriter.set("sentinel known-replica", lines: ["sentinel known-replica a 1.1.1.1 1"])
        rewriter.set("sentinel myid", lines: ["sentinel myid abc"])
        rewriter.set("sentinel down-after-milliseconds", lines: ["..."], onlyReplacing: true)
        let new = String(decoding: rewriter.finish(), as: UTF8.self)
        #expect(new == """
            # mine
            port 2
            sentinel monitor a 1.1.1.2 1 2
            dir /tmp

            sentinel known-replica a 1.1.1.1 1
            include /etc/x.conf
            # Generated by CONFIG REWRITE
            sentinel myid abc

            """)
    }

    @Test("replacing a file keeps its mode, follows a link and leaves nothing else behind")
    func replacing() throws {
        let folder = temporaryFolder()
        defer { remove(folder) }
        write("old", to: "\(folder)/f")
        chmod("\(folder)/f", 0o640)
        symlink("\(folder)/f", "\(folder)/link")
        try ConfigurationFile.replace("\(folder)/link", with: Array("new".utf8))
        #expect(try ConfigurationFile.read("\(folder)/f") == Array("new".utf8))
        var status = stat()
        lstat("\(folder)/f", &status)
        #expect(status.st_mode & 0o777 == 0o640)
        lstat("\(folder)/link", &status)
        #expect(status.st_mode & S_IFMT == S_IFLNK)
        let missing = #expect(throws: ConfigurationFileError.self) { try ConfigurationFile.replace("\(folder)/no/f", with: []) }
        #expect(missing?.reason == "No such file or directory")
    }
}
