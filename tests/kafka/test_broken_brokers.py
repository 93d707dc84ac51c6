"""What needs a broker that may be restarted, frozen and killed: one of this module's own."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest

from logflume.errors import Unreachable
from logflume.kafka.events import ClientError, CommitResult, PartitionError
from logflume.kafka.options import Options
from logflume.kafka.topics import Topics
from tests.conftest import unavailable
from tests.kafka.reader import Reader, fill
from tests.kafka.test_groups import CLASSIC, protocols
from tests.stack import ServersMissing, local_kafka
from tests.stack.kafka import KafkaCluster, create_topic

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def lone() -> Iterator[KafkaCluster]:
    try:
        with local_kafka(brokers=1) as cluster:
            yield cluster
    except ServersMissing as error:
        raise unavailable(error) from None


def new_topic(lone: KafkaCluster, partitions: int) -> str:
    """Never deleted: it ends with its broker, which may be in no state to be asked."""
    return create_topic(lone.bootstrap, f"t-{uuid.uuid4().hex[:8]}", partitions)


def answers(topics: Topics, topic: str) -> bool:
    try:
        return topics.topic(topic).partitions == [0]
    except Unreachable:
        return False


def test_a_log_that_was_cut_and_grew_again_is_called_truncated(lone: KafkaCluster) -> None:
    """K9. Offset 12 exists, but not in the epoch that C = 12 was decided with, which ended at 10."""
    topic = new_topic(lone, 2)
    fill(lone.bootstrap, topic, [10, 10])
    lone.servers[0].restart()  # a new leader epoch
    fill(lone.bootstrap, topic, [5, 5])
    with Reader(lone.bootstrap, [topic], options=CLASSIC) as reader:
        reader.until(lambda: len(reader.owned) == 2)
        reader.source.start(topic, 0, 12, leader_epoch=0)
        reader.source.start(topic, 1, 8, leader_epoch=0)
        reader.until(lambda: reader.of(PartitionError) and (topic, 1) in reader.ends)
        (error,) = [e for e in reader.events if isinstance(e, PartitionError)]
        assert (error.partition, error.code) == (0, "_AUTO_OFFSET_RESET")
        assert "truncation" in error.text
        assert reader.records == {(topic, 1): list(range(8, 15))}
        assert reader.batches[-1].leader_epoch > 0
        reader.source.stop(topic, 0)
        reader.source.start(topic, 0, 12)  # as after `reconcile --accept-gap`
        reader.until(lambda: (topic, 0) in reader.ends)
        assert reader.records[topic, 0] == [12, 13, 14]
    with Reader(lone.bootstrap, [topic], options=CLASSIC, starts=0) as reader:
        reader.until(lambda: len(reader.ends) == 2)
        # in one request to the broker, and yet no batch is of both leaders
        by_leader = {(batch.leader_epoch, batch.offsets[0] < 10, batch.offsets[-1] < 10) for batch in reader.batches}
        assert len(by_leader) == 2
        assert {(first, last) for _, first, last in by_leader} == {(True, True), (False, False)}


@protocols
def test_a_frozen_broker_delays_neither_close_nor_questions_beyond_their_bound(
    lone: KafkaCluster, options: Options
) -> None:
    """K5, K16: the outcome of the commit stays unknown; close() leaves librdkafka's behind."""
    topic = new_topic(lone, 1)
    fill(lone.bootstrap, topic, [10])
    reader = Reader(lone.bootstrap, [topic], options=options, starts=0)
    reader.until(lambda: reader.ends)
    topics = Topics({"bootstrap.servers": lone.bootstrap}, timeout_s=1)
    reader.until(lambda: answers(topics, topic))  # a broker that has just started may take more than a second
    lone.servers[0].pause()
    try:
        reader.source.commit_async({(topic, 0): (10, 0, "")})
        begun = time.monotonic()
        with pytest.raises(Unreachable):
            topics.topic(topic)
        with pytest.raises(Unreachable):
            topics.end_offsets([(topic, 0)])
        with pytest.raises(Unreachable):
            reader.source.committed([(topic, 0)], timeout_s=1)
        reader.source.close(1)
        assert time.monotonic() - begun < 9
    finally:
        lone.servers[0].resume()
        lone.servers[0].wait_ready()


def test_reading_goes_on_by_itself_when_the_broker_is_back(lone: KafkaCluster) -> None:
    """K16: nothing is lost or repeated, and trouble is not reported twenty times a second."""
    topic = new_topic(lone, 2)
    part = (topic, 0)
    fill(lone.bootstrap, topic, [10, 10])
    # Missed for longer than the session, the partition would count as lost: the group's business.
    with Reader(lone.bootstrap, [topic], options={"session.timeout.ms": 60_000}) as reader:
        reader.until(lambda: len(reader.owned) == 2)
        reader.source.start(*part, 0)
        reader.until(lambda: reader.ends == {part: 10})
        lone.servers[0].stop()
        reader.source.start(topic, 1, 4, leader_epoch=0)  # its ledger was claimed just now
        reader.run(5)
        errors = [e for e in reader.events if isinstance(e, ClientError)]
        assert {e.code for e in errors} >= {"_ALL_BROKERS_DOWN"}
        assert len(errors) == len({e.code for e in errors})
        assert not any(e.fatal for e in errors)
        lone.servers[0].start()
        lone.servers[0].wait_ready()
        fill(lone.bootstrap, topic, [10])
        reader.until(lambda: reader.ends == {part: 20, (topic, 1): 10})
        assert reader.records == {part: list(range(20)), (topic, 1): list(range(4, 10))}
        reader.source.commit_async({part: (20, 0, "")})
        reader.until(lambda: reader.of(CommitResult))
        assert reader.of(CommitResult) == [CommitResult({part: 20})]
