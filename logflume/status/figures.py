"""What the parent knows of all workers, in a form that outlives each of them.

A worker counts from its start. A counter must never go back, so what a worker had counted when it ended is
kept here and added to what its successors count.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace

from logflume.daemon.report import FinishedHour, PartitionReport, WorkerReport

#: upper bounds in seconds of the time from an hour's last closing to its marker: merging by concat takes
#: well under a second, a merge by copying minutes, and a server that was away hours
BOUNDS_S = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker now: its last report, None before the first and after its end, and how old that is."""

    worker: int
    running: bool = False
    restarts: int = 0
    report: WorkerReport | None = None
    heard: float = 0.0


@dataclass(slots=True)
class Histogram:
    """Counts of values up to each of ``BOUNDS_S``; values above the last are in ``count`` only."""

    buckets: list[int] = field(default_factory=lambda: [0] * len(BOUNDS_S))
    count: int = 0
    total: float = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value
        for i, bound in enumerate(BOUNDS_S):
            self.buckets[i] += value <= bound

    def copy(self) -> Histogram:
        return Histogram(list(self.buckets), self.count, self.total)


@dataclass(frozen=True, slots=True)
class View:
    """Everything at one moment. ``finished`` counts hours by topic and whether complete, ``finish_s`` has per
    topic how long it took from the last closing to the marker.
    """

    workers: tuple[WorkerView, ...]
    counters: dict[tuple[str, str, str], int]
    finished: dict[tuple[str, bool], int]
    finish_s: dict[str, Histogram]
    silence_s: float

    @property
    def owned(self) -> list[tuple[int, PartitionReport]]:
        """Each partition once, with its worker: while it moves, two may report it, and the newer report holds."""
        found: dict[tuple[str, int], tuple[int, PartitionReport]] = {}
        for worker in sorted(self.workers, key=lambda worker: worker.heard):
            for partition in worker.report.partitions if worker.report is not None else ():
                found[partition.topic, partition.partition] = worker.worker, partition
        return [found[key] for key in sorted(found)]

    @property
    def partitions(self) -> list[PartitionReport]:
        """Each partition once."""
        return [partition for _, partition in self.owned]

    @property
    def held(self) -> dict[str, str]:
        """Per topic, why an hour that is due cannot be finished."""
        reports = (worker.report for worker in self.workers if worker.report is not None)
        return {topic: why for report in reports for topic, why in sorted(report.held.items())}

    def silent(self, now: float) -> list[int]:
        """Workers that do not run, or have said nothing for too long."""
        return [one.worker for one in self.workers if one.report is None or now - one.heard > self.silence_s]


class Figures:
    """Written by the supervisor, read by the status server's threads."""

    def __init__(self, workers: int, silence_s: float) -> None:
        self._lock = threading.Lock()
        self._workers = [WorkerView(index) for index in range(workers)]
        self._ended: Counter[tuple[str, str, str]] = Counter()
        self._finished: Counter[tuple[str, bool]] = Counter()
        self._finish_s: dict[str, Histogram] = {}
        self._silence_s = silence_s

    def started(self, worker: int) -> None:
        with self._lock:
            self._workers[worker] = replace(self._workers[worker], running=True)

    def heard(self, report: WorkerReport) -> None:
        with self._lock:
            before = self._workers[report.worker]
            self._workers[report.worker] = replace(before, report=report, heard=time.monotonic())
            for hour in report.finished:
                self._add(hour)

    def _add(self, hour: FinishedHour) -> None:
        self._finished[hour.topic, hour.complete] += 1
        self._finish_s.setdefault(hour.topic, Histogram()).add(hour.seconds)

    def ended(self, worker: int) -> None:
        with self._lock:
            before = self._workers[worker]
            if before.report is not None:
                self._ended.update(before.report.counters)
            self._workers[worker] = WorkerView(worker, restarts=before.restarts + 1)

    def view(self) -> View:
        with self._lock:
            counters = Counter(self._ended)
            for worker in self._workers:
                counters.update(worker.report.counters if worker.report is not None else {})
            return View(
                workers=tuple(self._workers),
                counters=dict(sorted(counters.items())),
                finished=dict(sorted(self._finished.items())),
                finish_s={topic: one.copy() for topic, one in sorted(self._finish_s.items())},
                silence_s=self._silence_s,
            )
