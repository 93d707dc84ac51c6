"""The broker, the clock and the log that hosts of a test share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from logflume.errors import LogflumeError, Unreachable
from logflume.kafka.events import Assigned, CommitResult, EndOfPartition, Event, Lost, Revoked, TopicPart
from logflume.kafka.topics import Topic
from logflume.model import Batch, TimeType

TOPIC, TOPIC_ID = "app", "VGhlVG9waWNJZA"


class Clock:
    """Stands in for the module ``time`` in the daemon's modules. Seconds pass when a host has nothing to do."""

    def __init__(self) -> None:
        #: of the host that asks
        self.skew_ms: Callable[[], int] = lambda: 0
        self.reset()

    def reset(self) -> None:
        self.wall_ms = 0
        self.mono_s = 1000.0

    def monotonic(self) -> float:
        return self.mono_s

    def time_ns(self) -> int:
        return (self.wall_ms + self.skew_ms()) * 1_000_000

    def time(self) -> float:
        return (self.wall_ms + self.skew_ms()) / 1000

    def pass_s(self, seconds: float) -> None:
        self.mono_s += seconds
        self.wall_ms += int(seconds * 1000)


@dataclass(frozen=True, slots=True)
class Record:
    """One offset of a log: ``value`` None is a tombstone; ``gap`` is nothing that a broker delivers."""

    value: bytes | None
    kafka_time: int
    gap: bool = False


GAP = Record(None, -1, gap=True)


class Owner(Protocol):
    """What a broker and a source need of a host."""

    name: str

    def effect(self, call: str, path: str, do: Callable[[], None]) -> None: ...

    def turn(self) -> None:
        """Between two polls: others may run."""


@dataclass
class Broker:
    """Logs that grow, the group's offsets, and who has been told to own what."""

    logs: dict[int, list[Record]]
    committed: dict[TopicPart, tuple[int, int, str]] = field(default_factory=dict)
    starts: dict[int, int] = field(default_factory=dict)
    down: bool = False

    def end(self, partition: int) -> int:
        return len(self.logs[partition])


class FakeTopics:
    """What a slot asks of ``kafka.Topics``."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def topic(self, name: str) -> Topic:
        self._up()
        return Topic(name, TOPIC_ID, sorted(self._broker.logs))

    def each_start_offset(self, parts: Iterable[TopicPart]) -> dict[TopicPart, int]:
        self._up()
        return {part: self._broker.starts.get(part[1], 0) for part in parts}

    def each_end_offset(self, parts: Iterable[TopicPart], *, read_committed: bool = True) -> dict[TopicPart, int]:
        self._up()
        return {part: self._broker.end(part[1]) for part in parts}

    def _up(self) -> None:
        if self._broker.down:
            raise Unreachable("the brokers do not answer")


class FakeSource:
    """What a worker needs of ``kafka.Source``: a member that is told by the test what it owns."""

    reader = "played"
    #: records a poll takes from one partition
    batch = 4

    def __init__(
        self,
        broker: Broker,
        clock: Clock,
        owner: Owner,
        on_revoke: Callable[[list[TopicPart]], None],
        on_lost: Callable[[list[TopicPart]], None],
    ) -> None:
        self._broker, self._clock, self._owner = broker, clock, owner
        self._on_revoke, self._on_lost = on_revoke, on_lost
        self.owned: set[TopicPart] = set()
        self.positions: dict[TopicPart, int] = {}
        self._paused: set[TopicPart] = set()
        self._told_end: dict[TopicPart, int] = {}
        self._news: list[Event] = []
        self.idle = 0
        #: the group answers a member that lost all it had: here, that it gets nothing
        self.answers = True
        self.rewind: Callable[[TopicPart, int], int] = lambda _part, position: position

    # -- told by the test --------------------------------------------------------------------------

    def assign(self, parts: Sequence[TopicPart]) -> None:
        fresh = [part for part in parts if part not in self.owned]
        self.owned.update(fresh)
        if fresh:
            self._news.append(Assigned(fresh))

    def lose(self, parts: Sequence[TopicPart]) -> None:
        """To be found out at the next poll."""
        self._news.append(Lost([part for part in parts if part in self.owned]))

    def revoke(self, parts: Sequence[TopicPart]) -> None:
        self._news.append(Revoked([part for part in parts if part in self.owned]))

    # -- asked by the worker -----------------------------------------------------------------------

    def poll(self, timeout_s: float, max_records: int) -> list[Batch | Event]:
        self._owner.turn()
        out: list[Batch | Event] = []
        news, self._news = self._news, []
        for event in news:
            if isinstance(event, Lost | Revoked):
                (self._on_lost if isinstance(event, Lost) else self._on_revoke)(event.partitions)
                for part in event.partitions:
                    self.owned.discard(part)
                    self.positions.pop(part, None)
            out.append(event)
        if self.answers and not self.owned and any(isinstance(event, Lost) for event in news):
            self._news.append(Assigned([]))
        if not self._broker.down:
            for part in sorted(self.positions):
                if part not in self._paused:
                    out += self._fetch(part)
        self.idle = 0 if out else self.idle + 1
        # nobody is in a hurry where nothing happens, and retries wait up to half a minute
        self._clock.pass_s(0.02 if out else min(0.1 * 1.5 ** min(self.idle, 20), 5.0))
        return out

    def _fetch(self, part: TopicPart) -> list[Batch | Event]:
        log, position = self._broker.logs[part[1]], self.positions[part]
        start = self.rewind(part, position)
        taken: list[int] = []
        at = start
        while at < len(log) and len(taken) < self.batch:
            if not log[at].gap:
                taken.append(at)
            at += 1
        self.positions[part] = max(position, at)
        if taken:
            records = [log[i] for i in taken]
            self._told_end.pop(part, None)
            return [
                Batch(
                    *part,
                    values=[one.value for one in records],
                    offsets=taken,
                    kafka_times=[one.kafka_time for one in records],
                    next_offset=taken[-1] + 1,
                    leader_epoch=0,
                    keys=[None] * len(records),
                    time_types=[TimeType.CREATE] * len(records),
                )
            ]
        if self._told_end.get(part) != at:
            self._told_end[part] = at
            return [EndOfPartition(*part, at)]
        return []

    def start(self, topic: str, partition: int, offset: int, leader_epoch: int = -1) -> None:
        part = (topic, partition)
        if part not in self.owned:
            raise ValueError(f"{part} is not owned")
        self.positions[part] = offset
        self._told_end.pop(part, None)

    def stop(self, topic: str, partition: int) -> None:
        self.positions.pop((topic, partition), None)

    def pause(self, parts: Iterable[TopicPart]) -> None:
        self._paused.update(parts)

    def resume(self, parts: Iterable[TopicPart]) -> None:
        self._paused.difference_update(parts)

    def high_watermark(self, topic: str, partition: int) -> int | None:
        return self._broker.end(partition)

    def commit_async(self, offsets: Mapping[TopicPart, tuple[int, int, str]]) -> None:
        def do() -> None:
            self._broker.committed.update(offsets)

        for part, (offset, _, _) in offsets.items():
            error = ""
            try:
                self._owner.effect("commit", f"{part[0]}/{part[1]}@{offset}", do)
            except LogflumeError as lost:
                error = str(lost)
            self._news.append(CommitResult({part: offset}, error))

    def committed(self, parts: Iterable[TopicPart], timeout_s: float) -> dict[TopicPart, tuple[int, int, str]]:
        if self._broker.down:
            raise Unreachable("the brokers do not answer")
        return {part: self._broker.committed[part] for part in parts if part in self._broker.committed}

    def close(self, timeout_s: float) -> bool:
        self.owned.clear()
        return True
