import CLinux
import Glibc

/// The loop over the kernel: edge-triggered epoll, signalfd, pidfd, eventfd.
///
/// Each descriptor is registered once, for reading and writing, and never modified. An event carries the descriptor and
/// the registration number that it had when it was added; a late event for a descriptor that has been reused is dropped.
public final class EpollLoop: Loop {
    private let epoll: Int32
    private let events: UnsafeMutablePointer<epoll_event>
    private static let eventsMax = 1024

    /// What is registered under each descriptor number; grows with the highest number seen.
    private struct Slot {
        var registration: UInt32 = 0
        var source: EventSource?
    }
    private var slots: UnsafeMutablePointer<Slot>
    private var slotCount = 64
    private var lastRegistration: UInt32 = 0
    /// Kernels before 5.11 and some sandboxes have no epoll_pwait2; there waits are rounded up to milliseconds.
    private var hasNanosecondWait = true
    private var coalescing = WakeupCoalescing()

    private var signalSource: SignalSource?
    private var workers: BackgroundWorkers?

    /// Traps when the kernel refuses an epoll instance: nothing can be served then.
    public override init() {
        epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        precondition(epoll >= 0, "epoll_create1 failed with errno \(errno)")
        events = .allocate(capacity: EpollLoop.eventsMax)
        slots = .allocate(capacity: slotCount)
        slots.initialize(repeating: Slot(), count: slotCount)
        super.init()
        signal(SIGPIPE, SIG_IGN)
        // A file that would become larger than allowed (RLIMIT_FSIZE) is an error of `write`, not the end.
        signal(SIGXFSZ, SIG_IGN)
        // By default the kernel may let a timer of an ordinary thread fire 50 µs late.
        _ = vigie_prctl(PR_SET_TIMERSLACK, 1)
        var nothing = timespec()
        hasNanosecondWait = epoll_pwait2(epoll, events, 1, &nothing, nil) >= 0 || errno != ENOSYS
        readClocks()
    }

    deinit {
        for index in 0..<slotCount { slots[index].source?.abandon() }
        slots.deinitialize(count: slotCount)
        slots.deallocate()
        events.deallocate()
        Glibc.close(epoll)
    }

    // MARK: registration

    func register(_ source: EventSource, descriptor: Int32, events mask: Readiness) throws(SystemError) {
        let index = Int(descriptor)
        if index >= slotCount { growSlots(beyond: index) }
        lastRegistration &+= 1
        slots[index] = Slot(registration: lastRegistration, source: source)
        source.registration = lastRegistration
        var event = epoll_event()
        event.events = mask.union(.edgeTriggered).rawValue
        event.data.u64 = UInt64(lastRegistration) << 32 | UInt64(UInt32(bitPattern: descriptor))
        guard epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) == 0 else {
            slots[index] = Slot()
            throw SystemError("epoll_ctl add of descriptor \(descriptor)")
        }
    }

    private func growSlots(beyond index: Int) {
        let count = max(index + 1, slotCount * 2)
        let grown = UnsafeMutablePointer<Slot>.allocate(capacity: count)
        grown.moveInitialize(from: slots, count: slotCount)
        (grown + slotCount).initialize(repeating: Slot(), count: count - slotCount)
        slots.deallocate()
        slots = grown
        slotCount = count
    }

    /// Takes the source off the table; closing the descriptor takes it out of epoll.
    func unregister(_ source: EventSource, descriptor: Int32) {
        guard descriptor >= 0, Int(descriptor) < slotCount, slots[Int(descriptor)].source === source else { return }
        slots[Int(descriptor)] = Slot()
    }

    public override func forget(_ connection: Connection) { unregister(connection, descriptor: connection.descriptor) }

    // MARK: waiting

    public override func updateClock() {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        clock.pointee.monotonic = Instant(nanoseconds: UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec))
    }

    /// Wall time minus monotonic time, in nanoseconds, and until when it is believed: the wall clock is read a hundred
    /// times a second at most, and a step of it is seen within 10 ms.
    private var wallOffset: Int64 = 0
    private var wallOffsetExpires: UInt64 = 0

    private func readClocks() {
        updateClock()
        let monotonic = clock.pointee.monotonic.nanoseconds
        if monotonic >= wallOffsetExpires {
            var time = timespec()
            clock_gettime(CLOCK_REALTIME, &time)
            wallOffset = Int64(time.tv_sec) &* 1_000_000_000 &+ Int64(time.tv_nsec) &- Int64(bitPattern: monotonic)
            wallOffsetExpires = monotonic &+ 10_000_000
        }
        let wall = UInt64(bitPattern: wallOffset) &+ monotonic
        clock.pointee.wallMicroseconds = Int64(bitPattern: wall / 1000)
        clock.pointee.wallMilliseconds = Int64(bitPattern: wall / 1_000_000)
    }

    public override func poll(until deadline: Instant) {
        let before = now
        let blocks = deadline > before
        let pauses = blocks && coalescing.isOn && deadline.nanoseconds - before.nanoseconds > WakeupCoalescing.pause
        if pauses {
            var time = timespec(tv_sec: 0, tv_nsec: Int(WakeupCoalescing.pause))
            clock_nanosleep(CLOCK_MONOTONIC, 0, &time, nil)
            updateClock()
        }
        let count = wait(until: deadline)
        readClocks()
        wokeAt = now
        if blocks {
            coalescing.waited(from: before.nanoseconds, to: now.nanoseconds, events: Int(max(0, count)), paused: pauses)
        }
        guard count > 0 else { return }
        for index in 0..<Int(count) {
            let event = events[index]
            let descriptor = Int(UInt32(truncatingIfNeeded: event.data.u64))
            let registration = UInt32(truncatingIfNeeded: event.data.u64 >> 32)
            guard descriptor < slotCount, slots[descriptor].registration == registration,
                let source = slots[descriptor].source
            else {
                counters.pointee.lateEventsDropped += 1
                continue
            }
            measure(source.label) { source.ready(Readiness(rawValue: event.events)) }
        }
    }

    private func wait(until deadline: Instant) -> Int32 {
        if deadline == .distantFuture { return epoll_wait(epoll, events, Int32(EpollLoop.eventsMax), -1) }
        var left: UInt64 = 0
        if deadline > now { left = deadline.nanoseconds - now.nanoseconds }
        if left == 0 { return epoll_wait(epoll, events, Int32(EpollLoop.eventsMax), 0) }
        guard hasNanosecondWait else {
            return epoll_wait(epoll, events, Int32(EpollLoop.eventsMax), Int32(clamping: (left + 999_999) / 1_000_000))
        }
        var time = timespec()
        time.tv_sec = Int(left / 1_000_000_000)
        time.tv_nsec = Int(left % 1_000_000_000)
        return epoll_pwait2(epoll, events, Int32(EpollLoop.eventsMax), &time, nil)
    }

    // MARK: stream sockets

    public override func listen(on address: SocketAddress, options: ListenOptions, handler: any ListenerHandler) throws(SystemError) -> Listener {
        let raw = try RawAddress(address)
        let descriptor = socket(Int32(raw.storage.ss_family), openFlags, 0)
        guard descriptor >= 0 else { throw SystemError("socket for \(address)") }
        var bound = false
        defer { if !bound { Glibc.close(descriptor) } }
        if case .unix(let path) = address { removeStaleSocket(path) } else { setOption(descriptor, SOL_SOCKET, SO_REUSEADDR, 1) }
        if case .ipv6 = address { setOption(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, 1) }
        if options.reusePort { setOption(descriptor, SOL_SOCKET, SO_REUSEPORT, 1) }
        if options.freeBind { setOption(descriptor, Int32(IPPROTO_IP), IP_FREEBIND, 1) }
        if let size = options.sendBufferSize { setOption(descriptor, SOL_SOCKET, SO_SNDBUF, size) }
        guard raw.withSockaddr({ Glibc.bind(descriptor, $0, $1) }) == 0 else { throw SystemError("bind \(address)") }
        if case .unix(let path) = address {
            if let mode = options.unixMode { chmod(path, mode) }
            if options.unixUser != nil || options.unixGroup != nil {
                guard chown(path, options.unixUser ?? .max, options.unixGroup ?? .max) == 0 else { throw SystemError("chown \(path)") }
            }
        }
        guard Glibc.listen(descriptor, options.backlog) == 0 else { throw SystemError("listen \(address)") }
        let listener = SocketListener(loop: self, descriptor: descriptor, address: address, handler: handler)
        listener.sendBufferSize = options.sendBufferSize
        listener.address = localAddress(of: descriptor) ?? address
        if case .unix(let path) = address {
            listener.address = address
            listener.file = SocketListener.identity(of: path)
        }
        try register(listener, descriptor: descriptor, events: .readable)
        bound = true
        return listener
    }

    /// A socket's file outlives its process and would make bind fail. Anything that is not a socket is left alone.
    private func removeStaleSocket(_ path: String) {
        var information = stat()
        if lstat(path, &information) == 0, information.st_mode & S_IFMT == S_IFSOCK { unlink(path) }
    }

    public override func connect(to address: SocketAddress, from local: SocketAddress?, timeout: Duration, handler: any ConnectionHandler) -> Connection {
        let family: Int32 = switch address {
        case .ipv4: AF_INET
        case .ipv6: AF_INET6
        case .unix: AF_UNIX
        }
        let descriptor = socket(family, openFlags, 0)
        let failure = descriptor < 0 ? errno : 0
        let transport = SocketTransport(descriptor: descriptor)
        let connection = Connection(
            loop: self, transport: transport, phase: .connecting, local: local ?? .anyIPv4(port: 0), peer: address)
        connection.handler = handler
        if let problem = failure != 0 ? failure : start(connection, transport: transport, from: local) {
            deferWork(label: "connect") { connection.close(.connectFailed(problem)) }
            return connection
        }
        connection.connectTimer = schedule(after: timeout, label: "connect time-out") { connection.close(.connectTimedOut) }
        return connection
    }

    /// - Returns: the errno of what went wrong at once, nil while the attempt is under way.
    private func start(_ connection: Connection, transport: SocketTransport, from local: SocketAddress?) -> Int32? {
        let descriptor = transport.descriptor
        do throws(SystemError) {
            if let local {
                setOption(descriptor, SOL_SOCKET, SO_REUSEADDR, 1)
                guard try RawAddress(local).withSockaddr({ Glibc.bind(descriptor, $0, $1) }) == 0 else { return errno }
            }
            let result = try RawAddress(connection.peer).withSockaddr { Glibc.connect(descriptor, $0, $1) }
            if result != 0, errno != EINPROGRESS { return errno }
            try register(connection, descriptor: descriptor, events: [.readable, .writable, .peerEnded])
            return nil
        } catch {
            return error.code
        }
    }

    public override func completeOutgoing(_ connection: Connection) {
        if let local = localAddress(of: connection.descriptor) { connection.local = local }
    }

    func accept(from listener: SocketListener) {
        for _ in 0..<SocketListener.batch {
            guard listener.descriptor >= 0 else { return }
            var raw = RawAddress()
            let descriptor = raw.withMutableSockaddr { accept4(listener.descriptor, $0, $1, Int32(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)) }
            if descriptor < 0 {
                switch errno {
                case EAGAIN: return
                // accept(2): pending errors of the new connection are treated like a connection that is not there.
                case EINTR, ECONNABORTED, EPROTO, ENETDOWN, ENOPROTOOPT, EHOSTDOWN, EHOSTUNREACH, EOPNOTSUPP, ENETUNREACH: continue
                default:
                    counters.pointee.acceptsFailed += 1
                    acceptLater(listener)
                    return
                }
            }
            counters.pointee.connectionsAccepted += 1
            take(descriptor, from: raw, listener)
        }
        // More may wait, and no new edge will tell.
        continueNextIteration(label: listener.label) { [weak listener, unowned self] in
            if let listener { accept(from: listener) }
        }
    }

    /// Out of descriptors or memory: the edge is spent, so look again by the clock until it is better.
    private func acceptLater(_ listener: SocketListener) {
        guard !listener.isRetryScheduled else { return }
        listener.isRetryScheduled = true
        schedule(after: .milliseconds(50), label: "accept again") { [weak listener, unowned self] in
            guard let listener else { return }
            listener.isRetryScheduled = false
            accept(from: listener)
        }
    }

    private func take(_ descriptor: Int32, from raw: RawAddress, _ listener: SocketListener) {
        var peer = raw.socketAddress ?? listener.address
        var local = listener.address
        if case .unix = listener.address {
            peer = listener.address
            // Unlike a TCP socket's, a Unix socket's buffer size is not its listener's.
            if let size = listener.sendBufferSize { setOption(descriptor, SOL_SOCKET, SO_SNDBUF, size) }
        } else if listener.address.isWildcard {
            local = localAddress(of: descriptor) ?? local
        }
        let connection = Connection(
            loop: self, transport: SocketTransport(descriptor: descriptor), phase: .open, local: local, peer: peer)
        do throws(SystemError) {
            try register(connection, descriptor: descriptor, events: [.readable, .writable, .peerEnded])
        } catch {
            connection.close()
            return
        }
        listener.handler.listener(listener, accepted: connection)
        if connection.handler == nil { connection.close() }
    }

    private var openFlags: Int32 { Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue) }

    private func localAddress(of descriptor: Int32) -> SocketAddress? {
        var raw = RawAddress()
        guard raw.withMutableSockaddr({ getsockname(descriptor, $0, $1) }) == 0 else { return nil }
        return raw.socketAddress
    }

    // MARK: datagrams

    public override func openDatagram(domain: Int32, type: Int32, protocol: Int32, onReceive: @escaping (UnsafeRawBufferPointer, RawAddress) -> Void) throws(SystemError) -> DatagramSocket {
        let descriptor = socket(domain, type | Int32(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue), `protocol`)
        guard descriptor >= 0 else { throw SystemError("socket(domain \(domain), type \(type), protocol \(`protocol`))") }
        let datagram = KernelDatagramSocket(loop: self, descriptor: descriptor, onReceive: onReceive)
        do throws(SystemError) {
            try register(datagram, descriptor: descriptor, events: .readable)
        } catch {
            Glibc.close(descriptor)
            throw error
        }
        return datagram
    }

    // MARK: signals and children

    public override func onSignal(_ signal: Int32, _ body: @escaping () -> Void) {
        if signalSource == nil {
            let source = SignalSource()
            do throws(SystemError) {
                try register(source, descriptor: source.descriptor, events: .readable)
            } catch {
                preconditionFailure("\(error)")
            }
            signalSource = source
        }
        signalSource!.add(signal, body)
    }

    @discardableResult
    public override func spawn(_ arguments: [String], environment: [String]?, output: Int32?, user: (uid: UInt32, gid: UInt32)?, onExit: @escaping (ChildStatus) -> Void) throws(SystemError) -> Int32 {
        // Everything the child touches is made before the fork: it must not allocate between fork and exec.
        let program = arguments[0]
        var argv = arguments.map { strdup($0) } + [nil]
        var envp = (environment ?? currentEnvironment()).map { strdup($0) } + [nil]
        defer {
            for p in argv { free(p) }
            for p in envp { free(p) }
        }
        let null = open("/dev/null", O_RDWR | O_CLOEXEC)
        guard null >= 0 else { throw SystemError("open /dev/null for \(program)") }
        defer { Glibc.close(null) }
        var emptyMask = sigset_t()
        sigemptyset(&emptyMask)
        let out = output ?? null
        let pid = argv.withUnsafeMutableBufferPointer { argv in
            envp.withUnsafeMutableBufferPointer { envp in
                let pid = vigie_fork()
                if pid == 0 {
                    setpgid(0, 0)
                    signal(SIGPIPE, SIG_DFL)
                    signal(SIGXFSZ, SIG_DFL)
                    sigprocmask(SIG_SETMASK, &emptyMask, nil)
                    dup2(null, 0)
                    dup2(out, 1)
                    dup2(out, 2)
                    if let user {
                        if setgroups(0, nil) != 0 || setgid(user.gid) != 0 || setuid(user.uid) != 0 { _exit(126) }
                    }
                    execve(argv[0]!, argv.baseAddress!, envp.baseAddress!)
                    _exit(127)
                }
                return pid
            }
        }
        guard pid > 0 else { throw SystemError("fork for \(program)") }
        watch(pid, onExit)
        return pid
    }

    public override func sendSignal(_ signal: Int32, toChild child: Int32) {
        // The group exists once the child has run its first instructions; until then only the child itself is reached.
        if kill(-child, signal) != 0 { kill(child, signal) }
    }

    @discardableResult
    public override func fork(_ body: () -> Int32, onExit: @escaping (ChildStatus) -> Void) throws(SystemError) -> Int32 {
        let pid = vigie_fork()
        if pid == 0 {
            closeInheritedDescriptors()
            _exit(body())
        }
        guard pid > 0 else { throw SystemError("fork") }
        watch(pid, onExit)
        return pid
    }

    public override func forkWriter(_ body: (_ descriptor: Int32) -> Int32, handler: any ConnectionHandler, onExit: @escaping (ChildStatus) -> Void) throws(SystemError) -> (connection: Connection, pid: Int32) {
        var ends: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else { throw SystemError("socketpair") }
        _ = fcntl(ends[0], F_SETFL, O_NONBLOCK)
        let pid = vigie_fork()
        if pid == 0 {
            Glibc.close(ends[0])
            closeInheritedDescriptors()
            _exit(body(ends[1]))
        }
        Glibc.close(ends[1])
        guard pid > 0 else {
            let problem = SystemError("fork")
            Glibc.close(ends[0])
            throw problem
        }
        watch(pid, onExit)
        let connection = Connection(
            loop: self, transport: SocketTransport(descriptor: ends[0]), phase: .open, local: .unix("parent"), peer: .unix("child \(pid)"))
        connection.handler = handler
        do throws(SystemError) {
            try register(connection, descriptor: ends[0], events: [.readable, .writable, .peerEnded])
        } catch {
            connection.handler = nil
            connection.close()
            throw error
        }
        return (connection, pid)
    }

    /// A forked child that kept our sockets would keep the ports bound and closed connections open as long as it lives.
    /// And it takes signals as any process does.
    private func closeInheritedDescriptors() {
        for index in 0..<slotCount where slots[index].source != nil { Glibc.close(Int32(index)) }
        Glibc.close(epoll)
        var nothing = sigset_t()
        sigemptyset(&nothing)
        sigprocmask(SIG_SETMASK, &nothing, nil)
    }

    private func watch(_ pid: Int32, _ onExit: @escaping (ChildStatus) -> Void) {
        let descriptor = pidfd_open(pid, 0)
        let watch = ChildWatch(loop: self, descriptor: descriptor, pid: pid, onExit: onExit)
        if descriptor >= 0 {
            _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
            if (try? register(watch, descriptor: descriptor, events: .readable)) != nil { return }
        }
        // Out of descriptors: the child runs already and must not stay a zombie, so ask for it by the clock.
        watch.poll()
    }

    private func currentEnvironment() -> [String] {
        var result: [String] = []
        var cursor = environ
        while let entry = cursor.pointee {
            result.append(String(cString: entry))
            cursor += 1
        }
        return result
    }

    // MARK: helper threads

    public override func runInBackground(_ work: @escaping @Sendable () -> Void, completion: @escaping () -> Void) {
        if workers == nil {
            let made = BackgroundWorkers()
            do throws(SystemError) {
                try register(made, descriptor: made.descriptor, events: .readable)
            } catch {
                preconditionFailure("\(error)")
            }
            workers = made
        }
        workers!.submit(work, completion)
    }
}
