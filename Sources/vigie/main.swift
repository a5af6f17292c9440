import CLinux
import Glibc
var e = epoll_event()
e.events = EPOLLIN.rawValue | EPOLLET.rawValue
e.data.u64 = 5
print(e.events, MemoryLayout<epoll_event>.size, MemoryLayout<epoll_event>.stride, pidfd_open(getpid(), 0), SYS_pidfd_open)
let p = vigie_fork()
if p == 0 { _exit(3) }
print(p, SOCK_NONBLOCK, accept4(-1,nil,nil,0), RTM_NEWADDR, IP_FREEBIND, TCP_NODELAY)
