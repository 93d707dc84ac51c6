"""Bare consumer and logflume in turn over one topic: records a second and CPU a record, as ratios."""

from __future__ import annotations

from statistics import median
from typing import Any

from bench import bare, daemon, machine
from bench.topic import Load, fill
from tests.stack import Stack


def measure(stack: Stack, load: Load, *, pairs: int, workers: list[str], **settings: Any) -> dict[str, Any]:
    """``pairs`` times: the bare consumer, then logflume with each number of workers.

    ``workers`` are texts such as 1, 2 or 1-python: after the number the reader, if it is not the default.
    """
    topic = fill(stack.bootstrap, load)
    found: dict[str, Any] = {
        "machine": machine.describe(),
        "load": load.__dict__,
        "settings": settings,
        "runs": [],
    }
    for pair in range(pairs):
        run: dict[str, Any] = {"load_average": machine.load()}
        run["bare"] = bare.measure(stack.bootstrap, topic, load.partitions, load.total)
        for kind in workers:
            number, _, reader = kind.partition("-")
            # With a group the second worker would join in the middle, and what is measured is a rebalance.
            kafka = {"assignment": "static"} if number != "1" else None
            run[f"workers-{kind}"] = daemon.drain(
                stack, load, topic, workers=int(number), kafka=kafka, reader=reader or "auto", **settings
            )
        found["runs"].append(run)
        print(f"pair {pair + 1} of {pairs}: {summary(run)}", flush=True)  # noqa: T201
    found["medians"] = medians(found["runs"])
    return found


def summary(run: dict[str, Any]) -> str:
    parts = []
    for name, one in run.items():
        if isinstance(one, dict):
            speed = f"{one['records_s'] / 1000:.0f} k/s" if one["records_s"] else "-"
            parts.append(f"{name} {speed} {one['cpu_us']:.2f} µs")
    return ", ".join(parts) + f", load {run['load_average']}"


def medians(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Per program the median and the best of each figure, and the median of its ratios pair by pair."""
    found: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(key for run in runs for key in run if isinstance(run[key], dict)):
        one: dict[str, float] = {}
        there = [run for run in runs if name in run]
        for figure in ("records_s", "wall_records_s", "cpu_us", "cpu_whole_us", "peak_mb"):
            values = [run[name][figure] for run in there if run[name].get(figure)]
            if values:
                one[figure] = median(values)
                one[f"{figure}_best"] = min(values) if "cpu" in figure or "mb" in figure else max(values)
            base = "records_s" if figure == "wall_records_s" else figure
            pairs = [
                run[name][figure] / run["bare"][base]
                for run in there
                if run[name].get(figure) and run.get("bare", {}).get(base)
            ]
            if pairs and name != "bare":
                one[f"{figure}_ratio"] = median(pairs)
        found[name] = one
    return found
