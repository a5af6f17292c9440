import Glibc

extension Connection {
    /// A connection to nobody, for what is executed in no client's name: nothing comes from it and what is sent goes nowhere. The
    /// loop does not know it, and it ends when it is let go.
    public static func detached(on loop: Loop) -> Connection {
        let connection = Connection(loop: loop, transport: NoTransport(), phase: .open, local: .unix(""), peer: .unix(""))
        connection.output.startDiscarding()
        return connection
    }
}

/// Leads nowhere.
private final class NoTransport: Transport {
    var descriptor: Int32 { -1 }
    func receive(into destination: UnsafeMutableRawPointer, count: Int) -> Int { -Int(EAGAIN) }
    func send(_ vectors: UnsafeMutablePointer<iovec>, count: Int) -> Int { (0..<count).reduce(0) { $0 + vectors[$1].iov_len } }
    func connectResult() -> Int32 { 0 }
    func shutdownSending() {}
    func close(reset: Bool) {}
    func setNoDelay(_ on: Bool) {}
    func setKeepAlive(idleSeconds: Int) {}
    var isRepeating: Bool { false }
}
