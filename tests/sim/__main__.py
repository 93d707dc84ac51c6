"""``python -m tests.sim SEED``: one walk, with its log; ``--seconds N``: random ones on all cores for so long."""

from __future__ import annotations

import argparse
import json
import random
import sys
from dataclasses import asdict
from pathlib import Path

from tests.crash.enumerate import directory
from tests.sim.host import played
from tests.sim.tally import summary, walk_all
from tests.sim.walk import run_seed
from tests.sim.world import Clock


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", type=Path, help="write the figures there")
    asked = parser.parse_args()
    if asked.seed is not None:
        clock, where = Clock(), directory()
        with played(clock, quietly=False):
            run_seed(asked.seed, where, clock)
        sys.stdout.write("nothing is wrong\n")
        return 0
    tally = walk_all(asked.seconds, random.SystemRandom().randrange(2**32))
    sys.stdout.write("\n".join([*tally.failures, summary(tally)]) + "\n")
    if asked.json is not None:
        asked.json.write_text(json.dumps(asdict(tally), indent=1) + "\n")
    return bool(tally.failures)


if __name__ == "__main__":
    sys.exit(main())
