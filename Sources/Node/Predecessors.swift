import Glibc
import Reactor

/// The processes that this one takes the place of (`haproxy -sf PID...`, `-st PID...`).
struct Predecessors {
    /// Who is told with which signal that we have come.
    var signals: [(pid: pid_t, signal: Int32)] = []

    /// While the old process lets go of the addresses, binding is tried again so often, so many times.
    private static let pauseMicroseconds: useconds_t = 20_000
    private static let attemptsMax = 100

    /// Binds, and tells the predecessors that they may go; the other way round where an address can only be had once they
    /// have let go of it.
    /// - Throws: what `bind` throws.
    func handOver(_ bind: () throws(SystemError) -> Void) throws(SystemError) {
        do throws(SystemError) {
            try bind()
            return tellThem()
        } catch {
            guard error.code == EADDRINUSE, !signals.isEmpty else { throw error }
        }
        tellThem()
        for attempt in 1...Predecessors.attemptsMax {
            usleep(Predecessors.pauseMicroseconds)
            do throws(SystemError) {
                return try bind()
            } catch {
                guard error.code == EADDRINUSE, attempt < Predecessors.attemptsMax else { throw error }
            }
        }
    }

    private func tellThem() {
        for (pid, signal) in signals where pid > 1 { kill(pid, signal) }
    }
}
