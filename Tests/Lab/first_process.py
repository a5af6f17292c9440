"""The first process of a lab host: mounts the host's own folders, takes its syslog, buries its dead.

    first_process.py NAME STATE FOLDER...

Runs in fresh mount, pid and uts namespaces. Ends only when the lab kills it, and everything on the host with it.
"""

import os
import selectors
import signal
import socket
import subprocess
import sys
import time

name, state, *folders = sys.argv[1:]


def bind(source, target, recursive=False):
    subprocess.run(["mount", "--rbind" if recursive else "--bind", source, target], check=True)


def make_devices():
    """A /dev of the host's own, so that /dev/log can be in it; its devices are the machine's."""
    own = f"{state}/dev"
    os.makedirs(f"{own}/shm", mode=0o1777, exist_ok=True)
    for device in ("null", "zero", "full", "random", "urandom", "tty"):
        open(f"{own}/{device}", "w").close()
        bind(f"/dev/{device}", f"{own}/{device}")
    for link, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        if not os.path.lexists(f"{own}/{link}"):
            os.symlink(target, f"{own}/{link}")
    bind(own, "/dev", recursive=True)


def listen_for_syslog(path):
    sink = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sink.bind(path)
    os.chmod(path, 0o666)
    return sink


socket.sethostname(name)
make_devices()
for folder in folders:
    if os.path.isdir(folder):
        bind(f"{state}{folder}", folder)
for owner in ("redis", "haproxy"):
    subprocess.run(["chown", "-R", f"{owner}:{owner}", f"/run/{owner}"], stderr=subprocess.DEVNULL)

selector = selectors.DefaultSelector()
for path in ("/dev/log", "/var/lib/haproxy/dev/log"):  # the second for a HAProxy in its chroot, as Debian's rsyslog has it
    selector.register(listen_for_syslog(path), selectors.EVENT_READ)

wake_up, woken = socket.socketpair()
woken.setblocking(False)
signal.set_wakeup_fd(woken.fileno())
signal.signal(signal.SIGCHLD, lambda *_: None)
selector.register(wake_up, selectors.EVENT_READ, "children")

syslog = open("/var/log/syslog", "ab", buffering=0)
open(f"{state}/ready", "w").close()

while True:
    for key, _ in selector.select():
        if key.data == "children":
            wake_up.recv(4096)
            while True:
                try:
                    if os.waitpid(-1, os.WNOHANG)[0] == 0:
                        break
                except ChildProcessError:
                    break
        else:
            syslog.write(f"{time.time():.3f} {name} ".encode() + key.fileobj.recv(65536).rstrip(b"\n\0") + b"\n")
