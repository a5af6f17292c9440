"""The harness itself, on real peers only."""

from harness import RawClient


def test_real_server_answers_raw_and_parsed(redis_server):
    server = redis_server(password="secret")
    with server.raw() as client:
        assert client.call("SET", "key", b"\x00\r\n") == b"+OK\r\n"
        assert client.call("GET", "key") == b"$3\r\n\x00\r\n\r\n"
        assert client.call("HELLO", "3").startswith(b"%7\r\n")
        assert client.value("HGETALL", "none") == []
    assert server.client().get("key") == b"\x00\r\n"
    assert server.cli("DBSIZE").strip() == "1"
    assert server.info("replication")["role"] == "master"


def test_real_sentinel_finds_its_master(redis_server, redis_sentinel):
    master = redis_server()
    sentinel = redis_sentinel(f"sentinel monitor mymaster 127.0.0.1 {master.port} 1")
    assert sentinel.master_address() == ("127.0.0.1", master.port)
    assert sentinel.fields("MASTER", "mymaster")["num-slaves"] == "0"


def test_real_proxy_relays(redis_server, haproxy, free_port, processes):
    from harness import wait_until
    store, port = redis_server(), free_port()
    proxy = haproxy(f"""
global
    stats socket {{stats}} mode 660 level admin
defaults
    mode tcp
    timeout connect 1s
    timeout client 5s
    timeout server 5s
listen redis
    bind 127.0.0.1:{port}
    server one 127.0.0.1:{store.port} check inter 100ms
""")
    wait_until(lambda: proxy.status("redis", "one") == "UP", 5)
    with RawClient(port) as client:
        assert client.call("PING") == b"+PONG\r\n"


def test_hosts_reach_each_other_until_the_cable_is_pulled(network):
    network.host("a", "10.77.0.1/24")
    network.host("b", "10.77.0.2/24")
    assert network.addresses("a") == ["10.77.0.1/24"]
    assert "1 received" in network.execute("a", "ping", "-c1", "-W1", "10.77.0.2")
    network.pull_cable("b")
    assert "0 received" in network.execute("a", "ping", "-c1", "-W1", "10.77.0.2", check=False)
