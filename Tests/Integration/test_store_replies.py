"""The store beside Debian's redis-server: the same commands, and the bytes of every reply (tables in replies/).

With VIGIE_STAND_IN=peers a second redis-server is in our place: what fails then is wrong with the tables.
"""

from pathlib import Path

import pytest

from harness import Processes, Store, free_port, vigie_role
from harness.cases import compare, read_cases

TABLES = sorted((Path(__file__).parent / "replies").glob("*.txt"))
CASES = [case for table in TABLES for case in read_cases(table)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Our server and the real one, started once; a server that died is started again for the next case."""
    directory = tmp_path_factory.mktemp("replies")
    processes = Processes(directory)
    programs = {"real": ["redis-server"], "ours": vigie_role("store")}
    running = {}

    def start(which):
        folder = directory / which
        folder.mkdir(exist_ok=True)
        port = free_port()
        # CONFIG REWRITE needs a file.
        file = folder / "redis.conf"
        file.write_text("")
        process = processes.start([*programs[which], file, "--port", port, "--bind", "127.0.0.1", "--dir", folder,
                                   "--save", "", "--enable-debug-command", "local"], name=which)
        return Store(process, port).wait_ready()

    def both():
        for which in programs:
            if which not in running or not running[which].alive():
                running[which] = start(which)
        return running["ours"], running["real"]

    yield both
    processes.end()


@pytest.mark.parametrize("protocol", [2, 3], ids=["RESP2", "RESP3"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_replies(case, protocol, pair):
    ours, real = pair()
    differences = compare(case, ours, real, protocol)
    assert ours.alive(), f"the store ended: {ours.log_text()[-2000:]}"
    if differences:
        pytest.fail(f"{len(differences)} of {len(case.steps)} replies differ\n" + "\n".join(differences), pytrace=False)
