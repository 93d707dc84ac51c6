"""No change may make the hot path a quarter dearer without being noticed (never judged by absolute time)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import throughput
from bench.topic import Load
from logflume.kafka import native
from tests.stack import Stack
from tests.stack.kafka import delete_topics

RECORDED = Path(__file__).parents[2] / "bench" / "results" / "guard.json"
WORSE = 1.25
PAIRS = 3
#: other work on the machine makes single pairs worse by a fifth, seldom all of six
MORE_PAIRS = 3


@pytest.mark.skipif(bool(native.MISSING), reason=f"recorded with the reader in C: {native.MISSING}")
@pytest.mark.slow
@pytest.mark.servers
def test_a_record_costs_no_more_cpu_beside_a_bare_consumer_than_was_recorded(
    stack: Stack, record_property: Callable[[str, object], None]
) -> None:
    recorded = json.loads(RECORDED.read_text())
    load = Load(**recorded["load"])
    limit = recorded["medians"]["workers-1"]["cpu_us_ratio"] * WORSE
    try:
        runs = throughput.measure(stack, load, pairs=PAIRS, workers=["1"])["runs"]
        if _ratio(runs) > limit:
            runs += throughput.measure(stack, load, pairs=MORE_PAIRS, workers=["1"])["runs"]
        record_property("cpu_us_ratio", _ratio(runs))
        assert _ratio(runs) <= limit, [throughput.summary(run) for run in runs]
    finally:
        delete_topics(stack.bootstrap, [load.name])


def _ratio(runs: list[dict[str, object]]) -> float:
    return throughput.medians(runs)["workers-1"]["cpu_us_ratio"]
