import RESP
import Reactor

/// One connection from us to a watched process.
final class SentinelLink: ConnectionHandler {
    /// A watched process that sends more than this without an end to its reply is cut off.
    static let inputMax = 16 << 20

    let id: LinkID
    let channel: Channel
    private weak var node: SentinelNode?
    var connection: Connection?
    private var parser = ReplyParser()

    init(node: SentinelNode, id: LinkID, channel: Channel) {
        self.node = node
        self.id = id
        self.channel = channel
        parser.stringSizeMax = SentinelLink.inputMax
        parser.elementCountMax = 65_536
    }

    /// Closes without telling the machine, which knows.
    func abandon() {
        node = nil
        connection?.close()
    }

    func connectionOpened(_ connection: Connection) {
        connection.inputLimit = SentinelLink.inputMax
        connection.setNoDelay(true)
        node?.linkOpened(self, localHost: connection.local.host)
    }

    func connectionReceived(_ connection: Connection) {
        while let node, !connection.input.isEmpty, !connection.isClosing {
            do throws(ReplyError) {
                switch try parser.parse(connection.input.bytes) {
                case .reply(let reply, let size):
                    connection.input.consume(size)
                    node.linkReceived(reply, self)
                case .incomplete(let needed):
                    connection.input.expect(needed)
                    return
                }
            } catch {
                node.linkRefused("\(connection.peer) sends what is not RESP: \(error). Closing the connection")
                connection.close()
            }
        }
    }

    func connectionClosed(_ connection: Connection, _ reason: CloseReason) {
        self.connection = nil
        node?.linkClosed(self)
    }
}
