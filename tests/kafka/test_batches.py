"""Splitting what librdkafka hands over, on messages made by hand."""

from __future__ import annotations

from confluent_kafka import Message

from logflume.kafka.batches import batch, by_leader, fresh, groups


def message(topic: str, partition: int, offset: int) -> Message:
    return Message(topic, partition, offset, value=b"%d" % offset, timestamp=(1, 1000 + offset))


def test_runs_of_a_partition_are_joined_and_keep_their_order() -> None:
    mixed = [message("a", *po) for po in [(0, 5), (0, 6), (1, 1), (0, 7), (2, 9), (1, 2)]]
    found = {part: [m.offset() for m in records] for part, records in groups(mixed, one_topic=True)}
    assert found == {("a", 0): [5, 6, 7], ("a", 1): [1, 2], ("a", 2): [9]}


def test_topics_with_the_same_partition_number_are_told_apart() -> None:
    mixed = [message("a", 0, 1), message("b", 0, 7), message("b", 0, 8), message("a", 0, 2)]
    found = {part: [m.offset() for m in records] for part, records in groups(mixed, one_topic=False)}
    assert found == {("a", 0): [1, 2], ("b", 0): [7, 8]}


def test_a_list_of_one_partition_is_not_copied() -> None:
    records = [message("a", 3, 1), message("a", 3, 2)]
    ((part, same),) = groups(records, one_topic=True)
    assert part == ("a", 3)
    assert same is records


def test_records_of_two_leaders_are_two_batches() -> None:
    """K9: by its leader the router tells a record that it had from another one at the same offset."""
    epochs = [3, 3, 3, 5, 6, 6]
    records = [Message("a", 0, offset, value=b"", leader_epoch=epoch) for offset, epoch in enumerate(epochs)]
    made = [batch(("a", 0), some) for some in by_leader(records)]
    assert [(one.leader_epoch, one.offsets) for one in made] == [(3, [0, 1, 2]), (5, [3]), (6, [4, 5])]
    assert list(by_leader(records[:3])) == [records[:3]]


def test_a_batch_is_columns_of_equal_length() -> None:
    made = batch(("a", 0), [message("a", 0, 4), message("a", 0, 9)])
    assert (made.values, made.offsets, made.kafka_times) == ([b"4", b"9"], [4, 9], [1004, 1009])
    assert (made.next_offset, made.leader_epoch) == (10, -1)


def offsets(*read: int, position: int) -> list[int] | None:
    made = fresh(batch(("a", 0), [message("a", 0, offset) for offset in read]), position)
    if made is None:
        return None
    assert made.values == [b"%d" % offset for offset in made.offsets]
    assert made.kafka_times == [1000 + offset for offset in made.offsets]
    assert made.next_offset == made.offsets[-1] + 1
    return list(made.offsets)


def test_repeated_and_old_records_are_dropped() -> None:
    """K14"""
    assert offsets(3, 4, 5, 5, 4, 6, 9, position=5) == [5, 6, 9]
    assert offsets(3, 4, position=5) is None
    # as many as from the first to the last, and yet one twice
    assert offsets(5, 5, 7, position=5) == [5, 7]
    assert offsets(5, 7, 6, 8, position=5) == [5, 7, 8]


def test_what_is_new_is_not_copied() -> None:
    read = batch(("a", 0), [message("a", 0, offset) for offset in (5, 6, 9)])
    assert fresh(read, 5) is read
