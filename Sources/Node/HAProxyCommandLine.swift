import Glibc

/// haproxy's own command line (haproxy(1), management.txt §3), for init scripts and units that start it by that name.
struct HAProxyCommandLine: Equatable {
    var files: [String] = []
    var isDaemon: Bool?
    var pidFile: String?
    /// `-c`: check and end.
    var isCheck = false
    var isQuiet = false
    var showsVersion = false
    var showsHelp = false
    var connectionsMax: Int?
    var predecessors = Predecessors()
    var folder: String?
    /// What is taken and has no effect.
    var warnings: [String] = []

    /// - Throws: what is not understood.
    init(_ arguments: [String]) throws(Refusal) {
        var rest = arguments[...]
        while let option = rest.popFirst() {
            try read(option, &rest)
        }
    }

    private mutating func read(_ option: String, _ rest: inout ArraySlice<String>) throws(Refusal) {
        switch option {
        case "-f": files.append(try value(option, &rest))
        case "--":
            files += rest
            rest = []
        case "-D": isDaemon = true
        case "-db": isDaemon = false
        case "-W":
            warnings.append("-W: there are no worker processes; one process does the work")
        case "-Ws":
            isDaemon = false
        case "-p": pidFile = try value(option, &rest)
        case "-c": isCheck = true
        case "-q": isQuiet = true
        case "-V": isQuiet = false
        case "-v", "-vv", "--version": showsVersion = true
        case "-h", "--help": showsHelp = true
        case "-C": folder = try value(option, &rest)
        case "-n": connectionsMax = try number(option, &rest)
        case "-sf", "-st":
            predecessors.signal = option == "-sf" ? SIGUSR1 : SIGTERM
            predecessors.processes = rest.prefix { Int32($0) != nil }.compactMap { Int32($0) }
            rest = rest.dropFirst(predecessors.processes.count)
        case "-S", "-x", "-L", "-N", "-m":
            warnings.append("\(option) \(try value(option, &rest)): no effect")
        case _ where option.hasPrefix("-d"):
            warnings.append("\(option): no effect")
        default:
            throw Refusal(["haproxy: unknown option '\(option)'; accepted: -f FILE, -c, -D, -db, -W, -Ws, -p PIDFILE, -n MAX, -C DIR, -sf PID..., -st PID..., -q, -V, -v, -h"])
        }
    }

    private func value(_ option: String, _ rest: inout ArraySlice<String>) throws(Refusal) -> String {
        guard let value = rest.popFirst() else { throw Refusal(["haproxy: \(option) needs a value"]) }
        return value
    }

    private func number(_ option: String, _ rest: inout ArraySlice<String>) throws(Refusal) -> Int {
        let text = try value(option, &rest)
        guard let number = Int(text), number > 0 else { throw Refusal(["haproxy: \(option) '\(text)': accepted is a number from 1"]) }
        return number
    }
}
