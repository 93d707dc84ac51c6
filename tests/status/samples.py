"""Reports such as workers send."""

from __future__ import annotations

from typing import Any

from logflume.daemon.report import FinishedHour, PartitionReport, WorkerReport

HOUR = 1_763_791_200_000  # 2025-11-22T06


def partition(number: int, topic: str = "app", **fields: Any) -> PartitionReport:
    known: dict[str, Any] = {
        "phase": "reading",
        "committed": 100,
        "position": 150,
        "end": 170,
        "watermark": HOUR + 1500,
        "frontier": HOUR,
        "boundary": 90,
        "open_parts": 2,
    }
    return PartitionReport(topic, number, **{**known, **fields})


def report(worker: int = 0, **fields: Any) -> WorkerReport:
    known: dict[str, Any] = {
        "consuming": True,
        "paused": False,
        "oldest_call_s": 1.25,
        "oldest_call": "decide app/0",
        "spool_bytes": 4096,
        "buffered_bytes": 100,
    }
    return WorkerReport(worker, 1000 + worker, **{**known, **fields})


def finished(seconds: float, topic: str = "app", *, complete: bool = True) -> FinishedHour:
    return FinishedHour(topic, HOUR, seconds, complete, 2, 1000)
