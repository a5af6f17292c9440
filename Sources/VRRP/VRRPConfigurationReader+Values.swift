import Configuration
import Glibc
import Reactor

/// The values that statements have: each reader says what is wrong and then answers nil.
extension VRRPConfiguration.Reader {
    mutating func block(of s: KeepalivedStatement) -> [KeepalivedStatement]? {
        if s.block == nil { fail("'\(s.keyword)' needs a block in braces", s) }
        return s.block
    }

    mutating func word(_ s: KeepalivedStatement) -> String? {
        guard s.arguments.count == 1 else {
            fail("'\(s.keyword)' takes one value, not \(s.arguments.count)", s)
            return nil
        }
        return s.arguments[0]
    }

    mutating func number(_ s: KeepalivedStatement, _ range: ClosedRange<Int>) -> Int? {
        guard let text = word(s) else { return nil }
        guard let value = Int(text), range.contains(value) else {
            fail("\(s.keyword) '\(text)': accepted is a number from \(range.lowerBound) to \(range.upperBound)", s)
            return nil
        }
        return value
    }

    mutating func decimal(_ s: KeepalivedStatement, _ range: ClosedRange<Double>) -> Double? {
        guard let text = word(s) else { return nil }
        let allowed = text.utf8.allSatisfy { $0 >= 0x30 && $0 <= 0x39 || $0 == 0x2E }
        guard allowed, let value = Double(text), range.contains(value) else {
            fail("\(s.keyword) '\(text)': accepted are seconds from \(range.lowerBound) to \(range.upperBound)", s)
            return nil
        }
        return value
    }

    /// Seconds, fractions allowed; whole ones say the limits.
    mutating func seconds(_ s: KeepalivedStatement, _ range: ClosedRange<Int>) -> Duration? {
        let low = range.lowerBound == 0 ? 0 : 0.001
        return decimal(s, low...Double(range.upperBound)).map { .microseconds(Int64(($0 * 1_000_000).rounded())) }
    }

    /// - Returns: nil when no value is given.
    mutating func truth(_ s: KeepalivedStatement) -> Bool? {
        switch s.arguments.first {
        case nil: return nil
        case "on", "true", "yes": return true
        case "off", "false", "no": return false
        case let other?:
            fail("\(s.keyword) '\(other)': accepted are on, off, true, false, yes, no", s)
            return nil
        }
    }

    mutating func ipv4(_ text: String, _ s: KeepalivedStatement) -> UInt32? {
        switch SocketAddress(numeric: text, port: 0) {
        case .ipv4(let address, _): return address
        case .ipv6:
            fail("'\(text)': IPv6 is not supported", s)
            return nil
        default:
            fail("'\(text)' is no IPv4 address", s)
            return nil
        }
    }

    mutating func multicast(_ s: KeepalivedStatement) -> UInt32? {
        guard let text = word(s), let group = ipv4(text, s) else { return nil }
        guard group >> 28 == 0xE else {
            fail("'\(text)' is no multicast address (224.0.0.0 to 239.255.255.255)", s)
            return nil
        }
        return group
    }

    // MARK: addresses

    mutating func addresses(_ statement: KeepalivedStatement) -> [VirtualAddress] {
        (block(of: statement) ?? []).compactMap { address($0) }
    }

    private mutating func address(_ s: KeepalivedStatement) -> VirtualAddress? {
        let parts = s.keyword.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard let host = ipv4(parts[0], s) else { return nil }
        var result = VirtualAddress(address: host)
        if parts.count == 2 {
            guard let length = UInt8(parts[1]), (1...32).contains(length) else {
                fail("'\(s.keyword)': the prefix length is a number from 1 to 32", s)
                return nil
            }
            result.prefixLength = length
        }
        var words = s.arguments[...]
        while let option = words.popFirst() {
            if ["no_track", "home", "noprefixroute", "mngtmpaddr", "nodad", "autojoin", "track_group"].contains(option) {
                if option != "no_track" { warn("virtual address \(s.keyword): '\(option)' is ignored", s) }
                continue
            }
            guard let value = words.popFirst() else {
                fail("virtual address \(s.keyword): '\(option)' needs a value", s)
                return nil
            }
            guard read(option, value, into: &result, s) else { return nil }
        }
        return result
    }

    private mutating func read(_ option: String, _ value: String, into address: inout VirtualAddress, _ s: KeepalivedStatement) -> Bool {
        switch option {
        case "dev":
            address.device = value
        case "label":
            guard value.utf8.count <= 15 else { break }
            address.label = value
            return true
        case "brd", "broadcast":
            if value == "-" { return true }
            let mask: UInt32 = address.prefixLength == 32 ? 0 : UInt32.max >> UInt32(address.prefixLength)
            guard let broadcast = value == "+" ? address.address | mask : ipv4(value, s) else { return false }
            address.broadcast = broadcast
        case "scope":
            guard let scope = ["global": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255][value] else { break }
            address.scope = UInt8(scope)
        default:
            fail("virtual address \(s.keyword): '\(option)' is not supported; accepted: dev, brd, scope, label, no_track", s)
            return false
        }
        if option == "scope" || option == "brd" || option == "broadcast" || value.utf8.count <= 15 { return true }
        fail("virtual address \(s.keyword): \(option) '\(value)' is too long (15 bytes)", s)
        return false
    }

    // MARK: tracking

    mutating func tracked(_ statement: KeepalivedStatement) -> [TrackedName] {
        (block(of: statement) ?? []).compactMap { s in
            var result = TrackedName(name: s.keyword, location: s.location)
            guard let option = s.arguments.first else { return result }
            guard option == "weight" else {
                fail("\(statement.keyword) \(s.keyword): unknown '\(option)'; accepted: weight", s)
                return nil
            }
            guard let weight = weight(s, words: Array(s.arguments.dropFirst())) else { return nil }
            result.weight = weight
            return result
        }
    }

    /// `-20`, `20 reverse`.
    mutating func weight(_ s: KeepalivedStatement, words: [String]) -> TrackingWeight? {
        guard let first = words.first, let value = Int(first), (-253...253).contains(value) else {
            fail("weight '\(words.joined(separator: " "))': accepted is a number from -253 to 253, perhaps with 'reverse'", s)
            return nil
        }
        switch words.dropFirst() {
        case []: return TrackingWeight(weight: value)
        case ["reverse"]: return TrackingWeight(weight: value, isReversed: true)
        case ["noreverse"], ["no_reverse"]: return TrackingWeight(weight: value)
        default:
            fail("weight \(first): unknown '\(words.dropFirst().joined(separator: " "))'; accepted: reverse", s)
            return nil
        }
    }

    // MARK: scripts

    /// A command line in one quoted word, or in several words; behind it perhaps the user and group to run it as.
    mutating func command(_ s: KeepalivedStatement, hasUser: Bool) -> ScriptCommand? {
        guard let first = s.arguments.first else {
            fail("'\(s.keyword)' needs a program", s)
            return nil
        }
        let line = hasUser ? first : s.arguments.joined(separator: " ")
        guard let arguments = Self.split(line), !arguments.isEmpty else {
            fail("\(s.keyword) '\(line)': a quote is not closed, or there is no program", s)
            return nil
        }
        var runner = scriptUser
        if hasUser, s.arguments.count > 1 { runner = user(s, words: Array(s.arguments.dropFirst())) }
        return ScriptCommand(arguments: arguments, user: runner, location: s.location)
    }

    /// Cuts a command line at blanks; quotes keep them.
    static func split(_ line: String) -> [String]? {
        var words: [String] = []
        var word: String?
        var quote: Character?
        for character in line {
            if let open = quote {
                if character == open { quote = nil } else { word = (word ?? "") + [character] }
            } else if character == "'" || character == "\"" {
                quote = character
                word = word ?? ""
            } else if character == " " || character == "\t" {
                if let done = word { words.append(done) }
                word = nil
            } else {
                word = (word ?? "") + [character]
            }
        }
        if let done = word { words.append(done) }
        return quote == nil ? words : nil
    }

    mutating func user(_ s: KeepalivedStatement, words: [String]) -> ScriptCommand.User? {
        guard let name = words.first, words.count <= 2 else {
            fail("'\(s.keyword)' takes a user and perhaps a group", s)
            return nil
        }
        guard let user = Self.user(name, group: words.count == 2 ? words[1] : nil) else {
            fail("\(s.keyword): there is no user '\(name)'" + (words.count == 2 ? " or no group '\(words[1])'" : ""), s)
            return nil
        }
        return user
    }

    static func user(_ name: String, group: String?) -> ScriptCommand.User? {
        guard let entry = getpwnam(name) else { return nil }
        var result = ScriptCommand.User(uid: entry.pointee.pw_uid, gid: entry.pointee.pw_gid)
        if let group {
            guard let entry = getgrnam(group) else { return nil }
            result.gid = entry.pointee.gr_gid
        }
        return result
    }
}
