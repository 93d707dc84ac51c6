"""The embedded broker, and what of the seam can be shown on it."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from logflume.errors import Unreachable
from logflume.kafka import consumer, native
from logflume.kafka.embedded import GROUP_OPTIONS, EmbeddedBroker, Outgoing, produce
from logflume.kafka.events import Assigned, ClientError, TopicPart
from logflume.kafka.static import StaticMember
from logflume.kafka.topics import MOCK_TOPIC_ID, Topics
from logflume.model import Joined, TimeType
from tests.kafka.reader import PATIENCE_S, Reader, fill, until

needs_native = pytest.mark.skipif(bool(native.MISSING), reason=f"no reader in C: {native.MISSING}")


@pytest.fixture(params=[pytest.param("native", marks=needs_native), "python"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each of the two readers."""
    return str(request.param)


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


def test_records_come_as_columns_with_time_key_and_position(broker: EmbeddedBroker, kind: str) -> None:
    sent = [Outgoing(1, b"a", 1000, b"k"), Outgoing(1, None, 2000), Outgoing(1, b"", 3000)]
    assert produce(broker.bootstrap, f"columns-{kind}", sent) == 3
    with Reader(broker.bootstrap, [f"columns-{kind}"], options=GROUP_OPTIONS, kind=kind) as reader:
        reader.until(lambda: (f"columns-{kind}", 1) in reader.owned)
        reader.source.start(f"columns-{kind}", 1, 0)
        reader.until(lambda: reader.ends)
        (batch,) = reader.batches
        assert (batch.topic, batch.partition) == (f"columns-{kind}", 1)
        assert batch.values == [b"a", None, b""]
        assert list(batch.offsets) == [0, 1, 2]
        assert batch.kafka_times == [1000, 2000, 3000]
        assert batch.next_offset == 3
        assert batch.keys[0] == b"k"
        assert (batch.time_types[0], batch.kafka_times[0]) == (TimeType.CREATE, 1000)
        assert reader.ends == {(f"columns-{kind}", 1): 3}
        assert reader.source.positions == {(f"columns-{kind}", 1): 3}
        assert reader.source.high_watermark(f"columns-{kind}", 1) == 3


def test_nothing_is_read_of_a_partition_that_was_not_started(broker: EmbeddedBroker, kind: str) -> None:
    fill(broker.bootstrap, f"held-{kind}", [10, 10, 10, 10])
    with Reader(broker.bootstrap, [f"held-{kind}"], options=GROUP_OPTIONS, kind=kind) as reader:
        reader.until(lambda: len(reader.owned) == 4)
        reader.source.start(f"held-{kind}", 2, 7)
        reader.run(1.5)
        assert reader.records == {(f"held-{kind}", 2): [7, 8, 9]}
        assert reader.ends == {(f"held-{kind}", 2): 10}
        with pytest.raises(ValueError, match="not assigned"):
            reader.source.start("other", 0, 0)


def test_a_stopped_partition_is_silent_and_starts_anew_at_any_offset(broker: EmbeddedBroker, kind: str) -> None:
    fill(broker.bootstrap, f"stopping-{kind}", [10])
    with Reader(broker.bootstrap, [f"stopping-{kind}"], options=GROUP_OPTIONS, kind=kind) as reader:
        reader.until(lambda: len(reader.owned) == 4)
        reader.source.start(f"stopping-{kind}", 0, 5)
        reader.until(lambda: reader.ends)
        reader.source.stop(f"stopping-{kind}", 0)
        fill(broker.bootstrap, f"stopping-{kind}", [10])
        reader.run(1.0)
        assert reader.records == {(f"stopping-{kind}", 0): [5, 6, 7, 8, 9]}
        assert reader.source.positions == {}
        reader.source.start(f"stopping-{kind}", 0, 3)
        reader.until(lambda: reader.ends == {(f"stopping-{kind}", 0): 20})
        assert reader.records == {(f"stopping-{kind}", 0): [5, 6, 7, 8, 9, *range(3, 20)]}


def test_pausing_loses_and_repeats_nothing(broker: EmbeddedBroker, kind: str) -> None:
    fill(broker.bootstrap, f"pausing-{kind}", [5000])
    with Reader(broker.bootstrap, [f"pausing-{kind}"], options=GROUP_OPTIONS, kind=kind) as reader:
        part = (f"pausing-{kind}", 0)
        reader.until(lambda: part in reader.owned)
        reader.source.start(*part, 0)
        for _ in range(5):
            deadline = time.monotonic() + PATIENCE_S
            while not any(hasattr(item, "values") for item in reader.source.poll(0.2, 100)):
                assert time.monotonic() < deadline
            reader.source.pause([part])
            held = reader.source.positions[part]
            reader.run(0.3)
            assert reader.source.positions[part] == held
            reader.source.resume([part])
        seen = reader.source.positions[part]
        reader.until(lambda: reader.ends == {part: 5000})
        assert reader.records[part] == list(range(seen, 5000))


def test_an_exception_out_of_consume_loses_nothing(broker: EmbeddedBroker, kind: str) -> None:
    """A signal handler that raises ends consume() after records were taken: they are read again."""
    fill(broker.bootstrap, f"raising-{kind}", [1000, 1000])

    class Interrupted(Exception):
        pass

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with Reader(broker.bootstrap, [f"raising-{kind}"], options=GROUP_OPTIONS, kind=kind) as reader:
            reader.until(lambda: len(reader.owned) == 4)
            for partition in (0, 1):
                reader.source.start(f"raising-{kind}", partition, 10)
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(Interrupted):
                reader.run(5)
            reader.until(lambda: len(reader.ends) == 2)
            assert reader.records == {(f"raising-{kind}", p): list(range(10, 1000)) for p in (0, 1)}
    finally:
        signal.signal(signal.SIGALRM, before)


def test_static_members_share_all_partitions_without_a_group(broker: EmbeddedBroker, kind: str) -> None:
    fill(broker.bootstrap, f"shared-{kind}-one", [5, 5, 5, 5])
    fill(broker.bootstrap, f"shared-{kind}-two", [5, 5, 5, 5])
    seen: list[tuple[str, int]] = []
    for index in range(3):
        member = StaticMember([f"^shared-{kind}-.*"], index, 3)
        with Reader(broker.bootstrap, [], static=member, starts=0, kind=kind) as reader:
            until([reader], partial(reader.of, Assigned))
            reader.run(1.0)
            assert all(offsets == [0, 1, 2, 3, 4] for offsets in reader.records.values())
            seen += reader.records
    assert sorted(seen) == [(f"shared-{kind}-{name}", p) for name in ("one", "two") for p in range(4)]


def test_a_partition_that_is_started_again_and_again_begins_there_each_time(broker: EmbeddedBroker, kind: str) -> None:
    """Also while the client still lets go of what was started before."""
    fill(broker.bootstrap, topic := f"restarted-{kind}", [500, 500])
    with Reader(broker.bootstrap, [topic], options=GROUP_OPTIONS, kind=kind) as reader:
        reader.until(lambda: len(reader.owned) == 4)
        for round_ in range(40):
            offsets = {(topic, p): (round_ * 37 + p) % 500 for p in (0, 1)}
            reader.records.clear()
            for part, offset in offsets.items():
                reader.source.start(*part, offset)
            if round_ % 4 == 3:
                reader.step(0.0)
                continue
            reader.until(lambda: len(reader.records) == 2)
            for part, offset in offsets.items():
                assert reader.records[part][0] == offset
                assert reader.records[part] == list(range(offset, offset + len(reader.records[part])))


@needs_native
class Busy:
    """A client that begins no partition, as librdkafka while a commit is not answered; all else it does."""

    def __init__(self, client: Consumer) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def seek(self, _: TopicPartition) -> None:
        raise KafkaException(KafkaError(KafkaError._STATE))


def test_a_start_that_fails_leaves_nothing_behind(
    broker: EmbeddedBroker, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its records came when the commit was answered, and were filed under the other topic's partition."""
    monkeypatch.setattr(consumer, "RELEASE_S", 0.5)
    one, other = f"one-{kind}", f"other-{kind}"
    fill(broker.bootstrap, one, [50])
    fill(broker.bootstrap, other, [500])
    with Reader(broker.bootstrap, [], static=StaticMember([one, other], 0, 1), kind=kind) as reader:
        reader.until(lambda: {(one, 0), (other, 0), (other, 1)} <= reader.owned)
        reader.source.start(one, 0, 0)
        reader.until(lambda: reader.ends)
        client = reader.source._client
        monkeypatch.setattr(reader.source, "_client", Busy(client))
        took = []
        for partition in (0, 1):
            began = time.monotonic()
            with pytest.raises(Unreachable, match=f"start reading {other}/{partition}"):
                reader.source.start(other, partition, 10, leader_epoch=0)
            took.append(time.monotonic() - began)
            reader.source.stop(other, partition)
        assert took[1] < 0.4 < took[0], "each waited, and with sixty of them the worker was killed"
        monkeypatch.setattr(reader.source, "_client", client)
        fill(broker.bootstrap, one, [50])
        reader.until(lambda: len(reader.records[one, 0]) == 100)
        reader.run(1.0)
        assert reader.records == {(one, 0): list(range(100))}
        reader.source.start(other, 0, 10)
        reader.until(lambda: (other, 0) in reader.ends)
        assert reader.records == {(one, 0): list(range(100)), (other, 0): list(range(10, 500))}


def test_both_readers_deliver_the_same(broker: EmbeddedBroker) -> None:
    rng = random.Random(11)
    values = [b'{"ts":1}', b"", None, b"two\nlines", b"{", b"}", "ö".encode(), b"\xff", b"\n", b"x" * 5000]
    for partition, odd in ((0, values), (1, [b'{"ts":2}']), (2, [b"a line", b""])):
        sent = [
            Outgoing(partition, rng.choice(odd), rng.choice([1000, 1000 + i]), rng.choice([None, b"", b"key"]))
            for i in range(1, 1500)
        ]
        produce(broker.bootstrap, "same", sent)

    def read(kind: str) -> dict[TopicPart, list[tuple[object, ...]]]:
        with Reader(broker.bootstrap, ["same"], options=GROUP_OPTIONS, starts=0, kind=kind) as reader:
            reader.until(lambda: len(reader.ends) == 4)
            rows: dict[TopicPart, list[tuple[object, ...]]] = {}
            for one in reader.batches:
                columns = one.values, one.offsets, one.kafka_times, one.keys, one.time_types
                rows.setdefault((one.topic, one.partition), []).extend(zip(*columns, strict=True))
                assert one.next_offset == one.offsets[-1] + 1
            assert any(isinstance(one.values, Joined) for one in reader.batches) == (kind == "native")
            return rows

    assert read("native") == read("python")


def test_the_mock_broker_alone_has_a_made_up_topic_id(broker: EmbeddedBroker) -> None:
    fill(broker.bootstrap, "asked", [3, 2])
    topics = Topics({"bootstrap.servers": broker.bootstrap}, timeout_s=5)
    found = topics.topic("asked")
    assert (found.topic_id, found.partitions) == (MOCK_TOPIC_ID, [0, 1, 2, 3])
    assert topics.list_topics(["^ask"]) == ["asked"]
    parts = [("asked", 0), ("asked", 1)]
    assert topics.end_offsets(parts) == {("asked", 0): 3, ("asked", 1): 2}
    assert topics.start_offsets(parts) == {("asked", 0): 0, ("asked", 1): 0}


def test_the_broker_ends_with_its_parent_however_that_ends() -> None:
    code = (
        "import time; from logflume.kafka.embedded import EmbeddedBroker as B\n"
        "b = B(); print(b.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_brokers_that_are_gone_are_a_client_error_and_close_is_bounded() -> None:
    """K16. The group cannot be left, and librdkafka waits for that; close() does not."""
    broker = EmbeddedBroker()
    fill(broker.bootstrap, "gone", [5])
    reader = Reader(broker.bootstrap, ["gone"], options=GROUP_OPTIONS)
    reader.until(lambda: reader.owned)
    reader.source.start("gone", 0, 0)
    reader.until(lambda: reader.ends)
    broker.close()
    reader.until(lambda: any(isinstance(e, ClientError) and e.code == "_ALL_BROKERS_DOWN" for e in reader.events))
    reader.source.commit_async({("gone", 0): (5, -1, "")})
    with pytest.raises(Unreachable):
        reader.source.committed([("gone", 0)], timeout_s=0.5)
    begun = time.monotonic()
    reader.source.close(2.0)
    assert time.monotonic() - begun < 3.0
    with pytest.raises(Unreachable):
        Topics({"bootstrap.servers": broker.bootstrap}, timeout_s=0.5).topic("gone")
    with pytest.raises(Unreachable, match="0 of 1"):
        produce(broker.bootstrap, "gone", [Outgoing(0, b"x")], timeout_s=1)
