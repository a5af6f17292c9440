"""Small networks of namespaces for tests that need root: hosts with an eth0 each on one bridge."""

import json
import os
import re
import subprocess


def _run(*argv, check=True):
    return subprocess.run([str(word) for word in argv], check=check, capture_output=True, text=True)


class Network:
    """Hosts on one bridge, which lies in a namespace of its own.

    `network.host("a", "10.77.0.1/24")` makes one and returns the namespace's name, which `Process(..., netns=)` and
    `ip netns exec` take. `end` removes all of it.
    """

    _count = 0

    def __init__(self):
        Network._count += 1
        self.prefix = f"vt{os.getpid()}-{Network._count}"
        self.hosts = {}
        self.switch = f"{self.prefix}-sw"
        _run("ip", "netns", "add", self.switch)
        _run("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
        _run("ip", "-n", self.switch, "link", "set", "br0", "up")

    def host(self, name, *addresses):
        namespace, port = f"{self.prefix}-{name}", f"p{len(self.hosts)}"
        self.hosts[name] = (namespace, port)
        _run("ip", "netns", "add", namespace)
        _run("ip", "-n", namespace, "link", "set", "lo", "up")
        _run("ip", "-n", namespace, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", self.switch)
        _run("ip", "-n", self.switch, "link", "set", port, "master", "br0", "up")
        for address in addresses:
            _run("ip", "-n", namespace, "address", "add", address, "dev", "eth0")
        _run("ip", "-n", namespace, "link", "set", "eth0", "up")
        return namespace

    @staticmethod
    def sweep():
        """Removes the namespaces of runs that were killed before they could."""
        for line in _run("ip", "netns", "list").stdout.splitlines():
            owner = re.match(r"vt(\d+)-\d+-", line)
            if owner and not os.path.exists(f"/proc/{owner[1]}"):
                _run("ip", "netns", "delete", line.split()[0], check=False)

    def namespace(self, name):
        return self.hosts[name][0]

    def pull_cable(self, name):
        """Takes the switch's end down; the host's interface loses its carrier."""
        _run("ip", "-n", self.switch, "link", "set", self.hosts[name][1], "down")

    def plug_cable(self, name):
        _run("ip", "-n", self.switch, "link", "set", self.hosts[name][1], "up")

    def swallow(self, name):
        """Drops all that a host sends and is sent; no interface loses its carrier."""
        _run("bridge", "-n", self.switch, "link", "set", "dev", self.hosts[name][1], "state", "0")

    def let_pass(self, name):
        _run("bridge", "-n", self.switch, "link", "set", "dev", self.hosts[name][1], "state", "3")

    def addresses(self, name, device="eth0"):
        """The IPv4 addresses of a host's interface, as "address/prefix"."""
        shown = _run("ip", "-n", self.namespace(name), "-j", "-4", "address", "show", "dev", device).stdout
        return [f"{a['local']}/{a['prefixlen']}" for link in json.loads(shown or "[]") for a in link["addr_info"]]

    def execute(self, name, *argv, check=True):
        """Runs a program on a host and returns what it printed."""
        return _run("ip", "netns", "exec", self.namespace(name), *argv, check=check).stdout

    def end(self):
        for namespace, _ in self.hosts.values():
            _run("ip", "netns", "delete", namespace, check=False)
        _run("ip", "netns", "delete", self.switch, check=False)
