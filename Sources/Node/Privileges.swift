import CLinux
import Glibc
import Proxy
import Reactor

/// What a process gives away once every socket is bound, as haproxy.cfg's `global` asks.
enum Privileges {
    /// Raises the limit of descriptors; before anything is bound.
    /// - Throws: `SystemError` where the kernel does not allow it.
    static func allowDescriptors(_ count: Int) throws(SystemError) {
        var limit = rlimit(rlim_cur: rlim_t(count), rlim_max: rlim_t(count))
        var old = rlimit()
        if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &old) == 0 { limit.rlim_max = max(old.rlim_max, limit.rlim_max) }
        guard setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { throw SystemError("ulimit-n \(count)") }
    }

    /// Enters the jail and becomes the other user, in that order, for good.
    /// - Throws: `SystemError`; to go on with the privileges that were to go would be wrong.
    static func drop(_ global: ProxyConfiguration.Global) throws(SystemError) {
        if let path = global.chroot {
            guard chroot(path) == 0, chdir("/") == 0 else { throw SystemError("chroot '\(path)'") }
        }
        if let group = global.group {
            if getuid() == 0 { _ = setgroups(0, nil) }
            guard setgid(group.id) == 0 else { throw SystemError("group '\(group.name)'") }
        }
        if let user = global.user {
            if getuid() == 0, global.group == nil { _ = setgroups(0, nil) }
            guard setuid(user.id) == 0 else { throw SystemError("user '\(user.name)'") }
        }
    }
}
