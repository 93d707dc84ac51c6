"""A small log that has everything: each record says itself where it belongs.

Two partitions. Phase 0: partition 1 falls silent after its first hour, so that the clock must close its
hours. Phase 1, hours later and when all of that is marked: late ones, a jump over an hour, and an hour
that stays open.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass

from logflume.config import Config, parse
from logflume.core.layout import hour_directory
from logflume.model import HOUR_MS, MINUTE_MS, Kind
from tests.sim.world import GAP, TOPIC, Record

#: 2026-01-05T00:00Z
DAY = 1_767_571_200_000
#: an hour's directory → ids of the records in it, by kind
Holdings = Counter[tuple[Kind, str, str]]


def config(**topic: object) -> Config:
    return parse(
        {
            "kafka": {"bootstrap.servers": "127.0.0.1:1", "group.id": "g"},
            "output": {"root": "file:///nowhere"},
            "daemon": {"workers": 1, "log_level": "error"},
            "topic": [
                {
                    "name": TOPIC,
                    "timestamp": {"field": "ts", "unit": "ms"},
                    "lateness": "10m",
                    "idle_grace": "2s",
                    "roll_every": "400ms",
                    "roll_bytes": "1KiB",
                    "target_bytes": "1KiB",
                    **topic,
                }
            ],
        }
    )


@dataclass(frozen=True, slots=True)
class Phase:
    """Records appended to each partition, the wall clock then, and the hours that get marked by it."""

    records: dict[int, list[Record]]
    wall_ms: int
    marked: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Adversary:
    phases: tuple[Phase, ...]
    holdings: Holdings

    @property
    def ends(self) -> dict[int, int]:
        return {p: sum(len(phase.records[p]) for phase in self.phases) for p in self.phases[0].records}


class _Writer:
    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.holdings: Holdings = Counter()

    def gaps(self, partition: int, count: int = 1) -> list[Record]:
        self.counts[partition] += count
        return [GAP] * count

    def _put(self, partition: int, kind: Kind, hour: int) -> str:
        name = f"{partition}/{self.counts[partition]}"
        self.counts[partition] += 1
        self.holdings[kind, hour_directory(DAY + hour * HOUR_MS), name] += 1
        return name

    def good(self, partition: int, hour: int, minute: int, *, late: bool = False, pad: int = 0) -> Record:
        kind = Kind.LATE if late else Kind.HOUR
        name = self._put(partition, kind, hour)
        time = DAY + hour * HOUR_MS + minute * MINUTE_MS
        # digits that do not compress, so that files have the sizes that the plan is about
        filler = random.Random(name).randbytes(pad // 2).hex()
        return Record(json.dumps({"ts": time, "id": name, "pad": filler}).encode(), time + 5)

    def bad(self, partition: int, value: bytes | None, hour: int) -> Record:
        self._put(partition, Kind.QUARANTINE, hour)
        return Record(value, DAY + hour * HOUR_MS + MINUTE_MS)

    def future(self, partition: int, hour: int) -> Record:
        """Half an hour ahead of its own Kafka time, and enough to close an hour if it were believed."""
        name = self._put(partition, Kind.QUARANTINE, hour)
        time = DAY + hour * HOUR_MS + 20 * MINUTE_MS
        return Record(json.dumps({"ts": time + 60 * MINUTE_MS, "id": name}).encode(), time)


def adversary() -> Adversary:
    w = _Writer()
    zero = {
        0: [
            w.good(0, 0, 5),
            w.bad(0, None, 0),
            *w.gaps(0, 2),
            w.good(0, 1, 2),
            w.good(0, 0, 50),
            w.good(0, 1, 12),
            w.good(0, 0, 59, late=True),
            w.bad(0, b"{not json", 1),
            w.future(0, 1),
            *(w.good(0, 1, 15 + i, pad=1200) for i in range(2)),
            *w.gaps(0),
        ],
        1: [w.good(1, 0, 10), *w.gaps(1), w.good(1, 0, 45, pad=400)],
    }
    one = {
        0: [w.good(0, 2, 10), w.good(0, 1, 30, late=True), w.good(0, 4, 11), w.good(0, 2, 20, late=True), *w.gaps(0)],
        1: [w.good(1, 2, 30), w.bad(1, b"7", 2), w.good(1, 0, 1, late=True), w.good(1, 4, 6)],
    }
    phases = (
        Phase(zero, DAY + 2 * HOUR_MS + 20 * MINUTE_MS, (0, 1)),
        Phase(one, DAY + 4 * HOUR_MS + 30 * MINUTE_MS, (2, 3)),
    )
    return Adversary(phases, w.holdings)
