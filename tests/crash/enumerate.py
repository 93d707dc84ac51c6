"""All points of all variants, on all cores."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import tempfile
import time
import traceback
from collections.abc import Collection
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.points import Point, Variant, numbered, points, run
from tests.sim.gates import Effect
from tests.sim.host import played
from tests.sim.world import Clock

VARIANTS = (
    Variant("complete", "append", concat=True),
    Variant("complete", "side", concat=False),
    Variant("early", "append", concat=False),
    Variant("early", "side", concat=True),
    Variant("complete", "append", concat=False, pair=True),
    Variant("complete", "side", concat=True, pair=True),
)
#: of the heir's effects, those at which the interrupted host wakes in the middle of the takeover
WAKES = (9, 32)


@dataclass(slots=True)
class Outcome:
    """Of one variant: its effects, how many points there are, those tried by kind, and the failures as text."""

    variant: str
    effects: int
    known: int
    tried: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def points(self) -> int:
        return sum(self.tried.values())


def directory() -> Path:
    """In memory where there is such a file system."""
    where = "/dev/shm" if os.path.isdir("/dev/shm") else None
    return Path(tempfile.mkdtemp(prefix="logflume-crash-", dir=where)) / "run"


def share(number: int, index: int, of: int, stride: int, start: int) -> Outcome:
    """One process's part of one variant: every ``stride``-th point from ``start`` on, of these every ``of``-th."""
    variant, where, clock = VARIANTS[number], directory(), Clock()
    with played(clock):
        effects = numbered(variant, where, clock)
        known = list(points(effects, WAKES))
        outcome = Outcome(str(variant), len(effects), len(known))
        for point in known[start % stride :: stride][index::of]:
            outcome.tried[point.how] = outcome.tried.get(point.how, 0) + 1
            failure = attempt(number, point, effects, where, clock)
            if failure:
                outcome.failures.append(failure)
    shutil.rmtree(where.parent)
    return outcome


def attempt(number: int, point: Point, effects: list[Effect], where: Path, clock: Clock) -> str:
    """What is wrong after this point, with the command that shows it again; empty where nothing is."""
    effect = effects[point.number] if point.number < len(effects) else None
    try:
        run(VARIANTS[number], point, where, clock, effect)
    except Exception as error:  # the product's own failures are findings, too
        text = "".join(traceback.format_exception(error, limit=-4))
        return f"{VARIANTS[number]}: {point.how} at {effect}\n{text}  again: python -m tests.crash {number} {point}\n"
    return ""


def first_failure(budget: int, words: Collection[str] = ()) -> str:
    """Of ``budget`` points in a mixed order, in this process alone; empty where nothing is wrong. With words only
    the points at such calls (``upload``) that are interrupted in such a way (``fail``).
    """
    where, clock = directory(), Clock()
    try:
        with played(clock):
            return _first_failure(budget, words, where, clock)
    finally:
        shutil.rmtree(where.parent)


def _first_failure(budget: int, words: Collection[str], where: Path, clock: Clock) -> str:
    chosen: list[tuple[int, Point]] = []
    known: dict[int, list[Effect]] = {}
    for number, variant in enumerate(VARIANTS):
        try:
            known[number] = numbered(variant, where, clock)
        except Exception as error:  # the product fails without any help
            return f"{variant}: without an interruption: {error!r}"
        calls = [*(effect.call for effect in known[number]), "end"]
        found = points(known[number], WAKES)
        chosen += [(number, point) for point in found if set(words) <= {point.how, calls[point.number]}]
    random.Random(0).shuffle(chosen)
    failures = (attempt(number, point, known[number], where, clock) for number, point in chosen[:budget])
    return next(filter(None, failures), "")


def enumerate_all(strides: dict[int, int]) -> list[Outcome]:
    """Per variant's number, the outcome of every ``stride``-th point; from which one on is different each time."""
    processes, start = os.cpu_count() or 1, random.SystemRandom().randrange(1000)
    # spawned: a forked child would have this process's threads' locks, and none of its threads
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        parts = {
            n: [pool.submit(share, n, i, processes, stride, start) for i in range(processes)]
            for n, stride in strides.items()
        }
        return [_sum([part.result() for part in found]) for found in parts.values()]


def _sum(parts: list[Outcome]) -> Outcome:
    whole = Outcome(parts[0].variant, parts[0].effects, parts[0].known)
    for part in parts:
        assert (part.variant, part.effects) == (whole.variant, whole.effects), (
            "effects are not the same in every process"
        )
        whole.failures += part.failures
        for how, count in part.tried.items():
            whole.tried[how] = whole.tried.get(how, 0) + count
    return whole


def report(outcomes: list[Outcome], seconds: float) -> str:
    rows = []
    for one in outcomes:
        kinds = ", ".join(f"{how} {count}" for how, count in sorted(one.tried.items()))
        figures = f"{one.effects:>4} effects {one.points:>6} points {len(one.failures):>3} failed"
        rows.append(f"{one.variant:<48} {figures}  ({kinds})")
    total = sum(one.points for one in outcomes)
    failed = sum(len(one.failures) for one in outcomes)
    return "\n".join([*rows, f"{total} crash points in {seconds:.0f} s, {failed} failed"])


def timed(strides: dict[int, int]) -> tuple[list[Outcome], float]:
    began = time.monotonic()
    outcomes = enumerate_all(strides)
    return outcomes, time.monotonic() - began
