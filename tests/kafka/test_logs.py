"""What happens to a partition's log while it is read: transactions, lost offsets, re-created topics."""

from __future__ import annotations

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]  # not declared as exported

from logflume.errors import LogflumeError
from logflume.kafka.embedded import Outgoing, produce
from logflume.kafka.events import Lost, PartitionError, Revoked, TopicPart
from logflume.kafka.failures import UnknownTopic
from logflume.kafka.options import Options
from logflume.kafka.static import StaticMember
from logflume.kafka.topics import Topics
from tests.conftest import TopicFactory
from tests.kafka.reader import Reader, fill, transactional
from tests.kafka.test_groups import CLASSIC, protocols
from tests.stack import Stack
from tests.stack.kafka import admin, create_topic


def asker(stack: Stack) -> Topics:
    return Topics({"bootstrap.servers": stack.bootstrap}, timeout_s=5)


def test_markers_and_aborted_records_are_gaps_and_the_end_lies_behind_them(
    stack: Stack, topic_factory: TopicFactory
) -> None:
    """K12"""
    topic = topic_factory(1)
    part = (topic, 0)
    producer = transactional(stack.bootstrap)
    with Reader(stack.bootstrap, [topic], options=CLASSIC, starts=0) as reader:

        def transaction(count: int, *, commit: bool) -> None:
            producer.begin_transaction()
            for _ in range(count):
                producer.produce(topic, b"x", partition=0)
            producer.flush(10)
            if commit:
                producer.commit_transaction(10)
            else:
                producer.abort_transaction(10)

        transaction(3, commit=True)  # 0 1 2, marker 3
        reader.until(lambda: reader.ends == {part: 4})
        assert reader.records == {part: [0, 1, 2]}
        assert reader.batches[-1].next_offset == 3
        assert reader.source.positions == {part: 4}
        # Nothing is delivered of an aborted one, yet the end moves behind its marker.
        transaction(5, commit=False)  # 4 … 8, marker 9
        reader.until(lambda: reader.ends == {part: 10})
        assert reader.records == {part: [0, 1, 2]}
        assert reader.source.positions == {part: 10}
        transaction(1, commit=True)  # 10, marker 11
        reader.until(lambda: reader.ends == {part: 12})
        assert reader.records == {part: [0, 1, 2, 10]}


def test_an_open_transaction_holds_the_end_back(stack: Stack, topic_factory: TopicFactory) -> None:
    """K13: the end of the readable log is not the high watermark."""
    topic = topic_factory(1)
    part = (topic, 0)
    fill(stack.bootstrap, topic, [2])
    producer = transactional(stack.bootstrap)
    producer.begin_transaction()
    producer.produce(topic, b"open", partition=0)
    producer.flush(10)
    fill(stack.bootstrap, topic, [2])
    with Reader(stack.bootstrap, [topic], options=CLASSIC, starts=0) as reader:
        reader.until(lambda: reader.ends == {part: 2})
        reader.run(1)
        assert reader.records == {part: [0, 1]}
        assert reader.source.high_watermark(*part) == 5
        topics = asker(stack)
        assert topics.end_offsets([part]) == {part: 2}
        assert topics.end_offsets([part], read_committed=False) == {part: 5}
        producer.commit_transaction(10)
        reader.until(lambda: reader.ends == {part: 6})
        assert reader.records == {part: [0, 1, 2, 3, 4]}


@protocols
def test_lost_offsets_are_an_error_and_nothing_is_skipped(
    stack: Stack, topic_factory: TopicFactory, options: Options
) -> None:
    """K8: below the start of the log, and beyond its end."""
    topic = topic_factory(3)
    fill(stack.bootstrap, topic, [10, 10, 10])
    client = admin(stack.bootstrap)
    client.delete_records([TopicPartition(topic, 0, 6)])[TopicPartition(topic, 0, 6)].result(10)
    with Reader(stack.bootstrap, [topic], options=options) as reader:
        reader.until(lambda: len(reader.owned) == 3)
        reader.source.start(topic, 0, 5)
        reader.source.start(topic, 1, 11)
        reader.source.start(topic, 2, 10)
        reader.until(lambda: len(reader.of(PartitionError)) >= 2)
        reader.run(1.5)
        errors = [e for e in reader.events if isinstance(e, PartitionError)]
        assert {(e.partition, e.code, e.passes) for e in errors} == {
            (0, "_AUTO_OFFSET_RESET", False),
            (1, "_AUTO_OFFSET_RESET", False),
        }
        assert all("out of range" in e.text.lower() for e in errors)
        assert reader.records == {}
        assert reader.ends == {(topic, 2): 10}
        # A person decided: on from where the log begins now.
        reader.source.start(topic, 0, 6)
        reader.until(lambda: (topic, 0) in reader.ends)
        assert reader.records == {(topic, 0): [6, 7, 8, 9]}
    assert asker(stack).start_offsets([(topic, 0)]) == {(topic, 0): 6}


@protocols
def test_offsets_lost_while_reading_are_an_error(stack: Stack, topic_factory: TopicFactory, options: Options) -> None:
    """K8, with the reader held back by a pause while retention overtakes it."""
    topic = topic_factory(1)
    part = (topic, 0)
    fill(stack.bootstrap, topic, [10])
    with Reader(stack.bootstrap, [topic], options=options, starts=0) as reader:
        reader.until(lambda: reader.ends == {part: 10})
        reader.source.pause([part])
        fill(stack.bootstrap, topic, [10])
        client = admin(stack.bootstrap)
        client.delete_records([TopicPartition(topic, 0, 15)])[TopicPartition(topic, 0, 15)].result(10)
        reader.source.resume([part])
        reader.until(lambda: reader.of(PartitionError))
        reader.run(1)
        assert reader.records == {part: list(range(10))}
        assert reader.source.positions == {part: 10}


@protocols
def test_a_re_created_topic_comes_back_as_a_new_assignment(
    stack: Stack, topic_factory: TopicFactory, options: Options
) -> None:
    """K10, when the client sees the moment without the topic; a classic group calls it lost."""
    topic = topic_factory(1)
    part = (topic, 0)
    topics = asker(stack)
    before = topics.topic(topic)
    fill(stack.bootstrap, topic, [10])
    with Reader(stack.bootstrap, [topic], options=options, starts=0) as reader:
        reader.until(lambda: reader.ends == {part: 10})
        client = admin(stack.bootstrap)
        client.delete_topics([topic], operation_timeout=10)[topic].result(10)
        reader.until(lambda: reader.of(Lost if options is CLASSIC else Revoked))
        assert topics.topics([topic]) == {}
        create_topic(stack.bootstrap, topic)
        fill(stack.bootstrap, topic, [15])
        reader.until(lambda: reader.ends == {part: 15})
        assert reader.records == {part: [*range(10), *range(15)]}
        after = topics.topic(topic)
        assert (after.name, after.partitions) == (before.name, before.partitions)
        assert after.topic_id != before.topic_id


def test_a_topic_re_created_at_once_is_read_on_in_silence_and_only_its_id_tells(
    stack: Stack, topic_factory: TopicFactory
) -> None:
    """K10. A known flaw of the client, written down: it is why the topic id is asked before each decision."""
    topic = topic_factory(1)
    part = (topic, 0)
    topics = asker(stack)
    before = topics.topic(topic)
    fill(stack.bootstrap, topic, [10])
    with Reader(stack.bootstrap, [], static=StaticMember([topic], 0, 1), starts=0) as reader:
        reader.until(lambda: reader.ends == {part: 10})
        # Not polled meanwhile, as while something else takes its time.
        client = admin(stack.bootstrap)
        client.delete_topics([topic], operation_timeout=10)[topic].result(10)
        create_topic(stack.bootstrap, topic)
        fill(stack.bootstrap, topic, [15])
        reader.until(lambda: reader.ends == {part: 15} or reader.of(PartitionError))
        assert topics.topic(topic).topic_id != before.topic_id
        if not reader.of(PartitionError):  # the fetch came after the records
            assert reader.records == {part: list(range(15))}


def test_a_topic_that_is_not_there_is_an_error_of_the_topic(stack: Stack) -> None:
    """In classic groups; with KIP-848 librdkafka says nothing, so ask ``Topics`` before."""
    with Reader(stack.bootstrap, ["no-such-topic"], options=CLASSIC) as reader:
        reader.until(lambda: reader.of(PartitionError))
        (error,) = [e for e in reader.events if isinstance(e, PartitionError)]
        assert (error.topic, error.partition, error.code) == ("no-such-topic", -1, "UNKNOWN_TOPIC_OR_PART")


def test_static_members_see_added_partitions(stack: Stack, topic_factory: TopicFactory) -> None:
    """K11 without a group."""
    topic = topic_factory(1)
    members = [StaticMember([topic], index, 2, refresh_s=0.5) for index in range(2)]
    readers = [Reader(stack.bootstrap, [], static=member, starts=0) for member in members]
    for reader in readers:
        reader.run(1)
    client = admin(stack.bootstrap)
    client.create_partitions([NewPartitions(topic, 4)])[topic].result(10)
    fill(stack.bootstrap, topic, [3, 3, 3, 3])
    for reader in readers:
        while len(reader.ends) < 2:
            reader.step()
    assert {part: offsets for reader in readers for part, offsets in reader.records.items()} == {
        (topic, p): [0, 1, 2] for p in range(4)
    }
    assert not readers[0].owned & readers[1].owned
    assert all(reader.source.close(10) for reader in readers)


def test_topics_answers_what_a_real_broker_knows(stack: Stack, topic_factory: TopicFactory) -> None:
    topic = topic_factory(2)
    stamped = topic_factory(1, {"message.timestamp.type": "LogAppendTime"})
    produce(stack.bootstrap, topic, [Outgoing(0, b"a", 1000), Outgoing(0, b"b", 2000)])
    topics = asker(stack)
    known = topics.topic(topic)
    assert (known.name, known.partitions) == (topic, [0, 1])
    assert len(known.topic_id) == 22
    assert topics.list_topics([stamped, "^" + topic + "$"]) == sorted([topic, stamped])
    assert topics.has_append_time(stamped)
    assert not topics.has_append_time(topic)
    parts: list[TopicPart] = [(topic, 0), (topic, 1)]
    assert topics.end_offsets(parts) == {(topic, 0): 2, (topic, 1): 0}
    assert topics.offsets_for_time(parts, 1500) == {(topic, 0): 1, (topic, 1): None}
    assert topics.end_offsets([]) == {}
    # a partition that is not there keeps no other one's answer back
    each = topics.each_end_offset([*parts, (topic, 7)])
    assert (each[topic, 0], each[topic, 1]) == (2, 0)
    assert isinstance(each[topic, 7], LogflumeError)
    for ask in (
        lambda: topics.topic("no-such-topic"),
        lambda: topics.end_offsets([("no-such-topic", 0)]),
        lambda: topics.has_append_time("no-such-topic"),
    ):
        with pytest.raises(UnknownTopic):
            ask()
