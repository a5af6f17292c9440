import Reactor
import RESP

/// One command being executed: who called it, with what, and where the reply goes.
struct Call: ~Copyable {
    unowned(unsafe) let server: StoreServer
    unowned(unsafe) let client: Client
    /// The client's database at the start of the command.
    let db: Database
    let arguments: UnsafeMutablePointer<Argument>
    let count: Int
    let slot: UnsafeMutablePointer<CommandTable.Slot>
    let reply: ReplyWriter

    /// Argument `index`; 0 is the command's name.
    @inline(__always) subscript(_ index: Int) -> Argument { arguments[index] }

    // MARK: the errors that many commands share

    func syntaxError() { reply.error("ERR syntax error") }
    func wrongType() { reply.error("WRONGTYPE Operation against a key holding the wrong kind of value") }
    func notAnInteger() { reply.error("ERR value is not an integer or out of range") }
    func notAFloat() { reply.error("ERR value is not a valid float") }
    func outOfRange() { reply.error("ERR index out of range") }
    func noSuchKey() { reply.error("ERR no such key") }

    func wrongArity() { reply.error("ERR wrong number of arguments for '\(slot.pointee.fullName)' command") }

    /// What several subcommands say of arguments that they have no use for.
    func unknownSubcommandOrArity() {
        let container = slot.pointee.fullName.split(separator: "|")[0].uppercased()
        error("ERR unknown subcommand or wrong number of arguments for '", self[1], "'. Try \(container) HELP.", max: 128)
    }

    /// An error that quotes an argument, as C's formats print it: up to the first zero byte.
    func error(_ before: String, _ argument: Argument, _ after: String = "", max: Int = .max) {
        reply.error(Array(before.utf8) + argument.start(max) + Array(after.utf8))
    }

    /// Argument `index` as a whole number; replies with an error when it is none.
    @inline(__always)
    func integer(_ index: Int) -> Int64? {
        if let value = self[index].integer { return value }
        notAnInteger()
        return nil
    }

    /// Whether the reply is being thrown away by a client that will never see it.
    var isFromMaster: Bool { client.isMaster }
}
