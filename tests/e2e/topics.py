"""What happens to a topic under a live daemon: more partitions, re-creation, lost records."""

from __future__ import annotations

import time

from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]  # not declared as exported

from tests.e2e.bench import Bench, past, span
from tests.e2e.daemon import wait_until
from tests.e2e.generate import HOUR_MS, Shape, make
from tests.stack.kafka import admin, create_topic, delete_topics


def partitions_added_to_a_live_topic_take_part_from_their_first_hour(bench: Bench) -> None:
    base, hours = past(6), 4
    # until they are found and fed, the clock must not close their hours
    case = bench.case(bench.root(), 2, idle_grace="20s")
    daemon = bench.daemon("added", bench.root(), [case], workers=2).start()
    chunks = make(Shape(base, 4, hours, 8_000, chunks=200))
    old = [[record for record in chunk if record.partition < 2] for chunk in chunks]
    # the new ones get what is sent in the second half
    new = [[record for record in chunk if record.partition >= 2] for chunk in chunks[100:]]
    wait_until(lambda: daemon.logged().count(" reading ") >= 2, 90, "it reads", daemon)
    feeds = [case.feed(old, 30.0)]
    wait_until(lambda: case.has(base - HOUR_MS, "_SUCCESS"), 90, "an hour is complete", daemon)
    client = admin(bench.stack.bootstrap)
    client.create_partitions([NewPartitions(case.topic, 4)])[case.topic].result(20)
    wait_until(lambda: len(case.log().ends) == 4, 60, "the partitions are there")
    feeds.append(case.feed(new, 8.0))
    for feed in feeds:
        feed.wait()
    case.wait_complete(span(base, hours), daemon)
    case.wait_committed(daemon, group=case.topic)
    daemon.stop()
    daemon.no_surprise()
    report = case.check()
    report.clean(crashed=True)
    assert report.committed == report.ends
    assert set(report.by_partition) == {0, 1, 2, 3}
    assert set(span(base, hours)) <= set(report.complete)


def a_topic_that_is_created_again_is_never_mixed_with_the_old_one(bench: Bench) -> None:
    base = past(4)
    case = bench.case(bench.root(), 3)
    daemon = bench.daemon("recreated", bench.root(), [case])
    daemon.may_stop = True
    daemon.start()
    case.feed(make(Shape(base, 3, 2, 3_000))).wait()
    case.wait_complete(span(base, 2), daemon)
    log = case.wait_committed(daemon, group=case.topic)
    where = bench.stack.bootstrap
    delete_topics(where, [case.topic])
    time.sleep(0.5)
    create_topic(where, case.topic, 3)
    # as many again: offsets alone would not tell
    case.feed(make(Shape(base + HOUR_MS, 3, 1, 3_000, seed=2))).wait()
    told = f"topic {case.topic} was deleted and re-created"
    wait_until(lambda: told in daemon.logged(), 90, "the partitions stop", daemon)
    daemon.stop()
    before = daemon.logged().count(told)
    daemon.start()
    wait_until(lambda: daemon.logged().count(told) > before, 90, "a restart does not help", daemon)
    time.sleep(2.0)
    daemon.stop()
    assert "Traceback" not in daemon.logged()
    report = case.check(log)
    report.clean(crashed=True)
    assert [node.name for node in case.tree.list(f"_logflume/{case.topic}") if node.is_dir] == [log.topic_id]


def lost_offsets_stop_their_partition_and_no_other(bench: Bench) -> None:
    """Partition 0 loses records while the daemon is down, partition 1 while it is frozen, 2 none."""
    base, hours = past(6), 4
    case = bench.case(bench.root(), 3)
    daemon = bench.daemon("lost", bench.root(), [case], kafka={"session.timeout.ms": 30_000}).start()
    chunks = make(Shape(base, 3, hours, 6_000, chunks=40))
    quarter = len(chunks) // 4
    # an hour goes by in each quarter, and none closes by the clock: the next quarter follows at once
    case.feed(chunks[:quarter]).wait()
    ends = case.log().ends
    wait_until(lambda: bench.committed(case.topic, case.topic, [0, 1, 2]) == ends, 90, "all is decided", daemon)
    daemon.stop()
    daemon.no_surprise()
    decided = case.check().committed

    case.feed(chunks[quarter : 2 * quarter]).wait()
    first = case.log()
    _delete(bench, case.topic, 0, decided[0] + 50)
    daemon.may_stop = True
    daemon.start()
    told = f"{case.topic}/0: offsets {decided[0]} to {decided[0] + 49} are lost"
    wait_until(lambda: told in daemon.logged(), 90, "partition 0 stops", daemon)
    assert f"--accept-gap {case.topic}/0:{decided[0] + 50}" in daemon.logged()
    _at_end(bench, case.topic, [1, 2], first.ends)

    workers = daemon.freeze()
    case.feed(chunks[2 * quarter :]).wait()
    second = case.log()
    _delete(bench, case.topic, 1, first.ends[1] + 50)
    daemon.thaw(workers)
    told = f"{case.topic}/1: offsets {first.ends[1]} to {first.ends[1] + 49} are lost"
    wait_until(lambda: told in daemon.logged(), 90, "partition 1 stops", daemon)
    _at_end(bench, case.topic, [2], second.ends)
    daemon.stop()
    assert "Traceback" not in daemon.logged()

    second.records |= first.records
    report = case.check(second)
    report.clean(crashed=True, pending=True)
    assert report.committed == {0: decided[0], 1: first.ends[1], 2: second.ends[2]}
    # partition 0 holds back every hour that it has not closed
    assert not set(report.complete) & {base + hour * HOUR_MS for hour in range(1, hours)}
    assert report.incomplete == []


def _delete(bench: Bench, topic: str, partition: int, below: int) -> None:
    client = admin(bench.stack.bootstrap)  # has to live until the answer
    for future in client.delete_records([TopicPartition(topic, partition, below)]).values():
        future.result(20)


def _at_end(bench: Bench, topic: str, partitions: list[int], ends: dict[int, int]) -> None:
    wanted = {partition: ends[partition] for partition in partitions}
    wait_until(lambda: bench.committed(topic, topic, partitions) == wanted, 90, f"others go on to {wanted}")
