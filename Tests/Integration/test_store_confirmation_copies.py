"""`reply-after-replicas`: what counts as a copy."""

import time

from harness import PlayedReplica, wait_until
from test_store_confirmation import WRITE


def test_a_replica_that_comes_back_is_one_copy_and_not_two(store_of):
    """Its old connection may hang on, half-open, with what it has acknowledged."""
    master = store_of("vigie")(reply_after_replicas=2, reply_after_replicas_timeout=500)
    with PlayedReplica(master.port) as old, master.raw() as client:
        old.synchronise()
        old.acknowledge()
        wait_until(lambda: master.info("replication")["slave0"].find("state=online") > 0, 5)
        end = int(master.info("replication")["master_repl_offset"])
        client.send("SET", "k", "1")
        wait_until(lambda: int(master.info("replication")["master_repl_offset"]) > end, 5)
        goal = int(master.info("replication")["master_repl_offset"])
        old.acknowledge(goal)
        with PlayedReplica(master.port) as again:
            again.client.send("PSYNC", old.replication_id, end + 1)
            assert again.line().startswith("+CONTINUE")
            again.acknowledge(goal)
            assert client.read().startswith(WRITE), "there is one copy"
            # Two replicas behind one address speak both.
            client.send("SET", "k", "2")
            time.sleep(0.05)
            for replica in (old, again):
                replica.acknowledge(int(master.info("replication")["master_repl_offset"]))
            assert client.read() == b"+OK\r\n"


def test_an_acknowledgement_of_what_is_yet_to_be_written_counts_for_nothing(store_of):
    master = store_of("vigie")(reply_after_replicas=1, reply_after_replicas_timeout=200)
    with PlayedReplica(master.port) as replica:
        replica.synchronise()
        replica.acknowledge(1 << 40)
        wait_until(lambda: master.info("replication")["slave0"].find("state=online") > 0, 5)
        with master.raw() as client:
            assert client.call("SET", "k", "1").startswith(WRITE)
