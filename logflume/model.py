"""The words of the design as types; used by every other module, importing none of them.

Times are integer milliseconds since 1970 UTC. An *hour* is named by the start of its window.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import overload

from pyroaring import BitMap64

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000


class Kind(StrEnum):
    """Where a part belongs: an hour's directory, the late tree, or the quarantine tree."""

    HOUR = "hour"
    LATE = "late"
    QUARANTINE = "quarantine"


class Reason(StrEnum):
    """Why a record is quarantined; the values are on disk and in metrics."""

    BAD_JSON = "bad_json"
    NOT_OBJECT = "not_object"
    NOT_UTF8 = "not_utf8"
    NEWLINE = "newline"
    TOMBSTONE = "tombstone"
    NO_TIME = "no_time"
    BAD_TIME = "bad_time"
    NAIVE_TIME = "naive_time"
    NOT_APPEND_TIME = "not_append_time"
    FUTURE = "future"
    ANCIENT = "ancient"
    TOO_LARGE = "too_large"


class TimeType(IntEnum):
    """Who set a record's Kafka time; the numbers are librdkafka's."""

    NONE = 0
    CREATE = 1
    APPEND = 2


@dataclass(frozen=True, slots=True, order=True)
class PartitionId:
    """The identity of a log: a re-created topic has another id, so its offsets are never mixed (K10)."""

    topic: str
    topic_id: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"


class OffsetSet:
    """A set of offsets, compact for runs and for alternation (Roaring); serialisable.

    Mutable; ``add_run(start, end)`` takes [start, end). Offsets are in [0, 2**63).
    """

    __slots__ = ("_bits",)

    def __init__(self, offsets: Iterable[int] = ()) -> None:
        self._bits = BitMap64(offsets)

    @classmethod
    def run(cls, start: int, end: int) -> OffsetSet:
        made = cls()
        made.add_run(start, end)
        return made

    @classmethod
    def loads(cls, data: bytes) -> OffsetSet:
        """Inverse of ``dumps``; raises ValueError for bytes that are not a set."""
        made = cls()
        try:
            made._bits = BitMap64.deserialize(data)
        except IndexError as error:
            raise ValueError("not a set of offsets") from error
        return made

    def dumps(self) -> bytes:
        """The portable 64-bit Roaring format, readable from Java, Go and C."""
        bits = self._bits.copy()
        bits.run_optimize()
        data: bytes = bits.serialize()
        return data

    def add_run(self, start: int, end: int) -> None:
        if end > start:
            self._bits.add_range(start, end)

    def add_all(self, offsets: Iterable[int]) -> None:
        self._bits.update(offsets)

    def remove_below(self, offset: int) -> None:
        if offset > 0:
            self._bits.remove_range(0, offset)

    def copy(self) -> OffsetSet:
        made = OffsetSet()
        made._bits = self._bits.copy()
        return made

    def __or__(self, other: OffsetSet) -> OffsetSet:
        made = OffsetSet()
        made._bits = self._bits | other._bits
        return made

    def __and__(self, other: OffsetSet) -> OffsetSet:
        made = OffsetSet()
        made._bits = self._bits & other._bits
        return made

    def __sub__(self, other: OffsetSet) -> OffsetSet:
        made = OffsetSet()
        made._bits = self._bits - other._bits
        return made

    def __contains__(self, offset: int) -> bool:
        return offset in self._bits

    def __len__(self) -> int:
        return len(self._bits)

    def __bool__(self) -> bool:
        return bool(self._bits)

    def __iter__(self) -> Iterator[int]:
        return iter(self._bits)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OffsetSet) and self._bits == other._bits

    def __hash__(self) -> int:
        raise TypeError("an OffsetSet is mutable and has no hash")

    @property
    def first(self) -> int:
        """The lowest offset; raises ValueError for an empty set."""
        value: int = self._bits.min()
        return value

    @property
    def last(self) -> int:
        """The highest offset; raises ValueError for an empty set."""
        value: int = self._bits.max()
        return value

    def runs(self, limit: int | None = None) -> list[tuple[int, int]]:
        """The set as [start, end) runs in order; at most ``limit`` of them when given."""
        runs: list[tuple[int, int]] = []
        start = end = -1
        for offset in self._bits:
            if offset == end:
                end += 1
                continue
            if end > start:
                runs.append((start, end))
                if limit is not None and len(runs) == limit:
                    return runs
            start, end = offset, offset + 1
        if end > start:
            runs.append((start, end))
        return runs

    def __repr__(self) -> str:
        shown = ", ".join(f"{a}..{b - 1}" for a, b in self.runs(8))
        return f"OffsetSet({len(self)}: {shown})"


class Joined(Sequence[bytes]):
    """``count`` values without a newline in any of them, joined by newlines; as a sequence, the values.

    ``longest`` is the length of the longest one in bytes; ``braced`` says that each begins with { and ends with }.
    """

    __slots__ = ("_count", "_values", "braced", "longest", "text")

    def __init__(self, text: bytes, count: int, longest: int, braced: bool) -> None:
        self.text, self.longest, self.braced = text, longest, braced
        self._count = count
        self._values: list[bytes] | None = None

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        # made only when somebody looks at single values: mostly all of them go into one file
        if self._values is None:
            self._values = self.text.split(b"\n")
        return self._values[index]


@dataclass(slots=True)
class Batch:
    """Records of one partition in offset order, as parallel columns of equal length n ≥ 1.

    ``values[i]`` is None for a tombstone. ``kafka_times[i]`` is ms, or −1 where the record has none, of the
    ``TimeType`` in ``time_types[i]``. ``next_offset`` is the position after the batch: greater than the last offset,
    and past any transaction markers the client skipped. ``leader_epoch`` is of all records, −1 if unknown.
    """

    topic: str
    partition: int
    values: Sequence[bytes | None]
    offsets: Sequence[int]
    kafka_times: Sequence[int]
    next_offset: int
    leader_epoch: int
    keys: Sequence[bytes | None]
    time_types: Sequence[int]

    def pick(self, rows: Sequence[int]) -> Batch:
        """These rows, at least one, as a batch that ends with the last of them."""
        return replace(
            self,
            values=[self.values[i] for i in rows],
            offsets=[self.offsets[i] for i in rows],
            kafka_times=[self.kafka_times[i] for i in rows],
            next_offset=self.offsets[rows[-1]] + 1,
            keys=[self.keys[i] for i in rows],
            time_types=[self.time_types[i] for i in rows],
        )
