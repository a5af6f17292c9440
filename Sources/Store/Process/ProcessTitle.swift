import Glibc

/// `proc-title-template`: what `ps` shows of the process.
enum TitleTemplate {
    static let standard = "{title} {listen-addr} {server-mode}"

    /// Whether every `{` begins a variable that exists and every variable ends.
    static func isValid(_ template: String) -> Bool { !template.isEmpty && fill(template) { names.contains($0) ? "x" : nil } != nil }

    private static let names = ["title", "listen-addr", "server-mode", "port", "tls-port", "config-file", "unixsocket"]

    /// - Parameter title: how the process was started, or what kind of child it is.
    static func title(_ title: String, _ configuration: StoreConfiguration) -> String {
        let text = fill(configuration.titleTemplate) { name in
            switch name {
            case "title": title
            case "listen-addr":
                configuration.port != 0 || configuration.unixSocket.isEmpty
                    ? "\(configuration.bind.first ?? "*"):\(configuration.port)" : configuration.unixSocket
            case "server-mode": ""
            case "port": "\(configuration.port)"
            case "tls-port": "0"
            case "config-file": configuration.file ?? ""
            case "unixsocket": configuration.unixSocket
            default: nil
            }
        } ?? title
        return String(text.reversed().drop { $0 == " " }.reversed())
    }

    /// Puts values in place of variables; nil when one has no value or no end.
    private static func fill(_ template: String, _ value: (String) -> String?) -> String? {
        var text = ""
        var rest = template[...]
        while let begin = rest.firstIndex(of: "{") {
            guard let end = rest[begin...].firstIndex(of: "}"), let value = value(String(rest[rest.index(after: begin)..<end])) else { return nil }
            text += rest[..<begin] + value
            rest = rest[rest.index(after: end)...]
        }
        return text + rest
    }
}

/// The memory that the kernel shows as the command line of the process: the arguments and, behind them, the environment.
///
/// The environment is moved out of it first, so that the title may be as long as both together.
public struct ProcessTitle {
    private let memory: UnsafeMutableRawBufferPointer

    /// To be called before there are threads, by who has the whole process.
    /// - Returns: nil when the kernel does not say where the memory is.
    public init?() {
        // Fields 48 to 51 of proc(5)'s /proc/pid/stat: where arguments and environment begin and end.
        guard let text = ProcessFile.text("/proc/self/stat"), let name = text.lastIndex(of: ")") else { return nil }
        let fields = text[text.index(after: name)...].split(separator: " ").map { UInt($0) }
        guard fields.count > 48, let start = fields[45], let argumentsEnd = fields[46], let environment = fields[47], let end = fields[48],
            let base = UnsafeMutableRawPointer(bitPattern: start), argumentsEnd > start
        else { return nil }
        var count = argumentsEnd - start
        if environment == argumentsEnd, end > environment, ProcessTitle.moveEnvironment() { count = end - start }
        memory = UnsafeMutableRawBufferPointer(start: base, count: Int(count))
    }

    /// Makes the C library keep copies of the variables in memory of its own.
    private static func moveEnvironment() -> Bool {
        let descriptor = open("/proc/self/environ", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = read(descriptor, &chunk, chunk.count)
            guard count >= 0 else { return false }
            if count == 0 { break }
            bytes += chunk[..<count]
        }
        // What has been set since the start lies elsewhere and must not be lost.
        var names: [[CChar]] = []
        for variable in bytes.split(separator: 0) {
            guard let mark = variable.firstIndex(of: UInt8(ascii: "=")), mark > variable.startIndex else { continue }
            names.append(variable[..<mark].map { CChar(bitPattern: $0) } + [0])
        }
        for name in names {
            guard let value = getenv(name).flatMap({ strdup($0) }) else { continue }
            // Another value first: the C library may keep the old text where it is when nothing changes.
            unsetenv(name)
            setenv(name, value, 1)
            free(value)
        }
        return true
    }

    public func set(_ title: String) {
        memory.initializeMemory(as: UInt8.self, repeating: 0)
        memory.copyBytes(from: title.utf8.prefix(memory.count - 1))
    }
}
