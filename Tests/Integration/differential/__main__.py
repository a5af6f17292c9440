import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import differential  # noqa: E402
from differential.families import FAMILIES  # noqa: E402
from differential.running import Pair, run  # noqa: E402

parser = argparse.ArgumentParser(prog="differential", description=differential.__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--seed", type=int, default=1, help="number of the first episode")
parser.add_argument("--count", type=int, default=200_000, help="commands to send to each server")
parser.add_argument("--families", default="", help="of " + ", ".join([*FAMILIES, "sessions"]) + "; all unless said otherwise")
parser.add_argument("--failures", type=int, default=1, help="stop after that many episodes that differ")
parser.add_argument("--minimise", type=float, default=60, metavar="SECONDS", help="how long to look for a smaller part")
options = parser.parse_args()

with tempfile.TemporaryDirectory(prefix="differential-") as directory:
    pair = Pair(Path(directory))
    try:
        summary = run(pair, options.seed, options.count, [name for name in options.families.split(",") if name] or None,
                      options.failures, options.minimise, say=lambda text: print(text, flush=True))
    finally:
        pair.end()
print(summary)
sys.exit(1 if summary.failures else 0)
