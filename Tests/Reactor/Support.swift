import CLinux
import Glibc
@testable import Reactor
import Testing

/// What uses descriptors, signals and children of the one process that all tests share: one after the other.
@Suite("the loop over the kernel", .serialized)
struct KernelTests {}

/// A handler that remembers what happened and does what the test asks.
final class Probe: ConnectionHandler, ListenerHandler {
    var received: [UInt8] = []
    var calls = 0
    var opened = 0
    var ended = 0
    var drained = 0
    var closed: [CloseReason] = []
    var accepted: [Connection] = []
    var onReceive: ((Connection) -> Void)?
    var onOpen: ((Connection) -> Void)?
    var onEnd: ((Connection) -> Void)?
    var onDrained: ((Connection) -> Void)?
    var onClose: ((Connection) -> Void)?
    /// Prepares each accepted connection; the probe itself is its handler already.
    var onAccept: ((Connection) -> Void)?

    func listener(_ listener: Listener, accepted connection: Connection) {
        accepted.append(connection)
        connection.handler = self
        onAccept?(connection)
    }
    func connectionReceived(_ connection: Connection) {
        calls += 1
        if let onReceive {
            onReceive(connection)
        } else {
            received.append(contentsOf: connection.input.bytes)
            connection.input.consume(connection.input.count)
        }
    }
    func connectionOpened(_ connection: Connection) {
        opened += 1
        onOpen?(connection)
    }
    func connectionReachedEnd(_ connection: Connection) {
        ended += 1
        if let onEnd { onEnd(connection) } else { connection.closeAfterFlush() }
    }
    func connectionDrained(_ connection: Connection) {
        drained += 1
        onDrained?(connection)
    }
    func connectionClosed(_ connection: Connection, _ reason: CloseReason) {
        closed.append(reason)
        onClose?(connection)
    }

    /// Answers with what comes.
    static func echo(_ connection: Connection) {
        connection.output.append(connection.input.bytes)
        connection.input.consume(connection.input.count)
    }
}

/// Turns the loop until the condition holds or `seconds` have passed.
/// - Returns: whether it holds.
@discardableResult
func turn(_ loop: Loop, seconds: Double = 10, until condition: () -> Bool) -> Bool {
    loop.updateClock()
    let limit = loop.now + .milliseconds(Int64(seconds * 1000))
    while !condition() {
        if loop.now >= limit { return false }
        loop.iterate(until: min(limit, loop.now + .milliseconds(50)))
    }
    return true
}

/// A blocking stream socket of the test's own, connected to a loopback port.
struct RawClient {
    let descriptor: Int32

    init(port: UInt16, receiveBuffer: Int32? = nil) {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        if var size = receiveBuffer {
            setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, 4)
        }
        let raw = try! RawAddress(.loopback(port: port))
        let result = raw.withSockaddr { Glibc.connect(descriptor, $0, $1) }
        precondition(result == 0, "connect failed with errno \(errno)")
    }

    func send(_ text: String) { _ = text.withCString { Glibc.send(descriptor, $0, strlen($0), 0) } }

    /// Receives without waiting; nil when nothing is there, empty at the end.
    func poll(_ size: Int = 65_536) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: size)
        let count = recv(descriptor, &bytes, size, Int32(MSG_DONTWAIT))
        return count < 0 ? nil : Array(bytes.prefix(count))
    }

    func close() { Glibc.close(descriptor) }
    func reset() {
        var value = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &value, socklen_t(MemoryLayout<linger>.size))
        Glibc.close(descriptor)
    }
}

/// Bytes in which every position is recognisable: what is lost or reordered shows.
func pattern(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
    var random = LoopRandom(seed: seed)
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count + 8)
    while bytes.count < count { withUnsafeBytes(of: random.next()) { bytes.append(contentsOf: $0) } }
    bytes.removeLast(bytes.count - count)
    return bytes
}

func withTemporaryDirectory(_ body: (String) throws -> Void) rethrows {
    var template = Array("/tmp/vigie-reactor-XXXXXX".utf8CString)
    let path = String(cString: mkdtemp(&template)!)
    defer {
        unlink("\(path)/socket")
        unlink("\(path)/file")
        rmdir(path)
    }
    try body(path)
}

func bind(_ descriptor: Int32, to address: RawAddress) -> Int32 { address.withSockaddr { Glibc.bind(descriptor, $0, $1) } }
