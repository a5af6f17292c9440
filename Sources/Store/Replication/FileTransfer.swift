import Glibc
import Logging
import Reactor

/// A snapshot that goes to replicas by way of the file: a child writes it as BGSAVE does, then each replica is sent its length and
/// itself, at its own pace.
final class FileTransfer: SnapshotTransfer {
    private unowned let replication: Replication
    /// Those who are still being sent the file, or wait for it.
    private(set) var receivers: [Client]
    /// The stream's offset that the snapshot stands for.
    let offset: Int64
    private(set) var isWriting = true
    private var descriptor: Int32 = -1
    private var size = 0
    private var positions: [Int64: Int] = [:]
    private var progress: [Int64: TransferProgress] = [:]
    private static let step = 1 << 18

    init(replication: Replication, receivers: [Client]) {
        self.replication = replication
        self.receivers = receivers
        offset = replication.stream.end
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    var hasChild: Bool { isWriting }
    private var server: StoreServer { replication.server }
    private var path: String { server.configuration.inDirectory(server.configuration.dbFilename) }

    func start() {
        server.logger.notice("Starting BGSAVE for SYNC with target: disk")
        if server.persistence.startBackgroundSave(onEnd: { [weak self] succeeded in self?.written(succeeded) }) != nil { written(false) }
    }

    /// Takes one more while the file is being written.
    func join(_ client: Client) { receivers.append(client) }

    private func written(_ succeeded: Bool) {
        isWriting = false
        guard succeeded else { return replication.finished(self, succeeded: false) }
        descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0, let size = DurableFile.size(of: path) else {
            server.logger.warning("SYNC failed. Can't open/stat DB after BGSAVE: \(String(cString: strerror(errno)))")
            return replication.finished(self, succeeded: false)
        }
        self.size = size
        let configuration = server.configuration
        if configuration.removesSyncFiles, !configuration.appendsOnly, configuration.savePoints.isEmpty { unlink(path) }
        for client in receivers { client.output.append("$\(size)\r\n") }
        for client in receivers { send(client) }
        finishIfOver()
    }

    /// Sends as much as the receiver has room for.
    private func send(_ client: Client) {
        guard client.connection.isOpen else { return }
        var position = positions[client.id] ?? 0
        while position < size, client.output.count <= TransferLimit.outputMax {
            let wanted = min(FileTransfer.step, size - position)
            let place = client.output.reserve(wanted)
            let n = pread(descriptor, place, wanted, off_t(position))
            guard n > 0 else {
                server.logger.warning("Read error sending DB to replica: \(n == 0 ? "premature EOF" : String(cString: strerror(errno)))")
                return client.connection.close()
            }
            client.output.advance(n)
            position += n
        }
        positions[client.id] = position
        guard position == size else { return client.connection.notifyDrained(below: TransferLimit.outputResumed) }
        receivers.removeAll { $0 === client }
        replication.received(client)
    }

    func drained(_ client: Client) {
        guard !isWriting, receivers.contains(where: { $0 === client }) else { return }
        send(client)
        finishIfOver()
    }

    func cron(at now: Int64) {
        guard !isWriting else { return }
        let limit = Int64(server.configuration.replicationTimeout) * 1000
        for client in receivers where progress[client.id, default: TransferProgress()].stalled(client, at: now) > limit {
            server.logger.warning("Disconnecting timedout replica (full sync): \(replication.name(of: client))")
            client.connection.close()
        }
    }

    private func finishIfOver() { if receivers.isEmpty { replication.finished(self, succeeded: true) } }

    func forget(_ client: Client) {
        receivers.removeAll { $0 === client }
        if !isWriting { finishIfOver() }
    }
}
