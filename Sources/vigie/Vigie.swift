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
        subcommands: [Run.self, StoreCommand.self, SentinelCommand.self, ProxyCommand.self, VRRPCommand.self, Check.self, DemoCommand.self])

    static func main() {
        ParentWatch.begin()
        if let status = Launch.underAnotherName(CommandLine.arguments) { Glibc.exit(status) }
        main(nil)
    }
}

struct Run: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Every role that node.conf names, in one process.")
    @Argument(help: "node.conf: lines of a role (store, sentinel, proxy, vrrp) and its file") var file: String
    func run() throws { throw ExitCode(Launch.run(file)) }
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
        throw ExitCode(Launch.redis(.store, arguments))
    }
}

struct SentinelCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sentinel", abstract: "A Sentinel, from a sentinel.conf, which it keeps up to date.",
        usage: "vigie sentinel sentinel.conf [--port 26379 ...]")

    @Argument(parsing: .captureForPassthrough, help: "sentinel.conf, then options")
    var arguments: [String] = []

    func run() throws {
        if arguments.first == "--help" || arguments.first == "-h" { throw CleanExit.helpRequest(self) }
        throw ExitCode(Launch.redis(.sentinel, arguments))
    }
}

struct ProxyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "proxy", abstract: "The TCP proxy, from a haproxy.cfg.")
    @Argument(help: "haproxy.cfg") var file: String
    func run() throws { throw ExitCode(Launch.file(.proxy, file)) }
}

struct VRRPCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "vrrp", abstract: "Virtual routers, from a keepalived.conf.")
    @Argument(help: "keepalived.conf") var file: String
    func run() throws { throw ExitCode(Launch.file(.vrrp, file)) }
}

struct Check: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Says what is wrong in configuration files, as file:line: message, and changes nothing.",
        discussion: "Takes redis.conf, sentinel.conf, haproxy.cfg, keepalived.conf and node.conf, told apart by what is in them.")
    @Argument(help: "configuration files") var files: [String]
    func run() throws { throw ExitCode(Launch.check(files)) }
}

struct DemoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "demo", abstract: "The platform on loopback: three stores, three Sentinels and the proxy, each a process.",
        discussion: "Needs no privileges. Ctrl-C ends it and leaves nothing behind.")
    @Option(help: "the proxy's port, which clients use") var port: UInt16 = 6379
    func run() throws { throw ExitCode(Launch.demo(port: port)) }
}
