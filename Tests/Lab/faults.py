"""What is done to the platform, and what comes of it."""

import signal
import time
from dataclasses import dataclass, field

from harness import wait_until
from installation import ADDRESSES, NAMES, REDIS_HOSTS

BEFORE = 3.0     # seconds of undisturbed writing before the fault
AFTER = 3.0      # seconds of undisturbed writing after service came back
PATIENCE = 60.0  # seconds after which a platform that does not come back is given up
APART = 20.0     # seconds that a cut or an absence lasts, when it is to be undone


@dataclass
class Result:
    fault: str
    platform: str
    out_of_service: float = None    # seconds, the longest time without an acknowledged write; None: never came back
    observed: float = 0.0           # seconds from the fault to the end
    acknowledged: int = 0
    lost: int = None
    mails: int = 0
    problems: list = field(default_factory=list)


@dataclass
class Fault:
    """One row of the table. `strike` hits the platform; `undo`, if any, comes after APART seconds."""
    name: str
    says: str
    strike: object
    undo: object = None
    mode: str = "session"
    redis_host_gone: bool = False    # the struck Redis host is still gone when the records are compared
    proxy_host_gone: bool = False    # the struck proxy host still has the virtual address, unreachable


def master(platform):
    return platform.hosts["redis-01"]


def active_proxy(platform):
    return platform.hosts[platform.vip_host()]


def cut_off(platform):
    master(platform).drop_traffic_with([ADDRESSES[host] for host in REDIS_HOSTS if host != "redis-01"])


def restart(platform):
    platform.start_role("redis-01", "store")


FAULTS = [
    Fault("killed", "master process killed",
          lambda platform: master(platform).signal([NAMES["store"]], signal.SIGKILL), redis_host_gone=True),
    Fault("frozen", "master frozen",
          lambda platform: master(platform).signal([NAMES["store"]], signal.SIGSTOP), redis_host_gone=True),
    Fault("cable", "master's cable pulled",
          lambda platform: master(platform).pull_cable(), redis_host_gone=True),
    Fault("proxy-cable", "active proxy host's cable pulled",
          lambda platform: active_proxy(platform).pull_cable(), proxy_host_gone=True),
    Fault("proxy-killed", "active proxy's process killed",
          lambda platform: active_proxy(platform).signal([NAMES["proxy"]], signal.SIGKILL)),
    Fault("cut-off", "master cut off from the other Redis hosts, not from the proxies; new connection per write",
          cut_off, lambda platform: master(platform).pass_all_traffic(), mode="fresh"),
    Fault("restarted", "master killed, restarted 20 s later; new connection per write",
          lambda platform: master(platform).signal([NAMES["store"]], signal.SIGKILL), restart, mode="fresh"),
]


def longest_gap(times, since, until):
    """The longest time without an acknowledged write between `since` and `until`; None if it lasts until the end.

    A silence of more than a second at the very end counts as never having come back.
    """
    inside = [since] + [moment for moment in times if since <= moment <= until]
    if until - inside[-1] > 1.0:
        return None
    return max((later - earlier for earlier, later in zip(inside, inside[1:])), default=until - since)


def strike(fault, platform, name):
    """Runs one fault on a platform that is up, and measures."""
    result = Result(fault.name, name)
    platform.start_client(fault.mode)
    wait_until(lambda: len(platform.acknowledged()) > 100, 15, "the client writing")
    time.sleep(BEFORE)

    struck = time.monotonic()
    fault.strike(platform)

    def writing_again():
        """Service interrupted and back for AFTER seconds, or never interrupted."""
        recent = [moment for _, moment in platform.acknowledged()[-200:]]
        return recent and time.monotonic() - recent[-1] < 0.5 and _unbroken_for(platform, AFTER)

    if fault.undo:
        time.sleep(APART)
        fault.undo(platform)
        time.sleep(15.0)    # time enough for a returning master to do its damage
    else:
        time.sleep(AFTER)
        while time.monotonic() - struck < PATIENCE and not writing_again():
            time.sleep(0.2)

    stopped = time.monotonic()
    platform.stop_client()
    acknowledged = platform.acknowledged()
    times = [moment for _, moment in acknowledged]
    result.out_of_service = longest_gap(times, struck - 0.5, stopped)
    result.observed = stopped - struck
    result.acknowledged = len(acknowledged)

    _compare(fault, platform, acknowledged, result)
    if not fault.proxy_host_gone and len(platform.vip_hosts()) != 1:
        result.problems.append(f"the virtual address is on {platform.vip_hosts() or 'no host'}")
    result.mails = platform.mails()
    return result


def _unbroken_for(platform, seconds):
    times = [moment for _, moment in platform.acknowledged()]
    now = time.monotonic()
    last = [moment for moment in times if moment > now - seconds]
    if not last or last[0] > now - seconds + 0.3:
        return False
    return max((b - a for a, b in zip(last, last[1:])), default=0) < 0.3


def _compare(fault, platform, acknowledged, result):
    """What the master that the Sentinels name holds, against what was acknowledged."""
    try:
        if fault.redis_host_gone:
            wait_until(lambda: platform.elected_master() != "redis-01", 20, "another master", every=0.5)
        platform.wait_settled(45, gone=["redis-01"] if fault.redis_host_gone else [])
    except AssertionError as error:
        result.problems.append(str(error))
    survivor = platform.elected_master()
    if survivor is None:
        result.problems.append("no Sentinel names a master")
        return
    held = platform.held_by(survivor)
    result.lost = sum(1 for number, _ in acknowledged if number not in held)
