"""What is not there yet: a topic's past, a topic, records of an open transaction."""

from __future__ import annotations

import re
import time

from confluent_kafka import Producer

from tests.e2e.bench import Bench, past, span
from tests.e2e.daemon import wait_until
from tests.e2e.generate import HOUR_MS, Made, Shape, good, make
from tests.stack.kafka import create_topic, delete_topics


def a_start_at_the_end_calls_no_hour_complete_that_it_cannot_know(bench: Bench) -> None:
    base, hours = past(7), 5
    case = bench.case(bench.root(), 3, start="latest")
    chunks = make(Shape(base, 3, hours, 6_000, chunks=100))
    case.feed(chunks[:30]).wait()
    before = case.log().ends
    daemon = bench.daemon("latest", bench.root(), [case]).start()
    wait_until(lambda: daemon.logged().count(" reading ") >= 3, 90, "it reads", daemon)
    case.feed(chunks[30:]).wait()
    case.wait_complete(span(base + 2 * HOUR_MS, hours - 2), daemon)
    log = case.wait_committed(daemon, group=case.topic)
    daemon.stop()
    daemon.no_surprise()
    # what was there before is none of its business, only what it says about the hours is
    log.records = {key: record for key, record in log.records.items() if key[1] >= before[key[0]]}
    report = case.check(log)
    report.clean(crashed=False)
    assert base + HOUR_MS in report.incomplete, "it begins in the middle of this hour"
    assert not set(report.complete) & set(span(base, 2))


def a_pattern_takes_topics_that_come_later(bench: Bench) -> None:
    base, hours = past(4), 2
    first = bench.case(bench.root(), 2)
    pattern = re.escape(first.topic[:-1]) + "[0-9]"
    first.settings = {key: value for key, value in first.settings.items() if key != "name"} | {"pattern": pattern}
    where = bench.stack.bootstrap
    delete_topics(where, [first.topic])
    daemon = bench.daemon("pattern", bench.root(), [first], group=first.topic, workers=2).start()
    wait_until(lambda: "ready" in daemon.logged(), 90, "it is ready without a topic", daemon)
    second = bench.case(bench.root(), 3)
    create_topic(where, first.topic, 2)
    for case, partitions in ((first, 2), (second, 3)):
        case.feed(make(Shape(base, partitions, hours, 2_000, seed=partitions))).wait()
    for case in (first, second):
        case.wait_complete(span(base, hours), daemon)
        case.wait_committed(daemon, group=first.topic)
    daemon.stop()
    daemon.no_surprise()
    for case in (first, second):
        report = case.check()
        report.clean(crashed=True)
        assert report.committed == report.ends


def an_open_transaction_holds_its_hours_open(bench: Bench) -> None:
    base, hours = past(4), 2
    case = bench.case(bench.root(), 2, idle_grace="1s")
    daemon = bench.daemon("open", bench.root(), [case]).start()
    held = [Made(0, good(base + HOUR_MS + i, 0, 10_000 + i), base + HOUR_MS + i) for i in range(50)]
    producer = Producer({"bootstrap.servers": bench.stack.bootstrap, "transactional.id": case.topic})
    producer.init_transactions(30)
    producer.begin_transaction()
    for one in held:
        producer.produce(case.topic, one.value, partition=one.partition, timestamp=one.kafka_ms)
    producer.flush(30)
    case.feed(make(Shape(base, 2, hours, 2_000))).wait()
    end = case.log().ends[1]
    wait_until(lambda: bench.committed(case.topic, case.topic, [1]) == {1: end}, 90, "partition 1 is decided", daemon)
    # several times as long as an idle partition is waited for
    time.sleep(6.0)
    assert not any(case.has(base + hour * HOUR_MS, "_SUCCESS") for hour in range(-1, hours))
    producer.commit_transaction(30)
    case.wait_complete(span(base, hours), daemon)
    case.wait_committed(daemon, group=case.topic)
    daemon.stop()
    daemon.no_surprise()
    report = case.check()
    report.clean(crashed=False)
    assert report.late_by_clock == 0
