"""Free ports of the loopback interface."""

import random
import socket

_handed_out = set()


def free_port(host="127.0.0.1"):
    """A TCP port that nobody listens on and that this run has not handed out before.

    Ports come from below the range the kernel takes for outgoing connections, so that a connection made between the
    choice and the server's bind cannot sit on it.
    """
    low, high = 10000, int(open("/proc/sys/net/ipv4/ip_local_port_range").read().split()[0]) - 1
    for _ in range(1000):
        port = random.randint(low, high)
        if port in _handed_out:
            continue
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
        _handed_out.add(port)
        return port
    raise RuntimeError(f"no free port on {host} between {low} and {high}")
