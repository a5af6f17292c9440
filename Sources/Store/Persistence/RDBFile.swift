import Glibc
import Reactor

/// Snapshots as files.
extension RDBReader {
    /// What is wrong with a file, or with getting at it.
    enum FileError: Error, CustomStringConvertible {
        /// There is none.
        case missing(path: String)
        case system(path: String, SystemError)
        case content(path: String, RDBError)

        var description: String {
            switch self {
            case .missing(let path): "\(path): there is no such file"
            case .system(let path, let error): "\(path): \(error)"
            case .content(let path, let error): "\(path): \(error)"
            }
        }
    }
}

/// Snapshots that a crash leaves either as they were or whole.
enum SnapshotFile {
    /// - Parameter progress: called now and then with the number of keys written so far.
    /// - Returns: nil, or what failed.
    static func write(
        path: String, temporary: String, databases: UnsafeMutableBufferPointer<Database>, info: SnapshotInfo, now: Int64,
        _ configuration: StoreConfiguration, progress: @escaping (Int) -> Void
    ) -> SystemError? {
        DurableFile.replace(path, temporary: temporary) { descriptor in
            let writer = RDBWriter(
                descriptor: descriptor, compresses: configuration.compressesSnapshots, checksums: configuration.checksumsSnapshots,
                policy: configuration.evictionPolicy, syncEvery: configuration.syncsSnapshotInSteps ? 32 << 20 : 0)
            writer.progress = progress
            return writer.write(databases, info, now: now)
        }
    }
}
