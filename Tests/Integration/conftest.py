"""Fixtures of the tests against real peers. Each factory returns a started, answering server; all end with the test.

    def test_it(vigie_store, redis_server):
        ours, real = vigie_store(), redis_server(maxmemory="10mb")
        assert ours.client().set("key", "value")

Options are redis-server's own, with `_` for `-`. VIGIE_STAND_IN=peers starts the real programs in our place. On failure the last lines of every process's log are in the report.
"""

import os
import shutil
import signal
from pathlib import Path

import pytest

import harness
from harness import HAProxy, Network, Processes, Sentinel, Store, vigie_binary, vigie_role
from harness.servers import options_as_arguments


@pytest.fixture
def vigie_bin():
    return vigie_binary()


@pytest.fixture
def free_port():
    """A function that returns another free port at each call."""
    return harness.free_port


@pytest.fixture
def processes(request, tmp_path):
    """Starts programs: `processes.start([program, argument...], name="a")`; ends them after the test."""
    started = Processes(tmp_path)
    request.node.harness_processes = started
    yield started
    started.end()


TIME_LIMIT = 120  # seconds for a test, unless it has @pytest.mark.time_limit(seconds)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """Ends a test that hangs, so that its processes end and the others run."""
    mark = item.get_closest_marker("time_limit")
    seconds = mark.args[0] if mark else TIME_LIMIT

    def too_long(*_):
        raise AssertionError(f"still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed and hasattr(item, "harness_processes"):
        report.sections.append(("logs of the processes", item.harness_processes.logs()))


def _store_factory(processes, tmp_path, program, kind):
    def start(*arguments, port=None, password=None, netns=None, host="127.0.0.1", ready=True, env=None, **options):
        """`arguments` go before the options (a configuration file, say); `options` are redis.conf directives."""
        port = port or harness.free_port()
        name = processes.unique(f"{kind}-{port}")
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        words = {"port": port, "bind": host, "dir": directory, "save": "", "repl-diskless-sync-delay": 0}
        if password:
            words |= {"requirepass": password, "masterauth": password}
        words |= options
        process = processes.start([*program(), *arguments, *options_as_arguments(words)], name=name, netns=netns, env=env)
        store = Store(process, port, host, password)
        store.directory = Path(words["dir"])
        return store.wait_ready() if ready else store
    return start


@pytest.fixture
def redis_server(processes, tmp_path):
    """Starts Debian's redis-server."""
    return _store_factory(processes, tmp_path, lambda: ["redis-server"], "redis")


@pytest.fixture
def vigie_store(processes, tmp_path):
    """Starts `vigie store`."""
    return _store_factory(processes, tmp_path, lambda: vigie_role("store"), "vigie-store")


@pytest.fixture
def disk_faults(tmp_path):
    """A disk whose faults the test decides about; start a server with env=disk_faults.env."""
    return harness.DiskFaults(tmp_path)


@pytest.fixture
def store_of(redis_server, vigie_store):
    """`store_of("redis")` and `store_of("vigie")`: the factory by name, for parametrised tests."""
    return {"redis": redis_server, "vigie": vigie_store}.__getitem__


def _sentinel_factory(processes, tmp_path, program, kind):
    def start(configuration, port=None, ready=True, netns=None, password=None):
        """`configuration` is the text behind the `port` and `dir` lines, which are written here."""
        port = port or harness.free_port()
        name = processes.unique(f"{kind}-{port}")
        directory = tmp_path / name
        directory.mkdir()
        file = directory / "sentinel.conf"
        file.write_text(f"port {port}\ndir {directory}\n{configuration}\n")
        process = processes.start([*program(), file], name=name, netns=netns)
        sentinel = Sentinel(process, port, password=password)
        sentinel.file = file
        return sentinel.wait_ready() if ready else sentinel
    return start


@pytest.fixture
def redis_sentinel(processes, tmp_path):
    """Starts Debian's redis-sentinel on a configuration text."""
    return _sentinel_factory(processes, tmp_path, lambda: ["redis-sentinel"], "redis-sentinel")


@pytest.fixture
def vigie_sentinel(processes, tmp_path):
    """Starts `vigie sentinel` on a configuration text."""
    return _sentinel_factory(processes, tmp_path, lambda: vigie_role("sentinel"), "vigie-sentinel")


@pytest.fixture
def sentinel_of(redis_sentinel, vigie_sentinel):
    """`sentinel_of("redis")` and `sentinel_of("vigie")`: the factory by name."""
    return {"redis": redis_sentinel, "vigie": vigie_sentinel}.__getitem__


@pytest.fixture
def quorum(store_of, sentinel_of):
    """`quorum(sentinels=("vigie", "redis", "redis"))`: three stores and Sentinels, as harness.Quorum."""
    return lambda **options: harness.Quorum(store_of, sentinel_of, **options)


def _proxy_factory(processes, tmp_path, program, kind):
    def start(configuration, netns=None):
        """`configuration` may contain {stats}, which becomes the path of a stats socket."""
        name = processes.unique(kind)
        stats = tmp_path / f"{name}.sock"
        file = tmp_path / f"{name}.cfg"
        file.write_text(configuration.replace("{stats}", str(stats)).rstrip("\n") + "\n")
        return HAProxy(processes.start([*program(), file], name=name, netns=netns), stats)
    return start


@pytest.fixture
def haproxy(processes, tmp_path):
    """Starts Debian's haproxy in the foreground on a configuration text."""
    return _proxy_factory(processes, tmp_path, lambda: ["haproxy", "-db", "-f"], "haproxy")


@pytest.fixture
def vigie_proxy(processes, tmp_path):
    """Starts `vigie proxy` on a configuration text."""
    return _proxy_factory(processes, tmp_path, lambda: vigie_role("proxy"), "vigie-proxy")


@pytest.fixture
def loopback_platform(request):
    """`loopback_platform("vigie")` or `("redis")`: three stores, three Sentinels and a proxy, all of that kind; a role
    given by name (`proxy="redis"`) is of another."""
    def start(kind, store=None, sentinel=None, proxy=None, **options):
        names = {"redis": ("redis_server", "redis_sentinel", "haproxy"),
                 "vigie": ("vigie_store", "vigie_sentinel", "vigie_proxy")}
        factories = [request.getfixturevalue(names[chosen or kind][place])
                     for place, chosen in enumerate((store, sentinel, proxy))]
        return harness.LoopbackPlatform(*factories, **options)
    return start


@pytest.fixture
def network():
    """An empty network of namespaces; needs root."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need root and iproute2")
    made = Network()
    yield made
    made.end()
