"""What a run is asked to look at, and what it has looked at."""

from __future__ import annotations

from dataclasses import dataclass

from logflume.model import DAY_MS


@dataclass(frozen=True, slots=True)
class Options:
    """How much is looked at, and with how much patience; times in ms."""

    full: bool = False
    deep: bool = False
    repair: bool = False
    patience_ms: int = 600_000
    grace_ms: int = DAY_MS
    since_ms: int | None = None


@dataclass(slots=True)
class Figures:
    """What was looked at, for people and metrics. ``gone``: hours from before proof begins without any file."""

    partitions: int = 0
    entries: int = 0
    hours: int = 0
    complete: int = 0
    incomplete: int = 0
    open: int = 0
    gone: int = 0
    offsets: int = 0
    files: int = 0
    bytes: int = 0
    records: int = 0
