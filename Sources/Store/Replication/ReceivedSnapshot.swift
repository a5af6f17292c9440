import CLinux
import Glibc
import Reactor

/// A master's snapshot on its way into a file, for a data set that is only given up when the new one is known to be whole.
///
/// The file lies beside `dbfilename` and takes its place when it is complete: a replica that ends now starts from it and asks for what
/// follows, for the snapshot names its history.
final class ReceivedSnapshot {
    let temporary: String
    private let descriptor: Int32
    private var checksum = CRC64()
    /// The last bytes: the checksum as the file has it.
    private var tail: [UInt8] = []
    private(set) var count: Int64 = 0
    private var synced: Int64 = 0
    /// The kernel is told to begin writing after so many bytes, so that the final fsync finds little to do.
    private static let syncStep: Int64 = 8 << 20
    /// SYNC_FILE_RANGE_WRITE of linux/fs.h.
    private static let startWriting: UInt32 = 2

    init(temporary: String) throws(SystemError) {
        self.temporary = temporary
        descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw SystemError("open \(temporary)") }
    }

    deinit {
        close(descriptor)
        // There is none of the name any more when it was put in place.
        unlink(temporary)
    }

    /// Takes the next bytes of the payload. O(n).
    func append(_ bytes: [UInt8]) throws(SystemError) {
        guard !bytes.isEmpty else { return }
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
        defer { copy.deallocate() }
        copy.copyBytes(from: bytes)
        try append(UnsafeRawBufferPointer(copy))
    }

    func append(_ bytes: UnsafeRawBufferPointer) throws(SystemError) {
        guard bytes.count > 0 else { return }
        let failure = DurableFile.write(bytes, to: descriptor)
        guard failure == 0 else { throw SystemError("write to \(temporary)", code: failure) }
        checksum.update(bytes)
        tail.append(contentsOf: bytes.suffix(8))
        tail.removeFirst(max(0, tail.count - 8))
        count += Int64(bytes.count)
        if count - synced >= ReceivedSnapshot.syncStep {
            _ = vigie_sync_file_range(descriptor, synced, count - synced, ReceivedSnapshot.startWriting)
            synced = count
        }
    }

    /// Whether the checksum at the end is right, or 0 for none. A checksum taken over itself too gives 0.
    var isIntact: Bool { checksum.value == 0 || tail.allSatisfy { $0 == 0 } }

    /// Puts the file in the place of `path`, on the disk.
    func settle(as path: String) throws(SystemError) {
        guard fsync(descriptor) == 0 else { throw SystemError("fsync of \(temporary)") }
        if let error = DurableFile.move(temporary, to: path) { throw error }
    }
}

/// Where a payload whose length is not known ends: behind 40 bytes that were announced before it. Nothing follows them before the
/// replica has answered, so that they are the last bytes of what has come.
///
/// Bytes that may be the mark's first ones are held back until it is known whether they are.
struct EndMark {
    let mark: [UInt8]
    /// The last bytes that have come, as many as the mark has at most; not yet handed out.
    private(set) var held: [UInt8] = []

    init(_ mark: [UInt8]) { self.mark = mark }

    var isReached: Bool { held == mark }

    /// Takes bytes and hands out those that are certainly the payload's: some that were held back, then some of the new ones. O(n).
    mutating func take(_ bytes: UnsafeRawBufferPointer) -> (held: [UInt8], rest: UnsafeRawBufferPointer) {
        if bytes.count >= mark.count {
            let old = held
            held = Array(bytes.suffix(mark.count))
            return (old, UnsafeRawBufferPointer(rebasing: bytes.dropLast(mark.count)))
        }
        held += bytes
        let old = Array(held.prefix(max(0, held.count - mark.count)))
        held.removeFirst(old.count)
        return (old, UnsafeRawBufferPointer(rebasing: bytes[..<0]))
    }
}
