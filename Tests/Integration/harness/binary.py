"""Where the program under test and the project's files are."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
ARTICLE = REPOSITORY / "configs" / "article"


def vigie_binary():
    """The path of `vigie`: $VIGIE_BIN, else the release build, else the debug build."""
    named = os.environ.get("VIGIE_BIN")
    candidates = [Path(named)] if named else [
        REPOSITORY / ".build" / kind / "vigie" for kind in ("release", "debug")]
    for candidate in candidates:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return str(candidate.resolve())
    raise FileNotFoundError(
        "no vigie to test: looked at " + ", ".join(map(str, candidates))
        + "; run `swift build -c release --product vigie` or set VIGIE_BIN")


# The real programs, for roles of ours.
PEERS = {"store": ["redis-server"], "sentinel": ["redis-sentinel"], "proxy": ["haproxy", "-db", "-f"]}


def vigie_role(role):
    """The words that start one role of ours. With VIGIE_STAND_IN=peers the real program stands in for it, which shows
    whether a test that fails is right about the peer."""
    if os.environ.get("VIGIE_STAND_IN") == "peers":
        return PEERS[role]
    return [vigie_binary(), role]
