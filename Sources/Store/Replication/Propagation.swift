import RESP

/// What a command has to say to replicas and to the append-only file instead of itself.
struct Propagation {
    /// Somebody takes what commands change: a replica, or the append-only file.
    var isOn = false
    /// What the command says is not for the file (PUBLISH).
    var isForReplicasOnly = false
    /// Propagate although nothing seems changed, or something else than the command as it came.
    var isForced = false
    /// Nothing of this command is passed on.
    var isSuppressed = false
    /// The commands to pass on instead; empty: the command as it came.
    var replacements: [[[UInt8]]] = []
    /// A MULTI was passed on for the transaction under way.
    var hasOpenTransaction = false
}

extension StoreServer {
    /// To be called when a replica or the append-only file begins or ends to take what commands change.
    func updatePropagation() {
        propagation.isOn = (replication.isFeeding || appendOnlyFile.isTaking) && !gate.contains(.loading)
    }

    /// Passes on what a command changed.
    func propagateCommand(_ client: Client, _ db: Database, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) {
        defer {
            if propagation.isForced || propagation.isSuppressed {
                propagation.isForced = false
                propagation.isSuppressed = false
                propagation.isForReplicasOnly = false
                propagation.replacements.removeAll()
            }
        }
        guard propagation.isOn, !propagation.isSuppressed else { return }
        if propagation.replacements.isEmpty {
            feed(db, arguments, count)
        } else {
            feed(db, propagation.replacements)
        }
        client.lastWriteOffset = replication.offset
    }

    /// Passes one command on, inside MULTI when it belongs to a transaction.
    private func feed(_ db: Database, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) {
        openPropagatedTransaction(db)
        replication.feed(db.id, arguments, count)
        if !propagation.isForReplicasOnly { appendOnlyFile.feed(db.id, arguments, count) }
    }

    /// Passes on a command made here (DEL of an expired key, and the like).
    func feed(_ db: Database, _ command: [[UInt8]]) {
        guard propagation.isOn else { return }
        withArguments(command) { feed(db, $0, $1) }
    }

    /// Passes several commands on, of which either all or none are to be executed.
    func feed(_ db: Database, _ commands: [[[UInt8]]]) {
        guard propagation.isOn else { return }
        let needsTransaction = commands.count > 1 && executionDepth == 0
        if needsTransaction { feedEverybody(db, "MULTI") }
        for command in commands { feed(db, command) }
        if needsTransaction { feedEverybody(db, "EXEC") }
    }

    /// Begins a transaction on the wire and in the file, if one is being executed and it is the first change of it.
    private func openPropagatedTransaction(_ db: Database) {
        guard executionDepth > 0, !propagation.hasOpenTransaction else { return }
        propagation.hasOpenTransaction = true
        feedEverybody(db, "MULTI")
    }

    private func feedEverybody(_ db: Database, _ word: StaticString) {
        var word = Argument(word)
        replication.feed(db.id, &word, 1)
        appendOnlyFile.feed(db.id, &word, 1)
    }

    /// Passes on that a key has gone though no command said so: its time was over, or there was no room for it.
    func feedDeletion(_ db: Database, _ key: Argument, isLazy: Bool) {
        guard propagation.isOn else { return }
        withUnsafeTemporaryAllocation(of: Argument.self, capacity: 2) { words in
            words.initializeElement(at: 0, to: isLazy ? Argument("UNLINK") : Argument("DEL"))
            words.initializeElement(at: 1, to: key)
            feed(db, words.baseAddress!, 2)
        }
    }

    /// Ends a transaction on the wire and in the file if one was begun there.
    func closePropagatedTransaction(_ db: Database) {
        guard propagation.hasOpenTransaction else { return }
        propagation.hasOpenTransaction = false
        feedEverybody(db, "EXEC")
    }

    /// Ends what has been passed on of the transaction under way, for the server is about to change its role: its replicas, and the file, take
    /// the part up to here for the whole.
    func cutPropagatedTransaction() {
        if propagation.hasOpenTransaction { closePropagatedTransaction(databases[max(0, replication.stream.selected)]) }
    }

    /// Lends byte arrays as arguments.
    func withArguments(_ command: [[UInt8]], _ body: (UnsafeMutablePointer<Argument>, Int) -> Void) {
        let block = UnsafeMutablePointer<UInt8>.allocate(capacity: command.reduce(1) { $0 + $1.count })
        defer { block.deallocate() }
        withUnsafeTemporaryAllocation(of: Argument.self, capacity: command.count) { list in
            var at = block
            for (i, word) in command.enumerated() {
                word.withUnsafeBufferPointer { if let base = $0.baseAddress { at.update(from: base, count: $0.count) } }
                list.initializeElement(at: i, to: Argument(base: at, count: word.count))
                at += word.count
            }
            body(list.baseAddress!, command.count)
        }
    }

    /// Replaces what the running command passes on. Nothing is copied where nobody takes it.
    func propagate(as commands: @autoclosure () -> [[[UInt8]]]) {
        propagation.isForced = true
        if propagation.isOn { propagation.replacements = commands() }
    }

    /// The running command passes nothing on although it changes data.
    func propagateNothing() {
        propagation.isSuppressed = true
        propagation.isForced = true
    }
}

extension Array where Element == UInt8 {
    init(_ argument: Argument) { self = argument.bytes }
    init(number: Int64) { self = Array(String(number).utf8) }
}
