import Glibc
import Reactor
import RESP

/// The base of an append-only file: the whole data set, as a snapshot or as commands.
enum AOFBase {
    /// - Parameter progress: called now and then with the number of keys written so far.
    /// - Returns: nil, or what failed.
    static func write(
        _ path: String, temporary: String, databases: UnsafeMutableBufferPointer<Database>, functions: [[UInt8]], now: Int64,
        asSnapshot: Bool, _ configuration: StoreConfiguration, progress: @escaping (Int) -> Void = { _ in }
    ) -> SystemError? {
        // Written to the disk in steps, so that the last fsync does not hold up everybody else's.
        let step = configuration.syncsRewriteInSteps ? 4 << 20 : 0
        return DurableFile.replace(path, temporary: temporary) { descriptor in
            if asSnapshot {
                var info = SnapshotInfo()
                info.isAppendOnlyBase = true
                info.functions = functions
                let writer = RDBWriter(
                    descriptor: descriptor, compresses: configuration.compressesSnapshots, checksums: configuration.checksumsSnapshots,
                    policy: configuration.evictionPolicy, syncEvery: step)
                writer.progress = progress
                return writer.write(databases, info, now: now)
            }
            let writer = CommandWriter(descriptor: descriptor, syncEvery: step)
            writer.progress = progress
            if configuration.stampsAppendOnlyFile { writer.raw(AppendOnlyFile.timestamp(now / 1000)) }
            return writer.write(databases, functions: functions)
        }
    }
}

/// Writes a data set as commands that make it anew.
///
/// The first error is kept and everything after it is dropped, so that the caller asks once, at the end.
final class CommandWriter {
    private let descriptor: Int32
    private let syncEvery: Int
    private var buffer = CommandBuffer()
    private var sinceSync = 0
    private var failure: Int32 = 0
    private var keysWritten = 0
    /// Called after every so many keys with their number.
    var progress: ((Int) -> Void)?
    /// The command being put together.
    private var words: [UInt8] = []
    private var ends: [Int] = []

    private static let bufferMax = 1 << 18
    /// Elements of a collection that one command adds at most, as in Redis: a longer one would hold up whoever executes it.
    private static let elementsMax = 64

    /// - Parameter syncEvery: bytes after which what was written is brought to the disk; 0 for never.
    init(descriptor: Int32, syncEvery: Int) {
        self.descriptor = descriptor
        self.syncEvery = syncEvery
    }

    deinit { buffer.deallocate() }

    /// O(n); it stops early when writing fails.
    /// - Returns: 0, or the errno.
    func write(_ databases: UnsafeMutableBufferPointer<Database>, functions: [[UInt8]]) -> Int32 {
        for code in functions {
            add("FUNCTION")
            add("LOAD")
            add(code)
            emit()
        }
        for db in databases where db.count > 0 && failure == 0 {
            add("SELECT")
            add(Int64(db.id))
            emit()
            db.entries.forEach { element in
                if failure != 0 { return }
                write(Entry(element))
                keysWritten &+= 1
                if keysWritten % RDBWriter.progressEvery == 0 { progress?(keysWritten) }
            }
        }
        flush()
        return failure
    }

    func raw(_ text: String) { Array(text.utf8).withUnsafeBytes { buffer.append($0) } }

    func write(_ entry: Entry) {
        switch entry.type {
        case .string:
            add("SET")
            add(entry.key)
            withUnsafeTemporaryAllocation(byteCount: 24, alignment: 8) { add(entry.string($0.baseAddress!)) }
            emit()
        case .list:
            collect(entry, "RPUSH") { next in QuickList(entry.pointer).forEach { value in next { value.withText(self.add) } } }
        case .set:
            collect(entry, "SADD") { next in StoredSet(entry).forEach { value in next { value.withText(self.add) } } }
        case .hash:
            collect(entry, "HMSET") { next in
                StoredHash(entry).forEach { field, value in
                    next {
                        field.withText(self.add)
                        value.withText(self.add)
                    }
                }
            }
        case .sortedSet:
            collect(entry, "ZADD") { next in
                SortedSet(entry).forEach { member, score in
                    next {
                        self.add(Array(Decimal.shortest(score).utf8))
                        self.add(member)
                    }
                }
            }
        case .stream: write(Stream(entry), entry.key)
        }
        guard entry.hasExpiry else { return }
        add("PEXPIREAT")
        add(entry.key)
        add(entry.expiry)
        emit()
    }

    /// Cuts a collection into commands of so many elements.
    private func collect(_ entry: Entry, _ command: StaticString, _ elements: (_ next: (_ add: () -> Void) -> Void) -> Void) {
        var count = 0
        elements { addElement in
            if count == 0 {
                add(command)
                add(entry.key)
            }
            addElement()
            count += 1
            if count == CommandWriter.elementsMax {
                emit()
                count = 0
            }
        }
        if count > 0 { emit() }
    }

    // MARK: one command

    func add(_ word: StaticString) { add(Argument(word)) }
    func add(_ number: Int64) { add(Array(number: number)) }
    func add(_ word: [UInt8]) { word.withUnsafeBytes { add(Argument($0)) } }

    func add(_ word: Argument) {
        words.append(contentsOf: word.buffer)
        ends.append(words.count)
    }

    /// Ends the command.
    func emit() {
        words.withUnsafeBufferPointer { bytes in
            withUnsafeTemporaryAllocation(of: Argument.self, capacity: ends.count) { list in
                var start = 0
                for (i, end) in ends.enumerated() {
                    list.initializeElement(at: i, to: Argument(base: bytes.baseAddress! + start, count: end - start))
                    start = end
                }
                buffer.append(list.baseAddress!, ends.count)
            }
        }
        words.removeAll(keepingCapacity: true)
        ends.removeAll(keepingCapacity: true)
        if buffer.count >= CommandWriter.bufferMax { flush() }
    }

    private func flush() {
        defer { buffer.removeAll() }
        guard failure == 0 else { return }
        failure = DurableFile.write(buffer.bytes, to: descriptor)
        sinceSync += buffer.count
        guard failure == 0, syncEvery > 0, sinceSync >= syncEvery else { return }
        sinceSync = 0
        if fdatasync(descriptor) != 0 { failure = errno }
    }
}
