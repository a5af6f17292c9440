import CLinux
import Glibc
import Proxy
import Reactor

/// What a process gives up once every socket is bound: the file system but for one folder, and root's rights.
struct Privileges: Equatable {
    var chroot: String?
    var user: UInt32?
    var group: UInt32?

    init(chroot: String? = nil, user: UInt32? = nil, group: UInt32? = nil) {
        self.chroot = chroot
        self.user = user
        self.group = group
    }

    /// What haproxy.cfg's `global` section asks for; nil for nothing.
    init?(_ global: ProxyConfiguration.Global) {
        self.init(chroot: global.chroot, user: global.user?.id, group: global.group?.id)
        if self == Privileges() { return nil }
    }

    /// - Throws: `SystemError` naming what was refused; the process must not go on then.
    func drop() throws(SystemError) {
        if let folder = chroot {
            guard Glibc.chroot(folder) == 0, chdir("/") == 0 else { throw SystemError("chroot to '\(folder)'") }
        }
        if let group {
            // The groups of root go first; those who are not root have none that they could drop.
            if geteuid() == 0, setgroups(0, nil) != 0 { throw SystemError("drop supplementary groups") }
            guard setgid(group) == 0 else { throw SystemError("set group id \(group)") }
        }
        if let user {
            guard setuid(user) == 0 else { throw SystemError("set user id \(user)") }
        }
    }
}

/// The limit of open descriptors, which bounds how many connections a process can serve.
enum DescriptorLimit {
    /// Raises the limit as far as the system lets it.
    /// - Parameter wanted: `ulimit-n`; without it everything up to the hard limit.
    static func raise(to wanted: Int?) throws(SystemError) {
        let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        var limit = rlimit()
        guard getrlimit(resource, &limit) == 0 else { throw SystemError("read the limit of open files") }
        limit.rlim_cur = wanted.map { rlim_t($0) } ?? limit.rlim_max
        limit.rlim_max = max(limit.rlim_max, limit.rlim_cur)
        guard setrlimit(resource, &limit) == 0 else { throw SystemError("set the limit of open files to \(limit.rlim_cur)") }
    }
}
