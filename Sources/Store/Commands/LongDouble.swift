import Glibc
import RESP

/// Numbers of INCRBYFLOAT and HINCRBYFLOAT: 80-bit, printed with 17 digits behind the point and without trailing zeros.
enum LongDouble {
    static func parse(_ argument: Argument) -> Float80? {
        guard argument.count > 0, argument.count < 5120, argument[0] != 32, !(9...13).contains(argument[0]) else { return nil }
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: argument.count + 1) { copy in
            memcpy(copy.baseAddress!, argument.base, argument.count)
            copy[argument.count] = 0
            var end: UnsafeMutablePointer<CChar>?
            errno = 0
            let value = strtold(copy.baseAddress!, &end)
            guard end == copy.baseAddress! + argument.count, !value.isNaN else { return nil }
            if errno == ERANGE, value.isInfinite || value == 0 { return nil }
            return value
        }
    }

    /// With 17 digits in all.
    static func short(_ value: Double) -> String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { buffer in
            _ = withVaList([Float80(value)]) { vsnprintf(buffer.baseAddress!, buffer.count, "%.17Lg", $0) }
            return String(cString: buffer.baseAddress!)
        }
    }

    static func text(_ value: Float80) -> [UInt8] {
        var buffer = [CChar](repeating: 0, count: 5200)
        let n = withVaList([value]) { vsnprintf(&buffer, buffer.count, "%.17Lf", $0) }
        var bytes = buffer[..<Int(n)].map { UInt8(bitPattern: $0) }
        if bytes.contains(0x2E) {
            while bytes.last == 0x30 { bytes.removeLast() }
            if bytes.last == 0x2E { bytes.removeLast() }
        }
        return bytes == Array("-0".utf8) ? [0x30] : bytes
    }
}
