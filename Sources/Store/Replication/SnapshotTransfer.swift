import CLinux
import Glibc
import Logging
import Reactor

/// One snapshot on its way to replicas: a forked child writes it, the loop passes it on to all of them.
///
/// The child's end is a pipe of the loop's, so that a slow replica slows the child, not the clients. The payload's end is
/// known by a mark of 40 random bytes, as its length is not known beforehand.
final class SnapshotTransfer: ConnectionHandler {
    private unowned let replication: Replication
    private(set) var receivers: [Client]
    private let mark: String
    private var source: Connection?
    private var childStatus: ChildStatus?
    private var hasReachedEnd = false
    private var sent = 0
    /// More than this waiting for the slowest replica makes the child wait.
    private static let outputMax = 1 << 20

    init(replication: Replication, receivers: [Client]) {
        self.replication = replication
        self.receivers = receivers
        mark = StoreServer.randomID()
    }

    func start() {
        let server = replication.server
        for client in receivers { client.output.append("$EOF:\(mark)\r\n") }
        let info = SnapshotInfo(
            replicationDatabase: max(0, replication.stream.selected), replicationID: replication.replicationID,
            replicationOffset: replication.stream.end, functions: server.functions.codes)
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
        for client in receivers { client.output.append(bytes) }
        connection.input.consume(bytes.count)
        if let slowest = receivers.max(by: { $0.output.count < $1.output.count }), slowest.output.count > SnapshotTransfer.outputMax {
            connection.pauseReading()
            let server = replication.server
            waitForRoom(server.loop)
        }
    }

    /// Goes on when the slowest replica has taken most of what waits for it.
    private func waitForRoom(_ loop: Loop) {
        loop.schedule(after: .milliseconds(1), label: "full synchronisation") { [weak self] in
            guard let self, let source, source.isOpen else { return }
            if receivers.contains(where: { $0.output.count > SnapshotTransfer.outputMax / 2 }) { return waitForRoom(loop) }
            source.resumeReading()
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

    /// A receiver has gone; without any the child is not needed.
    func forget(_ client: Client) {
        receivers.removeAll { $0 === client }
        if receivers.isEmpty, source != nil {
            source?.close()
        }
    }
}
