"""``python -m tests.real``: run the scenarios on servers of its own; exit status 1 if any run was not clean.

python -m tests.real --list
python -m tests.real --only "namenode killed" "safe mode" --runs 5 --json real.json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import signal
import sys
from pathlib import Path

from tests.real.catalogue import SCENARIOS
from tests.real.ground import servers
from tests.real.runner import run
from tests.real.scenario import Outcome, Scenario


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.real", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="scenarios whose name contains one of these"
    )
    parser.add_argument("--runs", type=int, default=1, help="of each scenario")
    parser.add_argument("--quick", action="store_true", help="a few scenarios, one of each kind of server")
    parser.add_argument("--seed", type=int, help="of the first run; the others count up from it")
    parser.add_argument("--json", type=Path, help="write the outcomes there, after every run")
    parser.add_argument("--logs", type=Path, help="keep the daemons' logs there")
    parser.add_argument("--list", action="store_true", help="run nothing")
    asked = parser.parse_args()
    chosen = [
        one
        for one in SCENARIOS
        if (one.quick or not asked.quick) and (not asked.only or any(word in one.name for word in asked.only))
    ]
    if asked.list or not chosen:
        for one in SCENARIOS:
            show(f"{one.name:<50} {' '.join(one.rows):<14} {'stops for a person' if one.stops else 'recovers'}")
        return not asked.list
    # SIGTERM unwinds as Ctrl-C does, so that no server is left
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    seed = random.SystemRandom().randrange(2**31) if asked.seed is None else asked.seed
    outcomes = run_all(chosen, asked.runs, seed, asked.json, asked.logs)
    failed = [one for one in outcomes if not one.ok and not one.explained]
    show(f"{len(outcomes)} runs, {len(failed)} not clean")
    return bool(failed)


def run_all(chosen: list[Scenario], runs: int, seed: int, json_file: Path | None, logs: Path | None) -> list[Outcome]:
    """Round by round, so that a broken-off run has as many of each as possible."""
    outcomes: list[Outcome] = []
    for pair in (True, False):
        group = [scenario for scenario in chosen if scenario.pair is pair]
        if not group:
            continue
        with servers(two_namenodes=pair) as started:
            for scenario in group * runs:
                outcomes.append(run(scenario, started, seed + len(outcomes), logs))
                show(line(outcomes[-1]))
                if json_file is not None:
                    json_file.write_text(json.dumps([dataclasses.asdict(one) for one in outcomes], indent=1) + "\n")
    return outcomes


def line(one: Outcome) -> str:
    if one.explained:
        return f"not run  {one.scenario}: {one.explained}"
    if not one.ok:
        return f"FAILED   {one.scenario} (--only {one.scenario!r} --seed {one.seed})\n{one.failure}"
    return (
        f"clean    {one.scenario:<48} {one.acknowledged} acknowledged, lost {one.lost}, repeated {one.repeated}, "
        f"misplaced {one.misplaced}, early {one.early}; held {one.held_s} s, recovered in {one.recovery_s} s, "
        f"{one.again} read again, {one.workers_died} workers died; {one.seconds} s"
    )


def show(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
