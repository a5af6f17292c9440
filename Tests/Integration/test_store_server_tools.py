"""INFO, SLOWLOG, LATENCY, CLIENT LIST and MONITOR beside Redis: what tools read of them."""

import random
import re
import time

from harness import RawClient, encode, wait_until

# Fields that Redis 7.2 has and 7.0 has not, and our own.
NEW_IN_7_2 = {"total_blocking_keys", "total_blocking_keys_on_nokey", "aof_rewrites_consecutive_failures", "acl_access_denied_auth",
              "acl_access_denied_cmd", "acl_access_denied_key", "acl_access_denied_channel", "listener0", "listener1"}


def layout(server, *sections):
    """The sections of INFO with the names of their fields, in order."""
    found, section = [], None
    for line in server.call("INFO", *sections).decode().split("\r\n"):
        if line.startswith("# "):
            section = (line[2:], [])
            found.append(section)
        elif line:
            name = line.partition(":")[0]
            if name not in NEW_IN_7_2 and not name.startswith("vigie_"):
                section[1].append(name)
    return found


def test_info_has_redis_sections_and_fields_in_redis_order(vigie_store, redis_server):
    ours, real = vigie_store(), redis_server()
    for server in (ours, real):
        server.call("SET", "k", "v", "EX", "100")
    changing = {"Commandstats", "Latencystats", "Memory"}
    for sections in ([], ["default"], ["all"], ["everything"], ["server", "clients"], ["keyspace", "STATS", "cpu"], ["commandstats"],
                     ["latencystats", "errorstats"], ["replication", "nosuch"], ["all", "server"], ["modules"]):
        said, expected = layout(ours, *sections), layout(real, *sections)
        assert [name for name, _ in said] == [name for name, _ in expected], sections
        for (name, fields), (_, wanted) in zip(said, expected):
            if name not in changing:
                assert fields == wanted, (sections, name)


def test_info_of_a_master_and_its_replica(vigie_store, redis_server):
    """The fields of both ends, and the bytes that have gone over the link, beside a pair of Redis."""
    def pair(start):
        master = start()
        master.call("SET", "big", random.Random(1).randbytes(1 << 20))
        replica = start(replicaof=("127.0.0.1", master.port)).wait_replica_online()
        return master, replica

    ours, real = pair(vigie_store), pair(redis_server)
    for here, there in zip(ours, real):
        assert layout(here, "replication") == layout(there, "replication")
    for master, replica in (ours, real):
        for _ in range(20):
            master.call("SET", "other", random.Random(2).randbytes(100_000))
        assert master.call("WAIT", "1", "5000") == 1
        sent, received = master.info("stats"), replica.info("stats")
        assert 3_000_000 < int(sent["total_net_repl_output_bytes"]) < 3_200_000
        assert abs(int(sent["total_net_repl_output_bytes"]) - int(received["total_net_repl_input_bytes"])) < 2000
        # A master reads nothing but acknowledgements, which Redis counts with what clients send.
        assert sent["total_net_repl_input_bytes"] == received["total_net_repl_output_bytes"] == "0"
        assert int(sent["total_net_output_bytes"]) > int(sent["total_net_repl_output_bytes"])
        # What came from clients, and on the other side from the master.
        assert 3_000_000 < int(sent["total_net_input_bytes"]) < 3_300_000 and 3_000_000 < int(received["total_net_input_bytes"]) < 3_300_000

        def flowing(server, field):
            master.call("SET", "other", random.Random(2).randbytes(100_000))
            return float(server.info("stats")[field]) > 100

        wait_until(lambda: flowing(master, "instantaneous_output_repl_kbps"), 3)
        wait_until(lambda: flowing(replica, "instantaneous_input_repl_kbps"), 3)
        master.call("CONFIG", "RESETSTAT")
        assert int(master.info("stats")["total_net_repl_output_bytes"]) < 1000


def test_calls_failures_and_refusals_are_counted(vigie_store, redis_server):
    def counted(server):
        with server.raw() as client:
            client.call("CONFIG", "RESETSTAT")
            client.call("SET", "k", "v")
            client.call("GET", "k")
            client.call("GET")                      # refused: never executed
            client.call("LPUSH", "k", "x")          # failed
            client.call("INCR", "k")                # failed
            client.call("NOSUCH")                   # no command at all
            client.call("MULTI")
            client.call("INCR", "k")                # fails in EXEC, which does not fail
            client.call("GET", "k", "x")            # refused, and EXEC with it
            client.call("EXEC")
            client.call("MULTI")
            client.call("LPUSH", "k", "x")
            client.call("EXEC")
            client.call("CONFIG", "SET", "nosuch", "1")
            client.call("CONFIG", "NOSUCH")
            text = client.value("INFO", "commandstats").decode()
            stats = client.value("INFO", "stats").decode()
            errors = client.value("INFO", "errorstats")
        lines = {line.split(":")[0]: line.split(":")[1] for line in text.split("\r\n") if line.startswith("cmdstat_")}
        del lines["cmdstat_config|resetstat"]
        without_times = {name: re.sub(r"usec=\d+,usec_per_call=[\d.]+,", "", line) for name, line in lines.items()}
        return without_times, re.search(r"total_error_replies:\d+", stats)[0], errors
    assert counted(vigie_store()) == counted(redis_server())


def test_the_slow_log_tells_every_command_when_asked_for(vigie_store, redis_server):
    def told(server):
        with server.raw() as client:
            client.call("CLIENT", "SETNAME", "me")
            client.call("CONFIG", "SET", "slowlog-max-len", "30")
            client.call("CONFIG", "SET", "slowlog-log-slower-than", "0")
            for i in range(20):
                client.call("GET", f"key:{i}")
            client.call("SET", "k", "x" * 1000)
            client.call("DEL", *(f"key:{i}" for i in range(100)))
            client.call("DEL", *(f"key:{i}" for i in range(31)))
            client.call("AUTH", "secret")
            client.call("HELLO", "2", "AUTH", "default", "secret", "SETNAME", "you")
            client.call("CONFIG", "SET", "masterauth", "secret")
            client.call("MULTI")
            client.call("INCR", "n")
            client.call("EXEC")
            client.call("NOSUCH")
            client.call("GET")
            client.call("CONFIG", "SET", "slowlog-log-slower-than", "-1")
            client.call("GET", "unseen")
            entries = client.value("SLOWLOG", "GET", "-1")
            assert client.value("SLOWLOG", "LEN") == len(entries)
            assert len(client.value("SLOWLOG", "GET")) == 10
            ids = [entry[0] for entry in entries]
            assert ids == sorted(ids, reverse=True) and len(set(ids)) == len(ids)
            assert all(abs(entry[1] - time.time()) < 60 and entry[2] >= 0 and entry[4].startswith(b"127.0.0.1:") for entry in entries)
            client.call("CONFIG", "SET", "slowlog-max-len", "3")
            client.call("CONFIG", "SET", "slowlog-log-slower-than", "0")
            client.call("PING")
            assert client.value("SLOWLOG", "LEN") == 3
            client.call("SLOWLOG", "RESET")
        return [(entry[3], entry[5]) for entry in entries]
    assert told(vigie_store()) == told(redis_server())


def test_latency_of_commands(vigie_store):
    """Percentiles, buckets and the monitor of slow moments name what was slow."""
    store = vigie_store(enable_debug_command="yes", latency_monitor_threshold=10, latency_tracking_info_percentiles=["0", "50", "100"])
    with store.raw() as client:
        for seconds in ("0.002", "0.002", "0.03"):
            client.call("DEBUG", "SLEEP", seconds)
        line = client.value("INFO", "latencystats").decode()
        low, middle, high = (float(value) for value in re.search(r"usec_debug:p0=([\d.]+),p50=([\d.]+),p100=([\d.]+)", line).groups())
        assert 2000 <= low <= middle < 30_000 <= high
        (name, fields), = client.value("LATENCY", "HISTOGRAM", "debug", "nosuch"),
        flat = dict(zip(fields[::2], fields[1::2]))
        buckets = dict(zip(flat[b"histogram_usec"][::2], flat[b"histogram_usec"][1::2]))
        assert name == b"debug" and flat[b"calls"] == 3 and max(buckets.values()) == 3
        assert min(buckets) in (2113, 4227, 8454, 16908) and max(buckets) >= 33_000
        (event, at, latest, worst), = client.value("LATENCY", "LATEST")
        assert event == b"command" and abs(at - time.time()) < 60 and worst >= latest >= 30
        assert client.value("LATENCY", "HISTORY", "command")[-1][1] == latest
        assert b"command - high" in client.value("LATENCY", "GRAPH", "command")
        assert b"1. command: " in client.value("LATENCY", "DOCTOR")
        assert client.value("CONFIG", "RESETSTAT") == b"OK"
        assert b"usec_debug" not in client.value("INFO", "latencystats")
        client.call("CONFIG", "SET", "latency-tracking", "no")
        client.call("GET", "k")
        assert client.value("LATENCY", "HISTOGRAM") == []


def test_client_list_has_every_field_in_order(vigie_store, redis_server):
    def lines(server):
        with server.raw() as caller, server.raw() as subscriber, server.raw() as waiting, server.raw() as queueing, \
                server.raw() as monitor, server.raw() as three:
            caller.call("CLIENT", "SETNAME", "me")
            caller.call("CLIENT", "NO-EVICT", "on")
            subscriber.call("SUBSCRIBE", "a", "b")
            subscriber.call("PSUBSCRIBE", "a*")
            subscriber.call("SSUBSCRIBE", "s")
            waiting.send("BLPOP", "none", "0")
            queueing.call("SELECT", "3")
            queueing.call("WATCH", "k")
            queueing.call("MULTI")
            queueing.call("GET", "k")
            caller.call("SELECT", "3")
            caller.call("SET", "k", "v")
            three.call("HELLO", "3")
            monitor.call("MONITOR")
            wait_until(lambda: b"blocked_clients:1" in caller.value("INFO", "clients"), 5)
            texts = caller.value("CLIENT", "LIST").decode().split("\n")[:-1]
            info = caller.value("CLIENT", "INFO").decode()
            assert info.startswith("id=") and info.endswith("\n")
        rows = [dict(part.split("=", 1) for part in text.split(" ")) for text in texts]
        # Redis turns its list round a little ten times a second.
        rows.sort(key=lambda row: int(row["id"]))
        fields = [name for name in rows[0] if name not in ("lib-name", "lib-ver")]
        same = ("name", "flags", "db", "sub", "psub", "ssub", "multi", "events", "cmd", "user", "redir", "resp")
        return fields, [[row[name] for name in same] for row in rows]
    assert lines(vigie_store()) == lines(redis_server())


def test_client_names_of_libraries(vigie_store):
    """CLIENT SETINFO came with 7.2."""
    with vigie_store().raw() as client:
        assert client.call("CLIENT", "SETINFO", "LIB-NAME", "redis-py") == b"+OK\r\n"
        assert client.call("CLIENT", "SETINFO", "lib-ver", "5.0(x)") == b"+OK\r\n"
        assert b"lib-name=redis-py lib-ver=5.0(x)\n" in client.value("CLIENT", "INFO")
        assert client.call("CLIENT", "SETINFO", "lib-name", "a b").startswith(b"-ERR lib-name cannot contain spaces")
        assert client.call("CLIENT", "SETINFO", "nosuch", "x") == b"-ERR Unrecognized option 'nosuch'\r\n"
        client.call("RESET")
        assert b"lib-name=redis-py" in client.value("CLIENT", "INFO")


def test_client_kill_finds_whom_it_names(vigie_store, redis_server):
    for server in (vigie_store(), redis_server()):
        with server.raw() as caller:
            def fresh():
                client = server.raw()
                row = client.value("CLIENT", "INFO").decode()
                return client, dict(part.split("=", 1) for part in row.strip().split(" "))

            for words in (lambda row: ["ID", row["id"]], lambda row: ["ADDR", row["addr"]],
                          lambda row: ["LADDR", row["laddr"], "ID", row["id"]], lambda row: ["USER", "default", "ID", row["id"], "TYPE", "normal"]):
                victim, row = fresh()
                assert caller.value("CLIENT", "KILL", *words(row)) == 1
                assert victim.closed()
            victim, row = fresh()
            assert caller.value("CLIENT", "KILL", row["addr"]) == b"OK" and victim.closed()
            victim, row = fresh()
            assert caller.value("CLIENT", "KILL", "ID", row["id"], "TYPE", "pubsub") == 0
            assert caller.value("CLIENT", "KILL", "ID", caller.value("CLIENT", "ID")) == 0
            assert caller.value("CLIENT", "KILL", "TYPE", "normal") == 1 and victim.closed()
            victim, row = fresh()
            assert caller.value("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no") == 2
            assert caller.closed() and victim.closed()


def test_monitor_shows_transactions_in_order(vigie_store, redis_server):
    def seen(server):
        with server.raw() as monitor, server.raw() as client:
            monitor.call("MONITOR")
            for words in (["MULTI"], ["SET", "k", "v"], ["CONFIG", "GET", "x"], ["EXEC"], ["GET"], ["PING"], ["HELLO", "2", "AUTH", "default", "x"],
                          ["CLIENT", "ID"], ["DISCARD"], ["ECHO", "last"]):
                client.call(*words)
            lines = []
            while not lines or b"last" not in lines[-1]:
                lines.append(monitor.read().split(b"] ", 1)[1])
            return lines
    assert seen(vigie_store()) == seen(redis_server())


def test_client_pause_holds_what_came_before_and_answers_in_order(vigie_store):
    store = vigie_store()
    with store.raw() as caller, store.raw() as writer:
        caller.call("CLIENT", "PAUSE", "100000", "WRITE")
        writer.send_raw(encode("GET", "a") + encode("SET", "a", "1") + encode("INCR", "a") + encode("GET", "a"))
        assert writer.read() == b"$-1\r\n"
        assert writer.silent(0.05)
        assert caller.call("GET", "a") == b"$-1\r\n"
        assert caller.call("CLIENT", "UNPAUSE") == b"+OK\r\n"
        assert [writer.read() for _ in range(3)] == [b"+OK\r\n", b":2\r\n", b"$1\r\n2\r\n"]
