import Reactor

/// What Sentinels tell each other every two seconds on the channel `__sentinel__:hello`.
///
/// Eight fields between commas: `ip,port,runid,current_epoch,master_name,master_ip,master_port,master_config_epoch`
/// (redis.io/docs, "Sentinel", and what Redis 7.0 sends).
struct HelloMessage: Equatable {
    static let channel = "__sentinel__:hello"

    var endpoint: Endpoint
    var runID: String
    var currentEpoch: UInt64
    var masterName: String
    var master: Endpoint
    var configEpoch: UInt64

    var text: String {
        "\(endpoint.host),\(endpoint.port),\(runID),\(currentEpoch),\(masterName),\(master.host),\(master.port),\(configEpoch)"
    }
}

/// A hello message that can't be read: which field, what it held, what is expected.
struct HelloError: Error, Equatable, CustomStringConvertible {
    let description: String
}

extension HelloMessage {
    private static let sizeMax = 4096

    init(_ text: String) throws(HelloError) {
        guard text.utf8.count <= HelloMessage.sizeMax else {
            throw HelloError(description: "hello message of \(text.utf8.count) bytes, expected at most \(HelloMessage.sizeMax)")
        }
        let fields = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        guard fields.count == 8 else {
            throw HelloError(description: "hello message with \(fields.count) fields, expected 8")
        }
        endpoint = try HelloMessage.endpoint(fields[0], fields[1], of: "Sentinel")
        guard isRunID(fields[2]) else { throw HelloError(description: "hello message with run id \(excerpt(fields[2])), expected 40 hexadecimal digits") }
        runID = fields[2]
        currentEpoch = try HelloMessage.epoch(fields[3], "current epoch")
        guard !fields[4].isEmpty else { throw HelloError(description: "hello message without a master's name") }
        masterName = fields[4]
        master = try HelloMessage.endpoint(fields[5], fields[6], of: "master")
        configEpoch = try HelloMessage.epoch(fields[7], "configuration epoch")
    }

    private static func endpoint(_ host: String, _ port: String, of whom: String) throws(HelloError) -> Endpoint {
        guard SocketAddress(numeric: host, port: 0) != nil else {
            throw HelloError(description: "hello message with \(whom)'s address \(excerpt(host)), expected a numeric one")
        }
        guard let number = UInt16(port), number > 0 else {
            throw HelloError(description: "hello message with \(whom)'s port \(excerpt(port)), expected 1 to 65535")
        }
        return Endpoint(host: host, port: number)
    }

    /// Epochs beyond half of the range are refused: one damaged message would leave no room to count on.
    private static func epoch(_ text: String, _ what: String) throws(HelloError) -> UInt64 {
        guard let number = UInt64(text), number < 1 << 62 else {
            throw HelloError(description: "hello message with \(what) \(excerpt(text)), expected a number below 2^62")
        }
        return number
    }
}

/// Text from outside, short and in one line, for a log or an error.
func excerpt(_ text: String) -> String {
    let clean = text.unicodeScalars.prefix(40).map { $0.value >= 0x20 && $0.value != 0x7F ? String($0) : "?" }.joined()
    return "'\(clean)'" + (text.unicodeScalars.count > 40 ? "..." : "")
}
