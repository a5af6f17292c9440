import Reactor

/// Writes requests as clients send them: an array of bulk strings.
public enum RequestEncoder {
    /// The request's bytes.
    public static func encode(_ words: [[UInt8]]) -> [UInt8] { Reply.array(words.map { .bulk($0) }).encoded() }

    /// The request's bytes.
    public static func encode(_ words: [String]) -> [UInt8] { encode(words.map { Array($0.utf8) }) }
}

extension OutputChain {
    /// Appends a request: `appendRequest(["SET", "key", "value"])`.
    public func appendRequest(_ words: [String]) { append(RequestEncoder.encode(words)) }

    /// Appends a request whose words may be any bytes.
    public func appendRequest(_ words: [[UInt8]]) { append(RequestEncoder.encode(words)) }
}
