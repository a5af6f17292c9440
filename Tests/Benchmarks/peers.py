"""The servers that are measured: each started alone on loopback, on a free port, saving nothing."""

import os
import resource
import shutil
import tempfile
from pathlib import Path

from harness import Processes, Store, free_port, vigie_binary

PROGRAMS = {
    "redis": lambda: ["redis-server"],
    "vigie": lambda: [vigie_binary(), "store"],
}


class Peers:
    """The named servers, running. Use as a context manager."""

    def __init__(self, names, pin=True):
        self.names, self.pin = names, pin
        self.directory = Path(tempfile.mkdtemp(prefix="vigie-bench-"))
        self.processes = Processes(self.directory)
        self.servers = {}

    def __enter__(self):
        try:
            for name in self.names:
                self.servers[name] = self.start(name)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_):
        self.end()

    def start(self, name, folder=None, **options):
        """Another instance of a server, in a folder of its own unless said otherwise; `options` are directives of redis.conf."""
        port = free_port()
        folder = folder or self.directory / f"{name}-{port}"
        folder.mkdir(exist_ok=True)
        argv = [*PROGRAMS[name](), "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                "--dir", folder]
        for directive, value in options.items():
            argv += ["--" + directive.replace("_", "-"), *(value if isinstance(value, tuple) else [value])]
        store = Store(self.processes.start(argv, name=f"{name}-{port}"), port).wait_ready()
        store.name, store.folder = name, folder
        if self.pin and (os.cpu_count() or 1) > 1:
            os.sched_setaffinity(store.pid, {0})    # the load generators run on the other CPUs
        return store

    def end(self):
        self.processes.end()
        shutil.rmtree(self.directory, ignore_errors=True)


def load_command(*argv):
    """`argv` on the CPUs that the servers do not use."""
    count = os.cpu_count() or 1
    return ["taskset", "-c", f"1-{count - 1}", *map(str, argv)] if count > 1 else list(map(str, argv))


def cpu_nanoseconds(pid):
    """The time all threads of a process have run so far, user and system together.

    The same quantity as utime + stime of /proc/PID/stat, in nanoseconds where those count 10 ms ticks.
    """
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        total += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])
    return total


def allow_descriptors(wanted):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
