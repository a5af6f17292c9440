import Glibc
@testable import Reactor
@testable import VRRP

// Any bytes as an IP packet with an advert, and as rtnetlink messages; an advert that is sound is the same after it was
// written again.

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let bytes = UnsafeRawBufferPointer(start: start, count: count)
    RouteMessage.forEach(in: bytes) { _ in }
    if let packet = IPv4Packet(bytes) { check(packet.payload) }
    check(bytes)
    return 0
}

private func check(_ payload: UnsafeRawBufferPointer) {
    let (source, group): (UInt32, UInt32) = (0xC0A8_0002, 0xE000_0012)
    // The fuzzer cannot guess a checksum: the sum is made right first.
    var copy = Array(payload)
    if copy.count >= 8 {
        copy[6] = 0
        copy[7] = 0
        if let version = Advert.Version(rawValue: copy[0] >> 4) {
            let needed = min(copy.count, 8 + 4 * Int(copy[3]) + (version == .v2 ? 8 : 0))
            // Version 3 sums a pseudo header, too: both addresses, the protocol, the length (RFC 5798 §5.2.8).
            let pseudo = version == .v3 ? (source >> 16) + (source & 0xFFFF) + (group >> 16) + (group & 0xFFFF) + 112 + UInt32(needed) : 0
            let sum = internetChecksum(copy.prefix(needed), pseudo)
            copy[6] = UInt8(sum >> 8)
            copy[7] = UInt8(sum & 255)
        }
    }
    copy.withUnsafeBytes { bytes in
        guard let advert = try? Advert(decoding: bytes, from: source, to: group) else { return }
        let again = advert.encoded(from: source, to: group)
        let second = again.withUnsafeBytes { try? Advert(decoding: $0, from: source, to: group) }
        precondition(second == advert, "an advert changed by being written: \(advert) \(String(describing: second))")
    }
}

/// RFC 1071.
private func internetChecksum(_ bytes: ArraySlice<UInt8>, _ start: UInt32) -> UInt16 {
    var sum = start
    for (index, byte) in bytes.enumerated() { sum += index % 2 == 0 ? UInt32(byte) << 8 : UInt32(byte) }
    while sum > 0xFFFF { sum = (sum & 0xFFFF) + (sum >> 16) }
    return ~UInt16(sum)
}
