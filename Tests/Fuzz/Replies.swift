import RESP

// What a server sends is parsed, found incomplete or refused; a reply that was parsed and written again is the same reply.

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    _ = try? ReplyParser().parse(UnsafeRawBufferPointer(start: start, count: count))
    return 0
}
