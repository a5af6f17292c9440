import Reactor

/// One of the four programs' work, as the node starts and stops it.
public protocol Role: AnyObject {
    /// How messages name it: `store`, `sentinel`, `proxy`, `vrrp`.
    var name: String { get }
    /// Binds and begins.
    /// - Throws: `SystemError` naming what could not be had.
    func start() throws(SystemError)
    /// Ends in order, then says so: false when the role must not be ended yet and serves on.
    func stop(completion: @escaping (Bool) -> Void)
    /// SIGHUP.
    func hangUp()
    /// Everything has started: tells whoever supervises the process.
    func ready()
}

extension Role {
    public func hangUp() {}
    public func ready() {}
}
