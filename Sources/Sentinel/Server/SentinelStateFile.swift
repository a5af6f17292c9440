import Configuration
import Glibc
import Reactor
import Synchronization

/// Where a Sentinel's state is kept.
public protocol SentinelStateFile: AnyObject {
    /// Why nothing can be saved, known before anything is; nil when all is well.
    var problem: SystemError? { get }
    /// Saves, then calls `completion` on the loop with what went wrong, or nil. One at a time.
    func save(_ configuration: SentinelConfiguration, completion: @escaping (String?) -> Void)
}

/// The user's own sentinel.conf, rewritten on a helper thread: temporary file, fsync, rename, fsync of the folder.
final class ConfigurationStateFile: SentinelStateFile {
    private let loop: Loop
    private let path: String

    init(loop: Loop, path: String) {
        self.loop = loop
        self.path = path
    }

    var problem: SystemError? {
        if access(path, W_OK) != 0 { return SystemError("Sentinel writes its state into its configuration file: write \(path)") }
        let folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? "."
        if access(folder, W_OK) != 0 {
            return SystemError("Sentinel replaces its configuration file by a new one: write into \(folder)")
        }
        return nil
    }

    func save(_ configuration: SentinelConfiguration, completion: @escaping (String?) -> Void) {
        let outcome = Outcome()
        let path = path
        loop.runInBackground {
            do throws(ConfigurationFileError) {
                try ConfigurationFile.replace(path, with: configuration.rewritten(from: try ConfigurationFile.read(path)))
            } catch {
                outcome.problem.withLock { $0 = error.description }
            }
        } completion: {
            completion(outcome.problem.withLock { $0 })
        }
    }

    /// What the helper thread hands back.
    private final class Outcome: Sendable {
        let problem = Mutex<String?>(nil)
    }
}
