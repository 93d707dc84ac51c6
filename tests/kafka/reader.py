"""What the tests of ``Source`` share: a reader that remembers everything, and ways to fill a topic."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

from confluent_kafka import Producer

from logflume.kafka.consumer import Source
from logflume.kafka.embedded import Outgoing, produce
from logflume.kafka.events import Assigned, EndOfPartition, Event, Lost, Revoked, TopicPart
from logflume.kafka.options import Options
from logflume.kafka.static import StaticMember
from logflume.model import Batch

PATIENCE_S = 30.0


class Reader:
    """A Source whose poll results are kept; with ``starts`` it starts what it is assigned there."""

    def __init__(
        self,
        bootstrap: str,
        topics: Sequence[str],
        *,
        group: str | None = None,
        static: StaticMember | None = None,
        starts: int | None = None,
        drain: Callable[[list[TopicPart]], None] = lambda parts: None,
        options: Options | None = None,
        kind: str = "auto",
    ) -> None:
        self.group = group or f"g-{uuid.uuid4().hex[:8]}"
        self.records: dict[TopicPart, list[int]] = {}
        self.batches: list[Batch] = []
        self.events: list[Event] = []
        self.drained: list[list[TopicPart]] = []
        self.lost: list[list[TopicPart]] = []
        self._starts, self._drain = starts, drain
        self.source = Source(
            {"bootstrap.servers": bootstrap, "group.id": self.group, **(options or {})},
            topics,
            static=static,
            on_revoke=self._on_revoke,
            on_lost=self.lost.append,
            reader=kind,
        )

    def _on_revoke(self, parts: list[TopicPart]) -> None:
        self.drained.append(parts)
        self._drain(parts)

    def step(self, timeout_s: float = 0.1) -> list[Batch | Event]:
        out = self.source.poll(timeout_s, 10_000)
        for item in out:
            if isinstance(item, Batch):
                columns = item.values, item.offsets, item.kafka_times, item.keys, item.time_types
                assert len(set(map(len, columns))) == 1
                self.batches.append(item)
                self.records.setdefault((item.topic, item.partition), []).extend(item.offsets)
            else:
                self.events.append(item)
                if isinstance(item, Assigned) and self._starts is not None:
                    for part in item.partitions:
                        self.source.start(*part, self._starts)
        return out

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.step()

    def until(self, condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
        until([self], condition, patience_s)

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def owned(self) -> frozenset[TopicPart]:
        return self.source.owned

    @property
    def ends(self) -> dict[TopicPart, int]:
        """Per partition the offset of its last end-of-partition event."""
        return {(e.topic, e.partition): e.offset for e in self.events if isinstance(e, EndOfPartition)}

    def ownership(self) -> frozenset[TopicPart]:
        """What the events alone say is owned."""
        owned: set[TopicPart] = set()
        for event in self.events:
            if isinstance(event, Assigned):
                owned.update(event.partitions)
            elif isinstance(event, Revoked | Lost):
                owned.difference_update(event.partitions)
        return frozenset(owned)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.source.close(10)


def until(readers: Sequence[Reader], condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Poll all readers in turn until the condition holds."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, [reader.events for reader in readers]
        for reader in readers:
            reader.step()


def fill(bootstrap: str, topic: str, counts: Iterable[int], time_ms: int = 10**12) -> None:
    """``counts[p]`` records for each partition p, with values v0, v1, … and rising times."""
    for partition, count in enumerate(counts):
        produce(bootstrap, topic, (Outgoing(partition, b"v%d" % i, time_ms + i) for i in range(count)))


def transactional(bootstrap: str, timeout_ms: int = 60_000) -> Producer:
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "transactional.id": f"tx-{uuid.uuid4().hex[:8]}",
            "transaction.timeout.ms": timeout_ms,
        }
    )
    producer.init_transactions(15)
    return producer
