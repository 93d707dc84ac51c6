"""What a backfill is asked for, and what it is cut into. Everything here can be sent to another process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from logflume.config import Config, TopicConfig
from logflume.errors import LedgerError, UsageError
from logflume.model import PartitionId


@dataclass(frozen=True, slots=True)
class Span:
    """The hours that start in [since, until), ms."""

    since: int
    until: int

    def has(self, hour: int) -> bool:
        return self.since <= hour < self.until


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line says. ``offsets`` is [first, end) of the one partition in ``partitions``.

    ``span`` None and ``offsets`` None: everything that the topic has.
    """

    topic: str
    span: Span | None = None
    partitions: tuple[int, ...] = ()
    offsets: tuple[int, int] | None = None
    margin_ms: int = 3_600_000


@dataclass(frozen=True, slots=True)
class Split:
    """A stretch of one partition, [start, end), which one process reads; of it, the hours in ``span`` are kept.

    Where the log has not closed the span's last hour by ``end``, reading goes on until it has, or to ``limit``.
    ``whole_from``: hours that start at or after this have no record below ``start``; None: that is not known.
    ``idle_until``: where ``limit`` was the end of a silent log, a daemon would have closed the hours that end at or
    before this. The plan cannot know whether it is silent: ``close_all`` asks.
    """

    pid: PartitionId
    start: int
    end: int
    limit: int
    span: Span | None = None
    whole_from: int | None = None
    idle_until: int | None = None

    @property
    def records(self) -> int:
        """At most: markers, aborted and compacted records are counted, too."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a split came to: the newest entry of its chain, and what its own runs wrote."""

    partition: int
    start: int
    end: int
    seq: int
    parts: int = 0
    records: int = 0
    bytes: int = 0
    already: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """What all splits of a run share. ``root`` is where is written: the configured root, or another."""

    config: Config
    root: str
    topic: str
    name: str
    spool: str

    @property
    def settings(self) -> TopicConfig:
        found = self.config.topic_for(self.topic)
        if found is None:
            raise UsageError(f"no [[topic]] of the configuration means {self.topic!r}")
        return found


@dataclass(frozen=True, slots=True)
class Plan:
    """A request in offsets. In a replay's tree it is written once, and every later run follows it."""

    topic: str
    topic_id: str
    made_ms: int
    splits: tuple[Split, ...]
    span: Span | None = None
    request: Mapping[str, Any] = field(default_factory=dict)

    @property
    def records(self) -> int:
        return sum(split.records for split in self.splits)


def identity(request: Request, config_hash: str) -> dict[str, Any]:
    """What has to be the same for a later run to go on with a plan."""
    body = asdict(request)
    return {
        **body,
        "partitions": list(request.partitions),
        "offsets": list(request.offsets or ()),
        "config": config_hash,
    }


def plan_json(plan: Plan) -> dict[str, Any]:
    return {
        "made_ms": plan.made_ms,
        "span": None if plan.span is None else [plan.span.since, plan.span.until],
        "request": dict(plan.request),
        "splits": [
            [one.pid.partition, one.start, one.end, one.limit, one.whole_from, one.idle_until] for one in plan.splits
        ],
    }


def plan_from(topic: str, topic_id: str, body: Mapping[str, Any]) -> Plan:
    """Inverse of ``plan_json``. Raises LedgerError."""
    try:
        span = None if body["span"] is None else Span(*body["span"])
        return Plan(
            topic=topic,
            topic_id=topic_id,
            made_ms=body["made_ms"],
            span=span,
            request=body["request"],
            splits=tuple(
                Split(PartitionId(topic, topic_id, number), start, end, limit, span, whole_from, idle_until)
                for number, start, end, limit, whole_from, idle_until in body["splits"]
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerError(f"the plan of a backfill cannot be read: {type(error).__name__}: {error}") from error
