"""Assignment without a group: each member takes its share of the partitions it sees."""

from __future__ import annotations

import time
from collections.abc import Sequence
from zlib import crc32

from confluent_kafka import Consumer, KafkaException

from logflume.kafka.events import ClientError, Event, TopicPart
from logflume.kafka.failures import error_of
from logflume.kafka.names import Wanted
from logflume.model import Batch

REFRESH_S = 30.0
RETRY_S = 2.0
# Blocks reading, so short; the answer normally takes a millisecond.
METADATA_TIMEOUT_S = 1.0


class StaticMember:
    """Member ``index`` of ``of``: it owns the partitions whose number leaves that remainder.

    The topic's name is mixed in, so that many topics of one partition do not all go to member 0.
    Changing ``of`` is safe only in so far as the ledger fences: restart all members together.
    """

    def __init__(self, topics: Sequence[str], index: int, of: int, *, refresh_s: float = REFRESH_S) -> None:
        if not 0 <= index < of:
            raise ValueError(f"member {index} of {of}")
        self._wanted = Wanted(topics)
        self._index, self._of, self._refresh_s = index, of, refresh_s
        self._seen: set[TopicPart] = set()
        self._due = 0.0

    def share(self, topic: str, partition: int) -> bool:
        return (crc32(topic.encode()) + partition) % self._of == self._index

    def discover(self, client: Consumer, out: list[Batch | Event]) -> list[TopicPart]:
        """The partitions that became this member's since the last look (K11); trouble goes to ``out``."""
        now = time.monotonic()
        if now < self._due:
            return []
        self._due = now + self._refresh_s
        try:
            # All topics: asking for one by name may create it.
            topics = client.list_topics(timeout=METADATA_TIMEOUT_S).topics
        except KafkaException as failure:
            self._due = now + RETRY_S
            error = error_of(failure)
            out.append(ClientError(error.name(), error.str(), error.fatal()))
            return []
        found = [
            (topic, partition)
            for topic, metadata in sorted(topics.items())
            if topic in self._wanted
            for partition in sorted(metadata.partitions)
            if self.share(topic, partition) and (topic, partition) not in self._seen
        ]
        self._seen.update(found)
        return found
