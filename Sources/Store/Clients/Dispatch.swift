import Glibc
import Reactor
import RESP

/// From received bytes to executed commands.
extension StoreServer {
    /// Executes what has arrived from a client, as far as it goes.
    func process(_ client: Client) {
        let input = client.connection.input
        client.lastInteraction = loop.wallMilliseconds
        defer { if limitsClientMemory, client.connection.isOpen { countMemory(client) } }
        while client.blocked == nil, client.connection.isOpen, !client.connection.isClosing {
            if client.isAuthenticated {
                let found = client.parser.pointee.lookAhead(input)
                if found > 0 {
                    executeBatch(client, found)
                    if input.isEmpty { return }
                    continue
                }
            }
            switch client.parser.pointee.next(input, bulkMax: configuration.protoMaxBulkLength, argumentsMax: Int(Int32.max), isAuthenticated: client.isAuthenticated) {
            case .request:
                if client.parser.pointee.count > 0, !client.parser.pointee.hasLongArguments || hasRoomForLongArguments(client) {
                    execute(client, client.parser.pointee.arguments, client.parser.pointee.count)
                }
                if client.connection.isOpen { client.parser.pointee.finish(input) }
            case .incomplete:
                return
            case .failure(let message):
                errors.pointee.failures = nil
                stepSkipping(client)
                client.reply.error(message)
                client.closeAfterReplies()
                return
            }
        }
    }

    /// Whether there is memory for another copy of long arguments, where the command makes one; if not, the client is told.
    private func hasRoomForLongArguments(_ client: Client) -> Bool {
        let (arguments, count) = (client.parser.pointee.arguments, client.parser.pointee.count)
        guard count > 0, let slot = commands.find(arguments[0]), slot.pointee.command.flags.contains(.denyOOM) else { return true }
        // Strings keep the memory that they were received into, or look for themselves.
        if client.transaction == nil, slot.pointee.command.categories.contains(.string) { return true }
        if hasRoom(for: (1..<count).reduce(0) { $0 + arguments[$1].count }) { return true }
        stepSkipping(client)
        refuse(client, slot, Array(StoreServer.outOfSystemMemory.utf8))
        return false
    }

    /// Executes requests that lie whole in the buffer, one after the other; stops early when the client must wait.
    @inline(__always)
    private func executeBatch(_ client: Client, _ found: Int) {
        let spans = argumentArea.spans
        let arguments = argumentArea.base
        let connection = client.connection
        warmUp(client.db, found)
        var end = 0
        for i in 0..<found {
            end = spans[i].end
            if let slot = UnsafeMutablePointer<CommandTable.Slot>(bitPattern: spans[i].tag) {
                execute(client, slot, arguments + spans[i].first, spans[i].count)
            } else {
                unknownCommand(client, arguments + spans[i].first, spans[i].count)
            }
            if client.blocked != nil || connection.isClosing { break }
        }
        if connection.isOpen, !connection.isClosing { connection.input.consume(end) }
    }

    /// Finds the requests' commands, and touches what they will look at, all of them before the first is executed.
    ///
    /// With many keys, nearly all of a command's time is spent waiting for memory: the bucket, then the entry. Loads that do not
    /// depend on each other are waited for together, so a batch costs little more than one command (measured: SET and GET over 100 000
    /// keys at pipeline 64 take half the time).
    @inline(__always)
    func warmUp(_ db: Database, _ found: Int) {
        let table = db.entries
        let spans = argumentArea.spans
        let arguments = argumentArea.base
        var withMembers = 0
        for i in 0..<found {
            let slot = commands.find(arguments[spans[i].first])
            spans[i].tag = UInt(bitPattern: slot)
            if let slot, slot.pointee.member != 0, slot.pointee.member < spans[i].count { withMembers &+= 1 }
        }
        if found == 1 { return }
        if withMembers > 1 { warmUpMembers(db, found) }
        guard table.count > 1024 else { return }
        var sum: UInt64 = 0
        for i in 0..<found where spans[i].count > 1 {
            let hash = table.hash(arguments[spans[i].first &+ 1])
            spans[i].hash = hash
            sum &+= table.touchBucket(hash)
        }
        for i in 0..<found where spans[i].count > 1 { sum &+= table.likelyElement(spans[i].hash).map { Entry($0).touch() } ?? 0 }
        warmUpSum = sum
    }

    /// What is loaded ahead of a command: the member or the field that it names, or a member that it will draw.
    private enum Ahead {
        case member, field, random, end
    }

    /// The same for the members of large collections.
    private func warmUpMembers(_ db: Database, _ found: Int) {
        let spans = argumentArea.spans
        let arguments = argumentArea.base
        var sum: UInt64 = 0
        var key = Argument("")
        var members: Table<EntryElement>?
        var isHash = false
        // What the commands will draw or take from the ends, if nothing else comes in between.
        var drawn = random
        var lowest: SortedTree.EndCursor?
        var highest: SortedTree.EndCursor?
        withUnsafeTemporaryAllocation(of: (Table<EntryElement>, UInt64, Ahead).self, capacity: found) { list in
            var count = 0
            for i in 0..<found {
                guard let slot = UnsafeMutablePointer<CommandTable.Slot>(bitPattern: spans[i].tag) else { continue }
                let member = slot.pointee.member
                guard member != 0, member < spans[i].count, spans[i].count > 1 else { continue }
                // Neighbours mostly name the same collection.
                let name = arguments[spans[i].first &+ 1]
                if !(name == key) {
                    key = name
                    let entry = db.find(name).map { Entry($0.element) }
                    members = entry?.memberTable
                    isHash = entry?.type == .hash
                    let tree = entry?.sortedTree
                    lowest = tree.map { SortedTree.EndCursor(lowestOf: $0) }
                    highest = tree.map { SortedTree.EndCursor(highestOf: $0) }
                }
                guard let members, members.count > 1024 else { continue }
                if member == Command.randomMember {
                    let bits = drawn.next()
                    sum &+= members.touchBuckets(random: bits)
                    list.initializeElement(at: count, to: (members, bits, .random))
                } else if member < 0 {
                    guard let element = member == Command.lowestMember ? lowest?.next() : highest?.next() else { continue }
                    sum &+= UInt64(element.load(as: UInt8.self))
                    list.initializeElement(at: count, to: (members, UInt64(UInt(bitPattern: element)), .end))
                } else {
                    let hash = members.hash(arguments[spans[i].first &+ member])
                    sum &+= members.touchBucket(hash)
                    list.initializeElement(at: count, to: (members, hash, isHash ? .field : .member))
                }
                count &+= 1
            }
            for i in 0..<count {
                let (members, bits, kind) = list[i]
                switch kind {
                case .member: sum &+= members.touchElement(bits)
                case .random: sum &+= members.touchElement(random: bits)
                case .end:
                    // What it takes to forget and to free the element.
                    let element = UnsafeMutableRawPointer(bitPattern: UInt(bits)).unsafelyUnwrapped
                    sum &+= members.touchBucket(members.hash(SortedElement(element).member)) &+ Heap.touch(element)
                case .field: if let element = members.likelyElement(bits) { sum &+= HashField(element).touch() }
                }
            }
        }
        warmUpSum = sum
    }

    /// Executes one command: finds it, checks what must be checked, runs it, passes on what it changed.
    func execute(_ client: Client, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) {
        guard let slot = commands.find(arguments[0]) else {
            unknownCommand(client, arguments, count)
            return
        }
        execute(client, slot, arguments, count)
    }

    /// Executes a command that has been found.
    func execute(_ client: Client, _ command: UnsafeMutablePointer<CommandTable.Slot>, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) {
        var slot = command
        if !slot.pointee.subcommands.isEmpty, count > 1 {
            guard let found = slot.pointee.subcommand(arguments[1]) else { return unknownSubcommand(client, arguments) }
            slot = found
        }
        client.lastCommand = slot
        let arity = slot.pointee.arity
        if arity >= 0 ? count != arity : count < -arity { return wrongArity(client, slot) }
        if !client.gate.isEmpty || !gate.isEmpty {
            guard admit(client, slot, arguments, count) else { return }
            if client.gate.contains(.noTouch) { return runWithoutTouching(client, slot, arguments, count) }
            if gate.contains(.confirming) { return runConfirming(client, slot, arguments, count) }
            if gate.contains(.doubtful) { return runDoubting(client, slot, arguments, count) }
        }
        run(client, slot, arguments, count)
    }

    /// Runs a command that may run.
    @inline(__always)
    func run(_ client: Client, _ slot: UnsafeMutablePointer<CommandTable.Slot>, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) {
        let before = dirty
        let db = client.db
        let isTimed = !slot.pointee.isQuick || slot.pointee.calls & samplingMask == 0
        let start = isTimed ? StoreServer.nanoseconds() : 0
        errors.pointee.failures = UnsafeMutableRawPointer(slot).assumingMemoryBound(to: UInt64.self)
        slot.pointee.command.run(Call(
            server: self, client: client, db: db, arguments: arguments, count: count, slot: slot,
            reply: ReplyWriter(client.output, isRESP3: client.isRESP3)))
        slot.pointee.calls &+= 1
        commandsProcessed &+= 1
        if isTimed { timed(client, slot, arguments, count, since: start) }
        if gate.contains(.monitored) { feedMonitors(client, slot, arguments, count) }
        // A snapshot makes the count smaller: SAVE is nothing to pass on.
        if dirty > before || propagation.isForced {
            propagateCommand(client, db, arguments, count)
            // Whoever waits for a key is served before the next command, of this client or another, can take it away.
            if !blocking.ready.isEmpty { handleReadyKeys() }
        }
    }

    /// Runs a command for a client whose uses of keys do not count.
    private func runWithoutTouching(_ client: Client, _ slot: UnsafeMutablePointer<CommandTable.Slot>, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) {
        clock.use.pointee.isHeld = true
        if gate.contains(.confirming) {
            runConfirming(client, slot, arguments, count)
        } else if gate.contains(.doubtful) {
            runDoubting(client, slot, arguments, count)
        } else {
            run(client, slot, arguments, count)
        }
        clock.use.pointee.isHeld = false
    }

    // MARK: refusals

    @inline(never)
    private func unknownCommand(_ client: Client, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) {
        if arguments[0].isWord("post") || arguments[0].isWord("host:") { return dropCrossProtocol(client) }
        client.lastCommand = nil
        stepSkipping(client)
        var shown: [UInt8] = []
        for i in 1..<max(1, count) {
            guard shown.count < 128 else { break }
            shown += [0x27] + arguments[i].start(128 - shown.count) + [0x27, 0x20]
        }
        refuse(client, nil, Array("ERR unknown command '".utf8) + arguments[0].start(128) + Array("', with args beginning with: ".utf8) + shown)
    }

    @inline(never)
    private func unknownSubcommand(_ client: Client, _ arguments: UnsafeMutablePointer<Argument>) {
        client.lastCommand = nil
        stepSkipping(client)
        let name = Array(String(decoding: arguments[0].start(.max), as: UTF8.self).uppercased().utf8)
        refuse(client, nil, Array("ERR unknown subcommand '".utf8) + arguments[1].start(128) + Array("'. Try ".utf8) + name + Array(" HELP.".utf8))
    }

    @inline(never)
    private func wrongArity(_ client: Client, _ slot: UnsafeMutablePointer<CommandTable.Slot>) {
        stepSkipping(client)
        refuse(client, slot, Array("ERR wrong number of arguments for '\(slot.pointee.fullName)' command".utf8))
    }

    /// Answers with an error instead of executing; the transaction that the command belongs to fails.
    private func refuse(_ client: Client, _ slot: UnsafeMutablePointer<CommandTable.Slot>?, _ line: [UInt8]) {
        client.transaction?.isFlagged = true
        slot?.pointee.rejected += 1
        errors.pointee.failures = nil
        if let slot, slot.pointee.name == Argument("EXEC") {
            // What is watched is forgotten by it too, in a transaction or not.
            endTransaction(client)
            // The general code is not repeated behind this one.
            let reason = line.starts(with: "ERR ".utf8) ? line.dropFirst(4) : line[...]
            client.reply.error(Array("EXECABORT Transaction discarded because of: ".utf8) + reason)
        } else {
            client.reply.error(line)
        }
    }

    /// A browser that was made to speak to us: its request's first line or its headers. It hears nothing, and no later line of it
    /// is executed.
    private func dropCrossProtocol(_ client: Client) {
        logger.warning("Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to Redis. This is likely due to an attacker attempting to use Cross Protocol Scripting to compromise your Redis instance. Connection from \(client.connection.peer) aborted.")
        client.connection.close()
    }

    /// CLIENT REPLY SKIP: the reply of the command behind it goes nowhere, and of that one only.
    @inline(__always)
    private func stepSkipping(_ client: Client) {
        guard !client.gate.isDisjoint(with: [.skipsReply, .skipsNextReply]) else { return }
        if client.gate.contains(.skipsReply) {
            client.gate.remove(.skipsReply)
            if !client.gate.contains(.repliesOff) { client.output = client.connection.output }
        }
        if client.gate.contains(.skipsNextReply) {
            client.gate.remove(.skipsNextReply)
            client.gate.insert(.skipsReply)
            client.output = discardedOutput
        }
    }

    /// The checks for clients and times that are not the usual ones.
    /// - Returns: whether the command is to be run now.
    private func admit(_ client: Client, _ slot: UnsafeMutablePointer<CommandTable.Slot>, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) -> Bool {
        let flags = slot.pointee.command.flags
        func refuse(_ text: String) -> Bool {
            self.refuse(client, slot, Array(text.utf8))
            return false
        }
        stepSkipping(client)
        if client.gate.contains(.unauthenticated), !flags.contains(.noAuth) {
            return refuse("NOAUTH Authentication required.")
        }
        if client.gate.contains(.inTransaction), flags.contains(.noMulti) {
            return refuse("ERR Command not allowed inside a transaction")
        }
        if client.gate.contains(.master) {
            if gate.contains(.memoryLimited) { _ = makeRoom() }
            return !queue(client, slot, arguments, count)
        }
        if gate.contains(.memoryLimited), !gate.contains(.loading), makeRoom() == .impossible, needsMemory(client, slot) {
            return refuse(memoryRefusal)
        }
        let isWrite = flags.contains(.write)
        if gate.contains(.writesRestricted), isWrite || slot.pointee.name.isWord("ping") || isWritingTransaction(client, slot) {
            // PING is refused too, so that who watches over the server hears of the disk.
            if persistence.stopsWrites {
                return refuse("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that may modify the data set are disabled, because this instance is configured to report errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB error.")
            }
            if let reason = appendOnlyFile.refusal { return refuse("MISCONF Errors writing to the AOF file: \(reason)") }
            if !slot.pointee.name.isWord("ping"), !gate.contains(.replica), replication.lacksReplicas {
                return refuse("NOREPLICAS Not enough good replicas to write.")
            }
        }
        if isWrite, gate.contains(.replica), configuration.isReplicaReadOnly {
            return refuse("READONLY You can't write against a read only replica.")
        }
        if client.gate.contains(.subscribed), !client.isRESP3, !StoreServer.isAllowedWhileSubscribed(slot.pointee.name) {
            return refuse("ERR Can't execute '\(slot.pointee.fullName)': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context")
        }
        if gate.contains(.replica), !replication.isLinkUp, !configuration.servesStaleData, !flags.contains(.stale) {
            return refuse("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.")
        }
        if gate.contains(.loading), !flags.contains(.loading) {
            return refuse("LOADING Redis is loading the dataset in memory")
        }
        if gate.contains(.paused), !client.gate.contains(.replica), isPaused(for: effects(client, slot)) {
            waitForUnpause(client, arguments, count)
            return false
        }
        if queue(client, slot, arguments, count) { return false }
        if gate.contains(.migrating), mustWaitForMigration(client, slot, arguments, count) {
            waitForUnpause(client, arguments, count)
            return false
        }
        return true
    }

    /// The flags of a command, with EXEC those of all that it executes.
    private func effects(_ client: Client, _ slot: UnsafeMutablePointer<CommandTable.Slot>) -> CommandFlags {
        guard let transaction = client.transaction, slot.pointee.name.isWord("exec") else { return slot.pointee.command.flags }
        return transaction.queued.reduce(into: slot.pointee.command.flags) { $0.formUnion($1.slot.pointee.command.flags) }
    }

    /// Whether it is the EXEC of a transaction in which something is written.
    private func isWritingTransaction(_ client: Client, _ slot: UnsafeMutablePointer<CommandTable.Slot>) -> Bool {
        guard let transaction = client.transaction, slot.pointee.name.isWord("exec") else { return false }
        return transaction.queued.contains { $0.slot.pointee.command.flags.contains(.write) }
    }

    /// Whether a command must not be run when there is no room: one that may take more, and in a transaction every one that would be
    /// queued, for a queue takes memory too.
    private func needsMemory(_ client: Client, _ slot: UnsafeMutablePointer<CommandTable.Slot>) -> Bool {
        if slot.pointee.command.flags.contains(.denyOOM) { return true }
        guard let transaction = client.transaction else { return false }
        if slot.pointee.name.isWord("exec") { return transaction.queued.contains { $0.slot.pointee.command.flags.contains(.denyOOM) } }
        return !StoreServer.isNeverQueued(slot.pointee.name)
    }

    /// - Returns: whether the command was queued in a transaction.
    private func queue(_ client: Client, _ slot: UnsafeMutablePointer<CommandTable.Slot>, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) -> Bool {
        guard let transaction = client.transaction, !StoreServer.isNeverQueued(slot.pointee.name) else { return false }
        transaction.append(slot, arguments, count)
        client.reply.simple("QUEUED")
        return true
    }

    private static func isAllowedWhileSubscribed(_ name: Argument) -> Bool {
        name.isWord("ping") || name.isWord("subscribe") || name.isWord("unsubscribe") || name.isWord("psubscribe")
            || name.isWord("punsubscribe") || name.isWord("ssubscribe") || name.isWord("sunsubscribe") || name.isWord("quit")
            || name.isWord("reset")
    }

    private static func isNeverQueued(_ name: Argument) -> Bool {
        name.isWord("exec") || name.isWord("discard") || name.isWord("multi") || name.isWord("watch") || name.isWord("quit")
            || name.isWord("reset")
    }

    /// What MONITOR prints of a command that was executed: time, database, address, and the arguments quoted, without secrets.
    @inline(never)
    private func feedMonitors(_ client: Client, _ slot: UnsafeMutablePointer<CommandTable.Slot>, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) {
        let flags = slot.pointee.command.flags
        if flags.contains(.skipMonitor) || flags.contains(.admin) { return }
        let address = if case .unix(let path) = client.connection.peer { "unix:\(path)" } else { "\(client.connection.peer)" }
        let secrets = StoreServer.secrets(slot.pointee.fullName, arguments, count)
        let now = loop.clock.pointee.wallMicroseconds
        let fraction = String(1_000_000 + now % 1_000_000).dropFirst()
        var line = "+\(now / 1_000_000).\(fraction) [\(client.db.id) \(address)]"
        for i in 0..<count { line += secrets.contains(i) ? " \"(redacted)\"" : " " + Quoting.quoted(arguments[i].buffer) }
        line += "\r\n"
        guard gate.contains(.confirming) else {
            for monitor in monitors { monitor.output.append(line) }
            return
        }
        // The line shows what is written.
        for monitor in monitors { confirmation.collect(.line(Array(line.utf8)), to: monitor) }
    }
}

extension StoreServer {
    /// The arguments that must not be shown: all of AUTH's, user and password behind HELLO's AUTH, passwords that CONFIG SET sets.
    static func secrets(_ name: String, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) -> Set<Int> {
        switch name {
        case "auth": return Set(1..<count)
        case "acl|setuser": return Set(2..<count)
        case "hello":
            guard let option = (2..<max(2, count)).first(where: { arguments[$0].isWord("auth") }) else { return [] }
            return Set((option + 1..<option + 3).prefix { $0 < count })
        case "config|set":
            let options = stride(from: 2, to: count - 1, by: 2).filter {
                arguments[$0].isWord("requirepass") || arguments[$0].isWord("masterauth") || arguments[$0].isWord("masteruser")
            }
            return Set(options.map { $0 + 1 })
        default: return []
        }
    }
}

/// Text with everything unprintable escaped, in double quotes (Redis's sdscatrepr).
enum Quoting {
    static func quoted(_ bytes: UnsafeBufferPointer<UInt8>) -> String {
        let hex = Array("0123456789abcdef".utf8)
        var out: [UInt8] = [0x22]
        for c in bytes {
            switch c {
            case 0x22, 0x5C: out += [0x5C, c]
            case 10: out += Array("\\n".utf8)
            case 13: out += Array("\\r".utf8)
            case 9: out += Array("\\t".utf8)
            case 7: out += Array("\\a".utf8)
            case 8: out += Array("\\b".utf8)
            case 32...126: out.append(c)
            default: out += [0x5C, 0x78, hex[Int(c >> 4)], hex[Int(c & 15)]]
            }
        }
        out.append(0x22)
        return String(decoding: out, as: UTF8.self)
    }
}
