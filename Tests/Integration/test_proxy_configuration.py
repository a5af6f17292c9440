"""Files that the proxy does not take: refused before anything is bound, every problem named by file and line."""

import os
import re
import stat

import pytest

from harness import free_port, vigie_binary, wait_until
from harness.binary import ARTICLE

BAD = """global
    maxcon 100
    log /dev/log local9
defaults
    mode tcp
    timeout conect 4s
frontend ft_redis
    bind 127.0.0.1
    default_backend nope
backend bk_redis
    option tcp-check
    tcp-check expect foo bar
    server redis01 127.0.0.1:6379 chek inter 1s
    server redis02 127.0.0.1:6379 check inter 1x
    stick-table type ip size 1k
    tcp-check send AUTH hunter2\\r\\n
    tcp-check send 'AUTH hunter3
"""


def run(processes, tmp_path, text):
    file = tmp_path / "haproxy.cfg"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    process = processes.start([vigie_binary(), "proxy", file], name="bad")
    wait_until(lambda: not process.alive(), 10, "the program ends")
    return process.child.returncode, process.log_text()


def test_every_problem_is_named_at_once(processes, tmp_path):
    status, text = run(processes, tmp_path, BAD)
    assert status == 1
    alerts = dict(re.findall(r"haproxy\.cfg:(\d+): (.*)", text))
    assert sorted(map(int, alerts)) == [2, 3, 6, 8, 12, 13, 14, 15, 16, 17]
    assert "did you mean 'maxconn' maybe ?" in alerts["2"]
    assert "'conect'" in alerts["6"] and "'client'" in alerts["6"]
    assert "chek" in alerts["13"] and "check" in alerts["13"]
    assert "hunter" not in text


@pytest.mark.parametrize("seed", range(20))
def test_garbage_is_refused_and_never_crashes(processes, tmp_path, seed):
    import random
    dice = random.Random(seed)
    article = (ARTICLE / "haproxy-01/etc/haproxy/haproxy.cfg").read_bytes()
    text = bytearray(article) if seed % 2 else bytearray(dice.randbytes(3000))
    for _ in range(30):
        at = dice.randrange(len(text))
        text[at:at + dice.randrange(3)] = dice.randbytes(dice.randrange(4))
    # The address of the article is not to be bound here, nor is its socket to be made.
    text += b"\nfrontend surely_wrong\n    bind nonsense\n"
    status, output = run(processes, tmp_path, bytes(text))
    assert status == 1 and re.search(r"haproxy\.cfg:\d+: 'bind' : missing port specification in 'nonsense'", output)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", output)


def test_an_address_in_use_is_named(processes, tmp_path):
    import socket
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    port = taken.getsockname()[1]
    status, text = run(processes, tmp_path, f"""defaults
    timeout connect 1s
    timeout client 1s
    timeout server 1s
listen l
    bind 127.0.0.1:{port}
    server s 127.0.0.1:{free_port()}
""")
    assert status == 1
    assert f"127.0.0.1:{port}" in text and "Address already in use" in text
    taken.close()


def test_the_stats_socket_has_the_mode_that_the_file_asks_for(vigie_proxy):
    proxy = vigie_proxy(f"""global
    stats socket {{stats}} mode 620 level admin
defaults
    timeout connect 1s
    timeout client 1s
    timeout server 1s
listen l
    bind 127.0.0.1:{free_port()}
    server s 127.0.0.1:{free_port()}
""")
    wait_until(lambda: proxy.stats(), 5)
    assert stat.S_IMODE(os.stat(proxy.stats_socket).st_mode) == 0o620
    path = proxy.stats_socket
    assert proxy.stop() == 0
    assert not os.path.exists(path)
