"""Sizes of records, compressions and jitter: each beside a bare consumer of the same topic, within a given time.

Topics are as large in bytes, not in records, so that no cell takes much longer than the others. Rounds go over all
cells, again and again until the time is up; a cell's first round is always made.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from bench import bare, daemon, machine, throughput
from bench.results import FAILURES
from bench.topic import Load, fill
from tests.stack import Stack
from tests.stack.kafka import delete_topics

SIZES = (50, 220, 2_000, 100_000)
COMPRESSIONS = ("gzip", "zstd", "none")
#: minutes around the hour that records are off by, for 220 B and gzip; 1 is what all the others have
JITTERS = (0, 30)


@dataclass(frozen=True)
class Cell:
    load: Load
    compression: str

    @property
    def settings(self) -> dict[str, Any]:
        # a record that is off by as much as the jitter must not be late
        lateness = max(10, 2 * self.load.jitter_ms // 60_000)
        return {"compression": self.compression, "lateness": f"{lateness}m"}

    def describe(self) -> dict[str, Any]:
        return {**asdict(self.load), "compression": self.compression}


def cells(megabytes: int) -> list[Cell]:
    """All of the matrix, those of one topic side by side."""
    loads = {size: Load(megabytes * 1_000_000 // size, size=size, jitter_ms=60_000) for size in SIZES}
    found = [Cell(loads[size], compression) for size in SIZES for compression in COMPRESSIONS]
    off = [Load(loads[220].records, size=220, jitter_ms=minutes * 60_000) for minutes in JITTERS]
    return found + [Cell(load, "gzip") for load in off]


def measure(
    stack: Stack, *, megabytes: int, minutes: float, rounds: int, save: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """At most ``rounds`` rounds; none begins a cell after ``minutes`` but the first. The topics are deleted."""
    began, all_cells = time.monotonic(), cells(megabytes)
    found: dict[str, Any] = {
        "machine": machine.describe(),
        "megabytes": megabytes,
        "minutes": minutes,
        "matrix": [{**cell.describe(), "runs": [], "failures": []} for cell in all_cells],
        "runs": [],
        "complete": False,
    }
    topics: dict[Load, str] = {}
    try:
        for number in range(rounds):
            for cell, into in zip(all_cells, found["matrix"], strict=True):
                if number and time.monotonic() > began + minutes * 60:
                    break
                if cell.load not in topics:
                    topics[cell.load] = fill(stack.bootstrap, cell.load)
                run = _pair(stack, cell, topics[cell.load], into)
                found["runs"].append({"load_average": run["load_average"]})
                found["minutes_used"] = round((time.monotonic() - began) / 60, 1)
                save(found)
    finally:
        delete_topics(stack.bootstrap, list(topics.values()))
    found["complete"] = True
    return found


def _pair(stack: Stack, cell: Cell, topic: str, into: dict[str, Any]) -> dict[str, Any]:
    load = cell.load
    run: dict[str, Any] = {"load_average": machine.load()}
    try:
        run["bare"] = bare.measure(stack.bootstrap, topic, load.partitions, load.total)
        run["workers-1"] = daemon.drain(stack, load, topic, **cell.settings)
    except FAILURES as failure:
        into["failures"].append(str(failure))
        print(f"{load.name} {cell.compression}: {failure}", flush=True)  # noqa: T201
        return run
    into["runs"].append(run)
    into["medians"] = throughput.medians(into["runs"])
    # of the lines that were written: what a megabyte costs, whatever the size of a record
    into["raw_mb"] = round(run["bare"]["bytes"] / 1e6, 1)
    into["cpu_us_mb"] = into["medians"]["workers-1"]["cpu_us"] * load.total / into["raw_mb"]
    into["bytes_ratio"] = round(run["bare"]["bytes"] / run["workers-1"]["bytes"], 2)
    print(f"{load.name} {cell.compression}: {throughput.summary(run)}", flush=True)  # noqa: T201
    return run
