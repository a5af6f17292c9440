import Glibc
import Logging
import Reactor
import RESP

/// Executes the files of an append-only file, one after the other.
///
/// A transaction is executed when its EXEC has been read: one that is cut off leaves nothing behind.
final class AOFLoader {
    private unowned let server: StoreServer
    private let client: Client
    private var request = AOFRequest()
    /// The commands of a transaction under way, and where it began.
    private var transaction: (commands: Transaction, offset: Int)?
    private(set) var commands = 0
    /// Commands that were answered with errors, and where the first stands.
    private var failures: (count: Int, offset: Int) = (0, 0)
    private var lastProgress: ContinuousClock.Instant
    private let manifestPath: String

    init(server: StoreServer, manifestPath: String) {
        self.server = server
        self.manifestPath = manifestPath
        client = Client(id: 0, server: server, connection: .detached(on: server.loop))
        client.output = server.discardedOutput
        lastProgress = .now
    }

    deinit { request.deallocate() }

    /// Loads one file.
    /// - Parameters:
    ///   - isFirst: it may begin with a snapshot.
    ///   - isLast: it may have been cut off in the middle of a command, and is cut off behind the last whole one then
    ///     (`aof-load-truncated`).
    /// - Returns: how long the file is then.
    func load(_ path: String, isFirst: Bool, isLast: Bool) throws(AOFError) -> Int {
        var window = try AOFWindow(path: path)
        defer { window.close() }
        failures = (0, 0)
        transaction = nil
        client.db = server.databases[0]
        if isFirst, try window.fill(5), window.bytes.prefix(5).elementsEqual("REDIS".utf8) { try loadSnapshot(&window) }
        let length = try loadCommands(&window, isLast: isLast)
        if failures.count > 0 {
            server.logger.warning("\(path): \(failures.count) commands were answered with errors, the first one at byte \(failures.offset): what they changed once is not there")
        }
        return length
    }

    private func loadSnapshot(_ window: inout AOFWindow) throws(AOFError) {
        var options = RDBReader.Options()
        options.verifiesChecksum = server.configuration.checksumsSnapshots
        options.now = server.loop.wallMilliseconds
        let reader = server.makeReader(options)
        do throws(RDBError) {
            while true {
                let bytes = window.bytes
                switch try reader.feed(bytes) {
                case .done(let used):
                    window.consume(used)
                    server.adopt(reader)
                    for warning in reader.warnings { server.logger.warning("\(window.path): \(warning)") }
                    return
                case .needsMore: window.consume(bytes.count)
                }
                progress(window)
                guard try read(&window) else { break }
            }
            try reader.finish()
        } catch {
            throw AOFError(path: window.path, reason: "\(error)", remedy: "The base is a snapshot, which cannot be mended: bring back a backup")
        }
    }

    /// Reads the next piece of a snapshot.
    private func read(_ window: inout AOFWindow) throws(RDBError) -> Bool {
        do throws(AOFError) {
            return try window.fill(min(1 << 18, max(1, window.size - window.offset)))
        } catch {
            throw RDBError(offset: error.offset ?? 0, reason: error.reason)
        }
    }

    private func loadCommands(_ window: inout AOFWindow, isLast: Bool) throws(AOFError) -> Int {
        // Behind this byte there is nothing that counts.
        var valid = window.offset
        while true {
            switch request.parse(window.bytes) {
            case .annotation(let length):
                window.consume(length)
            case .command(let count, let length):
                try execute(count, window)
                window.consume(length)
                commands += 1
                if commands & 4095 == 0 { progress(window) }
            case .short(let needed):
                if try window.fill(needed) { continue }
                if window.offset == window.size, transaction == nil { return window.size }
                return try cutOff(window, valid, isLast)
            case .bad(let at, let reason):
                throw AOFError(path: window.path, offset: window.offset + at, reason: "Bad file format: \(reason)", remedy: remedy(window.path))
            }
            if transaction == nil { valid = window.offset }
        }
    }

    private func remedy(_ path: String) -> String {
        "Make a backup of the folder, then cut the file off before that byte with: redis-check-aof --fix \(manifestPath)"
    }

    /// The file ends in the middle of a command, or of a transaction.
    private func cutOff(_ window: AOFWindow, _ valid: Int, _ isLast: Bool) throws(AOFError) -> Int {
        let what = transaction.map { "the transaction that begins at byte \($0.offset) has no EXEC" } ?? "the file ends in the middle of a command"
        let lost = window.size - valid
        func refuse(_ reason: String) -> AOFError {
            AOFError(path: window.path, offset: valid, reason: reason, remedy: remedy(window.path))
        }
        if window.offset < window.size, window.hasCommandsBehind({ self.slot($0) != nil || self.isTransaction($0) }) {
            throw refuse("Bad file format: a length in the command at byte \(window.offset) is wrong, for whole commands follow up to the end of the file")
        }
        guard isLast else { throw refuse("\(what), and it is not the last of the files") }
        guard server.configuration.loadsTruncated else {
            throw refuse("Unexpected end of file: \(what); \(lost) bytes would be dropped (aof-load-truncated yes does so at start)")
        }
        server.logger.warning("!!! Warning: short read while loading the AOF file \(window.path)!!!")
        server.logger.warning("\(window.path): \(what). Truncating the AOF at offset \(valid): \(lost) bytes are dropped (aof-load-truncated is enabled)")
        guard truncate(window.path, off_t(valid)) == 0 else { throw refuse("\(what), and it cannot be truncated: \(String(cString: strerror(errno)))") }
        return valid
    }

    // MARK: executing

    private func isTransaction(_ name: Argument) -> Bool { name.isWord("multi") || name.isWord("exec") }

    /// What a file may hold: commands that change data, and SELECT. They go by their own names, whatever `rename-command` says.
    private func slot(_ name: Argument, _ second: Argument? = nil) -> UnsafeMutablePointer<CommandTable.Slot>? {
        guard var slot = server.commands.find(name) ?? server.commands.all.first(where: { CommandTable.same($0.pointee.name, name) }) else {
            return nil
        }
        if let second, !slot.pointee.subcommands.isEmpty {
            guard let found = slot.pointee.subcommand(second) else { return nil }
            slot = found
        }
        // Of a command by itself it is enough that it may be one.
        if second == nil, slot.pointee.subcommands.contains(where: { $0.pointee.command.flags.contains(.write) }) { return slot }
        return slot.pointee.command.flags.contains(.write) || slot.pointee.name.isWord("select") ? slot : nil
    }

    private func execute(_ count: Int, _ window: AOFWindow) throws(AOFError) {
        let arguments = request.arguments
        func bad(_ reason: String) -> AOFError {
            AOFError(path: window.path, offset: window.offset, reason: reason, remedy: remedy(window.path))
        }
        if isTransaction(arguments[0]) {
            let begins = arguments[0].isWord("multi")
            guard begins == (transaction == nil) else { throw bad(begins ? "MULTI within a transaction" : "EXEC without MULTI") }
            if begins {
                transaction = (Transaction(), window.offset)
            } else {
                for queued in transaction!.commands.queued {
                    server.withArguments(queued.arguments) { run(queued.slot, $0, $1, transaction!.offset) }
                }
                transaction = nil
            }
            return
        }
        guard let slot = slot(arguments[0], count > 1 ? arguments[1] : nil) else {
            let name = Quoting.quoted(UnsafeBufferPointer(rebasing: arguments[0].buffer.prefix(128)))
            throw bad("the command \(name) is unknown, or none that an append-only file holds")
        }
        let arity = slot.pointee.arity
        guard arity >= 0 ? count == arity : count >= -arity else {
            throw bad("the command '\(slot.pointee.fullName)' has \(count) words")
        }
        if let transaction {
            transaction.commands.append(slot, arguments, count)
        } else {
            run(slot, arguments, count, window.offset)
        }
    }

    private func run(_ slot: UnsafeMutablePointer<CommandTable.Slot>, _ arguments: UnsafeMutablePointer<Argument>, _ count: Int, _ offset: Int) {
        let errors = server.errors.pointee.total
        slot.pointee.command.run(Call(
            server: server, client: client, db: client.db, arguments: arguments, count: count, slot: slot, reply: client.reply))
        // Nobody is told: what is loaded has been told before.
        if server.propagation.isForced { server.propagation = Propagation() }
        if server.errors.pointee.total != errors {
            if failures.count == 0 { failures.offset = offset }
            failures.count += 1
        }
        if client.output.count > 1 << 20 { client.output.discardAll() }
    }

    /// Once a second the log says how far it is.
    private func progress(_ window: AOFWindow) {
        let now = ContinuousClock.now
        guard now - lastProgress >= .seconds(1) else { return }
        lastProgress = now
        server.logger.notice("Loading \(window.path): \(window.offset) of \(window.size) bytes")
    }
}
