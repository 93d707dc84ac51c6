"""``python -m tests.crash``: every point of every variant; with ``VARIANT POINT``: one of them, with its log."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
from pathlib import Path

from tests.crash.enumerate import VARIANTS, directory, first_failure, report, timed
from tests.crash.points import Point, numbered, run
from tests.sim.host import played
from tests.sim.world import Clock


def show(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("variant", type=int, nargs="?", help="number of a variant")
    parser.add_argument("point", type=Point.parse, nargs="?", help="effect:how:who:wakes, as a failure prints it")
    parser.add_argument("--stride", type=int, default=1, help="only every so many points")
    parser.add_argument("--first", type=int, metavar="N", help="try N points of all, in a mixed order, up to a failure")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="with --first: such a call, such a way")
    parser.add_argument("--json", type=Path, help="write the figures there")
    asked = parser.parse_args()
    if asked.point is not None:
        return one(asked.variant, asked.point)
    if asked.first is not None:
        failure = first_failure(asked.first, asked.only)
        show(failure.strip().splitlines()[0] if failure else "nothing is wrong")
        return bool(failure)
    chosen = range(len(VARIANTS)) if asked.variant is None else [asked.variant]
    outcomes, seconds = timed(dict.fromkeys(chosen, asked.stride))
    for failure in (failure for outcome in outcomes for failure in outcome.failures):
        show(failure)
    show(report(outcomes, seconds))
    if asked.json is not None:
        body = {"seconds": round(seconds, 1), "variants": [dataclasses.asdict(outcome) for outcome in outcomes]}
        asked.json.write_text(json.dumps(body, indent=1) + "\n")
    return any(outcome.failures for outcome in outcomes)


def one(number: int, point: Point) -> int:
    clock, where = Clock(), directory()
    with played(clock):
        effects = numbered(VARIANTS[number], where, clock)
    effect = effects[point.number] if point.number < len(effects) else None
    show(f"{VARIANTS[number]}: {point.how} at {effect}")
    with played(clock, quietly=False):
        run(VARIANTS[number], point, where, clock, effect)
    shutil.rmtree(where.parent)
    show("nothing is wrong")
    return 0


if __name__ == "__main__":
    sys.exit(main())
