import RESP

/// What a command has to say to replicas instead of itself.
struct Propagation {
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
    /// Passes on what a command changed.
    func propagateCommand(_ client: Client, _ db: Database, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) {
        defer {
            if propagation.isForced || propagation.isSuppressed {
                propagation.isForced = false
                propagation.isSuppressed = false
                propagation.replacements.removeAll()
            }
        }
        guard replication.isFeeding, !propagation.isSuppressed else { return }
        if propagation.replacements.isEmpty {
            feed(db, arguments, count)
        } else {
            for command in propagation.replacements { feed(db, command) }
        }
        client.lastWriteOffset = replication.offset
    }

    /// Passes one command on, inside MULTI when it belongs to a transaction.
    private func feed(_ db: Database, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int) {
        if executionDepth > 0, !propagation.hasOpenTransaction {
            propagation.hasOpenTransaction = true
            feedReplication(db, [Array("MULTI".utf8)])
        }
        replication.feed(db.id, arguments, count)
    }

    /// Passes on a command made here (DEL of an expired key, and the like).
    func feed(_ db: Database, _ command: [[UInt8]]) {
        guard replication.isFeeding else { return }
        if executionDepth > 0, !propagation.hasOpenTransaction {
            propagation.hasOpenTransaction = true
            feedReplication(db, [Array("MULTI".utf8)])
        }
        feedReplication(db, command)
    }

    /// Passes on that a key has gone though no command said so: its time was over, or there was no room for it.
    func feedDeletion(_ db: Database, _ key: Argument, isLazy: Bool) {
        guard replication.isFeeding else { return }
        withUnsafeTemporaryAllocation(of: Argument.self, capacity: 2) { words in
            words.initializeElement(at: 0, to: isLazy ? Argument("UNLINK") : Argument("DEL"))
            words.initializeElement(at: 1, to: key)
            feed(db, words.baseAddress!, 2)
        }
    }

    func feedReplication(_ db: Database, _ command: [[UInt8]]) {
        withArguments(command) { replication.feed(db.id, $0, $1) }
    }

    /// Ends a transaction on the wire if one was begun there.
    func closePropagatedTransaction(_ db: Database) {
        guard propagation.hasOpenTransaction else { return }
        propagation.hasOpenTransaction = false
        feedReplication(db, [Array("EXEC".utf8)])
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

    /// Replaces what the running command passes on.
    func propagate(as commands: [[[UInt8]]]) {
        propagation.isForced = true
        propagation.replacements = commands
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
