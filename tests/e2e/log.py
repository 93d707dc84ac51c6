"""A topic's records, read by a consumer of the checker's own."""

from __future__ import annotations

import time
from dataclasses import dataclass

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.e2e.oracle import Key, Record

KAFKA_TIMEOUT_S = 60.0


@dataclass
class Log:
    """A topic as a consumer with read_committed sees it."""

    topic: str
    topic_id: str
    records: dict[Key, Record]
    ends: dict[int, int]


def read_topic(bootstrap: str, topic: str) -> Log:
    """All partitions from their beginning to their end; raises on any error."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "e2e-checker",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "check.crcs": True,
            "auto.offset.reset": "earliest",
            "log_level": 3,
            "fetch.queue.backoff.ms": 10,
        }
    )
    records: dict[Key, Record] = {}
    try:
        partitions = consumer.list_topics(topic, timeout=KAFKA_TIMEOUT_S).topics[topic].partitions
        left = set(partitions)
        ends: dict[int, int] = {}
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
        deadline = time.monotonic() + KAFKA_TIMEOUT_S
        while left:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{topic}: partitions {sorted(left)} were not read to their end")
            for message in consumer.consume(10_000, 0.2):
                partition, offset = message.partition(), message.offset()
                assert partition is not None
                assert offset is not None
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    left.discard(partition)
                    ends[partition] = offset
                    continue
                if error is not None:
                    raise RuntimeError(f"reading {topic}: {error}")
                record = Record(partition, offset, message.value(), message.key(), message.timestamp()[1])
                records[record.id] = record
    finally:
        consumer.close()
    return Log(topic, topic_id(bootstrap, topic), records, ends)


def topic_id(bootstrap: str, topic: str) -> str:
    client = AdminClient({"bootstrap.servers": bootstrap})
    found = client.describe_topics(TopicCollection([topic]))[topic].result(KAFKA_TIMEOUT_S)
    # as it stands in paths: base64 as it is in URLs
    return str(found.topic_id).replace("+", "-").replace("/", "_")
