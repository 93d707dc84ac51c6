"""The latest records of a topic, read aside: no group is joined, and nothing is committed."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from logflume.errors import Unreachable
from logflume.kafka import batches, options
from logflume.kafka.client_log import CLIENT_LOG
from logflume.kafka.events import TopicPart
from logflume.kafka.failures import error_of, passes_alone, translate
from logflume.kafka.topics import Topics
from logflume.model import Batch

#: partitions and records of each that are looked at: enough to see a wrong unit, little to read
PARTITIONS = 8
RECORDS = 25


def latest(settings: options.Options, topics: Topics, topic: str, timeout_s: float) -> list[Batch]:
    """Up to ``RECORDS`` of the last records of up to ``PARTITIONS`` partitions, one batch each.

    Raises Unreachable, Refused, and UnknownTopic.
    """
    parts = [(topic, number) for number in topics.topic(topic).partitions[:PARTITIONS]]
    starts, ends = topics.start_offsets(parts), topics.end_offsets(parts)
    begins = {part: max(starts[part], ends[part] - RECORDS) for part in parts if ends[part] > starts[part]}
    if not begins:
        return []
    what = f"read some records of topic {topic}"
    try:
        client = Consumer(options.alone(settings), logger=CLIENT_LOG)
        try:
            client.assign([TopicPartition(*part, offset) for part, offset in begins.items()])
            return _read(client, set(begins), what, timeout_s)
        finally:
            client.close()
    except KafkaException as failure:
        raise translate(error_of(failure), what) from failure


def _read(client: Consumer, waiting: set[TopicPart], what: str, timeout_s: float) -> list[Batch]:
    deadline = time.monotonic() + timeout_s
    found: dict[TopicPart, list[Message]] = {}
    while waiting:
        if time.monotonic() > deadline:
            raise Unreachable(f"{what}: not read in {timeout_s:g} s")
        for message in client.consume(RECORDS * PARTITIONS, 0.1):
            error, part = message.error(), batches.key(message)
            if error is None:
                found.setdefault(part, []).append(message)
                if len(found[part]) == RECORDS:
                    waiting.discard(part)
            elif error.code() == KafkaError._PARTITION_EOF:  # its public name
                waiting.discard(part)
            elif not passes_alone(error):
                raise KafkaException(error)
    return [batches.batch(part, messages[:RECORDS]) for part, messages in found.items()]
