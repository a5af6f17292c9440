import Glibc
import Logging
import Observability
import Testing

@Suite("Redis's log form")
struct RedisLogTests {
    static func contents(of path: String) -> String {
        let descriptor = open(path, O_RDONLY)
        guard descriptor >= 0 else { return "" }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = read(descriptor, &bytes, bytes.count)
        return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
    }

    static func withTemporaryDirectory(_ body: (String) throws -> Void) rethrows {
        var template = Array("/tmp/vigie-observability-XXXXXX".utf8CString)
        let path = String(cString: mkdtemp(&template)!)
        defer {
            for name in ["redis.log", "old.log", "log.sock"] { unlink("\(path)/\(name)") }
            rmdir(path)
        }
        try body(path)
    }

    @Test("a line has pid, role letter, date with milliseconds, level mark and message")
    func line() throws {
        try Self.withTemporaryDirectory { directory in
            let log = RedisLog(path: "\(directory)/redis.log", role: .master)
            log.logger().notice("Ready to accept connections")
            log.role = .replica
            log.logger().warning("Connection with master lost.")
            log.role = .sentinel
            log.verbosity = .debug
            log.logger().debug("very chatty")
            log.role = .child
            log.logger().info("verbose", metadata: ["b": "2", "a": "1"])
            let lines = Self.contents(of: log.path).split(separator: "\n")
            try #require(lines.count == 4)
            let date = #/\d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d\d:\d\d:\d\d\.\d{3}/#
            let expected = ["M|* Ready to accept connections", "S|# Connection with master lost.", "X|. very chatty", "C|- verbose a=1 b=2"]
            for (line, expectation) in zip(lines, expected) {
                let parts = expectation.split(separator: "|")
                #expect(line.hasPrefix("\(getpid()):\(parts[0]) "))
                #expect(line.hasSuffix(" \(parts[1])"))
                #expect(line.contains(date))
                #expect(line.count == "\(getpid()):M 22 Nov 2026 15:32:15.123 ".count + parts[1].count)
            }
        }
    }

    @Test("loglevel filters, changes at run time for every logger, and reads Redis's words")
    func verbosity() {
        Self.withTemporaryDirectory { directory in
            let log = RedisLog(path: "\(directory)/redis.log", role: .master, verbosity: .warning)
            let logger = log.logger()
            logger.notice("hidden")
            log.verbosity = .notice
            logger.notice("shown")
            logger.info("hidden too")
            let text = Self.contents(of: log.path)
            #expect(!text.contains("hidden"))
            #expect(text.contains("shown"))
        }
        #expect(RedisLog.Verbosity(name: "Verbose") == .verbose)
        #expect(RedisLog.Verbosity(name: "loud") == nil)
    }

    @Test("a rotated file is made anew without a signal, and a message cannot forge a second line")
    func rotation() {
        Self.withTemporaryDirectory { directory in
            let log = RedisLog(path: "\(directory)/redis.log", role: .master)
            log.logger().notice("one")
            rename(log.path, "\(directory)/old.log")
            log.logger().notice("two\n1:M forged")
            #expect(Self.contents(of: "\(directory)/old.log").contains("one"))
            let text = Self.contents(of: log.path)
            #expect(text.split(separator: "\n").count == 1)
            #expect(text.contains("two 1:M forged"))
        }
    }

    @Test("a path that cannot be opened is told by check, and its lines are counted as lost")
    func unwritable() {
        let log = RedisLog(path: "/nonexistent/vigie/redis.log", role: .master)
        #expect(log.check() == ENOENT)
        log.logger().notice("nowhere")
        #expect(log.linesLost == 1)
    }

    @Test("the log in memory keeps the last lines within its limit")
    func recent() {
        let log = RecentLog(limit: 8)
        for number in 0..<20 { log.logger().notice("line \(number)") }
        #expect(log.entries.count <= 8)
        #expect(log.messages.last == "line 19")
        #expect(!log.contains("line 3"))
    }
}
