"""Random commands, the same to our store and to Debian's redis-server (differential/ has the generator and the comparison).

Longer by hand: /usr/bin/python3 Tests/Integration/differential --seed 100000 --count 5000000 --failures 10
"""

import pytest

from differential.running import Pair, run

COMMANDS = 200_000


@pytest.fixture
def pair_with(tmp_path):
    pairs = []

    def start(*ours_options):
        pairs.append(Pair(tmp_path / str(len(pairs)), ours_options))
        return pairs[-1]

    yield start
    for pair in pairs:
        pair.end()


@pytest.mark.time_limit(300)
def test_both_answer_the_same(pair_with, capsys):
    summary = run(pair_with(), seed=1, count=COMMANDS, failures_max=3, minimise_seconds=20)
    if summary.failures:
        pytest.fail("\n\n".join(summary.failures) + f"\n\n{summary}", pytrace=False)
    assert summary.commands >= COMMANDS
    assert len(summary.unsteady) <= 2, "\n\n".join(summary.unsteady)
    with capsys.disabled():
        print(f"\n{summary}")


def test_a_difference_is_found_and_made_small(pair_with):
    """What the comparison is worth: a server without GETSET is told from one that has it, by one command."""
    summary = run(pair_with("--rename-command", "GETSET", ""), seed=1, count=20_000, families=["strings"])
    assert len(summary.failures) == 1
    lines = summary.failures[0].splitlines()
    commands = [line for line in lines if line.startswith("a: ")]
    assert len(commands) == 1 and commands[0].upper().startswith("A: GETSET"), summary.failures[0]
