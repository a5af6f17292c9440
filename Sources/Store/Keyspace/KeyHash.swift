import Glibc
import RESP

/// The seeded hash of keys, fields and members.
///
/// 64-bit folded multiplication over 16 bytes a step. The seed is drawn from the kernel at start, so that a client cannot choose keys that collide.
struct KeyHash {
    let seed0: UInt64
    let seed1: UInt64

    init(seed0: UInt64, seed1: UInt64) {
        self.seed0 = seed0
        self.seed1 = seed1 | 1
    }

    static func random() -> KeyHash {
        var generator = SystemRandomNumberGenerator()
        return KeyHash(seed0: generator.next(), seed1: generator.next())
    }

    @inline(__always)
    private static func fold(_ a: UInt64, _ b: UInt64) -> UInt64 {
        let product = a.multipliedFullWidth(by: b)
        return product.high ^ product.low
    }

    @inline(__always)
    func callAsFunction(_ key: Argument) -> UInt64 {
        let p = key.raw
        let n = key.count
        var state = seed0 ^ (UInt64(truncatingIfNeeded: n) &* 0x9E37_79B9_7F4A_7C15)
        if n >= 16 {
            var i = 0
            while i &+ 16 <= n {
                let a = p.loadUnaligned(fromByteOffset: i, as: UInt64.self)
                let b = p.loadUnaligned(fromByteOffset: i &+ 8, as: UInt64.self)
                state = KeyHash.fold(a ^ state, b ^ seed1)
                i &+= 16
            }
            if i < n {
                // The last 16 bytes again: they overlap what was read, and no tail is left.
                let a = p.loadUnaligned(fromByteOffset: n &- 16, as: UInt64.self)
                let b = p.loadUnaligned(fromByteOffset: n &- 8, as: UInt64.self)
                state = KeyHash.fold(a ^ state, b ^ seed1)
            }
        } else if n >= 8 {
            let a = p.loadUnaligned(as: UInt64.self)
            let b = p.loadUnaligned(fromByteOffset: n &- 8, as: UInt64.self)
            state = KeyHash.fold(a ^ state, b ^ seed1)
        } else if n >= 4 {
            let a = UInt64(p.loadUnaligned(as: UInt32.self))
            let b = UInt64(p.loadUnaligned(fromByteOffset: n &- 4, as: UInt32.self))
            state = KeyHash.fold(a ^ state, b ^ seed1)
        } else if n > 0 {
            let a = UInt64(key.base[0]) << 16 | UInt64(key.base[n >> 1]) << 8 | UInt64(key.base[n &- 1])
            state = KeyHash.fold(a ^ state, seed1)
        }
        return KeyHash.fold(state, seed1 ^ 0xA076_1D64_78BD_642F)
    }
}
