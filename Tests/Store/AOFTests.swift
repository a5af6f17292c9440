import Glibc
import RESP
import Testing

@testable import Store

@Suite("the append-only file's manifest and requests")
struct AOFTests {
    @Test("a manifest reads back as it was written, numbers go on, and what is superfluous becomes history")
    func manifestGoesOn() throws {
        var manifest = AOFManifest()
        #expect(manifest.replaceBase(prefix: "a b.aof", isSnapshot: true, keepingIncrements: 0) == "a b.aof.1.base.rdb")
        #expect(manifest.addIncrement(prefix: "a b.aof") == "a b.aof.1.incr.aof")
        #expect(manifest.addIncrement(prefix: "a b.aof") == "a b.aof.2.incr.aof")
        #expect(manifest.replaceBase(prefix: "a b.aof", isSnapshot: false, keepingIncrements: 1) == "a b.aof.2.base.aof")
        #expect(manifest.text == """
            file "a b.aof.2.base.aof" seq 2 type b
            file "a b.aof.1.base.rdb" seq 1 type h
            file "a b.aof.1.incr.aof" seq 1 type h
            file "a b.aof.2.incr.aof" seq 2 type i

            """)
        var read = try AOFManifest(parsing: Array(manifest.text.utf8))
        #expect(read == manifest)
        #expect(read.loadOrder.map(\.sequence) == [2, 2])
        #expect(read.addIncrement(prefix: "x") == "x.3.incr.aof")
    }

    @Test("a number that history still bears is not given again")
    func numbersAreNotReused() throws {
        var read = try AOFManifest(parsing: Array("file b seq 1 type b\nfile i seq 7 type h\n".utf8))
        #expect(read.addIncrement(prefix: "x") == "x.8.incr.aof")
    }

    @Test("what a Redis writes is read: comments, other orders, unknown fields")
    func manifestOfOthers() throws {
        let text = "# comment\nfile a.1.base.rdb seq 1 type b \nTYPE i seq 3 file a.3.incr.aof more than-that\n"
        let read = try AOFManifest(parsing: Array(text.utf8))
        #expect(read.base?.name == "a.1.base.rdb")
        #expect(read.increments == [.init(name: "a.3.incr.aof", sequence: 3)])
    }

    private func outcome(_ text: String) -> String {
        var request = AOFRequest()
        defer { request.deallocate() }
        return Array(text.utf8).withUnsafeBytes { bytes in
            switch request.parse(bytes) {
            case .command(let count, let length):
                "\(count) words, \(length) bytes: " + (0..<count).map { request.arguments[$0].text }.joined(separator: " ")
            case .annotation(let length): "annotation of \(length)"
            case .short(let needed): needed > bytes.count ? "short" : "short, but asks for no more"
            case .bad(let at, let reason): "byte \(at): \(reason)"
            }
        }
    }

    @Test("requests are told from what is cut off and from what is damaged", arguments: [
        ("*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1", "2 words, 20 bytes: GET a"),
        ("#TS:1234\r\n*1\r\n", "annotation of 10"),
        ("", "short"), ("#TS", "short"), ("*", "short"), ("*2\r", "short"), ("*2\r\n$3\r\nGE", "short"), ("*1\r\n$3\r\nGET\r", "short"),
        ("+2\r\n", "byte 0: '+' stands where '*' belongs"),
        ("*x\r\n", "byte 1: 'x' stands in a length"),
        ("*0\r\n", "byte 0: a command of 0 words"),
        ("*-1\r\n", "byte 1: '-' stands in a length"),
        ("*1\r\n*3\r\nGET\r\n", "byte 4: '*' stands where '$' belongs"),
        ("*1\r\n$2\r\nGET\r\n", "byte 10: a word of 2 bytes is not followed by CR and LF"),
        ("*1\n$3\r\nGET\r\n", "byte 2: byte 10 stands in a length"),
        ("*123456789012345\r\n", "byte 0: a length of more than 11 digits"),
    ])
    func requests(text: String, expected: String) { #expect(outcome(text) == expected) }
}
