/// The replica's side of the handshake before a master sends its data: lines in, what to do out.
///
/// Source: Redis replication (PING, AUTH, REPLCONF, PSYNC), PSYNC2.
struct ReplicaHandshake {
    struct Credentials {
        var user: [UInt8]
        var password: [UInt8]
    }

    enum Action: Equatable {
        /// Send this command.
        case send([[UInt8]])
        /// The master goes on from where we are, under this ID.
        case resume(replicationID: String?)
        /// The master sends everything; its history has this ID and offset.
        case synchronise(replicationID: String, offset: Int64)
        /// The link is of no use; try again later.
        case fail(String)
        /// The master wants neither; try again later.
        case refused(String)
        /// Worth a line in the log.
        case note(String)
    }

    private enum Step {
        case ping, auth, listeningPort, announcedIP, capabilities, version, psync
    }

    private var waitingFor: [Step] = []
    private let credentials: Credentials?
    private let port: UInt16
    private let announcedIP: String?
    private let position: (replicationID: String, offset: Int64)?
    private let asksToTakeOver: Bool

    /// - Parameters:
    ///   - position: the history that we have and the first byte that we lack; nil when we have nothing.
    ///   - asksToTakeOver: the other is a replica of ours that is to be the master (FAILOVER).
    init(
        credentials: Credentials?, port: UInt16, announcedIP: String?, position: (replicationID: String, offset: Int64)?,
        asksToTakeOver: Bool = false
    ) {
        self.asksToTakeOver = asksToTakeOver
        self.credentials = credentials
        self.port = port
        self.announcedIP = announcedIP
        self.position = position
    }

    mutating func start() -> [Action] {
        waitingFor = [.ping]
        return [.send(words("PING"))]
    }

    /// A line from the master, without its line end.
    mutating func receive(_ line: String) -> [Action] {
        // A master that is busy preparing sends empty lines to show that it lives.
        if line.isEmpty || line == "\n" { return [] }
        guard !waitingFor.isEmpty else { return [.fail("unexpected reply '\(line)' during the handshake")] }
        let step = waitingFor.removeFirst()
        let isError = line.hasPrefix("-")
        switch step {
        case .ping:
            // A master that wants a password first is alive all the same.
            if isError, !line.hasPrefix("-NOAUTH"), !line.hasPrefix("-NOPERM"), !line.hasPrefix("-ERR operation not permitted") {
                return [.fail("Error reply to PING from master: '\(line)'")]
            }
            return introduce()
        case .auth:
            return isError ? [.fail("Unable to AUTH to MASTER: \(line)")] : askForData()
        case .listeningPort, .announcedIP, .capabilities, .version:
            // Old masters know fewer of these; the synchronisation works without them.
            let note: [Action] = isError ? [.note("(Non critical) Master does not understand REPLCONF \(step): \(line)")] : []
            return note + askForData()
        case .psync:
            return answered(line)
        }
    }

    private mutating func introduce() -> [Action] {
        var actions: [Action] = []
        func add(_ step: Step, _ command: [[UInt8]]) {
            waitingFor.append(step)
            actions.append(.send(command))
        }
        if let credentials, !credentials.password.isEmpty {
            add(.auth, words("AUTH") + (credentials.user.isEmpty ? [] : [credentials.user]) + [credentials.password])
        }
        add(.listeningPort, words("REPLCONF", "listening-port", "\(port)"))
        if let announcedIP { add(.announcedIP, words("REPLCONF", "ip-address", announcedIP)) }
        add(.capabilities, words("REPLCONF", "capa", "eof", "capa", "psync2"))
        add(.version, words("REPLCONF", "version", StoreVersion.redis))
        return actions
    }

    /// Asks once everything before is answered: Redis refuses PSYNC while it has replies to send.
    private mutating func askForData() -> [Action] {
        guard waitingFor.isEmpty else { return [] }
        waitingFor = [.psync]
        if let position { return [.send(words("PSYNC", position.replicationID, "\(position.offset)") + (asksToTakeOver ? words("FAILOVER") : []))] }
        return [.send(words("PSYNC", "?", "-1"))]
    }

    private func answered(_ line: String) -> [Action] {
        let parts = line.split(separator: " ").map(String.init)
        if parts.first == "+CONTINUE" { return [.resume(replicationID: parts.count > 1 ? parts[1] : nil)] }
        if parts.first == "+FULLRESYNC" {
            guard parts.count >= 3, parts[1].utf8.count == 40, let offset = Int64(parts[2]), offset >= 0 else {
                return [.fail("malformed reply '\(line)' to PSYNC (expected +FULLRESYNC ID OFFSET)")]
            }
            return [.synchronise(replicationID: parts[1], offset: offset)]
        }
        return [.refused("reply to PSYNC from master: '\(line)'")]
    }

    private func words(_ text: String...) -> [[UInt8]] { text.map { Array($0.utf8) } }
}
