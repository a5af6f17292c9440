"""The platform of the article on six lab hosts: which program plays each role on each host, and how it is started."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from harness import ARTICLE, Network, vigie_binary, wait_until
from hosts import Host

VIP = "192.168.0.1"
CLIENT = "192.168.0.100"
PASSWORD = "7xJtpLugAyu6hgPbuB3hX4R"
ADDRESSES = {
    "haproxy-01": "192.168.0.2", "haproxy-02": "192.168.0.3",
    "redis-01": "192.168.0.4", "redis-02": "192.168.0.5", "redis-03": "192.168.0.6",
}
REDIS_HOSTS = ["redis-01", "redis-02", "redis-03"]
PROXY_HOSTS = ["haproxy-01", "haproxy-02"]

FILES = {
    "store": "/etc/redis/redis.conf", "sentinel": "/etc/redis/sentinel.conf",
    "proxy": "/etc/haproxy/haproxy.cfg", "vrrp": "/etc/keepalived/keepalived.conf",
}
ROLES = {"redis": ["store", "sentinel"], "haproxy": ["proxy", "vrrp"]}

# How Debian's programs are started on a host, and the name that the process then has.
DEBIAN = {
    "store": (["redis-server", FILES["store"]], "redis-server"),
    "sentinel": (["redis-sentinel", FILES["sentinel"]], "redis-sentinel"),
    "proxy": (["haproxy", "-f", FILES["proxy"]], "haproxy"),
    "vrrp": (["keepalived", "-n", "-l", "-D", "-P"], "keepalived"),
}

# Vigie's processes carry the name of the program they replace, which the article's `killall -0 haproxy` looks for. With
# one process for all roles of a box that name is the one of the box's first role.
NAMES = {role: name for role, (_, name) in DEBIAN.items()}

KINDS = ("debian", "vigie", "vigie-run")


def roles_of(host):
    return ROLES[host.split("-")[0]]


class Choice:
    """Who plays which role where: `debian`, `vigie` (a process per role) or `vigie-run` (a process per box)."""

    def __init__(self, everywhere="vigie"):
        self.kinds = {(host, role): everywhere for host in ADDRESSES for role in roles_of(host)}

    def set(self, what, kind):
        """`what` is a host, a role, `redis` or `haproxy` for all hosts of that sort, or HOST/ROLE."""
        if kind not in KINDS:
            raise ValueError(f"{what}={kind}: accepted are {', '.join(KINDS)}")
        host, _, role = what.partition("/")
        hit = [(h, r) for h, r in self.kinds
               if (role and (h, r) == (host, role)) or (not role and what in (h, r, h.split("-")[0]))]
        if not hit:
            raise ValueError(f"{what}: neither a host ({', '.join(ADDRESSES)}) nor a role ({', '.join(FILES)})")
        for key in hit:
            self.kinds[key] = kind
        return self

    def __str__(self):
        kinds = set(self.kinds.values())
        if len(kinds) == 1:
            return kinds.pop()
        return " ".join(f"{h}/{r}={k}" for (h, r), k in self.kinds.items())


class Installation:
    """The six hosts and the client's, up and running when `start` returns. Use as a context manager."""

    def __init__(self, choice, tuned=False, keep=None):
        self.choice, self.tuned = choice, tuned
        self.keep = keep
        self.state = Path(tempfile.mkdtemp(prefix="vigie-lab-"))
        os.chmod(self.state, 0o755)
        self.hosts, self.network, self.client_process = {}, None, None

    def __enter__(self):
        try:
            self._make_hosts()
            self._start_programs()
            self._wait_until_whole()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        for host in self.hosts.values():
            host.end()
        if self.network:
            self.network.end()
        if self.keep:
            self._keep_logs()
        shutil.rmtree(self.state, ignore_errors=True)

    def _keep_logs(self):
        for name, host in self.hosts.items():
            target = Path(self.keep) / name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(host.path("/var/log"), target, ignore_dangling_symlinks=True)
            for file in ("commands.log", "first_process.log"):
                shutil.copy(host.state / file, target) if (host.state / file).exists() else None
            if host.path("/etc/redis").exists():
                shutil.copytree(host.path("/etc/redis"), target / "etc-redis")

    # -- making and starting

    def _make_hosts(self):
        self.network = Network()
        for name, address in {**ADDRESSES, "client": CLIENT}.items():
            host = Host(name, address, self.network, self.state)
            self.hosts[name] = host
            if name != "client":
                host.install(ARTICLE / name)
                if self.tuned:
                    tune(host)

    def kind(self, host, role):
        return self.choice.kinds[host, role]

    def start_role(self, host_name, role):
        """Starts one role on one host as its machine's boot would."""
        host, kind = self.hosts[host_name], self.kind(host_name, role)
        if kind == "debian":
            argv = DEBIAN[role][0]
            if role == "proxy":  # HAProxy cannot bind an address that the host has not got yet
                host.network.execute(host_name, "sysctl", "-qw", "net.ipv4.ip_nonlocal_bind=1")
            if role == "vrrp":
                host.start(*argv, name="keepalived")
            else:
                host.run(*argv)
            return
        self._install_init_script(host)
        if kind == "vigie-run":
            if role == roles_of(host_name)[0]:
                host.start(*self._vigie(host, role, "run", "/etc/vigie/node.conf"), name="vigie-run")
            return
        host.start(*self._vigie(host, role, role, FILES[role]), name=f"vigie-{role}")

    def _vigie(self, host, role, *arguments):
        """Vigie under the process name of the program it replaces, called by its own name."""
        link = host.path("/run/vigie") / NAMES[role]
        link.parent.mkdir(exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(vigie_binary())
        return ["bash", "-c", 'exec -a vigie "$0" "$@"', f"/run/vigie/{NAMES[role]}", *arguments]

    def _install_init_script(self, host):
        """`service haproxy restart`, which the article's keepalived.conf names, must bring back this host's proxy and
        not Debian's."""
        if host.name not in PROXY_HOSTS or self.kind(host.name, "proxy") == "debian":
            return
        script = host.path("/etc/init.d/haproxy")
        if self.kind(host.name, "proxy") == "vigie-run":
            script.write_text("#!/bin/sh\nexit 0\n")
        else:
            script.write_text(f"""#!/bin/bash
# Vigie as this host's haproxy: service haproxy start|stop|restart
case "$1" in stop|restart) kill $(pgrep -x haproxy) 2>/dev/null; sleep 0.2 ;; esac
case "$1" in start|restart)
    setsid bash -c 'exec -a vigie /run/vigie/haproxy proxy {FILES["proxy"]}' </dev/null >>/var/log/vigie-proxy.out 2>&1 &
esac
exit 0
""")
        script.chmod(0o755)

    def _start_programs(self):
        client = self.hosts["client"]
        client.start("/usr/bin/python3", Path(__file__).parent / "mail_sink.py", CLIENT, self.state / "mails",
                     name="mail_sink")
        for role in ("store", "sentinel", "proxy", "vrrp"):
            for host in ADDRESSES:
                if role in roles_of(host):
                    self.start_role(host, role)
            if role == "store":
                for host in REDIS_HOSTS:
                    wait_until(lambda: "role:" in self.store(host, "INFO", "replication"), 15, f"the store on {host}")

    def _wait_until_whole(self):
        """Replicas in step, Sentinels acquainted, the VIP on a host, writes going through."""
        self.wait_settled(60)
        for host in REDIS_HOSTS:
            wait_until(lambda: self.sentinel_knows(host) == (2, 2), 60,
                       f"the Sentinel on {host} knowing two replicas and two Sentinels", every=0.2)
        wait_until(self.vip_host, 60, "the VIP on a proxy host", every=0.2)
        wait_until(lambda: "PONG" in self.through_vip("PING"), 30, f"PING through {VIP}", every=0.2)

    # -- asking

    def store(self, host, *words):
        return self.hosts[host].redis(*words, password=PASSWORD)

    def sentinel(self, host, *words):
        return self.hosts[host].redis(*words, port=26379)

    def through_vip(self, *words):
        return self.hosts["client"].redis("-h", VIP, *words, password=PASSWORD)

    def sentinel_knows(self, host):
        """(replicas, other Sentinels) as the Sentinel on `host` says."""
        words = self.sentinel(host, "SENTINEL", "MASTER", "mymaster").split("\n")
        fields = dict(zip(words[::2], words[1::2]))
        return int(fields["num-slaves"]), int(fields["num-other-sentinels"])

    def replication(self, host):
        try:
            lines = self.store(host, "INFO", "replication").splitlines()
        except subprocess.TimeoutExpired:
            return {}
        return dict(line.partition(":")[::2] for line in lines if ":" in line)

    def masters(self):
        """The hosts that say role:master."""
        return [host for host in REDIS_HOSTS if self.replication(host).get("role") == "master"]

    def elected_master(self):
        """The host that most Sentinels name as the master."""
        answers = []
        for host in REDIS_HOSTS:
            try:
                answers.append(self.sentinel(host, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster").split("\n")[0])
            except subprocess.TimeoutExpired:
                continue
        by_address = {address: host for host, address in ADDRESSES.items()}
        named = [by_address[answer] for answer in answers if answer in by_address]
        return max(set(named), key=named.count) if named else None

    def vip_hosts(self):
        """The proxy hosts that have the VIP."""
        return [host for host in PROXY_HOSTS if self.hosts[host].has_address(VIP)]

    def vip_host(self):
        """The proxy host that has the VIP, the first of them if both have."""
        return next(iter(self.vip_hosts()), None)

    def wait_settled(self, timeout, gone=()):
        """Waits until one host is master and the others, but for those `gone`, are its replicas in step."""
        def settled():
            infos = {host: self.replication(host) for host in REDIS_HOSTS if host not in gone}
            masters = [host for host, info in infos.items() if info.get("role") == "master"]
            links = [info.get("master_link_status") for info in infos.values() if info.get("role") == "slave"]
            wrong = [info.get("master_host") for info in infos.values()
                     if info.get("role") == "slave" and masters and info.get("master_host") != ADDRESSES[masters[0]]]
            return len(masters) == 1 and links == ["up"] * (len(infos) - 1) and not wrong
        wait_until(settled, timeout, "one master with its replicas in step", every=0.25)

    def mails(self):
        file = self.state / "mails"
        return file.read_text(errors="replace").count("\n----\n") if file.exists() else 0

    # -- writing

    def start_client(self, mode):
        """Starts the client in the client's namespace; its record of acknowledged writes is `acknowledged()`."""
        self.record = self.state / "acknowledged"
        self.client_process = self.hosts["client"].start(
            "/usr/bin/python3", Path(__file__).parent / "client.py", VIP, "6379", PASSWORD, mode, self.record,
            name="client")

    def stop_client(self):
        for process in self.hosts["client"].processes("python3"):
            if any(argument.endswith("/client.py") for argument in process.arguments):
                process.signal(signal.SIGTERM)
        self.client_process.wait(5)

    def acknowledged(self):
        """[(number, monotonic seconds)] of the acknowledged writes so far."""
        if not self.record.exists():
            return []
        lines = (line.split() for line in self.record.read_text().splitlines())
        return [(int(line[0]), float(line[1])) for line in lines if len(line) == 2]

    def held_by(self, host):
        """The numbers that the store on `host` holds."""
        text = self.hosts[host].redis("LRANGE", "records", "0", "-1", password=PASSWORD, timeout=30)
        return {int(line) for line in text.split() if line.isdigit()}


def tune(host):
    """All the timers that the four files can shorten, as the design's second column has them."""
    def replace(path, *pairs):
        file = host.path(path)
        if file.exists():
            text = file.read_text()
            for old, new in pairs:
                text = text.replace(old, new)
            file.write_text(text)
    replace(FILES["sentinel"], ("down-after-milliseconds mymaster 5000", "down-after-milliseconds mymaster 500"),
            ("failover-timeout mymaster 10000", "failover-timeout mymaster 2000"))
    replace(FILES["proxy"], ("check inter 1s", "check inter 100ms"), ("timeout connect 4s", "timeout connect 500ms"))
    replace(FILES["vrrp"], ("advert_int 5", "advert_int 1"), ("interval 9", "interval 1"))
