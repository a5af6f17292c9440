"""Child processes with a log file each; what a test started dies with the test."""

import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path

from .waiting import wait_until

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def _die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """One running program. Its standard output and error go to `log`."""

    def __init__(self, name, argv, directory, env=None, netns=None, cwd=None):
        self.name = name
        self.argv = [str(word) for word in argv]
        self.log = Path(directory) / f"{name}.log"
        command = (["ip", "netns", "exec", netns] if netns else []) + self.argv
        with open(self.log, "ab") as output:
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                cwd=cwd or directory, env={**os.environ, **(env or {})}, preexec_fn=_die_with_parent)
        self.pid = self.child.pid
        self._frozen = False

    def alive(self):
        return self.child.poll() is None

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_log(self, text, timeout=10.0):
        """Waits until the log contains `text`."""
        return wait_until(lambda: text in self.log_text(), timeout, f"{text!r} in {self.log}")

    def signal(self, number):
        self.child.send_signal(number)

    def freeze(self):
        """Stops the process as a hung machine would: its sockets stay open and nobody answers."""
        self.signal(signal.SIGSTOP)
        self._frozen = True

    def thaw(self):
        self.signal(signal.SIGCONT)
        self._frozen = False

    def kill(self):
        """kill -9, and waits for the end."""
        if self.alive():
            self.child.kill()
        self.child.wait()

    def stop(self, timeout=10.0):
        """SIGTERM, and kill -9 after `timeout` seconds. Returns the exit status."""
        if self.alive():
            if self._frozen:
                self.thaw()
            self.child.terminate()
            try:
                self.child.wait(timeout)
            except subprocess.TimeoutExpired:
                self.child.kill()
        return self.child.wait()

    def cpu_seconds(self):
        """User and system time used so far, in seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        tick = os.sysconf("SC_CLK_TCK")
        return int(fields[11]) / tick, int(fields[12]) / tick

    def resident_bytes(self):
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise ProcessLookupError(self.pid)


class Processes:
    """All that one test started, in order; ended in reverse order."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.started = []
        self._names = {}

    def unique(self, name):
        """`name`, with a number behind it from the second use on."""
        self._names[name] = self._names.get(name, 0) + 1
        return name if self._names[name] == 1 else f"{name}-{self._names[name]}"

    def start(self, argv, name=None, **options):
        process = Process(self.unique(name or Path(argv[0]).name), argv, self.directory, **options)
        self.started.append(process)
        return process

    def run(self, argv, timeout=30, check=True, **options):
        """Runs a program to its end and returns its standard output as text."""
        done = subprocess.run([str(word) for word in argv], capture_output=True, text=True,
                              timeout=timeout, **options)
        if check and done.returncode != 0:
            raise AssertionError(f"{argv} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def end(self):
        for process in reversed(self.started):
            if process.alive():
                if process._frozen:
                    process.thaw()
                process.child.terminate()
        deadline = time.monotonic() + 3
        for process in reversed(self.started):
            try:
                process.child.wait(max(0.01, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()

    def logs(self, lines=40):
        """The last lines of every log, for the report of a failed test."""
        parts = []
        for process in self.started:
            state = "running" if process.alive() else f"ended with {process.child.returncode}"
            text = "\n".join(process.log_text().splitlines()[-lines:])
            parts.append(f"--- {process.name} (pid {process.pid}, {state}): {' '.join(process.argv)}\n{text}")
        return "\n".join(parts)
