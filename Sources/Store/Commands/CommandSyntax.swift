import RESP

/// What a command's arguments are, read from the line of its declaration that says so:
///
///     key                          an argument; `key` alone is a key, everything else a string
///     count:int                    of another type: key, int, double, time, pattern
///     GET                          a word as it stands; its name is the same in lower case
///     withscores=WITHSCORES        ... or another
///     EX seconds:int               a word and the argument that follows it
///     [...]                        may be left out
///     name(A|B|C seconds:int)      one of these
///     name(field value)            these in a row
///     member...                    once or more; behind a bracket or a word's argument, the word is repeated too
///     [KEEPTTL]@6.0.0              since that version; `!` and a version: deprecated since then
///     key#1                        belongs to that key specification; keys are numbered as they come
///
/// Redis 7.2's COMMAND DOCS says the same as a tree, and redis-cli makes its hints of that.
struct CommandSyntax {
    struct Node {
        enum Kind: String {
            case string, integer, double, key, pattern
            case time = "unix-time"
            case token = "pure-token"
            case oneOf = "oneof"
            case block
        }
        var name = ""
        var kind = Kind.string
        var token = ""
        var keySpecification: Int?
        var since = ""
        var deprecatedSince = ""
        var isOptional = false
        var isMultiple = false
        var repeatsToken = false
        var children: [Node] = []
    }

    let arguments: [Node]

    /// - Precondition: the text is well formed; it comes from a declaration.
    init(_ text: StaticString) {
        var reader = Reader(text: Array("\(text)"))
        arguments = reader.sequence(until: nil)
        precondition(reader.isAtEnd, "a command's syntax ends too early: \(text)")
    }

    private struct Reader {
        let text: [Character]
        var at = 0
        var keys = 0

        var isAtEnd: Bool { at >= text.count }
        var next: Character? { at < text.count ? text[at] : nil }

        mutating func word(_ accepts: (Character) -> Bool) -> String {
            let start = at
            while let c = next, accepts(c) { at += 1 }
            return String(text[start..<at])
        }

        /// Arguments side by side, up to `end` or `|`.
        mutating func sequence(until end: Character?) -> [Node] {
            var nodes: [Node] = []
            while let c = next, c != end, c != "|" {
                if skip(" ") { continue }
                nodes.append(element())
            }
            return nodes
        }

        mutating func element() -> Node {
            var node: Node
            if skip("[") {
                node = sequence(until: "]")[0]
                precondition(skip("]"), "a bracket is not closed in a command's syntax")
                node.isOptional = true
                if skip("...") {
                    node.isMultiple = true
                    node.repeatsToken = !node.token.isEmpty && node.kind != .token
                }
            } else {
                node = argument()
            }
            version(&node)
            return node
        }

        mutating func skip(_ marks: String) -> Bool {
            guard at + marks.count <= text.count, String(text[at..<at + marks.count]) == marks else { return false }
            at += marks.count
            return true
        }

        mutating func version(_ node: inout Node) {
            if skip("@") { node.since = word { $0.isNumber || $0 == "." } }
            if skip("!") { node.deprecatedSince = word { $0.isNumber || $0 == "." } }
        }

        mutating func argument() -> Node {
            var node = Node()
            node.name = word { $0.isLetter || $0.isNumber || "-_/".contains($0) }
            if skip("=") {
                node.kind = .token
                node.token = word { !" ]|)@!".contains($0) }
                return node
            }
            if next == "(" { return group(node) }
            if node.name.first.map({ $0.isUppercase }) == true, node.name == node.name.uppercased() {
                // A word; what follows it in lower case is its argument.
                node.token = node.name
                let here = at
                if skip(" "), let c = next, c.isLowercase {
                    let token = node.token
                    var value = argument()
                    if value.kind != .token {
                        value.token = token
                        return value
                    }
                }
                at = here
                node.kind = .token
                node.name = node.token.lowercased()
                return node
            }
            if skip(":") {
                switch word({ $0.isLetter }) {
                case "key": node.kind = .key
                case "int": node.kind = .integer
                case "double": node.kind = .double
                case "time": node.kind = .time
                case "pattern": node.kind = .pattern
                // A name that has a colon in it.
                case let rest: node.name += ":" + rest
                }
            } else if node.name == "key" {
                node.kind = .key
            }
            if skip("#") {
                node.keySpecification = Int(word { $0.isNumber })
            } else if node.kind == .key {
                node.keySpecification = keys
            }
            if node.kind == .key { keys = node.keySpecification! + 1 }
            if skip("...") { node.isMultiple = true }
            return node
        }

        mutating func group(_ named: Node) -> Node {
            var node = named
            at += 1
            var alternatives = [sequence(until: ")")]
            while skip("|") { alternatives.append(sequence(until: ")")) }
            precondition(skip(")"), "a parenthesis is not closed in a command's syntax")
            node.kind = alternatives.count > 1 ? .oneOf : .block
            node.children = alternatives.flatMap { $0 }
            if skip("...") { node.isMultiple = true }
            return node
        }
    }
}

extension CommandSyntax {
    /// As COMMAND DOCS writes them.
    func write(_ reply: ReplyWriter) { CommandSyntax.write(arguments, reply) }

    private static func write(_ nodes: [Node], _ reply: ReplyWriter) {
        reply.array(nodes.count)
        for node in nodes { node.write(reply) }
    }
}

extension CommandSyntax.Node {
    fileprivate func write(_ reply: ReplyWriter) {
        let isGroup = kind == .oneOf || kind == .block
        let flags = [(isOptional, "optional"), (isMultiple, "multiple"), (repeatsToken, "multiple_token")].filter(\.0).map(\.1)
        // The token of an argument that must be empty is empty.
        let texts = [("token", token), ("since", since), ("deprecated_since", deprecatedSince)].filter { !$0.1.isEmpty || ($0.0 == "token" && kind == .token) }
        // Groups have arguments, everything else a text to show.
        reply.map(3 + (keySpecification == nil ? 0 : 1) + texts.count + (flags.isEmpty ? 0 : 1))
        reply.bulk("name")
        reply.bulk(name)
        reply.bulk("type")
        reply.bulk(kind.rawValue)
        if !isGroup {
            reply.bulk("display_text")
            reply.bulk(name)
        }
        if let keySpecification {
            reply.bulk("key_spec_index")
            reply.integer(keySpecification)
        }
        for (field, text) in texts {
            reply.bulk(field)
            reply.bulk(text)
        }
        if !flags.isEmpty {
            reply.bulk("flags")
            reply.set(flags.count)
            for flag in flags { reply.simple(flag) }
        }
        if isGroup {
            reply.bulk("arguments")
            reply.array(children.count)
            for child in children { child.write(reply) }
        }
    }
}
