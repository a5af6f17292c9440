import Configuration

// Each of the four files, from any bytes, is read or refused with file and line.

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 0 else { return 0 }
    let bytes = Array(UnsafeBufferPointer(start: start + 1, count: count - 1))
    switch start[0] % 3 {
    case 0: _ = try? RedisConfiguration.parse(bytes, file: "fuzz")
    case 1: _ = HAProxyConfiguration(path: "fuzz", contents: bytes, environment: ["HOME": "/root"])
    default: _ = try? KeepalivedConfiguration.parse(String(decoding: bytes, as: UTF8.self), file: "fuzz")
    }
    return 0
}
