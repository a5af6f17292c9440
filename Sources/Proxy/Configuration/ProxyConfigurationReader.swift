import Configuration
import Glibc
import Reactor

/// Gives a haproxy.cfg's words their meaning. One method per keyword; every problem is collected, none stops the reading.
struct ProxyConfigurationReader {
    typealias Problem = HAProxyConfiguration.Problem
    typealias Line = HAProxyConfiguration.Line
    typealias Word = HAProxyConfiguration.Word

    /// A line that cannot be taken as it stands; `note` collects it.
    struct Rejection: Error {
        let message: String
        init(_ message: String) { self.message = message }
    }

    let file: HAProxyConfiguration
    var configuration: ProxyConfiguration
    var problems: [Problem]
    private var namedDefaults: [String: ProxyConfiguration.Settings] = [:]
    private var lastDefaults = ProxyConfiguration.Settings()
    var currentLine = 0

    static func read(_ file: HAProxyConfiguration) throws(ProxyConfiguration.Refused) -> ProxyConfiguration {
        var reader = ProxyConfigurationReader(
            file: file, configuration: ProxyConfiguration(path: file.path), problems: file.problems)
        for section in file.sections where section.kind == "global" { reader.readGlobal(section) }
        for section in file.sections where section.kind != "global" { reader.read(section) }
        if !reader.problems.contains(where: { $0.severity == .alert }) { reader.checkWhole() }
        reader.problems.sort { $0.line < $1.line }
        if reader.problems.contains(where: { $0.severity == .alert }) {
            throw ProxyConfiguration.Refused(problems: reader.problems)
        }
        reader.configuration.warnings = reader.problems
        return reader.configuration
    }

    private init(file: HAProxyConfiguration, configuration: ProxyConfiguration, problems: [Problem]) {
        self.file = file
        self.configuration = configuration
        self.problems = problems
    }

    // MARK: problems

    mutating func alert(_ message: String) {
        problems.append(Problem(.alert, file: file.path, line: currentLine, message))
    }

    mutating func warn(_ message: String) {
        problems.append(Problem(.warning, file: file.path, line: currentLine, message))
    }

    mutating func notice(_ message: String, line: Int) {
        problems.append(Problem(.notice, file: file.path, line: line, message))
    }

    /// Runs the reading of one line and notes what it throws.
    mutating func note(_ line: Line, _ body: (inout Self) throws(Rejection) -> Void) {
        currentLine = line.number
        do throws(Rejection) {
            try body(&self)
        } catch {
            alert(error.message)
        }
    }

    /// HAProxy's words for an unknown keyword, with the nearest known one and all that are accepted.
    func unknown(_ keyword: String, in place: String, accepted: [String]) -> Rejection {
        let best = accepted.map { ($0, editDistance($0, keyword)) }.min { $0.1 < $1.1 }
        let hint = best.map { $0.1 <= max(1, keyword.count / 2) ? "; did you mean '\($0.0)' maybe ?" : "" } ?? ""
        return Rejection("unknown keyword '\(keyword)' in \(place)\(hint) (accepted: \(accepted.sorted().joined(separator: ", ")))")
    }

    private func editDistance(_ a: String, _ b: String) -> Int {
        let a = Array(a.utf8), b = Array(b.utf8)
        var row = Array(0...b.count)
        for i in 0..<a.count {
            var diagonal = row[0]
            row[0] = i + 1
            for j in 0..<b.count {
                let cost = a[i] == b[j] ? diagonal : 1 + min(diagonal, row[j], row[j + 1])
                diagonal = row[j + 1]
                row[j + 1] = cost
            }
        }
        return row[b.count]
    }

    // MARK: sections

    private mutating func read(_ section: HAProxyConfiguration.Section) {
        currentLine = section.opening.number
        switch section.kind {
        case "defaults": readDefaults(section)
        case "frontend", "backend", "listen": readProxy(section)
        default:
            alert("section '\(section.kind)' is not supported; remove it (supported: global, defaults, frontend, backend, listen)")
        }
    }

    private mutating func readDefaults(_ section: HAProxyConfiguration.Section) {
        let arguments = section.opening.arguments.map(\.text)
        var settings = ProxyConfiguration.Settings()
        if arguments.count >= 2, arguments[arguments.count - 2] == "from" {
            settings = defaults(named: arguments.last!, for: "defaults section") ?? settings
        } else if arguments.count > 1 {
            alert("'defaults' cannot handle unexpected argument '\(arguments[1])'.")
        }
        let name = arguments.first.flatMap { $0 == "from" ? nil : $0 }
        var holder = ProxyConfiguration.Section(
            name: name ?? "", id: 0, line: section.opening.number, isFrontend: true, isBackend: true, settings: settings)
        for line in section.lines { note(line) { reader throws(Rejection) in try reader.readLine(line, "defaults", &holder) } }
        lastDefaults = holder.settings
        if let name {
            if namedDefaults[name] != nil {
                currentLine = section.opening.number
                warn("defaults section '\(name)' is declared twice; the later one counts from here on")
            }
            namedDefaults[name] = holder.settings
        }
    }

    private mutating func defaults(named name: String, for whom: String) -> ProxyConfiguration.Settings? {
        if let found = namedDefaults[name] { return found }
        alert("defaults section '\(name)' not found for \(whom).")
        return nil
    }

    private mutating func readProxy(_ section: HAProxyConfiguration.Section) {
        let kind = section.kind
        let words = section.opening.arguments.map(\.text)
        guard let name = words.first else {
            alert("'\(kind)' expects an <id> argument")
            return
        }
        if let bad = name.unicodeScalars.first(where: { !isNameScalar($0) }) {
            alert("character '\(bad)' is not permitted in '\(kind)' name '\(name)'.")
        }
        var settings = lastDefaults
        switch words.count {
        case 1: break
        case 3 where words[1] == "from": settings = defaults(named: words[2], for: "\(kind) '\(name)'") ?? settings
        default:
            alert(
                kind == "backend"
                    ? "'backend' cannot handle unexpected argument '\(words[1])'." : "please use the 'bind' keyword for listening addresses.")
        }
        var proxy = ProxyConfiguration.Section(
            name: name, id: configuration.sections.count + 2, line: section.opening.number,
            isFrontend: kind != "backend", isBackend: kind != "frontend", settings: settings)
        for other in configuration.sections where other.name == name {
            if other.isFrontend && proxy.isFrontend || other.isBackend && proxy.isBackend {
                alert("\(kind) '\(name)' has the same name as \(kindName(other)) '\(name)' declared at \(file.path):\(other.line).")
            }
        }
        for line in section.lines { note(line) { reader throws(Rejection) in try reader.readLine(line, kind, &proxy) } }
        for index in proxy.servers.indices {
            if proxy.servers[index].settings.source == nil { proxy.servers[index].settings.source = proxy.settings.source }
        }
        configuration.sections.append(proxy)
    }

    private func kindName(_ section: ProxyConfiguration.Section) -> String {
        section.isFrontend && section.isBackend ? "listen" : section.isFrontend ? "frontend" : "backend"
    }

    func isNameScalar(_ scalar: Unicode.Scalar) -> Bool {
        scalar.isASCII && (scalar.properties.isAlphabetic || ("0"..."9").contains(scalar) || ".:_-".unicodeScalars.contains(scalar))
    }

    // MARK: what only the whole file shows

    private mutating func checkWhole() {
        let sections = configuration.sections
        for section in sections where section.isFrontend && !section.settings.isDisabled {
            currentLine = section.line
            if section.binds.isEmpty {
                warn("\(kindName(section)) '\(section.name)' has no 'bind' directive. Please declare it as a backend if this was intended.")
            }
            if let target = section.settings.defaultBackend {
                if section.settings.defaultBackendLine > 0 { currentLine = section.settings.defaultBackendLine }
                if !sections.contains(where: { $0.isBackend && $0.name == target }) {
                    alert("Proxy '\(section.name)': unable to find required default_backend: '\(target)'.")
                }
            } else if !section.isBackend {
                alert("frontend '\(section.name)' has no 'default_backend': its connections would go nowhere")
            }
            if section.settings.timeouts.client == nil { warnOfTimeouts(section) }
        }
        for section in sections where section.isBackend && !section.settings.isDisabled {
            currentLine = section.line
            let timeouts = section.settings.timeouts
            if timeouts.connect == nil || timeouts.server == nil, !section.servers.isEmpty,
                !(section.isFrontend && timeouts.client == nil)
            {
                warnOfTimeouts(section)
            }
            checkNotices(section)
        }
        if !sections.contains(where: { $0.isFrontend && !$0.binds.isEmpty && !$0.settings.isDisabled }) {
            currentLine = 0
            alert("Configuration file has no error but will not start (no listener)")
        }
    }

    private mutating func warnOfTimeouts(_ section: ProxyConfiguration.Section) {
        warn(
            "missing timeouts for \(kindName(section)) '\(section.name)'. While not properly invalid, you will certainly encounter "
                + "various problems with such a configuration: set 'client', 'connect' and 'server' timeouts to a non-zero value.")
    }

    /// Where this proxy does on purpose what HAProxy does not, it says so.
    private mutating func checkNotices(_ section: ProxyConfiguration.Section) {
        let checked = section.servers.filter(\.settings.isChecked)
        if checked.contains(where: { $0.settings.shutsSessionsWhenDown }) {
            notice(
                "backend '\(section.name)' : the sessions of a server are closed when its check has failed, as with "
                    + "'on-marked-down shutdown-sessions' (HAProxy keeps them; 'on-marked-down keep-sessions' does so here)",
                line: section.line)
        }
        if section.settings.logs == nil, !configuration.global.logs.isEmpty {
            notice(
                "backend '\(section.name)' has no 'log' line: the log lines of 'global' are used "
                    + "(HAProxy would not log; 'no log' does not here either)",
                line: section.line)
        }
        if checked.contains(where: { $0.settings.fastInterval == nil && $0.settings.downInterval == nil }) {
            notice(
                "backend '\(section.name)' : while none of its servers passes its check, those without 'fastinter' or 'downinter' are "
                    + "checked every \(HealthCheckSchedule.searchInterval.wholeMilliseconds) ms, not only every 'inter' "
                    + "('downinter' on the server's line gives that rhythm instead)",
                line: section.line)
        }
    }
}
