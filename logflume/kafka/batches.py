"""From librdkafka's messages to batches of parallel columns: the hot path, kept to calls made in C.

``map`` over an unbound method costs half of a comprehension with a method call: all of it together
takes 0.3 µs a record, where consume() takes 0.7 (tests/kafka/measure.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress, islice
from operator import lt, ne

from confluent_kafka import Message

from logflume.kafka.events import TopicPart
from logflume.model import Batch


def groups(messages: list[Message], one_topic: bool) -> Iterator[tuple[TopicPart, list[Message]]]:
    """The messages of each partition in order, partitions by first appearance; messages hold no error.

    librdkafka queues one fetched set after the other, so runs are long, and looking for their ends
    costs less than hashing every record's topic and partition. ``one_topic`` saves comparing names.
    """
    partitions = list(map(Message.partition, messages))
    count = len(messages)
    cuts = set(_changes(partitions))
    if not one_topic:
        topics = list(map(Message.topic, messages))
        cuts.update(_changes(topics))
    if not cuts:
        yield key(messages[0]), messages
        return
    found: dict[TopicPart, list[Message]] = {}
    start = 0
    for end in [*sorted(cuts), count]:
        found.setdefault(key(messages[start]), []).extend(messages[start:end])
        start = end
    yield from found.items()


def _changes(values: Sequence[object]) -> Iterator[int]:
    """Where one is another than the one before."""
    return compress(range(1, len(values)), map(ne, values, islice(values, 1, None)))


def key(message: Message) -> TopicPart:
    """Topic ("" for an error of no topic) and partition (-1 for one of the whole topic)."""
    topic, partition = message.topic(), message.partition()
    return topic or "", -1 if partition is None else partition


def by_leader(messages: list[Message]) -> Iterator[list[Message]]:
    """One partition's records, cut where another leader has written on."""
    start = 0
    # epochs only rise
    if messages[0].leader_epoch() != messages[-1].leader_epoch():
        for end in _changes(list(map(Message.leader_epoch, messages))):
            yield messages[start:end]
            start = end
    yield messages[start:] if start else messages


def batch(part: TopicPart, messages: list[Message]) -> Batch:
    """One partition's records, of one leader, as columns."""
    offsets: list[int] = list(map(Message.offset, messages))  # type: ignore[arg-type]  # None only on errors
    stamps = list(map(Message.timestamp, messages))
    epoch = messages[0].leader_epoch()
    return Batch(
        topic=part[0],
        partition=part[1],
        values=list(map(Message.value, messages)),
        offsets=offsets,
        kafka_times=[time for _, time in stamps],
        next_offset=offsets[-1] + 1,
        leader_epoch=-1 if epoch is None else epoch,
        keys=list(map(Message.key, messages)),
        time_types=[kind for kind, _ in stamps],
    )


def fresh(read: Batch, position: int) -> Batch | None:
    """What of a batch is at ``position`` or behind it, each offset once (K14); None for nothing."""
    offsets = read.offsets
    rising = isinstance(offsets, range) or all(map(lt, offsets, islice(offsets, 1, None)))
    if rising and offsets[0] >= position:
        return read
    rows = []
    for i, offset in enumerate(offsets):
        if offset >= position:
            rows.append(i)
            position = offset + 1
    return read.pick(rows) if rows else None
