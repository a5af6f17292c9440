/// Random numbers for choosing keys, fields and members: fast, evenly spread, and not secret (wyrand, by Wang Yi).
///
/// The system's generator costs a system call for each number. IDs are drawn from that one.
struct FastRandom: RandomNumberGenerator {
    private var state: UInt64

    init() {
        var system = SystemRandomNumberGenerator()
        state = system.next()
    }

    @inline(__always)
    mutating func next() -> UInt64 {
        state &+= 0xA076_1D64_78BD_642F
        let product = state.multipliedFullWidth(by: state ^ 0xE703_7ED1_A0B4_28DB)
        return product.high ^ product.low
    }
}
