// The libc and kernel headers that Glibc's module map leaves out. Declarations only, no code.
#ifndef VIGIE_LINUX_H
#define VIGIE_LINUX_H

#include <fcntl.h>
#include <grp.h>
#include <malloc.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netpacket/packet.h>
#include <net/ethernet.h>
#include <pwd.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

// Swift marks fork unavailable; the same symbol under another name. A child does nothing that takes a
// lock another thread could have held.
pid_t vigie_fork(void) __asm__("fork");

// Swift takes no variadic functions: one name for options of one argument, one for those that want the others to be 0.
int vigie_prctl(int option, unsigned long argument) __asm__("prctl");
int vigie_prctl5(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) __asm__("prctl");

// Shown only under _GNU_SOURCE, which Glibc's own module is built without; the two must agree on every struct.
int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);
int pipe2(int fds[2], int flags);
ssize_t splice(int in, off_t *in_offset, int out, off_t *out_offset, size_t length, unsigned int flags);
int epoll_pwait2(int epfd, struct epoll_event *events, int maxevents, const struct timespec *timeout,
                 const sigset_t *sigmask);

// Declared by the header for _GNU_SOURCE only.
int vigie_sync_file_range(int descriptor, long long offset, long long count, unsigned int flags) __asm__("sync_file_range");

#endif
