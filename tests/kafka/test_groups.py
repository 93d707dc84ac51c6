"""Group membership on a real broker, in both protocols: who may read what, and when it is given up."""

from __future__ import annotations

import time

import pytest
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]  # not declared as exported

from logflume.kafka.consumer import METADATA_BYTES
from logflume.kafka.events import Assigned, ClientError, CommitResult, Lost, Revoked, TopicPart
from logflume.kafka.options import Options
from tests.conftest import TopicFactory
from tests.kafka.reader import PATIENCE_S, Reader, fill, until
from tests.stack import Stack
from tests.stack.kafka import admin

# New partitions and topics within seconds; members that fall silent are missed soon.
CLASSIC: Options = {
    "session.timeout.ms": 6000,
    "heartbeat.interval.ms": 500,
    "topic.metadata.refresh.interval.ms": 1000,
}
CONSUMER: Options = {"group.protocol": "consumer", "topic.metadata.refresh.interval.ms": 1000}

protocols = pytest.mark.parametrize("options", [CLASSIC, CONSUMER], ids=["classic", "consumer"])


@protocols
def test_no_record_comes_before_start_and_none_below_its_offset(
    stack: Stack, topic_factory: TopicFactory, options: Options
) -> None:
    topic = topic_factory(3)
    fill(stack.bootstrap, topic, [1000, 1000, 1000])
    with Reader(stack.bootstrap, [topic], options=options) as reader:
        reader.until(lambda: len(reader.owned) == 3)
        reader.run(2.0)  # as long as a ledger may take, and longer
        assert reader.batches == []
        reader.source.start(topic, 1, 400)
        reader.until(lambda: reader.ends)
        reader.run(1.0)
        assert reader.records == {(topic, 1): list(range(400, 1000))}
        assert reader.ends == {(topic, 1): 1000}
        reader.source.start(topic, 0, 999)
        reader.until(lambda: (topic, 0) in reader.ends)
        assert reader.records[topic, 0] == [999]


@protocols
def test_a_member_that_joins_is_given_partitions_after_the_owner_finished_them(
    stack: Stack, topic_factory: TopicFactory, options: Options
) -> None:
    """K1: the old owner finishes inside on_revoke, for seconds, and nobody owns the partition twice."""
    topic = topic_factory(4)
    fill(stack.bootstrap, topic, [100] * 4)
    finished: dict[TopicPart, float] = {}

    def drain(parts: list[TopicPart]) -> None:
        time.sleep(1.5)
        finished.update(dict.fromkeys(parts, time.monotonic()))

    first = Reader(stack.bootstrap, [topic], options=options, drain=drain)
    # Two of the four are started: those given up may be of either sort.
    first.until(lambda: len(first.owned) == 4)
    for partition in (0, 2):
        first.source.start(topic, partition, 0)
    first.until(lambda: len(first.ends) == 2)
    second = Reader(stack.bootstrap, [topic], group=first.group, options=options, starts=50)
    # The thread that owns the first is busy draining for 1.5 s; its partitions are not the second's then.
    begun: dict[TopicPart, float] = {}
    deadline = time.monotonic() + PATIENCE_S
    while len(begun) < 2:
        assert time.monotonic() < deadline, (first.events, second.events)
        first.step()
        second.step()
        begun.update({part: time.monotonic() for part in second.owned if part not in begun})
    assert first.owned | second.owned == {(topic, p) for p in range(4)}
    assert not first.owned & second.owned
    assert first.owned == first.ownership()
    assert all(finished[part] < begun[part] for part in begun)
    assert sorted(part for parts in first.drained for part in parts) == sorted(second.owned)
    until([first, second], lambda: len(second.ends) == 2)
    assert second.records == {part: list(range(50, 100)) for part in second.owned}
    assert set(first.records) == {(topic, 0), (topic, 2)}
    # The first leaves: its partitions go over, and close() does not drain again.
    drained = len(first.drained)
    assert first.source.close(10)
    assert len(first.drained) == drained
    second.until(lambda: len(second.ends) == 4)
    assert second.records == {(topic, p): list(range(50, 100)) for p in range(4)}
    assert second.source.close(10)


@protocols
def test_added_partitions_are_assigned_to_a_live_member(
    stack: Stack, topic_factory: TopicFactory, options: Options
) -> None:
    """K11"""
    topic = topic_factory(1)
    with Reader(stack.bootstrap, [topic], options=options, starts=0) as reader:
        reader.until(lambda: reader.ends)
        client = admin(stack.bootstrap)
        client.create_partitions([NewPartitions(topic, 3)])[topic].result(10)
        reader.until(lambda: len(reader.owned) == 3)
        fill(stack.bootstrap, topic, [2, 2, 2])
        reader.until(lambda: reader.ends == {(topic, p): 2 for p in range(3)})
        assert reader.records == {(topic, p): [0, 1] for p in range(3)}


@protocols
def test_a_pattern_picks_up_a_topic_created_later(stack: Stack, topic_factory: TopicFactory, options: Options) -> None:
    first = topic_factory(1)
    pattern = "^" + first.rsplit("-", 1)[0] + "-.*"
    with Reader(stack.bootstrap, [pattern], options=options, starts=0) as reader:
        reader.until(lambda: (first, 0) in reader.ends)
        second = topic_factory(1)
        fill(stack.bootstrap, second, [3])
        reader.until(lambda: (second, 0) in reader.records)
        assert reader.records[second, 0] == [0, 1, 2]


@protocols
def test_a_handler_that_raises_loses_no_record_and_is_not_swallowed(
    stack: Stack, topic_factory: TopicFactory, options: Options
) -> None:
    topic = topic_factory(2)
    fill(stack.bootstrap, topic, [2000, 2000])

    class Broken(Exception):
        pass

    def drain(parts: list[TopicPart]) -> None:
        raise Broken

    first = Reader(stack.bootstrap, [topic], options=options, starts=0, drain=drain)
    first.until(lambda: len(first.ends) == 2)
    second = Reader(stack.bootstrap, [topic], group=first.group, options=options, starts=0)
    with pytest.raises(Broken):
        until([second, first], lambda: False)
    # The one that stayed goes on where it was.
    (kept,) = first.owned
    until([first, second], lambda: len(second.ends) == 1)
    fill(stack.bootstrap, topic, [500, 500])
    until([first, second], lambda: first.ends[kept] == 2500)
    assert first.records[kept] == list(range(2500))
    first.source.close(10)
    second.source.close(10)


@protocols
def test_a_member_that_polls_too_late_is_told_that_it_lost_its_partitions(
    stack: Stack, topic_factory: TopicFactory, options: Options
) -> None:
    """P7, K3: no drain, since another owner may have them; then they come back, to be claimed anew."""
    topic = topic_factory(2)
    fill(stack.bootstrap, topic, [10, 10])
    slow = {**options, "max.poll.interval.ms": 6000}
    with Reader(stack.bootstrap, [topic], options=slow, starts=3) as reader:
        reader.until(lambda: len(reader.ends) == 2)
        time.sleep(8)
        reader.until(lambda: reader.lost)
        assert reader.drained == []
        reader.until(lambda: len(reader.owned) == 2 and len(reader.of(Assigned)) >= 2)
        kinds = [type(e) for e in reader.events if isinstance(e, Assigned | Revoked | Lost)]
        assert kinds.count(Lost) == 1
        assert any(isinstance(e, ClientError) and e.code == "_MAX_POLL_EXCEEDED" for e in reader.events)
        reader.until(lambda: all(len(offsets) == 14 for offsets in reader.records.values()))
        assert all(offsets == [*range(3, 10)] * 2 for offsets in reader.records.values())


@protocols
def test_commits_carry_metadata_and_report_their_outcome(
    stack: Stack, topic_factory: TopicFactory, options: Options
) -> None:
    """K4: an outcome is an event. A partition of somebody else is committed without an error (measured)."""
    topic = topic_factory(2)
    other = topic_factory(1)
    with Reader(stack.bootstrap, [topic], options=options) as reader:
        reader.until(lambda: len(reader.owned) == 2)
        metadata = "m" * METADATA_BYTES
        reader.source.commit_async({(topic, 0): (7, 0, metadata), (other, 0): (3, -1, "")})
        reader.until(lambda: reader.of(CommitResult))
        assert reader.of(CommitResult) == [CommitResult({(topic, 0): 7, (other, 0): 3})]
        found = reader.source.committed([(topic, 0), (topic, 1), (other, 0)], timeout_s=10)
        assert found == {(topic, 0): (7, 0, metadata), (other, 0): (3, -1, "")}
        with pytest.raises(ValueError, match="longer than"):
            reader.source.commit_async({(topic, 0): (8, 0, metadata + "m")})
        # One partition's error is reported for the request, though the other is committed.
        reader.source.commit_async({(topic, 0): (8, -1, ""), ("no-such-topic", 0): (1, -1, "")})
        reader.until(lambda: len(reader.of(CommitResult)) == 2)
        assert reader.of(CommitResult)[1] == CommitResult(
            {(topic, 0): 8, ("no-such-topic", 0): 1}, "UNKNOWN_TOPIC_OR_PART"
        )
        assert reader.source.committed([(topic, 0)], timeout_s=10) == {(topic, 0): (8, -1, "")}
