"""From a request to splits. ``cut`` is pure; ``facts_of`` asks the brokers what it needs.

By time: every accepted record's event time is at most ``max_future`` after its Kafka time (with the event time in
a field; otherwise they are the same). So nothing before the first offset with a Kafka time of ``since − max_future``
belongs to an hour of the span, however disordered the log is. What retention has removed cannot be looked up: a
first record from before that says nothing of it, if it is out of order. So the look-up is for ``lateness`` earlier,
the disorder that a ledger's beginning reckons with, too. The end has no such law: an hour is closed by
event times. So the range goes on for ``lateness`` and the margin, to have late records, too, and from there to the
record that closes the last hour, or to the end of the log. (Look-ups by time find transaction markers as well,
which have the broker's time: with records of the past they would end a range much too early.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from logflume.backfill.model import Plan, Request, Span, Split, identity
from logflume.config import TopicConfig
from logflume.errors import UsageError
from logflume.kafka.events import TopicPart
from logflume.kafka.topics import Topic, Topics
from logflume.model import PartitionId


@dataclass(frozen=True, slots=True)
class Facts:
    """What the brokers said at ``now``: per partition the first and end offset, and for a span the first offset
    with a Kafka time of at least ``begin_ms`` and ``end_ms`` (None: there is none).
    """

    topic: Topic
    now_ms: int
    starts: Mapping[int, int]
    ends: Mapping[int, int]
    begins: Mapping[int, int | None]
    stops: Mapping[int, int | None]


def times_of(span: Span, settings: TopicConfig, margin_ms: int) -> tuple[int, int]:
    """(begin_ms, end_ms) to look up for a span."""
    ahead_ms = settings.max_future_ms if settings.timestamp.source == "field" else 0
    return max(0, span.since - ahead_ms - settings.lateness_ms), span.until + settings.lateness_ms + margin_ms


def facts_of(topics: Topics, request: Request, settings: TopicConfig, *, read_committed: bool, now_ms: int) -> Facts:
    """Raises Unreachable, Refused, UnknownTopic."""
    topic = topics.topic(request.topic)
    parts: list[TopicPart] = [(topic.name, number) for number in topic.partitions]
    ends = topics.end_offsets(parts, read_committed=read_committed)
    begins: Mapping[TopicPart, int | None] = {}
    stops: Mapping[TopicPart, int | None] = {}
    if request.span is not None:
        begin_ms, end_ms = times_of(request.span, settings, request.margin_ms)
        begins, stops = topics.offsets_for_time(parts, begin_ms), topics.offsets_for_time(parts, end_ms)
    # asked last: retention moves it on
    starts = topics.start_offsets(parts)
    return Facts(
        topic,
        now_ms,
        {number: offset for (_, number), offset in starts.items()},
        {number: offset for (_, number), offset in ends.items()},
        {number: offset for (_, number), offset in begins.items()},
        {number: offset for (_, number), offset in stops.items()},
    )


def cut(request: Request, settings: TopicConfig, facts: Facts) -> Plan:
    """One split for each partition: a chain is written in order, so a partition is one process's work.

    A partition that was not asked for has an empty split, whose ledger says that it vouches for nothing.
    Raises UsageError for partitions and offsets that are not there.
    """
    topic = facts.topic
    unknown = sorted(set(request.partitions) - set(topic.partitions))
    if unknown:
        raise UsageError(f"topic {topic.name} has no partition {', '.join(map(str, unknown))}")
    splits = []
    for number in topic.partitions:
        pid = PartitionId(topic.name, topic.topic_id, number)
        if request.partitions and number not in request.partitions:
            splits.append(_nothing(pid, facts.starts[number], request.span))
        elif request.offsets is not None:
            splits.append(_by_offsets(pid, request.offsets, facts))
        else:
            splits.append(_by_time(pid, request.span, settings, facts))
    return Plan(
        topic.name,
        topic.topic_id,
        facts.now_ms,
        tuple(splits),
        request.span,
        identity(request, settings.hash),
    )


def _nothing(pid: PartitionId, at: int, span: Span | None) -> Split:
    return Split(pid, at, at, at, span)


def _by_offsets(pid: PartitionId, offsets: tuple[int, int], facts: Facts) -> Split:
    start, end = offsets
    first, last = facts.starts[pid.partition], facts.ends[pid.partition]
    if start < first or end > last:
        raise UsageError(
            f"{pid}: offsets {start} to {end - 1} were asked for, and Kafka has {first} to {last - 1}",
            hint="what retention has removed cannot be read again",
        )
    return Split(pid, start, end, end)


def _by_time(pid: PartitionId, span: Span | None, settings: TopicConfig, facts: Facts) -> Split:
    number = pid.partition
    first, last = facts.starts[number], facts.ends[number]
    start, end = first, last
    if span is not None:
        begin, stop = facts.begins[number], facts.stops[number]
        start = last if begin is None else min(max(begin, first), last)
        end = last if stop is None else max(start, min(stop + 1, last))
    passed = facts.now_ms - settings.lateness_ms - settings.idle_grace_ms
    idle_until = passed - passed % settings.window_ms
    # where the log itself begins here, what retention has removed may have belonged to any hour
    knows = span is not None and (start > first or first == 0)
    return Split(pid, start, end, last, span, span.since if span is not None and knows else None, idle_until)
