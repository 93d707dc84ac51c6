"""What must come out of a log, said a second time and differently: nothing here comes from the router.

A log is a list of items, the index is the offset. Everything is computed from prefixes of the whole
log, record by record, slowly and without state that a batch, a roll or a crash could touch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from logflume.core.ledger import Head
from logflume.core.router import Rules
from logflume.model import Kind


@dataclass(frozen=True, slots=True)
class Item:
    """One offset: a record, or with ``gap`` nothing that a broker would deliver."""

    time: int = 0
    kafka_time: int = 0
    reject: bool = False
    gap: bool = False


def accepted(item: Item, rules: Rules, now: int | None = None) -> bool:
    """Whether the item is an ordinary record; ``now`` is only for rules that look at the clock."""
    if item.gap or item.reject or item.time < rules.min_time_ms:
        return False
    against = now if rules.future_against == "clock" or item.kafka_time < 0 else item.kafka_time
    assert against is not None, "this log is judged by the clock"
    return item.time <= against + rules.max_future_ms


def watermarks(times: Sequence[int | None]) -> list[int | None]:
    """After each offset, the largest accepted time so far; ``times`` has None where none was accepted."""
    return [max((t for t in times[: i + 1] if t is not None), default=None) for i in range(len(times))]


def hour_of(time: int, rules: Rules) -> int:
    return time // rules.window_ms * rules.window_ms


def boundary(hour: int, marks: Sequence[int | None], rules: Rules) -> int | None:
    """B(p,h): the first offset at which the watermark is at the hour's end plus the lateness."""
    needed = hour + rules.window_ms + rules.lateness_ms
    return next((i for i, mark in enumerate(marks) if mark is not None and mark >= needed), None)


@dataclass(frozen=True, slots=True)
class Fate:
    """Where an offset ended: a kind of part with its hour, or ``gap``, or ``dropped``."""

    name: str
    hour: int | None = None


def fates(log: Sequence[Item], rules: Rules) -> dict[int, Fate]:
    """The one right answer for a log that was read from its beginning, with no clock involved."""
    marks = watermarks([item.time if accepted(item, rules) else None for item in log])
    found: dict[int, Fate] = {}
    for offset, item in enumerate(log):
        hour = hour_of(item.time, rules)
        closed_at = boundary(hour, marks, rules)
        if item.gap:
            found[offset] = Fate("gap")
        elif not accepted(item, rules):
            found[offset] = Fate(Kind.QUARANTINE, hour_of(item.kafka_time, rules))
        elif closed_at is None or offset < closed_at:
            found[offset] = Fate(Kind.HOUR, hour)
        else:
            found[offset] = Fate("dropped") if rules.late == "drop" else Fate(Kind.LATE, hour)
    return found


def fates_in(chain: Sequence[Head]) -> dict[int, Fate]:
    """What a ledger says became of each offset; fails when it says it twice."""
    found: dict[int, Fate] = {}

    def say(offset: int, fate: Fate) -> None:
        assert offset not in found, f"offset {offset} is {found[offset]} and {fate}"
        found[offset] = fate

    for head in chain:
        for part in head.entry.parts:
            for offset in part.offsets:
                say(offset, Fate(part.kind, part.hour))
        for offset in head.entry.gaps:
            say(offset, Fate("gap"))
        for offset in head.entry.dropped:
            say(offset, Fate("dropped"))
    return found


def boundaries_in(chain: Sequence[Head], hour: int, rules: Rules) -> list[tuple[int, str]]:
    """(boundary, reason) of every closing in the ledger that covers the hour."""
    end = hour + rules.window_ms
    closings = [closing for head in chain for closing in head.entry.closed]
    return [
        (closing.boundary, closing.reason)
        for closing in closings
        if end <= closing.until and (closing.since is None or end > closing.since)
    ]
