import Configuration
import Glibc
import Reactor
import RESP

/// CONFIG: directives at run time.
extension StoreServer {
    private static let flags: CommandFlags = [.admin, .noScript, .loading, .stale]

    static let configCommands: [Command] = [
        Command(
            container: "CONFIG", since: "2.0.0", summary: "A container for server configuration commands.",
            subcommands: [
                Command(
                    "GET", arity: -3, flags: flags, since: "2.0.0",
                    syntax: "parameter(parameter)...",
                    complexity: "O(N) when N is the number of configuration parameters provided",
                    summary: "Returns the effective values of configuration parameters."
                ) { call in call.server.getDirectives(call) },
                Command(
                    "SET", arity: -4, flags: flags, since: "2.0.0",
                    syntax: "parameter_value(parameter value)...", tips: "request_policy:all_nodes response_policy:all_succeeded",
                    complexity: "O(N) when N is the number of configuration parameters provided",
                    summary: "Sets configuration parameters in-flight."
                ) { call in call.server.setDirectives(call) },
                Command("RESETSTAT", arity: 2, flags: flags, since: "2.0.0", summary: "Resets the server's statistics.") { call in
                    call.server.resetStatistics()
                    call.reply.ok()
                },
                Command(
                    "REWRITE", arity: 2, flags: flags, since: "2.8.0",
                    summary: "Persists the effective configuration to file."
                ) { call in call.server.rewriteConfiguration(call) },
                help(
                    "CONFIG", since: "5.0.0",
                    [
                        "GET <pattern>", "    Return parameters matching the glob-like <pattern> and their values.", "SET <directive> <value>",
                        "    Set the configuration <directive> to <value>.", "RESETSTAT", "    Reset statistics reported by the INFO command.",
                        "REWRITE", "    Rewrite the configuration file.",
                    ]),
            ])
    ]

    // MARK: GET

    private func getDirectives(_ call: borrowing Call) {
        var found: [(name: String, directive: Directive)] = []
        var seen: Set<String> = []
        for i in 2..<call.count {
            let asked = call[i].text
            let pattern = asked.lowercased()
            let isGlob = pattern.contains { "*?[".contains($0) }
            for directive in Directive.all {
                if isGlob, directive.isHidden { continue }
                for name in [directive.name] + (directive.alias.map { [$0] } ?? []) {
                    guard isGlob ? Glob.matches(pattern, name) : pattern == name, seen.insert(name).inserted else { continue }
                    found.append((isGlob ? name : asked, directive))
                }
            }
        }
        call.reply.map(found.count)
        for (name, directive) in found {
            call.reply.bulk(name)
            call.reply.bulk(directive.read(configuration))
        }
    }

    // MARK: SET

    /// Sets all or none: what was set before the one that failed is set back.
    private func setDirectives(_ call: borrowing Call) {
        guard call.count.isMultiple(of: 2) else { return call.syntaxError() }
        var changes: [(name: String, directive: Directive, old: [UInt8], new: [UInt8])] = []
        for i in stride(from: 2, to: call.count, by: 2) {
            let name = call[i].lowercased
            guard let directive = StoreConfiguration.directive(name) else {
                return call.reply.error("ERR Unknown option or number of arguments for CONFIG SET - '\(call[i].text)'")
            }
            func refuse(_ message: String) { refuseSetting(call.reply, name, message) }
            if changes.contains(where: { $0.name == name }) { return refuse("duplicate parameter") }
            switch directive.access {
            case .immutable: return refuse("can't set immutable config")
            case .protected where !isAllowed(configuration.protectedPermission, call.client): return refuse("can't set protected config")
            default: break
            }
            if gate.contains(.loading), StoreServer.fixedWhileLoading.contains(directive.name) {
                return call.reply.error("LOADING Redis is loading the dataset in memory")
            }
            changes.append((name, directive, directive.read(configuration), call[i + 1].bytes))
        }
        var done = 0
        do {
            for change in changes {
                try change.directive.set(configuration, change.directive.takesMany ? StoreConfiguration.words(change.new) : [change.new])
                done += 1
            }
            done = 0
            for change in changes {
                done += 1
                try directiveChanged(change.directive.name)
            }
        } catch {
            let failed = changes[min(done, changes.count - 1)].name
            setBack(changes.map { ($0.directive, $0.old) })
            return refuseSetting(call.reply, failed, error.message)
        }
        for change in changes {
            if let warning = change.directive.warning(configuration) { logger.warning("CONFIG SET: \(warning)") }
        }
        call.reply.ok()
    }

    private func refuseSetting(_ reply: ReplyWriter, _ name: String, _ message: String) {
        reply.error("ERR CONFIG SET failed (possibly related to argument '\(name)') - \(message)")
    }

    private func setBack(_ changes: [(directive: Directive, old: [UInt8])]) {
        for change in changes where change.directive.read(configuration) != change.old {
            do {
                try change.directive.write(configuration, change.directive.takesMany ? StoreConfiguration.words(change.old) : [change.old])
                try directiveChanged(change.directive.name)
            } catch {
                logger.error("CONFIG SET could not set \(change.directive.name) back: \(error)")
            }
        }
    }

    /// What says where files are that are being read, and whether, as in Redis.
    private static let fixedWhileLoading: Set<String> = ["appendonly", "dir"]

    /// Does at once what a directive asks for, where it is not simply read when needed.
    private func directiveChanged(_ name: String) throws(DirectiveError) {
        switch name {
        case "port", "bind":
            do throws(SystemError) {
                try openListeners()
            } catch {
                logger.warning("Failed listening on port \(configuration.port) (tcp): \(error)")
                throw DirectiveError(name == "port" ? "Unable to listen on this port. Check server logs." : "Failed to bind to specified addresses.")
            }
            showTitle()
        case "requirepass":
            // Who had come in stays in; without a password nobody needs one.
            if configuration.password.isEmpty { for client in clients.values { client.gate.remove(.unauthenticated) } }
        case "loglevel": log?.verbosity = configuration.verbosity
        case "client-output-buffer-limit": for client in clients.values { applyOutputLimit(client) }
        case "client-query-buffer-limit": for client in clients.values { client.connection.inputLimit = configuration.clientQueryBufferLimit }
        case "min-replicas-to-write", "min-replicas-max-lag", "save", "stop-writes-on-bgsave-error": updateGate()
        case "reply-after-replicas", "reply-after-replicas-timeout":
            updateGate()
            confirmation.configurationChanged()
        case "aof-disable-auto-gc": appendOnlyFile.removeHistory()
        case "appendonly":
            if !configuration.appendsOnly {
                appendOnlyFile.switchOff()
            } else if appendOnlyFile.switchOn() != nil {
                throw DirectiveError("Unable to turn on AOF. Check server logs.")
            }
        case "slowlog-log-slower-than", "latency-monitor-threshold", "latency-tracking": updateTiming()
        case "slowlog-max-len": slowLog.trim(to: configuration.slowLogLength)
        case "repl-backlog-size":
            replication.stream.resize(configuration.backlogSize)
            for client in replication.replicas { applyOutputLimit(client) }
        case "proc-title-template": showTitle()
        case "maxmemory-clients": countClientMemory()
        case "maxmemory":
            warnOfExcess()
            memoryLimitsChanged()
        case "maxmemory-policy", "maxmemory-samples", "lfu-decay-time", "lfu-log-factor", "replica-ignore-maxmemory": memoryLimitsChanged()
        case "oom-score-adj", "oom-score-adj-values":
            guard applyOutOfMemoryScore() == 0 else {
                throw DirectiveError("Failed to apply new oom_score_adj configuration, check server logs.")
            }
        case "maxclients":
            if case .tooFew(let clients, _, _) = OpenFiles.allow(clients: configuration.maxClients) {
                throw DirectiveError("The operating system is not able to handle the specified number of clients, try with \(clients)")
            }
        default: break
        }
    }

    /// Whether a client may do what `enable-debug-command` or `enable-protected-configs` is about.
    func isAllowed(_ permission: StoreConfiguration.LocalPermission, _ client: Client) -> Bool {
        switch permission {
        case .yes: true
        case .no: false
        case .local: isLocal(client.connection)
        }
    }

    // MARK: RESETSTAT and REWRITE

    private func resetStatistics() {
        statistics = StoreStatistics()
        traffic.pointee = StoreTraffic()
        commandsProcessed = 0
        errors.pointee.reset()
        loop.resetLongestCallback()
        eviction.exceededTotal = 0
        activeExpiry.nanoseconds = 0
        activeExpiry.timesExhausted = 0
        activeExpiry.staleShare = 0
        for slot in commands.all { slot.resetStatistics() }
    }

    private func rewriteConfiguration(_ call: borrowing Call) {
        guard let file = configuration.file else { return call.reply.error("ERR The server is running without a config file") }
        do {
            let old = try ConfigurationFile.read(file)
            try ConfigurationFile.replace(file, with: configuration.rewritten(old))
            logger.notice("CONFIG REWRITE executed with success.")
            call.reply.ok()
        } catch {
            logger.warning("CONFIG REWRITE failed: \(error)")
            call.reply.error("ERR Rewriting config file: \(error.reason)")
        }
    }
}

extension UnsafeMutablePointer<CommandTable.Slot> {
    /// Forgets what was counted of a command and its subcommands.
    func resetStatistics() {
        pointee.calls = 0
        pointee.nanoseconds = 0
        pointee.rejected = 0
        pointee.failed = 0
        pointee.latencies = nil
        for subcommand in pointee.subcommands { subcommand.resetStatistics() }
    }
}

extension StoreConfiguration {
    /// A file's text with the lines that say what holds now; comments and order stay.
    func rewritten(_ old: [UInt8]) -> [UInt8] {
        var aliases: [String: String] = [:]
        for directive in Directive.all {
            if let alias = directive.alias { aliases[alias] = directive.name }
        }
        var rewriter = RedisConfigurationRewriter(old, aliases: aliases)
        for directive in Directive.all {
            let values = directive.rewrite?(self) ?? [directive.isWritable(self) ? directive.line(self) : ""]
            let lines = values.filter { !$0.isEmpty }.map { "\(directive.name) \($0)" }
            rewriter.set(directive.name, lines: lines, onlyReplacing: directive.isDefault(self))
        }
        return rewriter.finish()
    }
}

extension Directive {
    /// An empty text is written only where it differs from the default.
    fileprivate func isWritable(_ configuration: StoreConfiguration) -> Bool {
        !read(configuration).isEmpty || !isDefault(configuration)
    }

    fileprivate func line(_ configuration: StoreConfiguration) -> String {
        let value = read(configuration)
        // A value of several words is written as such; everything else is one word, quoted if need be.
        return takesMany ? StoreConfiguration.words(value).map { RedisConfiguration.quote($0) }.joined(separator: " ") : RedisConfiguration.quote(value)
    }
}
