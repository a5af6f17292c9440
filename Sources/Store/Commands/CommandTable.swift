import Glibc
import RESP

/// Every command by its name, for dispatch: an open-addressing table over the declarations, made once.
struct CommandTable {
    /// A declaration with what is counted about it.
    struct Slot {
        /// Calls that ended in an error. First, so that the slot's address is the counter's (see `ErrorCounts.failures`).
        var failed: UInt64 = 0
        let command: Command
        let name: Argument
        /// Copies of what the hot path asks of the declaration.
        let arity: Int
        let member: Int
        /// The parent's name and `|`, for a subcommand.
        let fullName: String
        let subcommands: [UnsafeMutablePointer<Slot>]
        /// Never takes long, whatever the arguments: timed by samples.
        let isQuick: Bool
        /// What clients call it: the name, unless `rename-command` says otherwise.
        var called: Argument
        func subcommand(_ name: Argument) -> UnsafeMutablePointer<Slot>? { subcommands.first { CommandTable.same($0.pointee.name, name) } }

        var calls: UInt64 = 0
        var nanoseconds: UInt64 = 0
        var rejected: UInt64 = 0
        /// How long calls took; nil until one was timed.
        var latencies: LatencyHistogram?
    }

    private let table: UnsafeMutablePointer<UnsafeMutablePointer<Slot>?>
    private let mask: Int
    /// All top-level commands in the order of their declaration.
    let all: [UnsafeMutablePointer<Slot>]

    /// - Parameter renamed: `rename-command`: names in lower case and what they are called instead, nothing for not at all.
    init(_ commands: [Command], renamed: [String: String] = [:]) {
        var size = 64
        while size < commands.count * 4 { size *= 2 }
        mask = size - 1
        table = .allocate(capacity: size)
        table.initialize(repeating: nil, count: size)
        all = commands.map { CommandTable.slot($0, parent: nil) }
        for slot in all {
            if let called = renamed[slot.pointee.fullName] {
                if called.isEmpty { continue }
                slot.pointee.called = CommandTable.permanent(called)
            }
            var index = CommandTable.hash(slot.pointee.called) & mask
            while table[index] != nil { index = (index + 1) & mask }
            table[index] = slot
        }
    }

    private static func slot(_ command: Command, parent: String?) -> UnsafeMutablePointer<Slot> {
        assert(MemoryLayout<Slot>.offset(of: \.failed) == 0)
        let slot = UnsafeMutablePointer<Slot>.allocate(capacity: 1)
        let fullName = parent.map { "\($0)|\(command.lowercasedName)" } ?? command.lowercasedName
        slot.initialize(to: Slot(
            command: command, name: Argument(command.name), arity: command.arity, member: command.member, fullName: fullName,
            subcommands: command.subcommands.map { CommandTable.slot($0, parent: fullName) },
            isQuick: command.flags.contains(.fast) || fullName == "set", called: Argument(command.name)))
        return slot
    }

    /// A copy that lives as long as the process, as the table does.
    private static func permanent(_ text: String) -> Argument {
        let bytes = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: text.utf8.count)
        _ = bytes.initialize(from: text.utf8)
        return Argument(UnsafeRawBufferPointer(bytes))
    }

    /// The command of that name, in any case. O(1).
    @inline(__always)
    func find(_ name: Argument) -> UnsafeMutablePointer<Slot>? {
        if name.count == 0 { return nil }
        var index = CommandTable.hash(name) & mask
        while let slot = table[index] {
            if CommandTable.same(slot.pointee.called, name) { return slot }
            index = (index &+ 1) & mask
        }
        return nil
    }

    /// Equal but for the case of letters; names have letters, `|`, `-` and `_` only, for which bit 5 is what differs.
    @inline(__always)
    static func same(_ a: Argument, _ b: Argument) -> Bool {
        guard a.count == b.count else { return false }
        for i in 0..<a.count where (a.base[i] | 0x20) != (b.base[i] | 0x20) { return false }
        return true
    }

    /// Length, first, middle and last letters tell names apart well enough.
    @inline(__always)
    private static func hash(_ name: Argument) -> Int {
        let n = name.count
        let a = UInt64(name.base[0] | 0x20)
        let b = UInt64(name.base[n - 1] | 0x20)
        let c = UInt64(name.base[n >> 1] | 0x20)
        let d = UInt64(name.base[n >> 2] | 0x20)
        let mixed = (a | b << 8 | c << 16 | d << 24 | UInt64(truncatingIfNeeded: n) << 32) &* 0x9E37_79B9_7F4A_7C15
        return Int(truncatingIfNeeded: mixed >> 48)
    }
}
