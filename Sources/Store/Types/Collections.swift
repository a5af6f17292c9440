import Glibc

/// What all collections have in common: they are freed and counted by their encoding.
extension Entry {
    /// Frees the block of a list, set, hash or sorted set. O(n).
    @inline(never)
    func freeCollection() {
        switch type {
        case .sortedSet: SortedSet(self).release()
        case .string, .list, .set, .hash: break
        }
    }
}
