import Glibc

/// A system call that failed: which operation, on what, and the kernel's errno.
public struct SystemError: Error, CustomStringConvertible, Sendable {
    /// The errno value.
    public let code: Int32
    /// What was attempted, in the words of the log line ("bind 192.168.0.1:6379").
    public let operation: String

    public init(_ operation: String, code: Int32 = errno) {
        self.code = code
        self.operation = operation
    }

    /// The kernel's words for the errno ("Address already in use").
    public var reason: String { String(cString: strerror(code)) }
    public var description: String { "\(operation): \(reason)" }
}
