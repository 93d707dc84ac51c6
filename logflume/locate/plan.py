"""What became of an offset, from entries and manifests. Pure: whoever reads hands them in.

``decided`` only ever goes from no to yes along a chain, so the entry that decided an offset is found by halving.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from logflume.core.ledger import Closing, Entry, Part, State
from logflume.finish.plan import Plan
from logflume.model import Kind

T = TypeVar("T")


class Fate(StrEnum):
    """What became of an offset; the values are in the JSON."""

    HOUR = "hour"
    LATE = "late"
    QUARANTINE = "quarantine"
    DROPPED = "dropped"
    GAP = "gap"
    UNDECIDED = "undecided"
    BEFORE = "before"
    FORGOTTEN = "forgotten"


class Shown(StrEnum):
    """Where a file is on its way."""

    VISIBLE = "visible"
    HIDDEN = "hidden"
    TMP = "tmp"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of a part are: a file and a range of it. ``marker`` is that of its hour, "" without one."""

    path: str
    shown: Shown
    start: int
    size: int
    marker: str = ""


@dataclass(slots=True)
class Answer:
    """About one offset. ``entry`` is None where the entry is gone, or there is none."""

    topic: str
    topic_id: str
    partition: int
    offset: int
    fate: Fate
    why: str
    hour: str = ""
    entry: int | None = None
    owner: str = ""
    decided_at_ms: int | None = None
    part: str = ""
    records: int = 0
    place: Place | None = None
    also: list[str] = field(default_factory=list)


def is_decided(state: State, offset: int) -> bool:
    return offset < state.committed or offset in state.decided


def first_where(items: Sequence[T], holds: Callable[[T], bool]) -> T | None:
    """The first item that a condition holds for, which holds for all after it; looks at about log2 of them."""
    low, high = 0, len(items)
    while low < high:
        middle = (low + high) // 2
        if holds(items[middle]):
            high = middle
        else:
            low = middle + 1
    return items[low] if low < len(items) else None


def fate_in(entry: Entry, offset: int) -> tuple[Fate, Part | None] | None:
    """What this entry decided about an offset, None if nothing."""
    for part in entry.parts:
        if offset in part.offsets:
            return _FATES[part.kind], part
    if offset in entry.gaps:
        return Fate.GAP, None
    if offset in entry.dropped:
        return Fate.DROPPED, None
    return None


_FATES = {Kind.HOUR: Fate.HOUR, Kind.LATE: Fate.LATE, Kind.QUARANTINE: Fate.QUARANTINE}


def undecided(state: State, offset: int, owner: str) -> str:
    """Why an offset has no fate yet."""
    if offset < state.position:
        return f"read, and in a part that is still open; its owner is {owner}"
    return f"not read when the newest entry was written, at position {state.position}"


def why_late(closing: Closing | None, hour_name: str) -> str:
    if closing is None:
        return f"hour {hour_name} was closed before it"
    how = {
        "watermark": "the log had gone past its end and lateness",
        "idle": "the partition was idle, and the clock closed it",
        "joined": "the partition joined, and the others had closed it",
    }
    return f"hour {hour_name} was closed at offset {closing.boundary}: {how.get(closing.reason, closing.reason)}"


def place_in(plan: Plan, part: Part) -> tuple[str, int] | None:
    """The file of a manifest that has a part, and where it begins there."""
    for file in plan.files:
        start = 0
        for one in file.parts:
            if one.path == part.path:
                return file.name, start
            start += one.size
    return None
