"""maxmemory under every policy, beside the real server where it answers; use of keys; expiry; eviction of clients."""

import random
import time

import pytest

from harness import encode, wait_until

OOM = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"


def used(store):
    return int(store.info("memory")["used_memory"])


def fill(store, count, size=1000, name="key", expire=None):
    """`count` strings; returns how many were refused."""
    refused = 0
    with store.raw(timeout=30) as client:
        for start in range(0, count, 200):
            words = [["SET", f"{name}:{i}", "v" * size] + (["EX", str(expire(i) if callable(expire) else expire)] if expire else [])
                     for i in range(start, min(start + 200, count))]
            client.send_raw(b"".join(encode(*each) for each in words))
            refused += sum(client.read() == OOM for _ in words)
    return refused


@pytest.fixture
def limited(store_of):
    def start(policy, kind="vigie", room=8 << 20, **options):
        store = store_of(kind)(maxmemory_policy=policy, **options)
        assert store.call("CONFIG", "SET", "maxmemory", used(store) + room) == b"OK"
        store.room = room
        return store
    return start


def within(store):
    return used(store) <= int(store.call("CONFIG", "GET", "maxmemory")[1])


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_all_keys_make_room_for_new_ones(limited, policy):
    store = limited(policy)
    assert fill(store, 20_000) == 0
    wait_until(lambda: within(store), 5, "within the limit")
    wait_until(lambda: int(store.info("stats")["evicted_keys"]) + store.call("DBSIZE") == 20_000, 5, "every key accounted for")
    assert 3000 < store.call("DBSIZE") < 9000
    assert store.call("SET", "last", "x") == b"OK"
    assert store.info("memory")["maxmemory_policy"] == policy


@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"])
def test_only_keys_that_expire_go_under_volatile_policies(limited, policy):
    store = limited(policy)
    assert fill(store, 2000, name="kept") == 0
    assert fill(store, 12_000, name="goes", expire=lambda i: 1000 + i) == 0
    wait_until(lambda: within(store), 5, "within the limit")
    with store.raw() as client:
        assert client.value("EXISTS", *(f"kept:{i}" for i in range(2000))) == 2000
        left = client.value("DBSIZE") - 2000
    assert abs(int(store.info("stats")["evicted_keys"]) - (12_000 - left)) < 50 and left < 7000
    if policy == "volatile-ttl":
        # What ends last stays.
        with store.raw() as client:
            last = client.value("EXISTS", *(f"goes:{i}" for i in range(8000, 12_000)))
        assert last > 3800
    # Nothing but keys without expiry is left in the end: then there is no room.
    store.call("CONFIG", "SET", "maxmemory", used(store) // 4)
    wait_until(lambda: store.call("DBSIZE") == 2000, 10, "all others gone")
    assert store.raw().call("SET", "new", "x") == OOM


@pytest.mark.parametrize("kind", ["vigie", "redis"])
def test_without_eviction_commands_that_need_memory_are_refused(limited, kind):
    store = limited("noeviction", kind, room=1 << 20)
    assert fill(store, 4000) > 0
    store.call("CONFIG", "SET", "maxmemory", used(store) // 2)
    with store.raw() as client:
        assert client.call("SET", "k", "v") == OOM
        assert client.call("LPUSH", "list", "v") == OOM
        assert client.call("GET", "key:1")[:1] == b"$"
        assert client.call("EXPIRE", "key:1", "100") == b":1\r\n"
        assert client.call("PING") == b"+PONG\r\n"
        # A queue takes memory too; what gives some back may be queued no more than the rest.
        assert client.call("MULTI") == b"+OK\r\n"
        assert client.call("SET", "k", "v") == OOM
        assert client.call("GET", "k") == OOM
        assert client.call("EXEC") == b"-EXECABORT Transaction discarded because of previous errors.\r\n"
        assert client.call("MULTI") == b"+OK\r\n"
        assert client.call("DISCARD") == b"+OK\r\n"
        # Queued while there was room, executed when there is none.
        limit = client.value("CONFIG", "GET", "maxmemory")[1]
        client.call("CONFIG", "SET", "maxmemory", "0")
        for words, reply in ((("MULTI",), b"+OK\r\n"), (("SET", "k", "v"), b"+QUEUED\r\n")):
            assert client.call(*words) == reply
        store.call("CONFIG", "SET", "maxmemory", limit)
        assert client.call("EXEC") == b"-EXECABORT Transaction discarded because of: OOM" + OOM[4:]
        # Without a command that needs memory the transaction is executed.
        store.call("CONFIG", "SET", "maxmemory", "0")
        assert client.call("MULTI") == b"+OK\r\n"
        assert client.call("GET", "key:1") == b"+QUEUED\r\n"
        store.call("CONFIG", "SET", "maxmemory", limit)
        assert client.call("EXEC")[:2] == b"*1"
        assert client.call("DEL", "key:1") == b":1\r\n"
        assert client.call("SWAPDB", "0", "1") == b"+OK\r\n"
        assert client.call("FLUSHALL") == b"+OK\r\n"
    store.call("CONFIG", "SET", "maxmemory", used(store) + (1 << 20))
    wait_until(lambda: store.raw().call("SET", "k", "v") == b"+OK\r\n", 5, "room again")


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu"])
def test_what_is_used_stays(limited, policy):
    store = limited(policy, room=6 << 20)
    fill(store, 4000)
    time.sleep(1.2)
    used_keys = random.Random(3).sample(range(4000), 1000)
    with store.raw() as client:
        for _ in range(3 if policy == "allkeys-lru" else 10):
            client.send_raw(b"".join(encode("GET", f"key:{i}") for i in used_keys))
            for _ in used_keys:
                client.read()
    evicted = int(store.info("stats")["evicted_keys"])
    fill(store, 4000, name="new")
    assert int(store.info("stats")["evicted_keys"]) > evicted + 500
    with store.raw() as client:
        left_used = client.value("EXISTS", *(f"key:{i}" for i in used_keys)) / 1000
        left_others = client.value("EXISTS", *(f"key:{i}" for i in range(4000) if i not in set(used_keys))) / 3000
    assert left_used > 0.95 and left_used - left_others > 0.1


def test_replicas_and_listeners_hear_of_what_is_evicted(limited, vigie_store, redis_server):
    store = limited("allkeys-random", notify_keyspace_events="Ee")
    replicas = [start(replicaof=("127.0.0.1", store.port)).wait_replica_online() for start in (vigie_store, redis_server)]
    listener = store.raw(timeout=10)
    listener.call("SUBSCRIBE", "__keyevent@0__:evicted")
    with replicas[0].raw() as monitor:
        monitor.call("MONITOR")
        fill(store, 12_000)
        evicted = int(store.info("stats")["evicted_keys"])
        assert evicted > 1000
        for _ in range(evicted):
            assert listener.read().startswith(b"*3\r\n$7\r\nmessage\r\n$22\r\n__keyevent@0__:evicted\r\n$")
        seen = b""
        while b'"DEL" "key:' not in seen:
            seen = monitor.read()
    for replica in replicas:
        wait_until(lambda: replica.call("DBSIZE") == store.call("DBSIZE"), 10, "the same keys on the replica")
    store.call("CONFIG", "SET", "lazyfree-lazy-eviction", "yes")
    with replicas[0].raw() as monitor:
        monitor.call("MONITOR")
        fill(store, 1000, name="more")
        seen = b""
        while b'"UNLINK" "' not in seen:
            seen = monitor.read()


def test_a_replica_leaves_eviction_to_its_master(vigie_store):
    master = vigie_store()
    fill(master, 4000)
    replica = vigie_store(replicaof=("127.0.0.1", master.port), maxmemory="1mb", maxmemory_policy="allkeys-lru").wait_replica_online()
    fill(master, 500, name="more")
    wait_until(lambda: replica.call("DBSIZE") == 4500, 10, "everything on the replica")
    assert replica.info("stats")["evicted_keys"] == "0"
    # Told not to, it makes room of its own.
    assert replica.call("CONFIG", "SET", "replica-ignore-maxmemory", "no") == b"OK"
    wait_until(lambda: replica.call("DBSIZE") < 2000, 10, "keys gone on the replica")
    assert master.call("DBSIZE") == 4500


def test_lowering_the_limit_evicts_without_a_command(vigie_store):
    store = vigie_store(maxmemory_policy="allkeys-random")
    fill(store, 20_000)
    limit = used(store) // 2
    store.call("CONFIG", "SET", "maxmemory", limit)
    wait_until(lambda: int(store.info("stats")["evicted_keys"]) > 5000 and within(store), 10, "half of it gone")
    assert "is smaller than the current memory usage" in store.log_text()
    stats = store.info("stats")
    assert stats["current_eviction_exceeded_time"] == "0"


# MARK: use of keys


def test_idle_time_and_frequency_are_redis_own(vigie_store, redis_server):
    """OBJECT FREQ and IDLETIME, their errors, RESTORE's options and the snapshot's fields, beside the real server."""
    stores = [vigie_store(), redis_server()]
    answers = []
    for store in stores:
        with store.raw() as client:
            def ask(*words, client=client):
                return client.call(*words)
            got = [ask("OBJECT", "FREQ", "none"), ask("OBJECT", "IDLETIME", "none"), ask("SET", "k", "v"), ask("OBJECT", "FREQ", "k")]
            dump = client.value("DUMP", "k")
            got += [ask("RESTORE", "i", "0", dump, "IDLETIME", "1000"), ask("RESTORE", "j", "0", dump, "IDLETIME", "-1"),
                    ask("RESTORE", "j", "0", dump, "FREQ", "256"), ask("RESTORE", "j", "0", dump, "FREQ", "-1"),
                    ask("RESTORE", "j", "0", dump, "FREQ", "x"), ask("RESTORE", "j", "0", dump, "FREQ", "5", "IDLETIME", "5"),
                    ask("RESTORE", "j", "0", dump, "IDLETIME"), ask("RESTORE", "f", "0", dump, "FREQ", "200")]
            idle = client.value("OBJECT", "IDLETIME", "i")
            assert 1000 <= idle <= 1002
            assert client.value("OBJECT", "IDLETIME", "f") <= 2
            got += [ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"), ask("OBJECT", "IDLETIME", "k"), ask("SET", "new", "v"),
                    ask("OBJECT", "FREQ", "new"), ask("RESTORE", "g", "0", dump, "FREQ", "200"), ask("OBJECT", "FREQ", "g"),
                    ask("RESTORE", "h", "0", dump, "IDLETIME", "7"), ask("OBJECT", "FREQ", "h")]
        answers.append(got)
    assert answers[0] == answers[1]


@pytest.mark.parametrize("policy, question, value", [("allkeys-lru", "IDLETIME", 5000), ("volatile-lfu", "FREQ", 77)])
@pytest.mark.parametrize("writer, reader", [("vigie", "redis"), ("redis", "vigie"), ("vigie", "vigie")])
def test_snapshots_carry_the_use_of_keys(store_of, policy, question, value, writer, reader):
    first = store_of(writer)(maxmemory_policy=policy)
    with first.raw() as client:
        client.call("SET", "k", "v")
        dump = client.value("DUMP", "k")
        option = "IDLETIME" if question == "IDLETIME" else "FREQ"
        assert client.call("RESTORE", "old", "0", dump, option, value) == b"+OK\r\n"
        client.call("SAVE")
    first.kill()
    second = store_of(reader)(maxmemory_policy=policy, dir=first.directory)
    assert abs(second.call("OBJECT", question, "old") - value) <= (5 if question == "IDLETIME" else 0)
    assert second.call("OBJECT", question, "k") <= 8


def test_which_commands_count_as_use(vigie_store, redis_server):
    """After each command on a key that was idle for 1000 seconds: is it still idle? The same on both servers."""
    commands = [("GET", "k"), ("EXISTS", "k"), ("TTL", "k"), ("PTTL", "k"), ("TYPE", "k"), ("OBJECT", "ENCODING", "k"), ("TOUCH", "k"),
                ("STRLEN", "k"), ("EXPIRE", "k", "1000"), ("PERSIST", "k"), ("APPEND", "k", "x"), ("SETRANGE", "k", "0", "x"), ("DUMP", "k"),
                ("SET", "k", "value"), ("GETRANGE", "k", "0", "1"), ("SCAN", "0"), ("KEYS", "*"), ("RANDOMKEY",), ("EXPIRETIME", "k"),
                ("COPY", "k", "k2"), ("MGET", "k"), ("GETEX", "k"), ("SETNX", "k", "x"), ("SORT", "l"), ("LLEN", "l"), ("RENAME", "k", "k")]
    found = []
    for store in (vigie_store(), redis_server()):
        with store.raw() as client:
            client.call("SET", "k", "value")
            client.call("RPUSH", "l", "1")
            dumps = {key: client.value("DUMP", key) for key in ("k", "l")}
            states = {}
            for words in commands:
                key = "l" if "l" in words else "k"
                client.call("RESTORE", key, "0", dumps[key], "REPLACE", "IDLETIME", "1000")
                client.call(*words)
                states[words] = client.value("OBJECT", "IDLETIME", key) >= 1000
        found.append(states)
    assert found[0] == found[1]


def test_no_touch_leaves_no_traces(vigie_store):
    store = vigie_store()
    with store.raw() as client:
        client.call("SET", "k", "v")
        dump = client.value("DUMP", "k")
        client.call("RESTORE", "k", "0", dump, "REPLACE", "IDLETIME", "1000")
        assert client.call("CLIENT", "NO-TOUCH", "on") == b"+OK\r\n"
        client.call("GET", "k")
        client.call("STRLEN", "k")
        assert client.value("OBJECT", "IDLETIME", "k") >= 1000
        assert " flags=T " in client.value("CLIENT", "INFO").decode()
        # TOUCH is for that.
        client.call("TOUCH", "k")
        assert client.value("OBJECT", "IDLETIME", "k") < 5
        client.call("RESTORE", "k", "0", dump, "REPLACE", "IDLETIME", "1000")
        client.call("CLIENT", "NO-TOUCH", "off")
        client.call("GET", "k")
        assert client.value("OBJECT", "IDLETIME", "k") < 5


def test_frequency_grows_as_redis_counts_it(vigie_store, redis_server):
    """The same number of hits, the same counters within what chance allows, at three factors."""
    counters = []
    for store in (vigie_store(maxmemory_policy="allkeys-lfu"), redis_server(maxmemory_policy="allkeys-lfu")):
        means = []
        with store.raw(timeout=30) as client:
            for factor in (0, 10, 100):
                client.call("CONFIG", "SET", "lfu-log-factor", factor)
                client.call("FLUSHALL")
                for i in range(100):
                    client.call("SET", f"k{i}", "v")
                for _ in range(100):
                    client.send_raw(b"".join(encode("GET", f"k{i}") for i in range(100)))
                    for _ in range(100):
                        client.read()
                means.append(sum(client.value("OBJECT", "FREQ", f"k{i}") for i in range(100)) / 100)
        counters.append(means)
    ours, real = counters
    assert abs(ours[0] - real[0]) < 1      # every hit counts
    for one, other in zip(ours[1:], real[1:]):
        assert abs(one - other) < max(1.5, other * 0.1)


# MARK: expiry


def test_a_million_keys_that_end_together_neither_stall_nor_linger(vigie_store):
    count = 250_000  # a million takes four times as long: `expire_cycle_cpu_milliseconds` says how long
    store = vigie_store(enable_debug_command="yes")
    with store.raw(timeout=30) as client:
        assert client.call("DEBUG", "SET-ACTIVE-EXPIRE", "0") == b"+OK\r\n"
        for start in range(0, count, 5000):
            client.send_raw(b"".join(b"*5\r\n$3\r\nSET\r\n$10\r\nkey:%06d\r\n$1\r\nv\r\n$2\r\nPX\r\n$4\r\n1000\r\n" % i
                                     for i in range(start, start + 5000)))
            for _ in range(5000):
                client.read()
        assert client.value("DBSIZE") == count
        # Nobody has looked at them, so all of them are there until expiry is let loose.
        wait_until(lambda: client.value("PTTL", f"key:{count - 1}") == -2, 5, "the last one over")
        client.call("CONFIG", "RESETSTAT")
        begun = time.monotonic()
        client.call("DEBUG", "SET-ACTIVE-EXPIRE", "1")
        wait_until(lambda: client.value("DBSIZE") == 0, 15, "all keys gone")
        took = time.monotonic() - begun
        stats = store.info("stats")
    assert int(stats["expired_keys"]) == count - 1
    # Far above what it takes on a quiet machine (half a second and 1 ms); in one go it would take some hundred milliseconds.
    assert took < 6
    assert int(stats["vigie_loop_longest_callback_usec"]) < 60_000, stats["vigie_loop_longest_callback"]
    assert int(stats["expired_time_cap_reached_count"]) > 20


def test_expiry_is_precise_to_the_millisecond(vigie_store):
    store = vigie_store(enable_debug_command="yes")
    with store.raw() as client:
        assert client.call("DEBUG", "SET-ACTIVE-EXPIRE", "0") == b"+OK\r\n"
        for _ in range(20):
            client.call("SET", "k", "v", "PX", "30")
            end = client.value("PEXPIRETIME", "k")
            alive = dead = None
            while dead is None:
                seconds, micros = (int(word) for word in client.value("TIME"))
                before = seconds * 1000 + micros // 1000
                gone = client.value("EXISTS", "k") == 0
                seconds, micros = (int(word) for word in client.value("TIME"))
                after = seconds * 1000 + micros // 1000
                if gone:
                    dead = after
                else:
                    alive = before
            # Never gone before its time, never there after it.
            assert alive is None or alive < end
            assert dead >= end


def test_keys_go_without_being_looked_at(vigie_store):
    store = vigie_store()
    with store.raw() as client:
        for i in range(5000):
            client.send("SET", f"stays:{i}", "v", "EX", "1000")
        for i in range(5000):
            client.read()
        for i in range(50):
            client.call("SET", f"goes:{i}", "v", "PX", "100")
        # One in a hundred: a pass over everything takes a while, but it comes.
        wait_until(lambda: client.value("DBSIZE") == 5000, 20, "the fifty gone")


# MARK: clients


def greedy(store, size, protected=False):
    """A client whose transaction holds `size` bytes."""
    client = store.raw(timeout=10)
    if protected:
        assert client.call("CLIENT", "NO-EVICT", "on") == b"+OK\r\n"
    assert client.call("MULTI") == b"+OK\r\n"
    for _ in range(size // 10_000):
        assert client.call("SET", "k", "x" * 10_000) == b"+QUEUED\r\n"
    return client


def test_clients_that_take_most_are_disconnected_first(vigie_store):
    store = vigie_store()
    small, large, larger, kept = greedy(store, 100_000), greedy(store, 1_000_000), greedy(store, 2_000_000), greedy(store, 3_000_000, True)
    plain = store.raw()
    assert plain.call("CONFIG", "SET", "maxmemory-clients", "5mb") == b"+OK\r\n"
    wait_until(larger.closed, 5, "the largest that may go closed")
    assert plain.call("CONFIG", "SET", "maxmemory-clients", "3500kb") == b"+OK\r\n"
    wait_until(large.closed, 5, "the next one closed")
    assert small.call("DISCARD") == b"+OK\r\n" and kept.call("DISCARD") == b"+OK\r\n" and plain.call("PING") == b"+PONG\r\n"
    assert store.info("stats")["evicted_clients"] == "2"
    assert store.log_text().count("Evicting client: id=") == 2


def test_a_client_that_never_reads_is_disconnected(vigie_store):
    store = vigie_store(maxmemory_clients="4mb")
    store.call("SET", "big", "x" * 1_000_000)
    with store.raw() as slow:
        slow.send_raw(encode("GET", "big") * 50)
        wait_until(lambda: store.info("stats")["evicted_clients"] == "1", 10, "one client evicted")
    # A share of maxmemory.
    store.call("CONFIG", "SET", "maxmemory", "200mb", "maxmemory-clients", "5%")
    with store.raw() as slow:
        slow.send_raw(encode("GET", "big") * 50)
        wait_until(lambda: store.info("stats")["evicted_clients"] == "2", 10, "another evicted")
