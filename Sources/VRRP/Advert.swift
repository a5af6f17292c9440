/// A VRRP advertisement: VRRPv2 as of RFC 3768 §5.1 (with RFC 2338's simple password), VRRPv3 for IPv4 as of RFC 5798 §5.1.
///
///     0              1               2          3               4
///     | version|type | router id     | priority | address count |
///     v2: | auth type | interval in s             | checksum     |
///     v3: | 0, interval in centiseconds (12 bits) | checksum     |
///     | addresses, 4 bytes each ... | v2: authentication data, 8 bytes |
struct Advert: Equatable, Sendable {
    enum Version: UInt8, Sendable { case v2 = 2, v3 = 3 }

    var version: Version
    var virtualRouterID: UInt8
    /// 0 says that the master is leaving; 255 is the address owner's.
    var priority: UInt8
    /// Whole seconds in version 2.
    var intervalCentiseconds: Int
    /// In host byte order.
    var addresses: [UInt32]
    /// Version 2 only: eight bytes, shorter ones filled up with zeros.
    var password: [UInt8]?

    /// IP protocol number of VRRP.
    static let ipProtocol: UInt8 = 112
    /// 224.0.0.18.
    static let multicastGroup: UInt32 = 0xE000_0012
    /// An advert from a neighbour has crossed no router (RFC 3768 §5.2.3).
    static let timeToLive: UInt8 = 255

    private static let typeAdvertisement: UInt8 = 1
    private static let headerLength = 8
    private static let passwordLength = 8

    /// The bytes to send; the addresses of sender and receiver are part of version 3's checksum.
    func encoded(from source: UInt32, to destination: UInt32) -> [UInt8] {
        var bytes: [UInt8] = [version.rawValue << 4 | Advert.typeAdvertisement, virtualRouterID, priority, UInt8(addresses.count)]
        switch version {
        case .v2: bytes += [password == nil ? 0 : 1, UInt8(intervalCentiseconds / 100)]
        case .v3: bytes += [UInt8(intervalCentiseconds >> 8 & 0x0F), UInt8(intervalCentiseconds & 0xFF)]
        }
        bytes += [0, 0]
        for address in addresses { withUnsafeBytes(of: address.bigEndian) { bytes.append(contentsOf: $0) } }
        if version == .v2 { bytes += Advert.padded(password ?? []) }
        let sum = bytes.withUnsafeBytes { Advert.checksum($0, version, from: source, to: destination) }
        bytes[6] = UInt8(sum >> 8)
        bytes[7] = UInt8(sum & 255)
        return bytes
    }

    /// Reads the bytes behind the IP header.
    /// - Throws: `AdvertRefusal` for what is no sound advert of either version.
    init(decoding bytes: UnsafeRawBufferPointer, from source: UInt32, to destination: UInt32) throws(AdvertRefusal) {
        guard bytes.count >= Advert.headerLength else { throw .tooShort(bytes.count, needed: Advert.headerLength) }
        guard let version = Version(rawValue: bytes[0] >> 4) else { throw .version(bytes[0] >> 4) }
        guard bytes[0] & 15 == Advert.typeAdvertisement else { throw .type(bytes[0] & 15) }
        let count = Int(bytes[3])
        let needed = Advert.headerLength + 4 * count + (version == .v2 ? Advert.passwordLength : 0)
        guard bytes.count >= needed else { throw .tooShort(bytes.count, needed: needed) }
        let whole = UnsafeRawBufferPointer(rebasing: bytes[..<needed])
        guard Advert.checksum(whole, version, from: source, to: destination) == 0 else {
            throw .checksum(UInt16(bytes[6]) << 8 | UInt16(bytes[7]))
        }
        self.version = version
        virtualRouterID = bytes[1]
        priority = bytes[2]
        addresses = (0..<count).map {
            UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: Advert.headerLength + 4 * $0, as: UInt32.self))
        }
        switch version {
        case .v3:
            intervalCentiseconds = Int(bytes[4] & 15) << 8 | Int(bytes[5])
        case .v2:
            intervalCentiseconds = Int(bytes[5]) * 100
            switch bytes[4] {
            case 0: password = nil
            case 1: password = Array(whole[(needed - Advert.passwordLength)...])
            default: throw .authentication(bytes[4])
            }
        }
    }

    init(version: Version, virtualRouterID: UInt8, priority: UInt8, intervalCentiseconds: Int, addresses: [UInt32], password: [UInt8]? = nil) {
        self.version = version
        self.virtualRouterID = virtualRouterID
        self.priority = priority
        self.intervalCentiseconds = intervalCentiseconds
        self.addresses = addresses
        self.password = password.map(Advert.padded)
    }

    /// A password's first eight bytes, filled up with zeros.
    static func padded(_ password: [UInt8]) -> [UInt8] {
        Array((password + [UInt8](repeating: 0, count: passwordLength)).prefix(passwordLength))
    }

    /// The internet checksum (RFC 1071); 0 over bytes that contain their own. Version 3 sums a pseudo-header too.
    private static func checksum(_ bytes: UnsafeRawBufferPointer, _ version: Version, from source: UInt32, to destination: UInt32) -> UInt16 {
        var sum: UInt32 = 0
        if version == .v3 {
            for word in [source >> 16, source & 0xFFFF, destination >> 16, destination & 0xFFFF] { sum += word }
            sum += UInt32(ipProtocol) + UInt32(bytes.count)
        }
        for index in stride(from: 0, to: bytes.count - 1, by: 2) { sum += UInt32(bytes[index]) << 8 | UInt32(bytes[index + 1]) }
        if bytes.count % 2 == 1 { sum += UInt32(bytes[bytes.count - 1]) << 8 }
        while sum >> 16 != 0 { sum = sum & 0xFFFF + sum >> 16 }
        return ~UInt16(sum)
    }
}

/// Why bytes are not taken for an advert.
enum AdvertRefusal: Error, Equatable, CustomStringConvertible {
    case tooShort(Int, needed: Int)
    case version(UInt8)
    case type(UInt8)
    case checksum(UInt16)
    case authentication(UInt8)

    var description: String {
        switch self {
        case .tooShort(let count, let needed): "\(count) bytes, at least \(needed) needed"
        case .version(let version): "VRRP version \(version), 2 and 3 are known"
        case .type(let type): "VRRP packet type \(type), only 1 (advertisement) exists"
        case .checksum(let sum): "wrong checksum 0x\(String(sum, radix: 16))"
        case .authentication(2): "authentication type 2 (AH), which is not supported"
        case .authentication(let type): "authentication type \(type), 0 (none) and 1 (PASS) are known"
        }
    }
}
