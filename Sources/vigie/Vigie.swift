import ArgumentParser
import Glibc
import Node

/// The command line. Everything that happens is in `Node`.
@main
struct Vigie: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "vigie",
        abstract: "The Redis store, Sentinel, the HAProxy TCP proxy and Keepalived's VRRP, in one program.",
        discussion: """
            It reads those programs' own configuration files. Started under the name redis-server, redis-sentinel, haproxy or \
            keepalived (a symbolic link) it takes that program's command line.
            """,
        version: Launch.version,
        subcommands: [StoreCommand.self])

    static func main() {
        if let status = Launch.underAnotherName(CommandLine.arguments) { Glibc.exit(status) }
        main(nil)
    }
}

struct StoreCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "store", abstract: "The store, from a redis.conf.",
        usage: "vigie store [redis.conf | -] [--port 7000 ...]",
        discussion: "Options are the directives of redis.conf with -- before them, as for redis-server; they override the file.")

    @Argument(parsing: .captureForPassthrough, help: "redis.conf (- for standard input), then options")
    var arguments: [String] = []

    func run() throws {
        if arguments.first == "--help" || arguments.first == "-h" { throw CleanExit.helpRequest(self) }
        throw ExitCode(Launch.store(arguments))
    }
}
