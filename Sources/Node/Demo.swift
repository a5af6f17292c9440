import CLinux
import Glibc
import Reactor

extension Launch {
    /// `vigie demo`: three stores, three Sentinels and the proxy on loopback, each a process of this program.
    public static func demo(port: UInt16) -> Int32 {
        do throws(SystemError) {
            let demo = try Demo(port: port)
            return demo.run()
        } catch {
            report("vigie demo: \(error)")
            return 1
        }
    }
}

/// The platform of the article on one machine, for trying out: what it needs lies in a temporary folder, which goes with it.
final class Demo {
    private final class Member {
        let name: String
        let arguments: [String]
        let port: UInt16
        var pid: Int32 = 0
        var isRunning = false
        init(_ name: String, _ arguments: [String], port: UInt16) {
            self.name = name
            self.arguments = arguments
            self.port = port
        }
    }

    private static let startTimeMax = Duration.seconds(20)
    private static let restartDelay = Duration.seconds(10)

    private let loop: Loop = EpollLoop()
    private let port: UInt16
    private let folder: String
    private let program: String
    private var stores: [Member] = []
    private var sentinels: [Member] = []
    private var proxy: Member!
    private var members: [Member] { stores + sentinels + [proxy] }
    private var master: UInt16
    private var isUp = false
    private var isStopping = false
    private var exitStatus: Int32 = 0
    private var answersInARow = 0

    /// Chooses ports and writes the files.
    /// - Throws: `SystemError` naming what could not be had; the client's port, if it is taken.
    init(port: UInt16) throws(SystemError) {
        self.port = port
        guard Demo.isFree(port, loop) else { throw SystemError("port \(port) of 127.0.0.1 (another one: vigie demo --port N)", code: EADDRINUSE) }
        var template = Array("/tmp/vigie-demo.XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError("make a folder in /tmp") }
        folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        guard let real = realpath("/proc/self/exe", nil) else { throw SystemError("find this program's file") }
        program = String(cString: real)
        free(real)
        let storePorts = Demo.freePorts(3, from: 7001, loop)
        let sentinelPorts = Demo.freePorts(3, from: 27001, loop)
        master = storePorts[0]
        for (i, port) in storePorts.enumerated() {
            let file = try write("store-\(i + 1).conf", Demo.storeText(i + 1, port, master: i == 0 ? nil : master, folder))
            stores.append(Member("store-\(i + 1)", ["store", file], port: port))
        }
        for (i, port) in sentinelPorts.enumerated() {
            let file = try write("sentinel-\(i + 1).conf", Demo.sentinelText(i + 1, port, master: master, folder))
            sentinels.append(Member("sentinel-\(i + 1)", ["sentinel", file], port: port))
        }
        let file = try write("haproxy.cfg", Demo.proxyText(port, storePorts, folder))
        proxy = Member("proxy", ["proxy", file], port: port)
    }

    private static func isFree(_ port: UInt16, _ loop: Loop) -> Bool {
        do throws(SystemError) {
            try loop.listen(on: .loopback(port: port), handler: Nobody()).close()
            return true
        } catch {
            return false
        }
    }

    private static func freePorts(_ count: Int, from first: UInt16, _ loop: Loop) -> [UInt16] {
        Array((first...).lazy.filter { isFree($0, loop) }.prefix(count))
    }

    private func write(_ name: String, _ text: String) throws(SystemError) -> String {
        let path = "\(folder)/\(name)"
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw SystemError("create \(path)") }
        defer { close(descriptor) }
        let bytes = Array(text.utf8)
        guard Glibc.write(descriptor, bytes, bytes.count) == bytes.count else { throw SystemError("write \(path)") }
        return path
    }

    // MARK: the files

    private static func storeText(_ number: Int, _ port: UInt16, master: UInt16?, _ folder: String) -> String {
        """
        bind 127.0.0.1
        port \(port)
        dir \(folder)
        dbfilename store-\(number).rdb
        logfile \(folder)/store-\(number).log
        repl-diskless-sync-delay 0
        \(master.map { "replicaof 127.0.0.1 \($0)" } ?? "# the first master")

        """
    }

    private static func sentinelText(_ number: Int, _ port: UInt16, master: UInt16, _ folder: String) -> String {
        """
        bind 127.0.0.1
        port \(port)
        dir \(folder)
        logfile \(folder)/sentinel-\(number).log
        sentinel monitor mymaster 127.0.0.1 \(master) 2
        sentinel down-after-milliseconds mymaster 1000
        sentinel failover-timeout mymaster 5000

        """
    }

    private static func proxyText(_ port: UInt16, _ stores: [UInt16], _ folder: String) -> String {
        """
        global
            stats socket \(folder)/admin.sock mode 600 level admin

        defaults
            mode tcp
            timeout connect 4s
            timeout server 1h
            timeout client 1h

        frontend ft_redis
            bind 127.0.0.1:\(port) name redis
            default_backend bk_redis

        backend bk_redis
            option tcp-check
            tcp-check send PING\\r\\n
            tcp-check expect string +PONG
            tcp-check send info\\ replication\\r\\n
            tcp-check expect string role:master
            tcp-check send QUIT\\r\\n
            tcp-check expect string +OK

        """ + stores.enumerated().map { "    server store-\($0 + 1) 127.0.0.1:\($1) check inter 200ms on-marked-down shutdown-sessions\n" }.joined()
    }

    // MARK: life

    func run() -> Int32 {
        for signal in [SIGINT, SIGTERM, SIGHUP] { loop.onSignal(signal) { [unowned self] in stop() } }
        for member in stores { start(member) }
        loop.schedule(after: Demo.startTimeMax, label: "demo start") { [unowned self] in
            if !isUp, !isStopping { fail("the platform did not come up in 20 s") }
        }
        waitForReplicas()
        loop.run()
        for name in Demo.names(in: folder) { unlink("\(folder)/\(name)") }
        rmdir(folder)
        return exitStatus
    }

    private static func names(in folder: String) -> [String] {
        guard let directory = opendir(folder) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    private func start(_ member: Member) {
        let output = open("\(folder)/\(member.name).out", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        defer { close(output) }
        do throws(SystemError) {
            member.pid = try loop.spawn([program] + member.arguments, environment: environment, output: output) { [unowned self] in ended(member, $0) }
            member.isRunning = true
        } catch {
            fail("\(error)")
        }
    }

    /// Ours, and who started it.
    private var environment: [String] {
        var result = ["\(ParentWatch.variable)=\(getpid())"]
        var cursor = environ
        while let entry = cursor.pointee {
            result.append(String(cString: entry))
            cursor += 1
        }
        return result
    }

    private func ended(_ member: Member, _ status: ChildStatus) {
        member.isRunning = false
        if isStopping {
            if members.allSatisfy({ !$0.isRunning }) { loop.stop() }
            return
        }
        guard isUp else { return fail("\(member.name) ended while starting") }
        let how = switch status {
        case .signalled(let signal): "was killed by signal \(signal)"
        case .exited(let code): "ended with status \(code)"
        }
        say("\(member.name) (PID \(member.pid)) \(how); it is started again in 10 s")
        loop.schedule(after: Demo.restartDelay, label: "demo restart") { [unowned self] in
            guard !isStopping, !member.isRunning else { return }
            start(member)
            say("\(member.name) is back: PID \(member.pid)")
        }
    }

    private func fail(_ problem: String) {
        Launch.report("vigie demo: \(problem)")
        for name in Demo.names(in: folder).sorted() where name.hasSuffix(".out") || name.hasSuffix(".log") {
            let descriptor = open("\(folder)/\(name)", O_RDONLY | O_CLOEXEC)
            defer { close(descriptor) }
            var text = [UInt8](repeating: 0, count: 4096)
            let count = read(descriptor, &text, text.count)
            if count > 0 { Launch.report("--- \(name)\n\(String(decoding: text[..<count], as: UTF8.self))") }
        }
        exitStatus = 1
        stop()
    }

    private func stop() {
        guard !isStopping else { return }
        isStopping = true
        for member in members where member.isRunning { loop.sendSignal(SIGTERM, toChild: member.pid) }
        if members.allSatisfy({ !$0.isRunning }) { return loop.stop() }
        loop.schedule(after: .seconds(5), label: "demo stop") { [unowned self] in
            for member in members where member.isRunning { loop.sendSignal(SIGKILL, toChild: member.pid) }
        }
    }

    private func say(_ text: String) { print(text); fflush(nil) }

    // MARK: watching

    /// The Sentinels come when the replicas are there: they look for replicas every ten seconds only.
    private func waitForReplicas() {
        guard !isStopping else { return }
        ask(stores[0].port, "INFO replication\r\n") { [unowned self] answer in
            guard answer.contains("connected_slaves:2") else {
                loop.schedule(after: .milliseconds(50), label: "demo wait") { [unowned self] in waitForReplicas() }
                return
            }
            guard !isStopping else { return }
            for member in sentinels { start(member) }
            start(proxy)
            waitUntilUp()
        }
    }

    /// Asks until the proxy leads to a master with two replicas and the Sentinels know each other.
    private func waitUntilUp() {
        guard !isStopping else { return }
        ask(port, "INFO replication\r\n") { [unowned self] answer in
            guard answer.contains("role:master"), answer.contains("connected_slaves:2") else {
                answersInARow = 0
                return again()
            }
            // Servers count as up until their check has failed: when six turns in a row lead to the master, no replica is left.
            answersInARow += 1
            guard answersInARow >= 6 else { return waitUntilUp() }
            ask(sentinels[0].port, "SENTINEL MASTER mymaster\r\n") { [unowned self] answer in
                guard Demo.value(of: "num-other-sentinels", in: answer) == "2", Demo.value(of: "num-slaves", in: answer) == "2" else { return again() }
                isUp = true
                welcome()
                loop.scheduleRepeating(every: .milliseconds(500), label: "demo watch") { [unowned self] in watchMaster() }
            }
        }
        func again() { loop.schedule(after: .milliseconds(200), label: "demo wait") { [unowned self] in waitUntilUp() } }
    }

    private func watchMaster() {
        guard !isStopping, let sentinel = sentinels.first(where: \.isRunning) else { return }
        ask(sentinel.port, "SENTINEL GET-MASTER-ADDR-BY-NAME mymaster\r\n") { [unowned self] answer in
            let lines = answer.split(whereSeparator: \.isNewline)
            guard lines.count >= 5, let found = UInt16(lines[4]), found != master, let member = stores.first(where: { $0.port == found }) else { return }
            master = found
            say("the Sentinels have made \(member.name) the master: 127.0.0.1:\(found), PID \(member.pid)")
        }
    }

    /// The word after `name` in a reply of bulk strings.
    private static func value(of name: String, in reply: String) -> String? {
        let lines = reply.split(whereSeparator: \.isNewline).map(String.init)
        guard let index = lines.firstIndex(of: name), index + 2 < lines.count else { return nil }
        return lines[index + 2]
    }

    private func ask(_ port: UInt16, _ request: String, _ answer: @escaping (String) -> Void) {
        let question = Question(request, answer)
        _ = loop.connect(to: .loopback(port: port), timeout: .seconds(1), handler: question)
    }

    private func welcome() {
        let cli = "redis-cli\(port == 6379 ? "" : " -p \(port)")"
        var text = "The platform is up; clients use 127.0.0.1:\(port), which leads to the master.\n\n"
        for member in stores { text += "  \(member.name)     127.0.0.1:\(member.port)   PID \(member.pid)\(member.port == master ? "   master" : "")\n" }
        for member in sentinels { text += "  \(member.name)  127.0.0.1:\(member.port)  PID \(member.pid)\n" }
        text += "  proxy       127.0.0.1:\(port)   PID \(proxy.pid)\n\n"
        let victim = stores.first { $0.port == master }!
        text += """
            Try, in another terminal:

              \(cli) set greeting hello
              kill -9 \(victim.pid)
              \(cli) get greeting
              redis-cli -p \(sentinels[0].port) sentinel masters
              redis-cli -p \(stores[1].port) info replication
              hatop -s \(folder)/admin.sock

            Killing the master makes the Sentinels choose another one; what was written is still there.
            Logs and configurations are in \(folder). Ctrl-C ends everything and removes it.

            """
        say(text)
    }
}

/// Takes connections that nobody serves, while a port is tried.
private final class Nobody: ListenerHandler {
    func listener(_ listener: Listener, accepted connection: Connection) { connection.close() }
}

/// One request on a connection of its own, and what came back, empty when nothing did.
private final class Question: ConnectionHandler {
    private let request: String
    private var answer: ((String) -> Void)?
    private var text: [UInt8] = []

    init(_ request: String, _ answer: @escaping (String) -> Void) {
        self.request = request
        self.answer = answer
    }

    func connectionOpened(_ connection: Connection) {
        connection.output.append(request + "QUIT\r\n")
        connection.loop.schedule(after: .seconds(2), label: "demo question") { [weak connection] in connection?.close() }
    }

    func connectionReceived(_ connection: Connection) {
        text += connection.input.bytes
        connection.input.consume(connection.input.count)
        if text.suffix(5) == Array("+OK\r\n".utf8)[...] { connection.close() }
    }

    func connectionClosed(_ connection: Connection, _ reason: CloseReason) {
        let whole = String(decoding: text, as: UTF8.self)
        answer?(whole)
        answer = nil
    }
}
