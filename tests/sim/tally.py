"""Seeds for a given time, on all cores."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from tests.crash.enumerate import directory
from tests.sim.host import played
from tests.sim.walk import run_seed
from tests.sim.world import Clock


@dataclass(slots=True)
class Tally:
    """What was walked; ``failures`` as text, each with the command that shows it again."""

    seeds: int
    steps: int
    records: int
    hours: int
    failures: list[str]


def walk_for(seconds: float, first: int, step: int) -> Tally:
    """Seeds ``first``, ``first + step``, … in one process."""
    tally, end = Tally(0, 0, 0, 0, []), time.monotonic() + seconds
    clock, where, seed = Clock(), directory(), first
    with played(clock):
        while time.monotonic() < end and len(tally.failures) < 3:
            try:
                walk = run_seed(seed, where, clock)
                tally.steps += walk.steps
                tally.records += len(walk.made)
                tally.hours += len(walk.seen)
            except Exception as error:  # whatever it is, it is the finding
                tally.failures.append("".join(traceback.format_exception(error, limit=-5)))
            tally.seeds += 1
            seed += step
    shutil.rmtree(where.parent, ignore_errors=True)
    return tally


def walk_all(seconds: float, first: int) -> Tally:
    processes = os.cpu_count() or 1
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        parts = list(
            pool.map(walk_for, [seconds] * processes, range(first, first + processes), [processes] * processes)
        )
    return Tally(
        sum(one.seeds for one in parts),
        sum(one.steps for one in parts),
        sum(one.records for one in parts),
        sum(one.hours for one in parts),
        [failure for one in parts for failure in one.failures],
    )


def summary(tally: Tally) -> str:
    return (
        f"{tally.seeds} seeds, {tally.steps} steps, {tally.records} records, {tally.hours} hours marked: "
        f"{len(tally.failures)} failed"
    )
