"""VRRP in network namespaces: this project's routers among themselves and with Debian's Keepalived in one virtual router.

Hosts `a` (192.168.0.2) and `b` (192.168.0.3) share 192.168.0.1; `c` (192.168.0.100) looks on.
"""

import re
import subprocess
import time

import pytest

from harness import ARTICLE, vigie_binary, wait_until

VIP = "192.168.0.1"
ADDRESS = {"a": "192.168.0.2", "b": "192.168.0.3", "c": "192.168.0.100"}

# With adverts each second a silent master is given up after 3 s and the skew time; the rest is the test machine's.
MASTER_DOWN = 3.7
SLACK = 1.5

INSTANCE = """
vrrp_instance VI_1 {{
    interface eth0
    virtual_router_id 51
    priority {priority}
    advert_int 1
    virtual_ipaddress {{
        192.168.0.1/24 dev eth0
    }}
    {more}
}}
"""

PAIRS = [("vigie", "vigie"), ("vigie", "keepalived"), ("keepalived", "vigie")]
both_ways = pytest.mark.parametrize("kinds", PAIRS, ids=["-".join(p) for p in PAIRS])


class Router:
    """One VRRP program on one host."""

    def __init__(self, kind, name, process, network):
        self.kind, self.name, self.process, self.network = kind, name, process, network

    def has_vip(self):
        return any(a.startswith(VIP + "/") for a in self.network.addresses(self.name))

    def wait_vip(self, timeout=MASTER_DOWN + SLACK):
        wait_until(self.has_vip, timeout, f"{VIP} on {self.name} ({self.kind})")
        return self

    def wait_no_vip(self, timeout=MASTER_DOWN + SLACK):
        wait_until(lambda: not self.has_vip(), timeout, f"{VIP} gone from {self.name} ({self.kind})")
        return self

    def wait_running(self):
        wait_until(lambda: "STATE" in self.process.log_text(), 5, f"{self.name} in a state")
        return self


@pytest.fixture
def routers(network, processes, tmp_path):
    """Starts `vigie vrrp` or Keepalived on a host of a small network with a configuration text."""
    for name, address in ADDRESS.items():
        network.host(name, address + "/24")

    def start(kind, name, configuration):
        file = tmp_path / f"{name}-{kind}.conf"
        file.write_text(configuration)
        if kind == "vigie":
            argv = [vigie_binary(), "vrrp", file]
        else:
            pids = ["-p", tmp_path / f"{name}.pid", "-r", tmp_path / f"{name}-vrrp.pid"]
            argv = ["keepalived", "-n", "-l", "-D", "-P", "-f", file, *pids]
        process = processes.start(argv, name=f"{name}-{kind}", netns=network.namespace(name))
        return Router(kind, name, process, network).wait_running()

    start.network = network
    return start


def instance(priority, more=""):
    return INSTANCE.format(priority=priority, more=more)


def seconds_until(condition, timeout, what):
    started = time.monotonic()
    wait_until(condition, timeout, what)
    return time.monotonic() - started


def hardware_address(network, host):
    shown = network.execute(host, "ip", "link", "show", "dev", "eth0")
    return re.search(r"link/ether (\S+)", shown)[1]


def neighbour(network, host, address):
    shown = network.execute(host, "ip", "neighbour", "show", address)
    found = re.search(r"lladdr (\S+)", shown)
    return found and found[1]


@both_ways
def test_higher_priority_takes_over_and_third_hosts_learn_it(routers, kinds):
    network = routers.network
    b = routers(kinds[1], "b", instance(100)).wait_vip()
    network.execute("c", "ping", "-c1", "-W2", VIP)
    assert neighbour(network, "c", VIP) == hardware_address(network, "b")

    a = routers(kinds[0], "a", instance(150)).wait_vip()
    b.wait_no_vip(SLACK)
    wait_until(lambda: neighbour(network, "c", VIP) == hardware_address(network, "a"), 2, "c knows that a has the address")
    network.execute("c", "ping", "-c1", "-W2", VIP)
    time.sleep(2.5)
    assert a.has_vip() and not b.has_vip()


@both_ways
def test_nopreempt_leaves_a_working_master_alone(routers, kinds):
    b = routers(kinds[1], "b", instance(100)).wait_vip()
    a = routers(kinds[0], "a", instance(150, "nopreempt"))
    time.sleep(MASTER_DOWN + SLACK)
    assert b.has_vip() and not a.has_vip()


@both_ways
def test_stopped_master_is_replaced_within_the_skew_time(routers, kinds):
    a = routers(kinds[0], "a", instance(150)).wait_vip()
    b = routers(kinds[1], "b", instance(100))
    time.sleep(1.5)
    a.process.child.terminate()
    # (256 - 100) / 256 s.
    assert seconds_until(b.has_vip, 2, "b takes over") < 0.61 + 0.6
    a.wait_no_vip(1)
    a.process.child.wait(5)


@both_ways
def test_pulled_cable_moves_the_address_and_the_old_host_lets_go(routers, kinds):
    network = routers.network
    a = routers(kinds[0], "a", instance(150)).wait_vip()
    b = routers(kinds[1], "b", instance(100))
    time.sleep(1.5)
    network.pull_cable("a")
    assert seconds_until(b.has_vip, 6, "b takes over") < MASTER_DOWN + SLACK
    a.wait_no_vip(1)
    assert "(VI_1) Entering FAULT STATE" in a.process.log_text()
    network.plug_cable("a")
    a.wait_vip(MASTER_DOWN + SLACK + 2)
    b.wait_no_vip(SLACK)


@pytest.mark.parametrize("other", ["vigie", "keepalived"])
@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_killed_or_frozen_master_loses_the_address(routers, other, fault):
    """Nobody takes the address away from the dead process's host but the kernel, whose lifetime for it ends."""
    a = routers("vigie", "a", instance(150)).wait_vip()
    b = routers(other, "b", instance(100))
    time.sleep(1.5)
    a.process.kill() if fault == "killed" else a.process.freeze()
    assert seconds_until(b.has_vip, 6, "b takes over") < MASTER_DOWN + SLACK
    a.wait_no_vip(4)
    if fault == "frozen":
        a.process.thaw()
        a.wait_vip(MASTER_DOWN + SLACK)
        b.wait_no_vip(SLACK)


def test_address_left_by_a_killed_process_is_removed_by_the_next(routers):
    network = routers.network
    network.execute("a", "ip", "address", "add", VIP + "/24", "dev", "eth0")
    routers("keepalived", "b", instance(200)).wait_vip()
    a = routers("vigie", "a", instance(150))
    a.wait_no_vip(1)


def group_with_script(priority, flag, preempt="nopreempt"):
    return f"""
vrrp_sync_group SyncGroup01 {{
    group {{
        VI_1
    }}
}}
vrrp_script chk_proxy {{
    script "/usr/bin/test ! -e {flag}"
    interval 1
    weight 20
    rise 2
    fall 2
}}
""" + instance(priority, preempt + "\n    track_script {\n        chk_proxy\n    }")


def test_failing_check_moves_the_address_although_one_group_and_nopreempt(routers, tmp_path):
    """What Keepalived 2.2.7 never does with the article's file: the check of the one-instance group acts."""
    dead = tmp_path / "a-is-dead"
    a = routers("vigie", "a", group_with_script(101, dead)).wait_vip()
    b = routers("vigie", "b", group_with_script(100, tmp_path / "b-is-dead"))
    b.process.wait_log("Changing effective priority from 100 to 120")
    time.sleep(1.2)
    dead.touch()
    # Two failed checks a second apart, then the skew time of priority 120.
    assert seconds_until(b.has_vip, 6, "b takes over") < 2.0 + 0.54 + SLACK
    a.wait_no_vip(1)
    # The proxy is back: nopreempt leaves the address where it is.
    dead.unlink()
    a.process.wait_log("Changing effective priority from 101 to 121")
    time.sleep(MASTER_DOWN)
    assert b.has_vip() and not a.has_vip()


def test_failing_check_hands_over_to_keepalived_that_may_preempt(routers, tmp_path):
    dead = tmp_path / "a-is-dead"
    a = routers("vigie", "a", group_with_script(101, dead)).wait_vip()
    b = routers("keepalived", "b", instance(110))
    time.sleep(2)
    assert not b.has_vip()
    dead.touch()
    b.wait_vip(2.0 + MASTER_DOWN + SLACK)
    a.wait_no_vip(1)


def test_check_that_cannot_be_run_has_failed_and_its_remedy_is_run(routers, tmp_path):
    remedy = tmp_path / "remedied"
    configuration = group_with_script(101, "x").replace(
        '"/usr/bin/test ! -e x"', f'"/no/such/killall -0 haproxy"\n    script "/usr/bin/touch {remedy}"')
    a = routers("vigie", "a", configuration).wait_vip()
    a.process.wait_log("VRRP_Script(chk_proxy) failed (cannot run '/no/such/killall'")
    wait_until(remedy.exists, 3, "the second script line to be run")
    assert "Changing effective priority" not in a.process.log_text()


def test_check_that_hangs_is_ended(routers, tmp_path):
    configuration = group_with_script(101, "x").replace('"/usr/bin/test ! -e x"', '"/bin/sleep 77.25"\n    timeout 1')
    a = routers("vigie", "a", configuration)
    a.process.wait_log("VRRP_Script(chk_proxy) failed (timed out)", 5)
    a.process.stop()
    wait_until(lambda: subprocess.run(["pgrep", "-f", "sleep 77.25"], capture_output=True).returncode == 1, 3, "no sleep left")


def test_unweighted_check_is_a_fault(routers, tmp_path):
    dead = tmp_path / "dead"
    configuration = group_with_script(150, dead, "").replace("weight 20", "weight 0")
    a = routers("vigie", "a", configuration).wait_vip()
    b = routers("keepalived", "b", instance(100))
    time.sleep(1.5)
    dead.touch()
    b.wait_vip(2 + 0.61 + SLACK)
    assert "(VI_1) Entering FAULT STATE" in a.process.log_text() and not a.has_vip()
    dead.unlink()
    a.wait_vip(2 + MASTER_DOWN + SLACK)


@both_ways
def test_password(routers, kinds):
    password = "authentication {\n auth_type PASS\n auth_pass s3cret-that-is-cut\n}"
    b = routers(kinds[1], "b", instance(100, password)).wait_vip()
    routers(kinds[0], "a", instance(150, password)).wait_vip()
    b.wait_no_vip(SLACK)


def test_wrong_password_is_ignored_and_complained_about_once(routers):
    b = routers("vigie", "b", instance(100, "authentication {\n auth_type PASS\n auth_pass right\n}")).wait_vip()
    routers("keepalived", "a", instance(150, "authentication {\n auth_type PASS\n auth_pass wrong\n}")).wait_vip()
    time.sleep(2.5)
    assert b.has_vip()
    assert b.process.log_text().count("ignoring advert from 192.168.0.2: a wrong password") == 1
    assert "right" not in b.process.log_text()


@both_ways
def test_version_3_in_fractions_of_a_second(routers, kinds):
    def fast(priority):
        return instance(priority, "version 3").replace("advert_int 1", "advert_int 0.2")
    network = routers.network
    a = routers(kinds[0], "a", fast(150)).wait_vip()
    b = routers(kinds[1], "b", fast(100))
    time.sleep(1)
    assert a.has_vip() and not b.has_vip()
    network.pull_cable("a")
    # 3 * 0.2 s and (256 - 100) / 256 of 0.2 s.
    assert seconds_until(b.has_vip, 3, "b takes over") < 0.73 + 0.5


@both_ways
def test_unicast_peers(routers, kinds):
    def unicast(name, peer, priority):
        more = f"unicast_src_ip {ADDRESS[name]}\n unicast_peer {{\n {ADDRESS[peer]}\n }}"
        return instance(priority, more)
    b = routers(kinds[1], "b", unicast("b", "a", 100)).wait_vip()
    routers(kinds[0], "a", unicast("a", "b", 150)).wait_vip()
    b.wait_no_vip(SLACK)


GROUP_OF_TWO = """
vrrp_sync_group G {{
    group {{
        VI_1
        VI_2
    }}
}}
vrrp_instance VI_1 {{
    interface eth0
    virtual_router_id 51
    priority {priority}
    virtual_ipaddress {{
        192.168.0.1/24
    }}
}}
vrrp_instance VI_2 {{
    interface eth0
    virtual_router_id 52
    priority {priority}
    virtual_ipaddress {{
        192.168.0.11/24
    }}
    track_interface {{
        {tracked}
    }}
}}
"""


def test_instances_of_a_sync_group_move_together(routers):
    network = routers.network
    network.execute("a", "ip", "link", "add", "other0", "type", "veth", "peer", "name", "other1")
    for end in ("other0", "other1"):
        network.execute("a", "ip", "link", "set", end, "up")

    def has(name):
        present = network.addresses(name)
        return [any(a.startswith(v + "/") for a in present) for v in (VIP, "192.168.0.11")]
    routers("vigie", "a", GROUP_OF_TWO.format(priority=150, tracked="other0"))
    wait_until(lambda: has("a") == [True, True], 2 * MASTER_DOWN, "both on a")
    b = routers("keepalived", "b", GROUP_OF_TWO.format(priority=100, tracked="eth0"))
    time.sleep(1.5)
    network.execute("a", "ip", "link", "set", "other0", "down")
    wait_until(lambda: has("a") == [False, False] and has("b") == [True, True], 6, "both on b")
    network.execute("a", "ip", "link", "set", "other0", "up")
    wait_until(lambda: has("a") == [True, True] and has("b") == [False, False], 3 * MASTER_DOWN, "both on a again")
    assert "VRRP_Group(G) Syncing instances to MASTER state" in b.process.log_text()


def test_address_that_somebody_removes_is_set_again(routers):
    network = routers.network
    a = routers("vigie", "a", instance(150)).wait_vip()
    network.execute("a", "ip", "address", "delete", VIP + "/24", "dev", "eth0")
    a.wait_vip(1)
    assert "was removed, setting it again" in a.process.log_text()


def test_packets_are_sound(routers, processes):
    """tcpdump decodes what is sent and finds no checksum wrong."""
    network = routers.network
    dump = processes.start(["tcpdump", "-l", "-n", "-vv", "-i", "eth0", "ip proto 112 or arp"], name="tcpdump", netns=network.namespace("c"))
    dump.wait_log("listening on eth0")
    a = routers("vigie", "a", instance(150, "authentication {\n auth_type PASS\n auth_pass abc\n}")).wait_vip()
    v3 = instance(200, "version 3").replace("advert_int 1", "advert_int 0.5").replace("51", "61").replace("0.1/", "0.77/").replace("VI_1", "VI_3")
    routers("vigie", "b", v3)
    wait_until(lambda: "192.168.0.77/24" in network.addresses("b"), 4, "the second router's address")
    time.sleep(1.2)
    a.process.stop()
    text = wait_until(lambda: "prio 0" in dump.log_text() and dump.log_text(), 3, "the good-bye in tcpdump's output")
    assert re.search(r"tos 0xc0, ttl 255.*proto VRRP \(112\), length 40\)\n\s+192.168.0.2 > 224.0.0.18: VRRPv2, Advertisement, "
                     r"vrid 51, prio 150, authtype simple, intvl 1s, length 20, addrs: 192.168.0.1 auth \"abc", text)
    assert "192.168.0.3 > 224.0.0.18: VRRPv3, Advertisement, vrid 61, prio 200, intvl 50cs, length 12, addrs: 192.168.0.77" in text
    assert len(re.findall(r"Request who-has 192.168.0.1 \(ff:ff:ff:ff:ff:ff\) tell 192.168.0.1", text)) == 5
    assert "bad" not in text and "Unknown" not in text


GARBAGE = """
import os, random, socket, sys
random.seed(1)
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("192.168.0.100"))
good = bytes.fromhex("2133ff010001 0000 c0a80001 0000000000000000".replace(" ", ""))
for n in range(3000):
    packet = bytearray(good) if n % 2 else bytearray(os.urandom(random.randrange(40)))
    if n % 2:
        packet[random.randrange(len(packet))] ^= 1 << random.randrange(8)
    elif len(packet) > 1:
        packet[1] = 51
    s.sendto(bytes(packet), ("224.0.0.18", 0))
"""


def test_garbage_neither_moves_the_address_nor_fills_the_log(routers):
    network = routers.network
    a = routers("vigie", "a", instance(150)).wait_vip()
    network.execute("c", "/usr/bin/python3", "-c", GARBAGE)
    time.sleep(1.5)
    assert a.has_vip() and a.process.alive()
    complaints = a.process.log_text().count("ignoring advert")
    assert 0 < complaints < 3000
    assert a.process.stop() == 0


MAIL_SINK = """
import socketserver, sys
class Sink(socketserver.StreamRequestHandler):
    def handle(self):
        say = lambda text: self.wfile.write(text + b"\\r\\n")
        say(b"220 sink")
        inside, lines = False, []
        for line in self.rfile:
            if inside:
                if line == b".\\r\\n":
                    open(sys.argv[1], "ab").write(b"".join(lines) + b"----\\n")
                    inside, lines = False, []
                    say(b"250 taken")
                else:
                    lines.append(line)
            elif line.upper().startswith(b"DATA"):
                inside = True
                say(b"354 go")
            elif line.upper().startswith(b"QUIT"):
                return say(b"221 bye")
            else:
                say(b"250 ok")
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("192.168.0.100", 25), Sink).serve_forever()
"""

MAIL = """
global_defs {
    notification_email {
        ops@example.org
    }
    notification_email_from haproxy01@example.org
    smtp_server 192.168.0.100
    smtp_connect_timeout 15
    router_id haproxy01
}
"""


def test_mails_are_sent_even_if_the_server_comes_later(routers, processes, tmp_path):
    network = routers.network
    a = routers("vigie", "a", MAIL + instance(150, "smtp_alert"))
    a.process.wait_log("trying again")
    mails = tmp_path / "mails"
    processes.start(["/usr/bin/python3", "-c", MAIL_SINK, mails], name="sink", netns=network.namespace("c"))
    wait_until(lambda: mails.read_text().count("----") == 2, 12, "two mails")
    backup, master, _ = mails.read_text().split("----\n")
    assert "Subject: [haproxy01] VRRP Instance VI_1 - Entering BACKUP state\n" in backup
    assert "Subject: [haproxy01] VRRP Instance VI_1 - Entering MASTER state\n" in master
    assert "From: haproxy01@example.org\n" in master and "To: ops@example.org\n" in master
    assert "=> VRRP Instance is now owning VRRP VIPs <=" in master


def test_notify_scripts(routers, tmp_path):
    told = tmp_path / "told"
    tell = tmp_path / "tell"
    tell.write_text(f'#!/bin/sh\necho "$@" >> {told}\n')
    tell.chmod(0o755)
    more = f'notify_master "{tell} up"\n notify_stop "{tell} stop"\n notify "{tell} any"'
    a = routers("vigie", "a", instance(150, more)).wait_vip()
    wait_until(lambda: "any INSTANCE VI_1 MASTER 150" in told.read_text(), 2, "the scripts to be run")
    assert a.process.stop() == 0
    wait_until(lambda: told.read_text().count("\n") == 5, 2, "the scripts to be run")
    assert sorted(told.read_text().splitlines()) == sorted(
        ["any INSTANCE VI_1 BACKUP 150", "up", "any INSTANCE VI_1 MASTER 150", "stop", "any INSTANCE VI_1 STOP 150"])


@both_ways
def test_the_articles_files(routers, kinds, tmp_path):
    """As they stand but for the programs that they run, which on a test machine would reach beyond the namespaces."""
    network = routers.network
    dead = tmp_path / "haproxy-is-dead"

    def file(host):
        text = (ARTICLE / host / "etc/keepalived/keepalived.conf").read_text()
        return text.replace("/usr/bin/killall -0 haproxy", f"/usr/bin/test ! -e {dead}").replace(
            "/usr/sbin/service haproxy restart", "/usr/bin/true")
    a = routers(kinds[0], "a", file("haproxy-01"))
    b = routers(kinds[1], "b", file("haproxy-02"))
    # 15 s and (256 - 121) / 256 s.
    a.wait_vip(17.5)
    assert not b.has_vip()
    network.pull_cable("a")
    assert seconds_until(b.has_vip, 20, "b takes over") < 15.7 + SLACK
    a.wait_no_vip(1)
    network.plug_cable("a")
    time.sleep(6)
    assert b.has_vip() and not a.has_vip()
