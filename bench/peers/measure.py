"""Bare consumer, logflume and its peers in turn over one topic: speed, CPU, memory, and what is on HDFS afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench import bare, daemon, machine, throughput
from bench.peers import account, program
from bench.peers.flume import Flume
from bench.peers.program import Peer
from bench.peers.spark import Spark
from bench.results import FAILURES
from bench.topic import Load, fill
from tests.stack import Stack

PEERS: dict[str, Callable[[], Peer]] = {
    "spark": Spark,
    "flume-file": lambda: Flume("file"),
    "flume-memory": lambda: Flume("memory"),
}
#: for one run of a peer, at least, and so many records a second: the slowest one known makes 24,000 on a quiet machine
TIMEOUT_S, LEAST_RECORDS_S = 600.0, 2_000.0


def measure(
    stack: Stack, load: Load, *, peers: list[str], rounds: int, save: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """``rounds`` times each. A program that fails is in the result with what it said, and the others go on."""
    topic = fill(stack.bootstrap, load)
    wanted = account.expected(stack.bootstrap, topic, load)
    found: dict[str, Any] = {
        "machine": machine.describe(),
        "load": load.__dict__,
        "peers": {name: PEERS[name]().configured() for name in peers},
        "runs": [],
        "failures": [],
        "complete": False,
    }

    def inspect(here: daemon.Place) -> dict[str, Any]:
        return {"account": account.compare(here, topic, wanted)}

    def of(name: str) -> dict[str, Any]:
        if name == "bare":
            return bare.measure(stack.bootstrap, topic, load.partitions, load.total)
        if name == "logflume":
            return daemon.drain(stack, load, topic, inspect=inspect)
        with daemon.place(stack) as here:
            figures = program.run(PEERS[name](), here, topic, load, max(TIMEOUT_S, load.total / LEAST_RECORDS_S))
            return {**figures, "account": account.compare(here, name, wanted)}

    for number in range(rounds):
        run: dict[str, Any] = {"load_average": machine.load()}
        found["runs"].append(run)
        for name in ("bare", "logflume", *peers):
            try:
                run[name] = of(name)
            except FAILURES as failure:
                found["failures"].append({"program": name, "round": number + 1, "error": str(failure)})
                print(f"{name}: {failure}", flush=True)  # noqa: T201
                continue
            print(f"round {number + 1}, {name}: {_short(run[name])}", flush=True)  # noqa: T201
            found["medians"] = throughput.medians(found["runs"])
            save(found)
    found["complete"] = True
    save(found)
    return found


def _short(one: dict[str, Any]) -> str:
    speed = f"{one['records_s'] / 1000:.0f} k/s" if one["records_s"] else "–"
    return f"{speed}, {one['cpu_us']:.2f} µs, {one.get('peak_mb', 0):.0f} MB, {one.get('account', '')}"
