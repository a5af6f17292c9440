/// What an entry's 24 bits say about its use, under the two ways of counting it.
///
/// LRU: the second of the last access, which comes round every 194 days.
///
/// LFU: how often, on a logarithmic scale, and since when that holds; it comes round every 45 days.
///
///     23               8 7         0
///     | minutes         | counter  |
///
/// The counter begins at 5, so that a new key is not the first to go, and gains one with a chance of
/// 1 / ((counter - 5) * log factor + 1): with a factor of 10, 255 stands for a million hits. For each decay time that has
/// passed it loses one. The scale and its constants are those that Redis documents for `lfu-log-factor`, so OBJECT FREQ
/// shows the numbers that its users know, and files carry them from one to the other.
struct AccessClock {
    static let mask: UInt32 = 0xFF_FFFF
    /// What a new key's counter begins with.
    static let initialFrequency: UInt32 = 5

    /// The moment as LRU keeps it.
    @inline(__always)
    static func seconds(_ milliseconds: Int64) -> UInt32 { UInt32(truncatingIfNeeded: milliseconds / 1000) & mask }

    /// Seconds between an LRU clock and now.
    @inline(__always)
    static func idle(_ clock: UInt32, now: UInt32) -> UInt32 { (now &- clock) & mask }

    /// The LRU clock of what was last used so many seconds ago; no further back than the clock reaches.
    static func clock(idle seconds: Int64, now: UInt32) -> UInt32 { (now &- UInt32(min(max(seconds, 0), Int64(mask)))) & mask }

    // MARK: LFU

    @inline(__always)
    static func minutes(_ milliseconds: Int64) -> UInt32 { UInt32(truncatingIfNeeded: milliseconds / 60_000) & 0xFFFF }

    @inline(__always)
    static func clock(frequency: UInt32, minutes: UInt32) -> UInt32 { minutes << 8 | min(frequency, 255) }

    /// What the counter is worth now.
    /// - Parameter decay: minutes for each one that it loses; 0 for never.
    @inline(__always)
    static func frequency(_ clock: UInt32, minutes: UInt32, decay: Int) -> UInt32 {
        let counter = clock & 0xFF
        guard decay > 0 else { return counter }
        let passed = (minutes &- clock >> 8) & 0xFFFF
        let lost = passed / UInt32(truncatingIfNeeded: min(decay, 0xFFFF))
        return lost > counter ? 0 : counter - lost
    }

    /// The LFU clock after one more use.
    /// - Parameter random: any number, evenly spread.
    @inline(__always)
    static func used(_ clock: UInt32, minutes: UInt32, decay: Int, logFactor: Int, random: UInt64) -> UInt32 {
        var counter = frequency(clock, minutes: minutes, decay: decay)
        if counter < 255 {
            let base = counter > initialFrequency ? UInt64(counter - initialFrequency) : 0
            // One chance in so many, by the upper bits of the number.
            let chance = base &* UInt64(truncatingIfNeeded: logFactor) &+ 1
            if chance.multipliedFullWidth(by: random).high == 0 { counter += 1 }
        }
        return AccessClock.clock(frequency: counter, minutes: minutes)
    }
}

/// `maxmemory-policy`: which keys may go when there is no room, and which of them go first.
enum EvictionPolicy: String, CaseIterable, Sendable {
    case volatileLRU = "volatile-lru"
    case volatileLFU = "volatile-lfu"
    case volatileRandom = "volatile-random"
    case volatileTTL = "volatile-ttl"
    case allKeysLRU = "allkeys-lru"
    case allKeysLFU = "allkeys-lfu"
    case allKeysRandom = "allkeys-random"
    case noEviction = "noeviction"

    /// Only keys with an expiry may go.
    var isVolatile: Bool {
        switch self {
        case .volatileLRU, .volatileLFU, .volatileRandom, .volatileTTL: true
        case .allKeysLRU, .allKeysLFU, .allKeysRandom, .noEviction: false
        }
    }

    /// Entries count how often they are used instead of when they were last.
    var countsFrequency: Bool { self == .volatileLFU || self == .allKeysLFU }

    /// When or how often a key was used decides whether it goes.
    var looksAtUse: Bool { countsFrequency || self == .volatileLRU || self == .allKeysLRU }
}
