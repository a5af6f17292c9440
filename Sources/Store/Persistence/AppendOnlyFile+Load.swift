import CLinux
import Glibc
import Logging
import Reactor

/// At start: finding the files, loading them, and going on where they end.
extension AppendOnlyFile {
    /// Finds the files at start. Where there are none yet they are made, and the data set is empty.
    /// - Returns: what loads them; nil where there is nothing to load.
    /// - Throws: what is wrong, with the file, the byte, and how to mend it.
    func openAtStart() throws(AOFError) -> AOFLoader? {
        folder = configuration.inDirectory(configuration.appendFolder)
        guard let found = try findFiles() else {
            warnOfSnapshot()
            try goOn(AOFManifest())
            return nil
        }
        manifest = found
        return AOFLoader(server: server, folder: folder, manifestPath: manifestPath, found)
    }

    /// Appends to the last of the files from now on.
    func goOn(behind loader: AOFLoader) throws(AOFError) {
        takeLengths(of: loader)
        try goOn(manifest!)
    }

    private func goOn(_ found: AOFManifest) throws(AOFError) {
        do throws(SystemError) {
            try open(found)
        } catch {
            throw AOFError(path: folder, reason: "it cannot be written to: \(error)")
        }
    }

    /// All files but the one that is gone on with stay as long as they are.
    private func takeLengths(of loader: AOFLoader) {
        let lasting = manifest!.increments.isEmpty ? loader.lengths[...] : loader.lengths.dropLast()
        sizeBefore = lasting.reduce(0, +)
    }

    /// DEBUG LOADAOF: what is there goes, and the files are loaded again. It blocks. O(n).
    func reload() throws(AOFError) {
        if state == .off { folder = configuration.inDirectory(configuration.appendFolder) }
        flush(isForced: true)
        server.adopt(server.makeReader(RDBReader.Options()))
        guard let found = try findFiles() else { return }
        manifest = found
        server.gate.insert(.loading)
        server.updatePropagation()
        defer {
            server.gate.remove(.loading)
            server.updatePropagation()
        }
        let loader = AOFLoader(server: server, folder: folder, manifestPath: manifestPath, found)
        while try !loader.advance(until: .max) {}
        takeLengths(of: loader)
    }

    /// - Returns: nil when there is no append-only file yet.
    private func findFiles() throws(AOFError) -> AOFManifest? {
        let found: AOFManifest?
        do throws(SystemError) {
            found = try readManifest()
        } catch {
            throw AOFError(path: manifestPath, reason: error.code == EBADMSG ? error.operation : "\(error)",
                remedy: "It lists the files of the folder as 'file NAME seq NUMBER type b|h|i', a line each; mend it, or bring back a backup")
        }
        if let upgraded = try upgradeSingleFile(found) { return upgraded }
        guard let found else {
            let stray = DurableFile.names(in: folder).filter { isOurs($0) }.sorted()
            guard stray.isEmpty else {
                throw AOFError(path: manifestPath, reason: "there is no manifest, but the folder holds \(stray.joined(separator: ", "))",
                    remedy: "Bring the manifest back, or write one that lists the files ('file NAME seq NUMBER type b|i', the base first); or move the files elsewhere to begin without data")
            }
            return nil
        }
        for file in found.loadOrder where DurableFile.size(of: "\(folder)/\(file.name)") == nil {
            throw AOFError(path: "\(folder)/\(file.name)", reason: "The AOF file \(file.name) doesn't exist, but the manifest \(manifestPath) names it",
                remedy: "Bring it back from a backup; to go on without what it held, remove its line from the manifest")
        }
        return found
    }

    /// Whether a name is one that we give: a base or an increment.
    private func isOurs(_ name: String) -> Bool {
        guard name.hasPrefix("\(prefix).") else { return false }
        let parts = name.dropFirst(prefix.utf8.count + 1).split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 3 && Int64(parts[0]) != nil && (parts[1] == "base" || parts[1] == "incr")
    }

    /// A file of the time before Redis 7 becomes the base: named in a manifest first, then moved into the folder, so that a
    /// crash in between is gone on from here.
    private func upgradeSingleFile(_ found: AOFManifest?) throws(AOFError) -> AOFManifest? {
        let old = configuration.inDirectory(prefix)
        let new = "\(folder)/\(prefix)"
        guard DurableFile.size(of: old) != nil, folder != old else { return nil }
        if let found {
            let isHalfDone = found.base?.name == prefix && found.increments.isEmpty && DurableFile.size(of: new) == nil
            guard isHalfDone else { return nil }
        }
        var upgraded = AOFManifest()
        upgraded.adoptSingleFile(prefix)
        do throws(SystemError) {
            if let error = DurableFile.makeFolder(folder) { throw error }
            try write(upgraded)
            if let error = DurableFile.move(old, to: new) { throw error }
        } catch {
            throw AOFError(path: old, reason: "the AOF of a Redis before 7 cannot be moved into the folder \(folder): \(error)")
        }
        logger.notice("Successfully migrated an old-style AOF configuration (\(prefix)) into the AOF directory (\(configuration.appendFolder)).")
        return upgraded
    }

    /// Who switches the file on in the configuration of a server with snapshots gets an empty data set, as with Redis.
    private func warnOfSnapshot() {
        let snapshot = configuration.inDirectory(configuration.dbFilename)
        guard let size = DurableFile.size(of: snapshot) else { return }
        logger.warning("There is no append only file yet, and appendonly is yes: the data set is empty, and the snapshot \(snapshot) of \(size) bytes is NOT loaded. To keep its data, copy it away now, start with appendonly no, and use CONFIG SET appendonly yes.")
    }

    /// Goes on at the end of the last increment; where there are no files yet they are made.
    private func open(_ found: AOFManifest) throws(SystemError) {
        var next = found
        if let error = DurableFile.makeFolder(folder) { throw error }
        removeLeftovers()
        if next.loadOrder.isEmpty {
            let isSnapshot = configuration.usesSnapshotPreamble
            let name = next.replaceBase(prefix: prefix, isSnapshot: isSnapshot, keepingIncrements: 0)
            logger.notice("Creating AOF base file \(name) on server start")
            let error = AOFBase.write(
                "\(folder)/\(name)", temporary: "\(folder)/temp-\(name)", databases: server.databases, functions: server.functions.codes,
                now: server.loop.wallMilliseconds, asSnapshot: isSnapshot, configuration)
            if let error { throw error }
            sizeBefore = DurableFile.size(of: "\(folder)/\(name)") ?? 0
        }
        let isNew = next.increments.isEmpty
        if isNew { logger.notice("Creating AOF incr file \(next.addIncrement(prefix: prefix)) on server start") }
        let last = try AppendedFile(path: "\(folder)/\(next.increments.last!.name)", truncates: isNew)
        // Its name has to be on the disk before anything in it counts.
        if isNew { try write(next) } else { manifest = next }
        state = .on
        switchTo(last)
        baseSize = currentSize
        removeHistory()
    }

    /// Removes what a child left behind that was killed.
    private func removeLeftovers() {
        for name in DurableFile.names(in: folder) where name.hasPrefix("temp-rewriteaof-") || name.hasPrefix("temp-\(prefix).") {
            unlink("\(folder)/\(name)")
        }
    }
}
