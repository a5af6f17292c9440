import RESP

/// Some of a command's keys: where they are, and what the command does with them. Read from the declaration's `access`:
///
///     RW access delete            flags alone: the keys are where `keys` says
///     OW update 1; RO access 2#   several: each with the argument at which it begins
///
///     RW access delete (why)      a note
///
/// where `2` is that argument alone, `2..` it and all behind it, `2#` those that it counts, `?` none that could be told
/// without reading the whole command, and `KEYS-2` all behind that word, which is looked for from that argument on backwards, and `STREAMS+1/2` half of what is behind that
/// word, which is looked for from that argument on. The flags are those of Redis's key specifications (`RO`, `RW`, `OW`, `RM`; `access`, ...).
struct KeySpecification {
    enum Place: Equatable {
        /// The last key, counted from the first or, negative, from the end; and how far they are apart.
        /// Of as many as that part of them, if `limit` is not 0.
        case range(last: Int, step: Int, limit: Int = 0)
        case counted
        case unknown
    }

    let flags: [String]
    /// nil when it is unknown, or told by `keyword`.
    let begin: Int?
    /// The word that the keys stand behind, and where the search for it begins; negative: from the end, backwards.
    let keyword: (word: String, start: Int)?
    let place: Place
    let note: String?

    static func all(of command: Command) -> [KeySpecification] {
        guard command.keys.first != 0 else { return [] }
        let access = command.access.utf8CodeUnitCount == 0 ? (command.flags.contains(.write) ? "RW access" : "RO access") : "\(command.access)"
        return access.split(separator: ";").map { KeySpecification(String($0), command.keys) }
    }

    private init(_ text: String, _ keys: KeyPositions) {
        let parts = text.split(separator: "(", maxSplits: 1)
        note = parts.count > 1 ? String(parts[1].dropLast()) : nil
        var words = parts[0].split(separator: " ").map(String.init)
        let last = words.last ?? ""
        var keyword: (word: String, start: Int)?
        if let dash = last.firstIndex(of: "-"), let start = Int(last[dash...]) {
            keyword = (String(last[..<dash]), start)
            (begin, place) = (nil, .range(last: -1, step: 1))
            words.removeLast()
        } else if let plus = last.firstIndex(of: "+") {
            let numbers = last[plus...].dropFirst().split(separator: "/").map { Int($0)! }
            keyword = (String(last[..<plus]), numbers[0])
            (begin, place) = (nil, .range(last: -1, step: 1, limit: numbers[1]))
            words.removeLast()
        } else if last == "?" {
            (begin, place) = (nil, .unknown)
            words.removeLast()
        } else if let number = Int(last.prefix { $0.isNumber }) {
            begin = number
            place = last.hasSuffix("#") ? .counted : .range(last: last.hasSuffix("..") ? -1 : 0, step: 1)
            words.removeLast()
        } else {
            begin = abs(keys.first)
            place = keys.first < 0 ? .counted : .range(last: keys.last < 0 ? keys.last : keys.last - keys.first, step: keys.step)
        }
        flags = words
        self.keyword = keyword
    }

    /// As COMMAND INFO writes it.
    func write(_ reply: ReplyWriter) {
        reply.map(note == nil ? 3 : 4)
        if let note {
            reply.bulk("notes")
            reply.bulk(note)
        }
        reply.bulk("flags")
        reply.set(flags.count)
        for flag in flags { reply.simple(flag) }
        reply.bulk("begin_search")
        reply.map(2)
        reply.bulk("type")
        reply.bulk(keyword != nil ? "keyword" : begin == nil ? "unknown" : "index")
        reply.bulk("spec")
        if let keyword {
            reply.map(2)
            reply.bulk("keyword")
            reply.bulk(keyword.word)
            reply.bulk("startfrom")
            reply.integer(keyword.start)
        } else {
            reply.map(begin == nil ? 0 : 1)
        }
        if let begin {
            reply.bulk("index")
            reply.integer(begin)
        }
        reply.bulk("find_keys")
        reply.map(2)
        reply.bulk("type")
        let (type, fields): (StaticString, [(StaticString, Int)]) = switch place {
        case .unknown: ("unknown", [])
        case .counted: ("keynum", [("keynumidx", 0), ("firstkey", 1), ("keystep", 1)])
        case .range(let last, let step, let limit): ("range", [("lastkey", last), ("keystep", step), ("limit", limit)])
        }
        reply.bulk(type)
        reply.bulk("spec")
        reply.map(fields.count)
        for (name, value) in fields {
            reply.bulk(name)
            reply.integer(value)
        }
    }
}
