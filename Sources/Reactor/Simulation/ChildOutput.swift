import CLinux
import Glibc

/// What a simulated child has written, as the parent reads it.
final class ChildOutput: Transport {
    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// Runs a child's body with a descriptor to write to.
    /// - Returns: what it wrote, and its result.
    static func collect(_ body: (_ descriptor: Int32) -> Int32) throws(SystemError) -> ([UInt8], Int32) {
        guard let file = tmpfile() else { throw SystemError("temporary file for a simulated child") }
        defer { fclose(file) }
        let descriptor = fileno(file)
        let result = body(descriptor)
        let size = Int(lseek(descriptor, 0, SEEK_END))
        lseek(descriptor, 0, SEEK_SET)
        let bytes = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
            while count < size {
                let n = read(descriptor, buffer.baseAddress! + count, size - count)
                if n <= 0 { break }
                count += n
            }
        }
        return (bytes, result)
    }

    var descriptor: Int32 { -1 }

    func receive(into destination: UnsafeMutableRawPointer, count: Int) -> Int {
        let size = min(count, bytes.count - position)
        bytes.withUnsafeBytes { if size > 0 { memcpy(destination, $0.baseAddress! + position, size) } }
        position += size
        return size
    }

    func send(_ vectors: UnsafeMutablePointer<iovec>, count: Int) -> Int { -Int(EPIPE) }
    func connectResult() -> Int32 { 0 }
    func shutdownSending() {}
    func close(reset: Bool) {}
    func setNoDelay(_ on: Bool) {}
    func setKeepAlive(idleSeconds: Int) {}
    var isRepeating: Bool { false }
}
