import Glibc
import RESP

/// The offset of the last write of every key that has been written to and is not confirmed yet.
///
/// Promise: what was noted is found until it is confirmed. Two keys whose 64-bit hashes are equal are one here: a read of one then waits
/// for a write of the other, which is slow and not wrong.
///
/// An open-addressing table of pairs; a hash of 0 is a free place. What has been confirmed stays where it is until the table is half
/// full, and is left out when it is made anew then: its size follows the writes that are in flight.
struct UnconfirmedKeys {
    private struct Place {
        var name: UInt64
        var offset: Int64
    }

    private var places: UnsafeMutablePointer<Place>
    private var capacity = UnconfirmedKeys.capacityLeast
    private var used = 0
    private static let capacityLeast = 1024
    /// More keys than this are not told apart: 32 to 64 MiB. It takes replicas that are gone for good to get there.
    static let countMax = 1 << 20

    init() {
        places = .allocate(capacity: capacity)
        places.initialize(repeating: Place(name: 0, offset: 0), count: capacity)
    }

    func deallocate() { places.deallocate() }

    /// What a key of a database is called here.
    @inline(__always)
    static func name(_ db: Database, _ key: Argument) -> UInt64 {
        let name = db.entries.hash(key) &+ UInt64(truncatingIfNeeded: db.id) &* 0x9E37_79B9_7F4A_7C15
        return name == 0 ? 1 : name
    }

    /// Notes a write. O(1) amortised.
    /// - Parameter confirmed: what lies up to here need not be remembered.
    /// - Returns: false when there are too many keys already: nothing was noted then.
    mutating func note(_ name: UInt64, at offset: Int64, confirmed: Int64) -> Bool {
        let place = find(name)
        if place.pointee.name == name {
            place.pointee.offset = offset
            return true
        }
        if used * 2 >= capacity {
            guard remake(without: confirmed) else { return false }
            find(name).initialize(to: Place(name: name, offset: offset))
        } else {
            place.initialize(to: Place(name: name, offset: offset))
        }
        used &+= 1
        return true
    }

    /// The offset of a key's last write, as far as it is known here; 0 for none. O(1).
    func offset(of name: UInt64) -> Int64 {
        let place = find(name)
        return place.pointee.name == name ? place.pointee.offset : 0
    }

    /// Where the name is, or would be.
    private func find(_ name: UInt64) -> UnsafeMutablePointer<Place> {
        var index = Int(truncatingIfNeeded: name) & (capacity &- 1)
        while places[index].name != name, places[index].name != 0 { index = (index &+ 1) & (capacity &- 1) }
        return places + index
    }

    /// Keys whose last write is behind `confirmed`. O(capacity).
    func count(above confirmed: Int64) -> Int { (0..<capacity).reduce(0) { places[$1].name != 0 && places[$1].offset > confirmed ? $0 + 1 : $0 } }

    private mutating func remake(without confirmed: Int64) -> Bool {
        let live = count(above: confirmed)
        guard live < UnconfirmedKeys.countMax else { return false }
        let (old, oldCapacity) = (places, capacity)
        capacity = UnconfirmedKeys.capacityLeast
        while capacity < live * 4 { capacity *= 2 }
        places = .allocate(capacity: capacity)
        places.initialize(repeating: Place(name: 0, offset: 0), count: capacity)
        for i in 0..<oldCapacity where old[i].name != 0 && old[i].offset > confirmed { find(old[i].name).initialize(to: old[i]) }
        used = live
        old.deallocate()
        return true
    }

    mutating func removeAll() {
        deallocate()
        self = UnconfirmedKeys()
    }
}
