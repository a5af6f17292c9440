import Configuration
import Glibc
import Reactor

extension Launch {
    /// `vigie demo`: three stores, three Sentinels and the proxy on loopback, each a process, until Ctrl-C.
    public static func demo(port: UInt16, storePort: UInt16, sentinelPort: UInt16) -> Int32 {
        do throws(SystemError) {
            let demo = try Demo(port: port, storePort: storePort, sentinelPort: sentinelPort)
            try demo.start()
            return demo.run()
        } catch {
            report("vigie demo: \(error)")
            return 1
        }
    }
}

/// The platform of the article on one machine, for looking at: it keeps the processes, tells how they end, and starts again
/// what was killed.
final class Demo {
    /// One process of the platform.
    private struct Member {
        let title: String
        let port: UInt16
        let arguments: [String]
        var process: Int32?
    }

    private static let storeCount = 3
    /// What was killed stays away so long: long enough to see the others do its work.
    private static let absence = Duration.seconds(10)
    private static let stopTimeMax = Duration.seconds(5)

    private let loop = EpollLoop()
    private let folder: String
    private let program: String
    private let port: UInt16
    private let storePorts: [UInt16]
    private let sentinelPorts: [UInt16]
    private var members: [Member] = []
    private var events: DemoEvents?
    private var isStopping = false

    init(port: UInt16, storePort: UInt16, sentinelPort: UInt16) throws(SystemError) {
        self.port = port
        storePorts = (0..<UInt16(Demo.storeCount)).map { storePort + $0 }
        sentinelPorts = (0..<UInt16(Demo.storeCount)).map { sentinelPort + $0 }
        program = try Demo.ownProgram()
        var template = Array("/tmp/vigie-demo-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError("make a folder in /tmp") }
        folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static func ownProgram() throws(SystemError) -> String {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = buffer.withUnsafeMutableBytes { readlink("/proc/self/exe", $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count) }
        guard count > 0 else { throw SystemError("read /proc/self/exe") }
        return String(decoding: buffer[..<count], as: UTF8.self)
    }

    func start() throws(SystemError) {
        do throws(SystemError) {
            try checkPorts()
            try writeFiles()
            for index in members.indices { try start(index) }
        } catch {
            for member in members { if let process = member.process { loop.sendSignal(SIGTERM, toChild: process) } }
            FolderTree.remove(folder)
            throw error
        }
        for signal in [SIGINT, SIGTERM, SIGHUP] { loop.onSignal(signal) { [unowned self] in stop() } }
        explain()
        events = DemoEvents(loop: loop, ports: sentinelPorts) { print($0) }
        events?.begin()
    }

    func run() -> Int32 {
        loop.run()
        FolderTree.remove(folder)
        return 0
    }

    /// A port that is taken is found before anything is started.
    private func checkPorts() throws(SystemError) {
        let nobody = NoConnections()
        for each in [port] + storePorts + sentinelPorts {
            do throws(SystemError) {
                try loop.listen(on: .loopback(port: each), options: ListenOptions(), handler: nobody).close()
            } catch {
                throw SystemError("\(error.operation) (--port, --store-port and --sentinel-port choose others)", code: error.code)
            }
        }
    }

    // MARK: files

    private func writeFiles() throws(SystemError) {
        for (index, each) in storePorts.enumerated() {
            let home = try makeFolder("store-\(each)")
            let replication = index == 0 ? "" : "replicaof 127.0.0.1 \(storePorts[0])\n"
            let text = "port \(each)\nbind 127.0.0.1\ndir \(home)\nsave \"\"\nlogfile \(home)/log\nrepl-diskless-sync-delay 0\n\(replication)"
            try write(text, to: "\(home)/redis.conf")
            members.append(Member(title: "store", port: each, arguments: ["store", "\(home)/redis.conf"]))
        }
        for each in sentinelPorts {
            let home = try makeFolder("sentinel-\(each)")
            let text = """
                port \(each)
                bind 127.0.0.1
                dir \(home)
                logfile \(home)/log
                sentinel monitor mymaster 127.0.0.1 \(storePorts[0]) 2
                sentinel down-after-milliseconds mymaster 1000
                sentinel failover-timeout mymaster 5000

                """
            try write(text, to: "\(home)/sentinel.conf")
            members.append(Member(title: "sentinel", port: each, arguments: ["sentinel", "\(home)/sentinel.conf"]))
        }
        try write(proxyFile, to: "\(folder)/haproxy.cfg")
        members.append(Member(title: "proxy", port: port, arguments: ["proxy", "\(folder)/haproxy.cfg"]))
    }

    private var proxyFile: String {
        let servers = storePorts.enumerated().map { "    server redis0\($0 + 1) 127.0.0.1:\($1) check inter 200ms rise 1 fall 2" }
        return """
            global
                stats socket \(folder)/admin.sock mode 600 level admin

            defaults
                mode tcp
                timeout connect 1s
                timeout server 1h
                timeout client 1h

            frontend ft_redis
                bind 127.0.0.1:\(port)
                default_backend bk_redis

            backend bk_redis
                option tcp-check
                tcp-check send PING\\r\\n
                tcp-check expect string +PONG
                tcp-check send info\\ replication\\r\\n
                tcp-check expect string role:master
                tcp-check send QUIT\\r\\n
                tcp-check expect string +OK
            \(servers.joined(separator: "\n"))

            """
    }

    private func makeFolder(_ name: String) throws(SystemError) -> String {
        let path = "\(folder)/\(name)"
        guard mkdir(path, 0o700) == 0 else { throw SystemError("make the folder '\(path)'") }
        return path
    }

    private func write(_ text: String, to path: String) throws(SystemError) {
        do throws(ConfigurationFileError) {
            try ConfigurationFile.replace(path, with: Array(text.utf8))
        } catch {
            throw SystemError(error.operation, code: error.code)
        }
    }

    // MARK: processes

    private func start(_ index: Int) throws(SystemError) {
        let member = members[index]
        let log = open("\(folder)/\(member.title)-\(member.port).output", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        guard log >= 0 else { throw SystemError("write in '\(folder)'") }
        defer { close(log) }
        let environment = Demo.environment() + ["\(ParentWatch.variable)=\(getpid())"]
        members[index].process = try loop.spawn([program] + member.arguments, environment: environment, output: log) { [unowned self] in
            ended(index, $0)
        }
    }

    private static func environment() -> [String] {
        var result: [String] = []
        var cursor = environ
        while let entry = cursor.pointee {
            result.append(String(cString: entry))
            cursor += 1
        }
        return result
    }

    private func ended(_ index: Int, _ status: ChildStatus) {
        members[index].process = nil
        guard !isStopping else {
            if members.allSatisfy({ $0.process == nil }) { loop.stop() }
            return
        }
        let member = members[index]
        let how = switch status {
        case .exited(let code): "ended with status \(code)"
        case .signalled(let signal): "was ended by signal \(signal)"
        }
        print("\(member.title) \(member.port) \(how); it comes back in \(Demo.absence.wholeMilliseconds / 1000) s")
        loop.schedule(after: Demo.absence, label: "demo restart") { [unowned self] in
            guard !isStopping, members[index].process == nil else { return }
            do throws(SystemError) {
                try start(index)
                print("\(member.title) \(member.port) is back, process \(members[index].process ?? 0)")
            } catch {
                print("\(member.title) \(member.port): \(error)")
            }
        }
    }

    private func stop() {
        guard !isStopping else { return }
        isStopping = true
        events?.end()
        print("\nending all of it")
        for member in members { if let process = member.process { loop.sendSignal(SIGTERM, toChild: process) } }
        if members.allSatisfy({ $0.process == nil }) { loop.stop() }
        loop.schedule(after: Demo.stopTimeMax, label: "demo stop") { [unowned self] in
            for member in members { if let process = member.process { loop.sendSignal(SIGKILL, toChild: process) } }
        }
    }

    private func explain() {
        print("The platform on 127.0.0.1; its files are in \(folder)\n")
        for member in members {
            let role = member.port == storePorts[0] && member.title == "store" ? "  master" : ""
            print("  \(pad(member.title, 9)) port \(pad("\(member.port)", 6)) process \(member.process ?? 0)\(role)")
        }
        print("""

            Try, in another terminal:

              redis-cli -p \(port) set greeting hello
              redis-cli -p \(port) info replication
              redis-cli -p \(sentinelPorts[0]) sentinel master mymaster
              hatop -s \(folder)/admin.sock
              kill -9 \(members[0].process ?? 0)        # the master: a replica takes its place, and writing goes on

            Ctrl-C ends all of it. What the Sentinels say:

            """)
    }

    private func pad(_ text: String, _ width: Int) -> String { text + String(repeating: " ", count: max(0, width - text.count)) }
}

/// A listener that only finds out whether a port is free.
private final class NoConnections: ListenerHandler {
    func listener(_ listener: Listener, accepted connection: Connection) {}
}

/// A folder with all that is in it.
enum FolderTree {
    static func remove(_ path: String) {
        if let folder = opendir(path) {
            while let entry = readdir(folder) {
                let name = withUnsafePointer(to: &entry.pointee.d_name) {
                    $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                }
                guard name != ".", name != ".." else { continue }
                let child = "\(path)/\(name)"
                var status = stat()
                guard lstat(child, &status) == 0 else { continue }
                if status.st_mode & S_IFMT == S_IFDIR { remove(child) } else { unlink(child) }
            }
            closedir(folder)
        }
        rmdir(path)
    }
}
