import CLinux
import Glibc
import Logging
import Reactor

/// A snapshot that goes to replicas as it is made (diskless): a forked child writes it, the loop passes it on to all of them.
///
/// The child's end is a pipe of the loop's, so that a slow replica slows the child, not the clients. The payload's end is
/// known by a mark of 40 random bytes, as its length is not known beforehand.
final class PipeTransfer: SnapshotTransfer, ConnectionHandler {
    private unowned let replication: Replication
    private(set) var receivers: [Client]
    private let mark: String
    private var source: Connection?
    private var childStatus: ChildStatus?
    private var hasReachedEnd = false
    private var sent = 0
    private var progress: [Int64: TransferProgress] = [:]
    /// A receiver that takes nothing is given up after so many milliseconds when others wait for it, and after `repl-timeout` when it
    /// is alone.
    private static let stallMax: Int64 = 5000

    init(replication: Replication, receivers: [Client]) {
        self.replication = replication
        self.receivers = receivers
        mark = StoreServer.randomID()
    }

    var hasChild: Bool { childStatus == nil }

    func start() {
        let server = replication.server
        for client in receivers { client.output.append("$EOF:\(mark)\r\n") }
        var info = replication.snapshotInfo
        if receivers.allSatisfy({ $0.replica?.wantsFunctions == false }) { info.functions = [] }
        let isEmpty = receivers.allSatisfy { $0.replica?.wantsNoData == true }
        let databases = isEmpty ? UnsafeMutableBufferPointer(start: nil, count: 0) : server.databases
        let now = server.loop.wallMilliseconds
        let configuration = server.configuration
        do throws(SystemError) {
            let (reading, pid) = try server.loop.forkWriter({ [server] descriptor in
                server.becomeChild("redis-rdb-to-slaves")
                return RDBWriter(
                    descriptor: descriptor, compresses: configuration.compressesSnapshots, checksums: configuration.checksumsSnapshots,
                    policy: configuration.evictionPolicy)
                    .write(databases, info, now: now)
            }, handler: self) { [weak self] status in
                self?.childStatus = status
                self?.finishIfOver()
            }
            reading.role = "full synchronisation"
            source = reading
            server.statistics.forks += 1
            server.logger.notice("Background RDB transfer started by pid \(pid)")
        } catch {
            server.logger.warning("Can't start a full synchronisation: \(error)")
            replication.finished(self, succeeded: false)
        }
    }

    func connectionReceived(_ connection: Connection) {
        let bytes = connection.input.bytes
        sent += bytes.count
        var isFull = false
        for client in receivers {
            client.output.append(bytes)
            guard client.output.count > TransferLimit.outputMax else { continue }
            isFull = true
            client.connection.notifyDrained(below: TransferLimit.outputResumed)
        }
        connection.input.consume(bytes.count)
        if isFull { connection.pauseReading() }
    }

    func drained(_ client: Client) { resumeIfRoom() }

    private func resumeIfRoom() {
        guard let source, source.isOpen, !source.isReading else { return }
        if receivers.contains(where: { $0.output.count > TransferLimit.outputResumed }) { return }
        source.resumeReading()
    }

    func cron(at now: Int64) {
        guard source?.isReading == false else { return }
        let timeout = Int64(replication.server.configuration.replicationTimeout) * 1000
        let limit = receivers.count > 1 ? min(timeout, PipeTransfer.stallMax) : timeout
        for client in receivers where progress[client.id, default: TransferProgress()].stalled(client, at: now) > limit {
            replication.server.logger.warning("Disconnecting timedout replica (full sync): \(replication.name(of: client))")
            client.connection.close()
        }
    }

    func connectionReachedEnd(_ connection: Connection) { connection.close() }

    func connectionClosed(_ connection: Connection, _ reason: CloseReason) {
        hasReachedEnd = true
        source = nil
        finishIfOver()
    }

    private func finishIfOver() {
        guard hasReachedEnd, let childStatus else { return }
        let succeeded = childStatus == .exited(0)
        let logger = replication.server.logger
        if succeeded {
            for client in receivers { client.output.append(mark) }
            logger.notice("Background RDB transfer terminated with success: \(sent) bytes")
        } else {
            logger.warning("Background RDB transfer failed: \(childStatus)")
        }
        replication.finished(self, succeeded: succeeded)
    }

    /// Without any receiver the child is not needed.
    func forget(_ client: Client) {
        receivers.removeAll { $0 === client }
        progress[client.id] = nil
        if receivers.isEmpty { source?.close() } else { resumeIfRoom() }
    }
}
