import Configuration
import Glibc
import Reactor

/// Directives whose values are of no common kind.
extension Directive {
    static let bind: Directive = {
        var directive = Directive("bind", read: { Array($0.bind.joined(separator: " ").utf8) }) { configuration, words throws(DirectiveError) in
            let addresses = words.map { String(decoding: $0, as: UTF8.self) }
            guard addresses.count <= 16 else { throw DirectiveError("Too many bind addresses specified.") }
            configuration.bind = addresses == [""] ? [] : addresses
        }
        directive.takesMany = true
        return directive
    }()

    static let save: Directive = {
        var directive = Directive("save", read: { Array(StoreConfiguration.text($0.savePoints).utf8) }) { configuration, words throws(DirectiveError) in
            if words.count == 1, words[0].isEmpty {
                configuration.savePoints = []
                return
            }
            guard words.count.isMultiple(of: 2) else { throw DirectiveError("Invalid save parameters") }
            var points: [(seconds: Int, changes: Int)] = []
            for i in stride(from: 0, to: words.count, by: 2) {
                guard let seconds = Int(String(decoding: words[i], as: UTF8.self)), seconds >= 1,
                    let changes = Int(String(decoding: words[i + 1], as: UTF8.self)), changes >= 0
                else { throw DirectiveError("Invalid save parameters") }
                points.append((seconds, changes))
            }
            configuration.savePoints = points
        }
        directive.takesMany = true
        directive.isRepeatable = true
        directive.rewrite = { configuration in
            configuration.savePoints.isEmpty ? ["\"\""] : configuration.savePoints.map { "\($0.seconds) \($0.changes)" }
        }
        return directive
    }()

    static let directory: Directive = Directive(
        "dir", read: { Array(StoreConfiguration.absolute($0.directory).utf8) }
    ) { configuration, words throws(DirectiveError) in
        let path = String(decoding: words[0], as: UTF8.self)
        var status = stat()
        guard stat(path, &status) == 0 else { throw DirectiveError(String(cString: strerror(errno))) }
        guard status.st_mode & S_IFMT == S_IFDIR else { throw DirectiveError("Not a directory") }
        configuration.directory = StoreConfiguration.absolute(path)
    }.protected

    static let replicaOf: Directive = {
        var directive = Directive(
            "replicaof", read: { Array($0.replicaOf.map { "\($0.host) \($0.port)" }?.utf8 ?? "".utf8) }
        ) { configuration, words throws(DirectiveError) in
            if words.count == 1, words[0].isEmpty {
                configuration.replicaOf = nil
                return
            }
            guard words.count == 2 else { throw DirectiveError("wrong number of arguments") }
            let host = String(decoding: words[0], as: UTF8.self)
            let port = String(decoding: words[1], as: UTF8.self)
            if host.lowercased() == "no", port.lowercased() == "one" {
                configuration.replicaOf = nil
                return
            }
            guard let number = UInt16(port), number > 0 else { throw DirectiveError("Invalid master port") }
            configuration.replicaOf = (host, number)
        }.immutable.alias("slaveof")
        directive.takesMany = true
        directive.rewrite = { $0.replicaOf.map { ["\(RedisConfiguration.quote($0.host)) \($0.port)"] } ?? [] }
        return directive
    }()

    static let outputLimits: Directive = {
        let classes = ["normal", "slave", "pubsub"]
        var directive = Directive(
            "client-output-buffer-limit",
            read: { configuration in
                let limits = zip(classes, configuration.outputLimits)
                return Array(limits.map { "\($0) \($1.hard) \($1.soft) \($1.seconds)" }.joined(separator: " ").utf8)
            }
        ) { configuration, words throws(DirectiveError) in
            if words == [[]] { return }
            guard words.count.isMultiple(of: 4) else { throw DirectiveError("Wrong number of arguments in buffer limit configuration.") }
            var limits = configuration.outputLimits
            for i in stride(from: 0, to: words.count, by: 4) {
                let texts = words[i..<i + 4].map { String(decoding: $0, as: UTF8.self) }
                let name = texts[0].lowercased() == "replica" ? "slave" : texts[0].lowercased()
                guard let index = classes.firstIndex(of: name) else {
                    throw DirectiveError("Invalid client class specified in buffer limit configuration.")
                }
                guard let hard = StoreConfiguration.bytes(texts[1]), let soft = StoreConfiguration.bytes(texts[2]),
                    let seconds = Int(texts[3]), seconds >= 0
                else { throw DirectiveError("Error in hard, soft or soft_seconds setting in buffer limit configuration.") }
                limits[index] = (Int(hard), Int(soft), seconds)
            }
            configuration.outputLimits = limits
        }
        directive.takesMany = true
        directive.rewrite = { configuration in
            zip(["normal", "replica", "pubsub"], configuration.outputLimits).map {
                "\($0) \(StoreConfiguration.withUnit(Int64($1.hard))) \(StoreConfiguration.withUnit(Int64($1.soft))) \($1.seconds)"
            }
        }
        return directive
    }()

    static let outOfMemoryScores: Directive = {
        var directive = Directive(
            "oom-score-adj-values", read: { Array($0.outOfMemoryScores.map(String.init).joined(separator: " ").utf8) }
        ) { configuration, words throws(DirectiveError) in
            guard words.count == 3 else { throw DirectiveError("wrong number of arguments") }
            let values = words.compactMap { Int(String(decoding: $0, as: UTF8.self)) }
            guard values.count == 3, values.allSatisfy({ (-2000...2000).contains($0) }) else {
                throw DirectiveError("Invalid oom-score-adj-values, elements must be between -2000 and 2000.")
            }
            configuration.outOfMemoryScores = values
        }
        directive.takesMany = true
        return directive
    }()

    static let titleTemplate = Directive(
        "proc-title-template", read: { Array($0.titleTemplate.utf8) }
    ) { configuration, words throws(DirectiveError) in
        let template = String(decoding: words[0], as: UTF8.self)
        guard TitleTemplate.isValid(template) else { throw DirectiveError("template format is invalid or contains unknown variables") }
        configuration.titleTemplate = template
    }

    static let bindSource = Directive(
        "bind-source-addr", read: { Array($0.bindSource.utf8) }
    ) { configuration, words throws(DirectiveError) in
        let address = String(decoding: words[0], as: UTF8.self)
        guard address.isEmpty || SocketAddress(numeric: address, port: 0) != nil else {
            throw DirectiveError("argument must be a numeric IPv4 or IPv6 address")
        }
        configuration.bindSource = address
    }

    /// Bytes with an optional unit, or a percentage of maxmemory, which is kept as a negative number.
    static let clientMemory: Directive = {
        @Sendable func text(_ value: Int) -> String { value < 0 ? "\(-value)%" : "\(value)" }
        var directive = Directive("maxmemory-clients", read: { Array(text($0.clientMemoryMax).utf8) }) { configuration, words throws(DirectiveError) in
            let text = String(decoding: words[0], as: UTF8.self)
            if text.hasSuffix("%") {
                guard let percent = Int(text.dropLast()), percent >= 0, text == "\(percent)%" else {
                    throw DirectiveError("argument must be a memory or percent value")
                }
                guard percent <= 100 else { throw DirectiveError("percentage argument must be less or equal to 100") }
                configuration.clientMemoryMax = -percent
            } else {
                guard let bytes = StoreConfiguration.bytes(text) else { throw DirectiveError("argument must be a memory or percent value") }
                configuration.clientMemoryMax = Int(bytes)
            }
        }
        directive.rewrite = { [$0.clientMemoryMax < 0 ? text($0.clientMemoryMax) : StoreConfiguration.withUnit(Int64($0.clientMemoryMax))] }
        return directive
    }()

    /// What a signal does: some of the words that SHUTDOWN takes.
    static func shutdown(_ name: String, _ path: Path<SignalShutdown>) -> Directive {
        var directive = Directive(name, read: { Array($0[keyPath: path].text.utf8) }) { configuration, words throws(DirectiveError) in
            var manner: SignalShutdown = []
            for word in words {
                let name = try StoreConfiguration.choice(String(decoding: word, as: UTF8.self), ["default"] + SignalShutdown.names.map(\.1))
                if let option = SignalShutdown.names.first(where: { $0.1 == name }) { manner.insert(option.0) }
            }
            guard !manner.isSuperset(of: [.save, .noSave]) else {
                throw DirectiveError("shutdown options SAVE and NOSAVE can't be used simultaneously")
            }
            configuration[keyPath: path] = manner
        }
        directive.takesMany = true
        return directive
    }

    static let percentiles: Directive = {
        let name = "latency-tracking-info-percentiles"
        var directive = Directive(name, read: { Array($0.latencyPercentiles.joined(separator: " ").utf8) }) { configuration, words throws(DirectiveError) in
            var texts: [String] = []
            for word in words where words != [[]] {
                let text = String(decoding: word, as: UTF8.self)
                guard let value = Double(text) else { throw DirectiveError("Invalid \(name) parameters") }
                guard (0...100).contains(value) else {
                    throw DirectiveError("\(name) parameters should sit between [0.0,100.0]")
                }
                texts.append(value == value.rounded() ? "\(Int(value))" : "\(value)")
            }
            configuration.latencyPercentiles = texts
        }
        directive.takesMany = true
        return directive
    }()
}

extension StoreConfiguration {
    static func text(_ points: [(seconds: Int, changes: Int)]) -> String {
        points.map { "\($0.seconds) \($0.changes)" }.joined(separator: " ")
    }

    /// The path from the root, links followed; as it stands where there is nothing.
    static func absolute(_ path: String) -> String {
        guard let real = realpath(path, nil) else { return path }
        defer { free(real) }
        return String(cString: real)
    }

    /// A file's path from the root, where relative ones are relative to `dir`.
    func inDirectory(_ path: String) -> String { path.hasPrefix("/") ? path : "\(StoreConfiguration.absolute(directory))/\(path)" }
}
