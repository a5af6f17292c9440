import RESP

/// What a command does to data and clients; the names that COMMAND prints.
struct CommandFlags: OptionSet, Sendable {
    let rawValue: UInt32
    static let write = CommandFlags(rawValue: 1 << 0)
    static let readOnly = CommandFlags(rawValue: 1 << 1)
    static let denyOOM = CommandFlags(rawValue: 1 << 2)
    static let admin = CommandFlags(rawValue: 1 << 3)
    static let pubsub = CommandFlags(rawValue: 1 << 4)
    static let noScript = CommandFlags(rawValue: 1 << 5)
    static let blocking = CommandFlags(rawValue: 1 << 6)
    static let loading = CommandFlags(rawValue: 1 << 7)
    static let stale = CommandFlags(rawValue: 1 << 8)
    static let skipMonitor = CommandFlags(rawValue: 1 << 9)
    static let fast = CommandFlags(rawValue: 1 << 10)
    static let noAuth = CommandFlags(rawValue: 1 << 11)
    static let mayReplicate = CommandFlags(rawValue: 1 << 12)
    static let noMulti = CommandFlags(rawValue: 1 << 13)
    static let movableKeys = CommandFlags(rawValue: 1 << 14)
    static let allowBusy = CommandFlags(rawValue: 1 << 15)
    static let noAsyncLoading = CommandFlags(rawValue: 1 << 16)
    static let skipSlowLog = CommandFlags(rawValue: 1 << 17)
    static let noMandatoryKeys = CommandFlags(rawValue: 1 << 18)

    /// In the order in which Redis prints them.
    static let names: [(CommandFlags, String)] = [
        (.write, "write"), (.readOnly, "readonly"), (.denyOOM, "denyoom"), (.admin, "admin"), (.pubsub, "pubsub"),
        (.noScript, "noscript"), (.blocking, "blocking"), (.loading, "loading"), (.stale, "stale"),
        (.skipMonitor, "skip_monitor"), (.skipSlowLog, "skip_slowlog"), (.fast, "fast"), (.noAuth, "no_auth"), (.noMulti, "no_multi"), (.movableKeys, "movablekeys"), (.allowBusy, "allow_busy"),
        (.noAsyncLoading, "no_async_loading"), (.noMandatoryKeys, "no_mandatory_keys"),
    ]
}

/// The ACL categories that Redis files a command under, its flags' own apart.
struct CommandCategories: OptionSet, Sendable {
    let rawValue: UInt32
    static let keyspace = CommandCategories(rawValue: 1 << 0)
    static let read = CommandCategories(rawValue: 1 << 1)
    static let write = CommandCategories(rawValue: 1 << 2)
    static let set = CommandCategories(rawValue: 1 << 3)
    static let sortedSet = CommandCategories(rawValue: 1 << 4)
    static let list = CommandCategories(rawValue: 1 << 5)
    static let hash = CommandCategories(rawValue: 1 << 6)
    static let string = CommandCategories(rawValue: 1 << 7)
    static let stream = CommandCategories(rawValue: 1 << 10)
    static let pubsub = CommandCategories(rawValue: 1 << 11)
    static let admin = CommandCategories(rawValue: 1 << 12)
    static let fast = CommandCategories(rawValue: 1 << 13)
    static let slow = CommandCategories(rawValue: 1 << 14)
    static let blocking = CommandCategories(rawValue: 1 << 15)
    static let dangerous = CommandCategories(rawValue: 1 << 16)
    static let connection = CommandCategories(rawValue: 1 << 17)
    static let transaction = CommandCategories(rawValue: 1 << 18)
    static let scripting = CommandCategories(rawValue: 1 << 19)

    static let names: [(CommandCategories, String)] = [
        (.keyspace, "@keyspace"), (.read, "@read"), (.write, "@write"), (.set, "@set"), (.sortedSet, "@sortedset"),
        (.list, "@list"), (.hash, "@hash"), (.string, "@string"), (.stream, "@stream"), (.pubsub, "@pubsub"), (.admin, "@admin"),
        (.fast, "@fast"), (.slow, "@slow"), (.blocking, "@blocking"), (.dangerous, "@dangerous"),
        (.connection, "@connection"), (.transaction, "@transaction"), (.scripting, "@scripting"),
    ]
}

/// Which arguments are keys: the first, the last (negative: counted from the end) and the step; nothing for none.
struct KeyPositions: Sendable {
    let first: Int
    let last: Int
    let step: Int

    static let none = KeyPositions(first: 0, last: 0, step: 0)
    /// Only the first argument.
    static let first = KeyPositions(first: 1, last: 1, step: 1)
    /// The first two arguments.
    static let firstTwo = KeyPositions(first: 1, last: 2, step: 1)
    /// All arguments.
    static let all = KeyPositions(first: 1, last: -1, step: 1)
    /// All but the last.
    static let allButLast = KeyPositions(first: 1, last: -2, step: 1)
    /// Every second argument, from the first on.
    static let everySecond = KeyPositions(first: 1, last: -1, step: 2)
    /// Counted by an argument (`numkeys`) at this index.
    static func counted(at index: Int) -> KeyPositions { KeyPositions(first: -index, last: 0, step: 1) }
    /// A destination, then keys counted by an argument behind it.
    static let destinationAndCounted = KeyPositions(first: -2, last: 1, step: 1)
    /// The first half of what stands behind the word STREAMS, which is looked for from that argument on.
    static func streams(from start: Int) -> KeyPositions { KeyPositions(first: -start, last: 0, step: 0) }
    static func range(_ first: Int, _ last: Int, _ step: Int = 1) -> KeyPositions { KeyPositions(first: first, last: last, step: step) }
}

/// One command: declared once, beside its implementation. Dispatch, COMMAND, its documentation and ACL all read this.
struct Command: Sendable {
    let name: StaticString
    /// Arguments, the name included; negative for "at least".
    let arity: Int
    let flags: CommandFlags
    let keys: KeyPositions
    /// The argument that names a member or field of the first key's collection, which is worth loading ahead; 0 for none.
    let member: Int
    /// As `member`: a random one.
    static let randomMember = -1
    static let lowestMember = -2
    static let highestMember = -3
    let categories: CommandCategories
    let since: StaticString
    /// The arguments; see `CommandSyntax`.
    let syntax: StaticString
    /// What is done with the keys; see `KeySpecification`. Empty: told from the flags.
    let access: StaticString
    /// COMMAND INFO's tips for clients and proxies, with spaces between.
    let tips: StaticString
    /// The heading under which Redis documents the command; nil: told from the categories.
    let heading: StaticString?
    /// Since when there is something better, and what that is.
    let deprecated: (since: StaticString, replacedBy: StaticString)?
    /// Not meant for users (`syscmd`).
    let isInternal: Bool
    let complexity: StaticString
    let summary: StaticString
    let subcommands: [Command]
    /// Captures nothing: a plain function.
    let run: @Sendable (borrowing Call) -> Void

    init(
        _ name: StaticString, arity: Int, flags: CommandFlags = [], keys: KeyPositions = .none, member: Int = 0,
        categories: CommandCategories = [], since: StaticString, syntax: StaticString = "", access: StaticString = "",
        tips: StaticString = "", heading: StaticString? = nil, deprecated: (since: StaticString, replacedBy: StaticString)? = nil,
        isInternal: Bool = false, complexity: StaticString = "O(1)", summary: StaticString = "", subcommands: [Command] = [], run: @escaping @Sendable (borrowing Call) -> Void
    ) {
        self.name = name
        self.arity = arity
        self.flags = flags
        self.keys = keys
        self.member = member
        self.categories = categories
        self.since = since
        self.syntax = syntax
        self.access = access
        self.tips = tips
        self.heading = heading
        self.deprecated = deprecated
        self.isInternal = isInternal
        self.complexity = complexity
        self.summary = summary
        self.subcommands = subcommands
        self.run = run
    }

    /// A command that has subcommands and does nothing by itself.
    init(
        container name: StaticString, since: StaticString, heading: StaticString? = nil, summary: StaticString, categories: CommandCategories = [],
        subcommands: [Command]
    ) {
        self.init(
            name, arity: -2, categories: categories, since: since, heading: heading, complexity: "Depends on subcommand.", summary: summary,
            subcommands: subcommands
        ) { call in call.wrongArity() }
    }

    /// The categories of the declaration and those that follow from the flags.
    var allCategories: CommandCategories {
        var all = categories
        if flags.contains(.write) { all.insert(.write) }
        if flags.contains(.readOnly), !categories.contains(.scripting) { all.insert(.read) }
        if flags.contains(.admin) { all.formUnion([.admin, .dangerous]) }
        if flags.contains(.pubsub) { all.insert(.pubsub) }
        if flags.contains(.blocking) { all.insert(.blocking) }
        all.insert(flags.contains(.fast) ? .fast : .slow)
        return all
    }

    /// The name in lower case, as replies and errors have it.
    var lowercasedName: String { "\(name)".lowercased() }
}
