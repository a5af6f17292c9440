import Testing

@testable import VRRP

func bytes(_ hex: String) -> [UInt8] {
    let digits = hex.filter { !$0.isWhitespace }.map { UInt8($0.hexDigitValue!) }
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}

func ip(_ a: UInt32, _ b: UInt32, _ c: UInt32, _ d: UInt32) -> UInt32 { a << 24 | b << 16 | c << 8 | d }

@Suite("adverts")
struct AdvertTests {
    let sender = ip(192, 168, 0, 2)
    let vip = ip(192, 168, 0, 1)

    private func decode(_ message: [UInt8]) throws(AdvertRefusal) -> Advert {
        let box = message.withUnsafeBytes { raw in
            Result { () throws(AdvertRefusal) in try Advert(decoding: raw, from: sender, to: Advert.multicastGroup) }
        }
        return try box.get()
    }

    private func refusal(_ message: [UInt8]) -> AdvertRefusal? {
        do throws(AdvertRefusal) {
            _ = try decode(message)
            return nil
        } catch {
            return error
        }
    }

    /// Packets that Keepalived 2.2.7 sent.
    @Test("what Keepalived sends is read, and written byte for byte", arguments: [
        ("2133 6501 0005 b91c c0a8 0001 0000 0000 0000 0000",
         Advert(version: .v2, virtualRouterID: 51, priority: 101, intervalCentiseconds: 500, addresses: [ip(192, 168, 0, 1)])),
        ("2133 6502 0102 89ee c0a8 0001 c0a8 0009 7365 6372 6574 3132",
         Advert(version: .v2, virtualRouterID: 51, priority: 101, intervalCentiseconds: 200,
                addresses: [ip(192, 168, 0, 1), ip(192, 168, 0, 9)], password: Array("secret12".utf8))),
        ("3134 6401 0064 0837 c0a8 004d",
         Advert(version: .v3, virtualRouterID: 52, priority: 100, intervalCentiseconds: 100, addresses: [ip(192, 168, 0, 77)])),
        ("3134 0001 0064 6c37 c0a8 004d",
         Advert(version: .v3, virtualRouterID: 52, priority: 0, intervalCentiseconds: 100, addresses: [ip(192, 168, 0, 77)])),
    ])
    func keepalived(hex: String, advert: Advert) throws {
        #expect(try decode(bytes(hex)) == advert)
        #expect(advert.encoded(from: sender, to: Advert.multicastGroup) == bytes(hex))
    }

    @Test("a damaged advert is refused with the reason", arguments: [
        ("", AdvertRefusal.tooShort(0, needed: 8)),
        ("2133 6501 0005 b9", .tooShort(7, needed: 8)),
        ("2133 6501 0005 b91c c0a8 0001", .tooShort(12, needed: 20)),
        ("2133 65ff 0005 b91c c0a8 0001 0000 0000 0000 0000", .tooShort(20, needed: 1036)),
        ("2133 6501 0005 b91d c0a8 0001 0000 0000 0000 0000", .checksum(0xb91d)),
        ("4133 6501 0005 b91c c0a8 0001 0000 0000 0000 0000", .version(4)),
        ("2233 6501 0005 b91c c0a8 0001 0000 0000 0000 0000", .type(2)),
        ("2133 6501 0205 b71c c0a8 0001 0000 0000 0000 0000", .authentication(2)),
    ])
    func refusals(hex: String, reason: AdvertRefusal) {
        #expect(refusal(bytes(hex)) == reason)
    }

    @Test("the sender's address counts in version 3's checksum")
    func pseudoHeader() {
        let message = Advert(version: .v3, virtualRouterID: 1, priority: 2, intervalCentiseconds: 3, addresses: [vip])
            .encoded(from: sender + 1, to: Advert.multicastGroup)
        #expect(refusal(message) != nil)
    }

    @Test("no bytes whatever make the reader crash")
    func garbage() {
        var seed: UInt64 = 7
        for round in 0..<5000 {
            var message = bytes("2133 6501 0005 b91c c0a8 0001 0000 0000 0000 0000")
            for _ in 0..<(round % 4) + 1 {
                seed = seed &* 6364136223846793005 &+ 1442695040888963407
                message[Int(seed >> 40) % message.count] = UInt8(truncatingIfNeeded: seed >> 33)
            }
            _ = refusal(Array(message.prefix(Int(seed >> 50) % 24)))
        }
    }
}
