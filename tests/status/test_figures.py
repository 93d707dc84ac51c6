"""Sums over workers that come and go."""

from __future__ import annotations

import time

from logflume.status.figures import BOUNDS_S, Figures
from tests.status.samples import finished, partition, report


def test_counters_add_up_over_workers() -> None:
    figures = Figures(2, silence_s=30)
    figures.heard(report(0, counters={("records", "app", "hour"): 5}))
    figures.heard(report(1, counters={("records", "app", "hour"): 7, ("fenced", "app", ""): 1}))
    assert figures.view().counters == {("records", "app", "hour"): 12, ("fenced", "app", ""): 1}


def test_a_counter_does_not_go_back_when_its_worker_is_replaced() -> None:
    figures = Figures(1, silence_s=30)
    figures.started(0)
    figures.heard(report(counters={("records", "app", "hour"): 5}))
    figures.ended(0)
    assert figures.view().counters == {("records", "app", "hour"): 5}
    figures.started(0)
    figures.heard(report(counters={("records", "app", "hour"): 2}))
    assert figures.view().counters == {("records", "app", "hour"): 7}
    assert figures.view().workers[0].restarts == 1


def test_a_worker_that_ended_leaves_no_gauges() -> None:
    figures = Figures(1, silence_s=30)
    figures.heard(report(partitions=(partition(0),)))
    figures.ended(0)
    assert figures.view().partitions == []


def test_a_partition_on_the_move_appears_once_as_reported_last() -> None:
    figures = Figures(2, silence_s=30)
    figures.heard(report(1, partitions=(partition(0, phase="draining"),)))
    time.sleep(0.01)
    figures.heard(report(0, partitions=(partition(0, phase="claiming"), partition(1))))
    assert [(one.partition, one.phase) for one in figures.view().partitions] == [(0, "claiming"), (1, "reading")]


def test_each_finished_hour_is_counted_once() -> None:
    figures = Figures(1, silence_s=30)
    figures.heard(report(finished=(finished(0.4), finished(3.0, complete=False))))
    figures.heard(report(finished=(finished(99_999.0),)))
    view = figures.view()
    assert view.finished == {("app", True): 2, ("app", False): 1}
    took = view.finish_s["app"]
    assert (took.count, took.total) == (3, 100_002.4)
    assert dict(zip(BOUNDS_S, took.buckets, strict=True))[0.5] == 1
    assert took.buckets[-1] == 2


def test_a_worker_that_has_said_nothing_of_late_is_silent() -> None:
    figures = Figures(2, silence_s=30)
    figures.heard(report(1))
    assert figures.view().silent(time.monotonic()) == [0]
    assert figures.view().silent(time.monotonic() + 31) == [0, 1]
