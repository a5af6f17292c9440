import Observability

/// keepalived's own command line (keepalived(8)), for init scripts and units that start it by that name.
struct KeepalivedCommandLine: Equatable {
    var file = "/etc/keepalived/keepalived.conf"
    var isDaemon = true
    var pidFile = "/run/keepalived.pid"
    /// Keepalived's child has a file of its own; here it names the same process.
    var vrrpPIDFile: String?
    var logsToConsole = false
    /// nil: no syslog.
    var syslogFacility: SyslogFacility? = .daemon
    /// `-t`: check and end.
    var isCheck = false
    var showsVersion = false
    var showsHelp = false
    /// What is taken and has no effect.
    var warnings: [String] = []

    var pidFiles: [String] { [pidFile] + (vrrpPIDFile.map { [$0] } ?? []) }

    /// The options with their long names; a value that follows is required (`=`) or may be given (`?`), as getopt_long(3) reads them.
    private static let options: [(letter: Character, name: String, value: Character)] = [
        ("f", "use-file", "="), ("P", "vrrp", " "), ("C", "check", " "), ("l", "log-console", " "), ("D", "log-detail", " "),
        ("S", "log-facility", "="), ("G", "no-syslog", " "), ("n", "dont-fork", " "), ("d", "dump-conf", " "), ("p", "pid", "="),
        ("r", "vrrp_pid", "="), ("c", "checkers_pid", "="), ("b", "bfd_pid", "="), ("a", "address-monitoring", " "), ("t", "config-test", "?"),
        ("v", "version", " "), ("h", "help", " "), ("X", "release-vips", " "), ("V", "dont-release-vrrp", " "), ("I", "dont-release-ipvs", " "),
        ("R", "dont-respawn", " "), ("i", "config-id", "="), ("s", "namespace", "="), ("m", "core-dump", " "), ("M", "core-dump-pattern", "?"),
        ("g", "log-file", "?"), ("u", "umask", "="), ("B", "no-bfd", " "), ("x", "snmp", " "), ("A", "snmp-agent-socket", "="), ("e", "all-config", " "),
    ]

    /// - Throws: what is not understood.
    init(_ arguments: [String]) throws(Refusal) {
        var rest = arguments[...]
        while let word = rest.popFirst() {
            if word.hasPrefix("--"), word.count > 2 {
                try readLong(String(word.dropFirst(2)), &rest)
            } else if word.hasPrefix("-"), word.count > 1 {
                try readShort(word.dropFirst(), &rest)
            } else {
                throw Refusal(["keepalived: unexpected argument '\(word)'"])
            }
        }
    }

    private mutating func readLong(_ word: String, _ rest: inout ArraySlice<String>) throws(Refusal) {
        let parts = word.split(separator: "=", maxSplits: 1).map(String.init)
        guard let option = KeepalivedCommandLine.options.first(where: { $0.name == parts[0] }) else {
            throw Refusal(["keepalived: unknown option '--\(parts[0])'"])
        }
        var value = parts.count > 1 ? parts[1] : nil
        if option.value == "=", value == nil { value = try following("--\(option.name)", &rest) }
        try apply(option.letter, value)
    }

    /// Several letters behind one dash; one with a value takes the rest of the word, or the next word.
    private mutating func readShort(_ letters: Substring, _ rest: inout ArraySlice<String>) throws(Refusal) {
        var letters = letters
        while let letter = letters.popFirst() {
            guard let option = KeepalivedCommandLine.options.first(where: { $0.letter == letter }) else {
                throw Refusal(["keepalived: unknown option '-\(letter)'"])
            }
            if option.value == " " {
                try apply(letter, nil)
                continue
            }
            let attached = letters.isEmpty ? nil : String(letters)
            letters = ""
            if attached == nil, option.value == "=" {
                try apply(letter, try following("-\(letter)", &rest))
            } else {
                try apply(letter, attached)
            }
        }
    }

    private func following(_ option: String, _ rest: inout ArraySlice<String>) throws(Refusal) -> String {
        guard let value = rest.popFirst() else { throw Refusal(["keepalived: \(option) needs a value"]) }
        return value
    }

    private mutating func apply(_ letter: Character, _ value: String?) throws(Refusal) {
        switch letter {
        case "f": file = value!
        case "n": isDaemon = false
        case "l": logsToConsole = true
        case "G": syslogFacility = nil
        case "p": pidFile = value!
        case "r": vrrpPIDFile = value!
        case "t": isCheck = true
        case "v": showsVersion = true
        case "h": showsHelp = true
        case "S":
            guard let number = Int(value!), (0...7).contains(number), let facility = SyslogFacility(name: "local\(number)") else {
                throw Refusal(["keepalived: -S '\(value!)': accepted is a number from 0 to 7, for local0 to local7"])
            }
            syslogFacility = facility
        // Details are logged anyway; there is neither LVS nor BFD, nor a child to respawn; addresses are always released.
        case "P", "D", "X", "R", "I", "B", "c", "b", "a": break
        case "C": throw Refusal(["keepalived: -C asks for LVS checkers only, which Vigie does not have"])
        case "V": throw Refusal(["keepalived: -V (--dont-release-vrrp) is not supported: addresses are taken away at the end"])
        case "s", "i": throw Refusal(["keepalived: -\(letter) '\(value!)' is not supported"])
        default: warnings.append("-\(letter): no effect")
        }
    }
}
