import Testing

@testable import Node

@Suite("vigie check tells the kinds of files apart")
struct FileKindTests {
    @Test("by what stands in them, whatever they are called", arguments: [
        ("port 6379\nreplicaof 192.168.0.4 6379\n", FileKind.role(.store)),
        ("port 26379\nsentinel monitor mymaster 192.168.0.4 6379 2\n", .role(.sentinel)),
        ("# words\nglobal\n  daemon\nfrontend f\n  bind :1\n", .role(.proxy)),
        ("! words\nvrrp_instance VI_1 {\n}\n", .role(.vrrp)),
        ("store /etc/redis/redis.conf\nsentinel /etc/redis/sentinel.conf\n", .node),
        ("sentinel /etc/redis/sentinel.conf\n", .node),
    ])
    func byContent(text: String, kind: FileKind) { #expect(FileKind(path: "/tmp/file", text: text) == kind) }

    @Test("by their names where the content says nothing", arguments: [
        ("/etc/haproxy/haproxy.cfg", FileKind.role(.proxy)), ("/etc/keepalived/keepalived.conf", .role(.vrrp)),
        ("sentinel.conf", .role(.sentinel)), ("/etc/vigie/node.conf", .node), ("redis.conf", .role(.store)),
    ])
    func byName(path: String, kind: FileKind) { #expect(FileKind(path: path, text: "\n# nothing\n") == kind) }
}
