import Logging
import RESP

/// Something that a client hears without having asked for it just now.
enum Message {
    /// To a subscriber; with the pattern that it is subscribed to, if that is how.
    case published(pattern: [UInt8]?, channel: [UInt8], text: [UInt8], isShard: Bool)
    /// To a client that monitors.
    case line([UInt8])

    /// Bytes, about.
    var size: Int {
        switch self {
        case .published(let pattern, let channel, let text, _): (pattern?.count ?? 0) + channel.count + text.count + 64
        case .line(let bytes): bytes.count
        }
    }
}

/// Messages that show what is not confirmed yet: they stand beside their receivers' output, each receiver's in a row of its own, so that
/// replies need not wait for them.
struct HeldMessages {
    /// What one receiver is to hear, in order.
    final class Row {
        var messages: [(message: Message, offset: Int64)] = []
        var bytes = 0
    }

    /// What the command under way has said.
    var collected: [(client: Client, message: Message)] = []
    var receivers: [Client] = []

    var hasCollected: Bool { !collected.isEmpty }
    var isEmpty: Bool { receivers.isEmpty }
    var count: Int { receivers.reduce(0) { $0 + $1.heldMessages!.messages.count } }

    mutating func forget(_ client: Client) {
        guard client.heldMessages != nil else { return }
        client.heldMessages = nil
        receivers.removeAll { $0 === client }
    }
}

extension Confirmation {
    /// Takes a message that the command under way has caused; what becomes of it follows from what the command has changed.
    func collect(_ message: Message, to client: Client) { messages.collected.append((client, message)) }

    /// What has been collected shows what ends, in the stream, here.
    func settleMessages(at offset: Int64) {
        let collected = messages.collected
        messages.collected = []
        for (client, message) in collected {
            if offset <= confirmed, client.heldMessages == nil {
                server.deliver(message, to: client)
            } else {
                keep(message, for: client, until: offset)
            }
        }
    }

    private func keep(_ message: Message, for client: Client, until offset: Int64) {
        guard client.connection.isOpen else { return }
        let row = client.heldMessages ?? HeldMessages.Row()
        if client.heldMessages == nil {
            client.heldMessages = row
            messages.receivers.append(client)
        }
        row.messages.append((message, offset))
        row.bytes += message.size
        if client.connection.output.count + row.bytes > client.connection.outputLimit {
            server.logger.warning("Client \(server.describe(client)) scheduled to be closed ASAP for overcoming of output buffer limits.")
            client.connection.close()
        }
    }

    /// Says what is confirmed, to each receiver up to the first message that is not.
    func deliverMessages(upTo confirmed: Int64) {
        messages.receivers.removeAll { client in
            guard let row = client.heldMessages else { return true }
            let number = row.messages.prefix { $0.offset <= confirmed }.count
            for (message, _) in row.messages.prefix(number) {
                row.bytes -= message.size
                server.deliver(message, to: client)
            }
            row.messages.removeFirst(number)
            guard row.messages.isEmpty else { return false }
            client.heldMessages = nil
            return true
        }
    }

    /// Nobody hears of what may be lost.
    func dropMessages() {
        messages.collected.removeAll()
        for client in messages.receivers { client.heldMessages = nil }
        messages.receivers.removeAll()
    }
}

extension StoreServer {
    /// Says something to a client, if it still wants to hear it: it may have unsubscribed while the message waited, and a client of RESP2
    /// would take it for a reply then.
    func deliver(_ message: Message, to client: Client) {
        guard client.connection.isOpen else { return }
        switch message {
        case .line(let bytes):
            if client.gate.contains(.monitor) { client.connection.output.append(bytes) }
        case .published(let pattern, let channel, let text, let isShard):
            guard let subscriptions = client.subscriptions else { return }
            let isWanted = pattern.map { subscriptions.patterns.contains($0) } ?? (isShard ? subscriptions.shardChannels : subscriptions.channels).contains(channel)
            guard isWanted else { return }
            channel.withUnsafeBytes { channel in text.withUnsafeBytes { client.pushes.message(pattern, Argument(channel), Argument($0), isShard: isShard) } }
        }
    }
}
