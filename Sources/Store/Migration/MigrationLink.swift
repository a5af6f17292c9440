import Reactor
import RESP

/// A connection to a server that keys are moved to.
final class MigrationLink: ConnectionHandler {
    /// Replies to AUTH, SELECT and RESTORE are one line.
    private static let inputMax = 1 << 20

    let host: String
    let port: UInt16
    private unowned let server: StoreServer
    private var connection: Connection?
    private var parser = ReplyParser()
    /// The database that the other side has selected; nil when that is not known.
    var selected: Int64?
    /// What the connection is in use for.
    var migration: Migration?
    /// Milliseconds since 1970.
    var idleSince: Int64 = 0

    init(to host: String, _ port: UInt16, at address: SocketAddress, timeout: Duration, server: StoreServer) {
        self.host = host
        self.port = port
        self.server = server
        parser.stringSizeMax = MigrationLink.inputMax
        let connection = server.loop.connect(to: address, timeout: timeout, handler: self)
        connection.role = "link of MIGRATE"
        connection.inputLimit = MigrationLink.inputMax
        self.connection = connection
    }

    var isConnecting: Bool { connection?.phase == .connecting }
    /// Bytes that have not been given to the kernel.
    var unsent: Int { connection?.output.count ?? 0 }

    func send(_ command: [[UInt8]]) {
        guard let connection else { return }
        let writer = ReplyWriter(connection.output, isRESP3: false)
        writer.array(command.count)
        for word in command { writer.bulk(word) }
    }

    /// Closes without telling anybody.
    func abandon() {
        migration = nil
        connection?.close()
        connection = nil
    }

    func connectionOpened(_ connection: Connection) {
        connection.setNoDelay(true)
        // Redis keeps a new connection in database 0, and selects that too: it has told nobody yet.
        selected = nil
    }

    func connectionReceived(_ connection: Connection) {
        var replies: [Reply] = []
        reading: while !connection.input.isEmpty {
            do throws(ReplyError) {
                switch try parser.parse(connection.input.bytes) {
                case .reply(let reply, let size):
                    connection.input.consume(size)
                    replies.append(reply)
                case .incomplete:
                    break reading
                }
            } catch {
                server.logger.warning("MIGRATE: \(host):\(port) sends what is not RESP: \(error). Closing the connection")
                connection.close()
                break
            }
        }
        guard let migration else {
            // Nobody has asked for anything.
            connection.close()
            return
        }
        if !replies.isEmpty { migration.receive(replies) }
    }

    func connectionReachedEnd(_ connection: Connection) { connection.close() }

    func connectionClosed(_ connection: Connection, _ reason: CloseReason) {
        self.connection = nil
        if let migration {
            self.migration = nil
            migration.linkClosed(reason)
        } else {
            server.migrations.forget(self)
        }
    }
}
