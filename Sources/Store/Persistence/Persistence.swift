import Reactor

/// Snapshots: when they are taken, by whom, and how they went.
final class Persistence {
    unowned let server: StoreServer
    /// Seconds since 1970.
    private(set) var lastSave: Int64

    init(server: StoreServer) {
        self.server = server
        lastSave = server.loop.wallMilliseconds / 1000
    }

    /// A failed snapshot forbids writes (`stop-writes-on-bgsave-error`).
    var stopsWrites: Bool { false }

    func cron() {}
}
