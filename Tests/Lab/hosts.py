"""A host of the lab: a network namespace with its own /etc, /run, /var/log, process table and name.

So the article's files work with the absolute paths they contain, `killall -0 haproxy` sees this host's processes only,
and ending the host's first process ends everything on it.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from harness.processes import _die_with_parent
from harness.waiting import wait_until

HERE = Path(__file__).resolve().parent

# What each host has for itself; everything else is the machine's.
OWN_FOLDERS = ["/etc", "/run", "/var/log", "/var/lib/redis", "/var/lib/haproxy"]


@dataclass
class Running:
    """One process on a host. `pid` is the machine's number for it, not the host's."""
    pid: int
    name: str
    arguments: list

    def signal(self, number):
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass


class Host:
    def __init__(self, name, address, network, state):
        self.name, self.address, self.network = name, address, network
        self.state = Path(state) / name
        self.namespace = network.host(name, f"{address}/24")
        self.foreground = []
        self._make_folders()
        self._boot()

    # -- its own folders

    def path(self, absolute):
        """Where a file that the host sees as `absolute` lies on the machine."""
        return self.state / absolute.lstrip("/")

    def _make_folders(self):
        for folder in OWN_FOLDERS[1:] + ["/run/redis", "/run/haproxy", "/var/log/redis", "/var/lib/haproxy/dev"]:
            self.path(folder).mkdir(parents=True, exist_ok=True)
        shutil.copytree("/etc", self.path("/etc"), symlinks=True, ignore_dangling_symlinks=True)
        for folder in ("redis", "haproxy", "keepalived", "vigie"):
            shutil.rmtree(self.path("/etc") / folder, ignore_errors=True)

    def install(self, files):
        """Copies a folder of configs/article over the host's files."""
        shutil.copytree(files, self.state, dirs_exist_ok=True)

    # -- its processes

    def _boot(self):
        self.init = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, "unshare", "--mount", "--uts", "--ipc", "--pid", "--fork",
             "--kill-child=SIGKILL", "--propagation", "private", "--mount-proc",
             "/usr/bin/python3", str(HERE / "first_process.py"), self.name, str(self.state), *OWN_FOLDERS],
            stdin=subprocess.DEVNULL, stdout=open(self.state / "first_process.log", "wb"), stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent)
        ready = self.state / "ready"
        wait_until(ready.exists, 15, f"{self.name} up; see {self.state}/first_process.log")
        children = Path(f"/proc/{self.init.pid}/task/{self.init.pid}/children").read_text().split()
        self.first_pid = int(children[0])

    def command(self, *argv):
        """`argv` with what it takes to run it on this host."""
        return ["nsenter", "--target", str(self.first_pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--wd=/",
                "--", *map(str, argv)]

    def run(self, *argv, timeout=20, check=True):
        """Runs a program on the host to its end; its output as text. Programs that go into the background may."""
        with open(self.state / "commands.log", "a+b") as log:
            done = subprocess.run(self.command(*argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                                  timeout=timeout)
        if check and done.returncode != 0:
            raise RuntimeError(f"{self.name}: {' '.join(map(str, argv))} ended with {done.returncode}; "
                               f"see {self.state}/commands.log")
        return done.stdout.decode(errors="replace")

    def start(self, *argv, name):
        """Starts a program that stays in the foreground; its output goes to /var/log/NAME.out of the host."""
        with open(self.path(f"/var/log/{name}.out"), "ab") as log:
            child = subprocess.Popen(self.command(*argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                     preexec_fn=_die_with_parent)
        self.foreground.append(child)
        return child

    def processes(self, *names):
        """The host's processes of the given names (all, without names), first started first."""
        for child in self.foreground:
            child.poll()
        mine = os.readlink(f"/proc/{self.first_pid}/ns/pid")
        found = []
        for entry in sorted((int(e) for e in os.listdir("/proc") if e.isdigit())):
            try:
                if os.readlink(f"/proc/{entry}/ns/pid") != mine or entry == self.first_pid:
                    continue
                name = Path(f"/proc/{entry}/comm").read_text().strip()
                arguments = Path(f"/proc/{entry}/cmdline").read_bytes().decode(errors="replace").split("\0")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if arguments != [""] and (not names or name in names):
                found.append(Running(entry, name, arguments))
        return found

    def signal(self, names, number):
        """Sends a signal to the processes of these names. Fails if there is none: a fault must hit something."""
        hit = self.processes(*names)
        if not hit:
            raise RuntimeError(f"{self.name} runs none of {', '.join(names)}; "
                               f"it runs {[process.name for process in self.processes()]}")
        for process in hit:
            process.signal(number)
        return hit

    def redis(self, *words, port=6379, password=None, timeout=3):
        """One command to a store or Sentinel on the host itself, by Debian's redis-cli, as text."""
        words = (["-a", password, "--no-auth-warning"] if password else []) + list(words)
        done = subprocess.run(self.command("redis-cli", "-p", port, *words), stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=timeout)
        return done.stdout.decode(errors="replace")

    # -- its cable

    def pull_cable(self):
        self.network.pull_cable(self.name)

    def plug_cable(self):
        self.network.plug_cable(self.name)

    def has_address(self, address):
        return any(shown.split("/")[0] == address for shown in self.network.addresses(self.name))

    def drop_traffic_with(self, addresses):
        """The network between this host and those addresses is cut, both ways; everything else passes."""
        rules = "\n".join(
            f"add rule inet lab {chain} ip {side} {{ {', '.join(addresses)} }} drop"
            for chain, side in (("input", "saddr"), ("output", "daddr")))
        subprocess.run(["ip", "netns", "exec", self.namespace, "nft", "-f", "-"], check=True, text=True, input=f"""
add table inet lab
add chain inet lab input {{ type filter hook input priority 0; }}
add chain inet lab output {{ type filter hook output priority 0; }}
{rules}
""")

    def pass_all_traffic(self):
        subprocess.run(["ip", "netns", "exec", self.namespace, "nft", "delete", "table", "inet", "lab"], check=False)

    def end(self):
        if self.init.poll() is None:
            self.init.send_signal(signal.SIGKILL)
        self.init.wait()
        for child in self.foreground:
            try:
                child.wait(2)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
