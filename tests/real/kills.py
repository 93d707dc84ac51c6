"""``python -m tests.real.kills``: a sample of the crash points on real HDFS, by real SIGKILL.

tests/crash enumerates all of them in one process. Here a run that nobody kills counts the worker's effects on
HDFS; then, for a sample of their numbers, a worker dies before, during or after the effect, its successor goes on,
and the independent checker counts. Several daemons at once read the same topic into roots of their own.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.bench import Bench, Case, opened, past, span
from tests.e2e.daemon import wait_until
from tests.e2e.generate import Shape, make
from tests.e2e.log import Log
from tests.e2e.oracle import Rules
from tests.e2e.report import Report
from tests.real.dying import DIED, HOWS
from tests.stack import local
from tests.stack.server import Reaper

PARTITIONS, HOURS, RECORDS = 2, 2, 2_000
AT_ONCE = 3
#: static: each daemon reads all partitions, and no group
ALONE = {"assignment": "static", "group.id": None, "session.timeout.ms": None, "heartbeat.interval.ms": None}


@dataclass
class Kill:
    """One run. ``call`` is the effect's; "" where fewer effects came than in the run that counted them."""

    number: int
    how: str
    call: str = ""
    ok: bool = False
    failure: str = ""
    acknowledged: int = 0
    lost: int = 0
    repeated: int = 0
    misplaced: int = 0
    early: int = 0


class Field:
    """The topic that all read."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._base = past(HOURS + 2)
        self._case = bench.case(bench.root(), PARTITIONS)
        self._case.feed(make(Shape(self._base, PARTITIONS, HOURS, RECORDS))).wait()
        self.log: Log = self._case.log()

    def effects(self) -> list[str]:
        """The calls of a worker that nobody kills."""
        _, calls = self._run("counted", -1, "before")
        return calls

    def kill(self, kill: Kill) -> Kill:
        try:
            report, calls = self._run(f"{kill.number}-{kill.how}", kill.number, kill.how)
            kill.call = calls[kill.number] if DIED in calls else ""
            kill.acknowledged, kill.lost = report.acknowledged, len(report.lost)
            kill.repeated, kill.misplaced = len(report.repeated), len(report.misplaced)
            kill.early = len(report.early)
            report.clean(crashed=True)
            kill.ok = True
        except Exception:  # whatever it is, it is the finding
            kill.failure = traceback.format_exc(limit=-4)
        return kill

    def _run(self, name: str, number: int, how: str) -> tuple[Report, list[str]]:
        bench, root = self._bench, self._bench.root(below=name)
        case = Case(bench, self._case.topic, bench.tree(root), Rules(), {})
        daemon = bench.daemon(name, root, [case], kafka=ALONE)
        effects = daemon.log.with_suffix(".effects")
        daemon.program = ["-m", "tests.real.dying", str(daemon.config_file), str(number), how, str(effects)]
        daemon.start()
        try:
            case.wait_complete(span(self._base, HOURS), daemon)
            wait_until(lambda: "hour finished" in daemon.logged(), 10, "it says so", daemon)
            daemon.stop()
            daemon.no_surprise()
        finally:
            daemon.end()
        return case.check(self.log), effects.read_text().splitlines()


def sample(count: int, of: int, rng: random.Random) -> list[Kill]:
    """Evenly over the effects, each at a random place of its stretch, and all ways in turn."""
    return [Kill(int((i + rng.random()) * of / count), HOWS[i % len(HOWS)]) for i in range(count)]


def run(count: int, seed: int) -> tuple[int, list[Kill]]:
    """The number of effects that were counted, and the runs."""
    reaper = Reaper()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="logflume-kills-") as folder,
            local() as stack,
            opened(Bench(stack, "kills", Path(folder), reaper)) as bench,
            ThreadPoolExecutor(AT_ONCE) as pool,
        ):
            field = Field(bench)
            effects = field.effects()
            show(f"{len(effects)} effects: {dict(Counter(effects))}")
            kills = []
            for kill in pool.map(field.kill, sample(count, len(effects), random.Random(seed))):
                kills.append(kill)
                word = "clean " if kill.ok else "FAILED"
                show(f"{word} {kill.how:<6} {kill.number:>4} {kill.call or 'not met'} {kill.failure}")
            return len(effects), kills
    finally:
        reaper.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.real.kills", description=__doc__)
    parser.add_argument("--sample", type=int, default=30, help="how many kills")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--json", type=Path, help="write the runs there")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    seed = random.SystemRandom().randrange(2**31) if asked.seed is None else asked.seed
    began = time.monotonic()
    effects, kills = run(asked.sample, seed)
    failed, met = [one for one in kills if not one.ok], [one for one in kills if one.call]
    show(f"{len(met)} kills at effects, seed {seed}, {time.monotonic() - began:.0f} s, {len(failed)} not clean")
    if asked.json is not None:
        body = {"effects": effects, "seed": seed, "kills": [dataclasses.asdict(one) for one in kills]}
        asked.json.write_text(json.dumps(body, indent=1) + "\n")
    return bool(failed)


def show(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
