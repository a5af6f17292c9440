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
