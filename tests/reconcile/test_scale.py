"""A thousand partitions, a day: in under a minute, and with as many calls to the store as the help says."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from logflume.reconcile.model import Options
from logflume.reconcile.run import Run, reconcile
from logflume.store import open_store
from tests.reconcile import bulk
from tests.reconcile.tree import FIRST_HOUR, TOPIC, configuration


def tree(base: Path, partitions: int, hours: int) -> Run:
    bulk.make(
        base / "root",
        topic=TOPIC,
        topic_id="id",
        first_hour=FIRST_HOUR,
        partitions=partitions,
        hours=hours,
        rolls=1,
        target=256 << 20,
    )
    config = configuration(f"file://{base}/root", base / "spool")
    return Run(open_store(config.output.root), config, "x", Options(patience_ms=0, grace_ms=0))


@pytest.mark.slow
def test_a_thousand_partitions_and_a_day_take_less_than_a_minute(tmp_path: Path) -> None:
    run = tree(tmp_path, 1000, 24)
    began = time.monotonic()
    report = reconcile(run)
    took = time.monotonic() - began
    print(f"{took:.1f} s, {report.calls}")  # noqa: T201
    assert (report.findings, report.topics[TOPIC].complete, report.topics[TOPIC].entries) == ([], 24, 25_000)
    assert took < 60


def test_calls_are_those_that_are_stated(tmp_path: Path) -> None:
    """Whatever else there is, the second run does not depend on the number of hours."""
    figures = {}
    for partitions, hours in ((4, 6), (4, 12), (8, 6)):
        run = tree(tmp_path / f"{partitions}-{hours}", partitions, hours)
        figures[partitions, hours] = [sum(reconcile(run).calls.values()) for _ in range(2)]
    first, second = figures[4, 6]
    # an hour: a list and a read of its marker, and an entry in each partition
    assert (figures[4, 12][0] - first) / 6 == 2 + 4
    # a partition: two lists, and for each entry a read; then two calls to see that there are no more
    assert (figures[8, 6][0] - first) / 4 == 2 + (6 + 1) + 2
    assert figures[4, 12][1] == second
    # afterwards: the entry of the checkpoint, two calls for the end, a list of tmp
    assert (figures[8, 6][1] - second) / 4 == 4
