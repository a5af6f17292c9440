"""What the tests against real peers share: processes, ports, waiting, raw RESP, network namespaces.

Import from here (`from harness import wait_until, free_port`), or use the fixtures of conftest.py.
"""

from .binary import ARTICLE, REPOSITORY, vigie_binary, vigie_role
from .disk_faults import DiskFaults
from .loopback import LoopbackPlatform
from .namespaces import Network
from .ports import free_port
from .processes import Process, Processes
from .quorum import PASSWORD, Quorum, state_lines
from .relay import Relay
from .replicas import PlayedReplica
from .resp import RawClient, ServerClosed, encode
from .servers import HAProxy, Sentinel, Store
from .waiting import wait_until

__all__ = [
    "ARTICLE", "DiskFaults", "encode", "free_port", "HAProxy", "LoopbackPlatform", "Network", "PASSWORD", "PlayedReplica", "Process",
    "Processes", "Quorum", "RawClient", "Relay", "REPOSITORY", "Sentinel", "ServerClosed", "state_lines", "Store", "vigie_binary",
    "vigie_role", "wait_until",
]
