import Reactor

/// How much is let run out before the end.
public enum StopManner: Sendable {
    /// SIGTERM: what is under way is ended, nothing that was promised is lost.
    case prompt
    /// SIGINT: the same, but the store may be told to do it otherwise.
    case interrupt
    /// SHUTDOWN and the like: as `prompt`, and no signal.
    case request
    /// SIGUSR1: sessions go on until their own end.
    case graceful
}

/// One of the four programs' work, as the node starts and stops it.
public protocol Role: AnyObject {
    /// How messages name it: `store`, `sentinel`, `proxy`, `vrrp`.
    var name: String { get }
    /// Binds and begins.
    /// - Throws: `SystemError` naming what could not be had.
    func start() throws(SystemError)
    /// Ends in order, then says so: false when the role must not be ended yet and serves on.
    func stop(_ manner: StopManner, completion: @escaping (Bool) -> Void)
    /// SIGHUP.
    func hangUp()
    /// Everything has started: tells whoever supervises the process, as soon as the role serves.
    func ready()
    /// Calls `body` when the role serves, which may be after its start.
    func whenServing(_ body: @escaping () -> Void)
}

extension Role {
    public func hangUp() {}
    public func ready() {}
    public func whenServing(_ body: @escaping () -> Void) { body() }
}
