"""What a worker tells its parent, once a second, over a pipe: plain data, nothing else crosses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

#: what a worker counts; logflume/status/metrics.py says what each means
CounterName = Literal["records", "bytes", "decisions", "fenced", "retries", "stopped", "commits", "commit_failures"]


@dataclass(frozen=True, slots=True)
class PartitionReport:
    """One partition now. Times in ms UTC, None where not known yet; ``end`` is the log's end offset."""

    topic: str
    partition: int
    phase: str
    committed: int | None
    position: int | None
    end: int | None
    watermark: int | None
    frontier: int | None
    boundary: int | None
    open_parts: int
    error: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class FinishedHour:
    """An hour this worker marked: how many seconds after its last partition closed it, and whether complete."""

    topic: str
    hour: int
    seconds: float
    complete: bool
    files: int
    records: int


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """A worker's figures. ``counters`` are totals since the worker started, keyed (name, topic, label).

    Names are those of ``CounterName``; ``records`` and ``bytes`` are by fate (hour, late, quarantine:<reason>,
    dropped, repeated).
    ``oldest_call_s`` is the age of the store call that has been running longest.
    """

    worker: int
    pid: int
    consuming: bool
    paused: bool
    oldest_call_s: float
    oldest_call: str
    spool_bytes: int
    buffered_bytes: int
    partitions: tuple[PartitionReport, ...] = ()
    counters: dict[tuple[str, str, str], int] = field(default_factory=dict)
    finished: tuple[FinishedHour, ...] = ()
    held: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stop:
    """Parent to worker: finish what you hold within ``deadline_s`` and end."""

    deadline_s: float
