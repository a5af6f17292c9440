/// What carries a connection's bytes: a socket, a simulated link, later TLS over either.
///
/// Results are counts of bytes; a negative one is the negated errno. No call blocks.
public protocol Transport: AnyObject {
    /// Receives at most `count` bytes; 0 is the end of the stream.
    func receive(into destination: UnsafeMutableRawPointer, count: Int) -> Int
    /// Sends what the other side has room for, in order.
    func send(_ vectors: UnsafeMutablePointer<iovec>, count: Int) -> Int
    /// The outcome of a connection attempt that became writable: 0, or the errno.
    func connectResult() -> Int32
    /// Sends the end of our half of the stream.
    func shutdownSending()
    /// Lets go of the link; `reset` abandons what is still queued in the kernel and tells the peer so (RST).
    func close(reset: Bool)
    /// Switches Nagle's delay on or off (TCP_NODELAY).
    func setNoDelay(_ on: Bool)
    /// Probes an idle peer after `idleSeconds`; 0 switches it off (SO_KEEPALIVE).
    func setKeepAlive(idleSeconds: Int)
    /// What was sent last has had to be repeated, and nobody has acknowledged it yet: the kernel waits twice as long before each repetition.
    var isRepeating: Bool { get }
    /// The descriptor behind it, for the log and CLIENT LIST; -1 for none.
    var descriptor: Int32 { get }
}

import struct Glibc.iovec
