import CLinux
import Glibc
import Logging

/// What the process and the machine should be like for a store, set where it can be and warned about where it cannot.
public enum StartChecks {
    /// - Returns: warnings.
    public static func apply(_ configuration: StoreConfiguration) -> [String] {
        var warnings: [String] = []
        if ProcessFile.text("/proc/sys/vm/overcommit_memory") == "0" {
            warnings.append("""
                WARNING Memory overcommit must be enabled! Without it, a background save or replication may fail under low memory condition. \
                To fix this issue add 'vm.overcommit_memory = 1' to /etc/sysctl.conf and then reboot or run the command \
                'sysctl vm.overcommit_memory=1' for this to take effect.
                """)
        }
        if configuration.disablesHugePages {
            if vigie_prctl5(PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0 {
                warnings.append("WARNING Transparent Huge Pages could not be turned off for this process: \(String(cString: strerror(errno)))")
            }
        } else if ProcessFile.text("/sys/kernel/mm/transparent_hugepage/enabled")?.contains("[always]") == true {
            warnings.append("""
                WARNING You have Transparent Huge Pages (THP) support enabled in your kernel, and 'disable-thp no' keeps it for this process. \
                This will create latency and memory usage issues.
                """)
        }
        if configuration.port != 0, let text = ProcessFile.text("/proc/sys/net/core/somaxconn"), let most = Int32(text), most < configuration.tcpBacklog {
            warnings.append("""
                WARNING: The TCP backlog setting of \(configuration.tcpBacklog) cannot be enforced because /proc/sys/net/core/somaxconn \
                is set to the lower value of \(most).
                """)
        }
        return warnings
    }
}

/// Room for `maxclients` in the table of open files.
enum OpenFiles {
    /// For the log, snapshots, listeners and replication.
    static let reserved = 32

    enum Outcome: Equatable {
        case enough
        case raised(from: UInt64, to: UInt64)
        /// There is room for this many clients only.
        case tooFew(clients: Int, files: UInt64, reason: String)
    }

    private static var resource: __rlimit_resource_t { __rlimit_resource_t(RLIMIT_NOFILE.rawValue) }

    /// Raises the limit of the process where it has to be and may be.
    static func allow(clients: Int) -> Outcome {
        let wanted = rlim_t(clients + reserved)
        var limit = rlimit()
        guard getrlimit(resource, &limit) == 0, limit.rlim_cur < wanted else { return .enough }
        let before = limit.rlim_cur
        var raised = rlimit(rlim_cur: wanted, rlim_max: max(wanted, limit.rlim_max))
        if setrlimit(resource, &raised) == 0 { return .raised(from: UInt64(before), to: UInt64(wanted)) }
        let reason = String(cString: strerror(errno))
        // Without the right to raise the hard limit, there is what it allows.
        raised = rlimit(rlim_cur: min(wanted, limit.rlim_max), rlim_max: limit.rlim_max)
        let files = setrlimit(resource, &raised) == 0 ? raised.rlim_cur : before
        return .tooFew(clients: Int(files) - reserved, files: UInt64(files), reason: reason)
    }
}
