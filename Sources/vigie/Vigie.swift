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
        subcommands: [
            RunCommand.self, StoreCommand.self, SentinelCommand.self, ProxyCommand.self, VRRPCommand.self, CheckCommand.self,
            DemoCommand.self,
        ])

    static func main() {
        if let status = Launch.underAnotherName(CommandLine.arguments) { Glibc.exit(status) }
        main(nil)
    }
}

struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Every role that a node.conf names, on one loop.",
        discussion: """
            A line of the file is a role and the path of its own configuration file:

              store     /etc/redis/redis.conf
              sentinel  /etc/redis/sentinel.conf
              proxy     /etc/haproxy/haproxy.cfg
              vrrp      /etc/keepalived/keepalived.conf

            The process goes to the background if one of those files says so (daemonize yes, daemon).
            """)

    @Argument(help: "node.conf")
    var file: String

    @Flag(name: .shortAndLong, help: "Stay in the foreground, whatever the files say.")
    var foreground = false

    func run() throws { throw ExitCode(Launch.run(file, inForeground: foreground)) }
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

struct SentinelCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sentinel", abstract: "Sentinel, from a sentinel.conf, which it rewrites.",
        usage: "vigie sentinel sentinel.conf [--port 26380 ...]",
        discussion: "Options are the directives of sentinel.conf with -- before them, as for redis-sentinel; they override the file.")

    @Argument(parsing: .captureForPassthrough, help: "sentinel.conf, then options")
    var arguments: [String] = []

    func run() throws {
        if arguments.first == "--help" || arguments.first == "-h" { throw CleanExit.helpRequest(self) }
        throw ExitCode(Launch.sentinel(arguments))
    }
}

struct ProxyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "proxy", abstract: "The TCP proxy, from a haproxy.cfg.")

    @Argument(help: "haproxy.cfg")
    var file: String

    func run() throws { throw ExitCode(Launch.proxy(file)) }
}

struct VRRPCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "vrrp", abstract: "VRRP, from a keepalived.conf (needs root).",
        discussion: "It stays in the foreground, and logs to standard error and to syslog.")

    @Argument(help: "keepalived.conf")
    var file: String

    func run() throws { throw ExitCode(Launch.vrrp(file)) }
}

struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "What is wrong in configuration files, as file:line: message; changes nothing.",
        discussion: "The format of a file (redis.conf, sentinel.conf, haproxy.cfg, keepalived.conf, node.conf) is seen from what is in it.")

    @Argument(help: "the files")
    var files: [String]

    func run() throws { throw ExitCode(Launch.check(files)) }
}

struct DemoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "demo", abstract: "The platform on loopback: three stores, three Sentinels, the proxy.",
        discussion: "Each is a process of its own and may be killed. Ctrl-C ends all of them and removes what they wrote.")

    @Option(help: "The port that clients use.")
    var port: UInt16 = 6379

    @Option(help: "The first store's port; the others follow.")
    var storePort: UInt16 = 7001

    @Option(help: "The first Sentinel's port; the others follow.")
    var sentinelPort: UInt16 = 26379

    func run() throws { throw ExitCode(Launch.demo(port: port, storePort: storePort, sentinelPort: sentinelPort)) }
}
