"""The embedded broker, and what of the seam can be shown on it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from logflume.errors import Unreachable
from logflume.kafka.embedded import GROUP_OPTIONS, EmbeddedBroker, Outgoing, produce
from logflume.kafka.events import Assigned, ClientError
from logflume.kafka.static import StaticMember
from logflume.kafka.topics import MOCK_TOPIC_ID, Topics
from tests.kafka.reader import Reader, fill, until


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


def test_records_come_as_columns_with_time_key_and_position(broker: EmbeddedBroker) -> None:
    sent = [Outgoing(1, b"a", 1000, b"k"), Outgoing(1, None, 2000), Outgoing(1, b"", 3000)]
    assert produce(broker.bootstrap, "columns", sent) == 3
    with Reader(broker.bootstrap, ["columns"], options=GROUP_OPTIONS) as reader:
        reader.until(lambda: ("columns", 1) in reader.owned)
        reader.source.start("columns", 1, 0)
        reader.until(lambda: reader.ends)
        (batch,) = reader.batches
        assert (batch.topic, batch.partition) == ("columns", 1)
        assert batch.values == [b"a", None, b""]
        assert batch.offsets == [0, 1, 2]
        assert batch.kafka_times == [1000, 2000, 3000]
        assert batch.next_offset == 3
        assert batch.envelopes[0].key() == b"k"
        assert batch.envelopes[0].timestamp() == (1, 1000)
        assert reader.ends == {("columns", 1): 3}
        assert reader.source.positions == {("columns", 1): 3}
        assert reader.source.high_watermark("columns", 1) == 3


def test_nothing_is_read_of_a_partition_that_was_not_started(broker: EmbeddedBroker) -> None:
    fill(broker.bootstrap, "held", [10, 10, 10, 10])
    with Reader(broker.bootstrap, ["held"], options=GROUP_OPTIONS) as reader:
        reader.until(lambda: len(reader.owned) == 4)
        reader.source.start("held", 2, 7)
        reader.run(1.5)
        assert reader.records == {("held", 2): [7, 8, 9]}
        assert reader.ends == {("held", 2): 10}
        with pytest.raises(ValueError, match="not assigned"):
            reader.source.start("other", 0, 0)


def test_a_stopped_partition_is_silent_and_starts_anew_at_any_offset(
    broker: EmbeddedBroker,
) -> None:
    fill(broker.bootstrap, "stopping", [10])
    with Reader(broker.bootstrap, ["stopping"], options=GROUP_OPTIONS) as reader:
        reader.until(lambda: len(reader.owned) == 4)
        reader.source.start("stopping", 0, 5)
        reader.until(lambda: reader.ends)
        reader.source.stop("stopping", 0)
        fill(broker.bootstrap, "stopping", [10])
        reader.run(1.0)
        assert reader.records == {("stopping", 0): [5, 6, 7, 8, 9]}
        assert reader.source.positions == {}
        reader.source.start("stopping", 0, 3)
        reader.until(lambda: reader.ends == {("stopping", 0): 20})
        assert reader.records == {("stopping", 0): [5, 6, 7, 8, 9, *range(3, 20)]}


def test_pausing_loses_and_repeats_nothing(broker: EmbeddedBroker) -> None:
    fill(broker.bootstrap, "pausing", [5000])
    with Reader(broker.bootstrap, ["pausing"], options=GROUP_OPTIONS) as reader:
        part = ("pausing", 0)
        reader.until(lambda: part in reader.owned)
        reader.source.start(*part, 0)
        for _ in range(5):
            while not any(hasattr(item, "values") for item in reader.source.poll(0.2, 100)):
                pass
            reader.source.pause([part])
            held = reader.source.positions[part]
            reader.run(0.3)
            assert reader.source.positions[part] == held
            reader.source.resume([part])
        seen = reader.source.positions[part]
        reader.until(lambda: reader.ends == {part: 5000})
        assert reader.records[part] == list(range(seen, 5000))


def test_an_exception_out_of_consume_loses_nothing(broker: EmbeddedBroker) -> None:
    """A signal handler that raises ends consume() after records were taken: they are read again."""
    fill(broker.bootstrap, "raising", [1000, 1000])

    class Interrupted(Exception):
        pass

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with Reader(broker.bootstrap, ["raising"], options=GROUP_OPTIONS) as reader:
            reader.until(lambda: len(reader.owned) == 4)
            for partition in (0, 1):
                reader.source.start("raising", partition, 10)
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(Interrupted):
                reader.run(5)
            reader.until(lambda: len(reader.ends) == 2)
            assert reader.records == {("raising", p): list(range(10, 1000)) for p in (0, 1)}
    finally:
        signal.signal(signal.SIGALRM, before)


def test_static_members_share_all_partitions_without_a_group(broker: EmbeddedBroker) -> None:
    fill(broker.bootstrap, "shared-one", [5, 5, 5, 5])
    fill(broker.bootstrap, "shared-two", [5, 5, 5, 5])
    seen: list[tuple[str, int]] = []
    for index in range(3):
        member = StaticMember(["^shared-.*"], index, 3)
        with Reader(broker.bootstrap, [], static=member, starts=0) as reader:
            until([reader], partial(reader.of, Assigned))
            reader.run(1.0)
            assert all(offsets == [0, 1, 2, 3, 4] for offsets in reader.records.values())
            seen += reader.records
    assert sorted(seen) == [(f"shared-{name}", p) for name in ("one", "two") for p in range(4)]


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
