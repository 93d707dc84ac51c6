"""Errors of a fetch that pass by themselves, and one that does not: by librdkafka's mock cluster, which can be told
what to answer; a real broker cannot. What the client does with an answer is librdkafka's own code either way.
"""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from logflume.errors import Refused, Unreachable
from logflume.kafka import consumer, ranges
from logflume.kafka.events import PartitionError
from logflume.kafka.ranges import RangeReader
from logflume.kafka.static import StaticMember
from tests.kafka.reader import Reader, fill

FETCH = 1
#: rd_kafka_type_t
PRODUCER = 0
PASSING = ("UNKNOWN", "REQUEST_TIMED_OUT", "NETWORK_EXCEPTION")


class TellableBroker:
    """A mock cluster of this process, of one broker, that answers the next fetches as it is told."""

    def __init__(self) -> None:
        found = re.search(r"\S*librdkafka[^/\s]*\.so\S*", Path("/proc/self/maps").read_text())
        assert found is not None
        self._library = library = ctypes.CDLL(found[0])
        for name, takes, gives in (
            ("rd_kafka_conf_new", [], ctypes.c_void_p),
            ("rd_kafka_new", [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t], ctypes.c_void_p),
            ("rd_kafka_mock_cluster_new", [ctypes.c_void_p, ctypes.c_int], ctypes.c_void_p),
            ("rd_kafka_mock_cluster_bootstraps", [ctypes.c_void_p], ctypes.c_char_p),
            (
                "rd_kafka_mock_push_request_errors_array",
                [ctypes.c_void_p, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int)],
                None,
            ),
            ("rd_kafka_mock_cluster_destroy", [ctypes.c_void_p], None),
            ("rd_kafka_destroy", [ctypes.c_void_p], None),
        ):
            function = getattr(library, name)
            function.argtypes, function.restype = takes, gives
        said = ctypes.create_string_buffer(512)
        self._handle = library.rd_kafka_new(PRODUCER, library.rd_kafka_conf_new(), said, len(said))
        assert self._handle, said.value
        self._cluster = library.rd_kafka_mock_cluster_new(self._handle, 1)
        self.bootstrap = library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def answer_fetches(self, *codes: int) -> None:
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, FETCH, len(codes), (ctypes.c_int * len(codes))(*codes)
        )

    def close(self) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._handle)


@pytest.fixture
def broker() -> Iterator[TellableBroker]:
    running = TellableBroker()
    try:
        yield running
    finally:
        running.close()


def read_range(broker: TellableBroker) -> list[int]:
    read: list[int] = []
    with RangeReader({"bootstrap.servers": broker.bootstrap}, "topic", 0, 0, 50) as reader:
        while not reader.done:
            batch = reader.poll(1000)
            read += [] if batch is None else batch.offsets
    return read


@pytest.mark.parametrize("kind", ["auto", "python"])
def test_reading_goes_on_by_itself_after_errors_that_pass(broker: TellableBroker, kind: str) -> None:
    fill(broker.bootstrap, "topic", [50])
    broker.answer_fetches(*[getattr(KafkaError, code) for code in PASSING * 2])
    with Reader(broker.bootstrap, [], static=StaticMember(["topic"], 0, 1), starts=0, kind=kind) as reader:
        reader.until(lambda: len(reader.records.get(("topic", 0), [])) == 50)
        errors = [event for event in reader.events if isinstance(event, PartitionError)]
    assert reader.records["topic", 0] == list(range(50))
    seen = [(error.partition, error.code) for error in errors]
    assert len(seen) == len(set(seen))  # each once
    assert {code for _, code in seen} == set(PASSING)
    assert all(error.passes for error in errors)


@pytest.mark.parametrize("kind", ["auto", "python"])
def test_an_error_of_a_damaged_log_does_not_pass(broker: TellableBroker, kind: str) -> None:
    fill(broker.bootstrap, "topic", [50])
    broker.answer_fetches(KafkaError.INVALID_MSG)
    with Reader(broker.bootstrap, [], static=StaticMember(["topic"], 0, 1), starts=0, kind=kind) as reader:
        reader.until(lambda: reader.of(PartitionError))
        errors = [event for event in reader.events if isinstance(event, PartitionError)]
    assert {(error.code, error.passes) for error in errors} == {("INVALID_MSG", False)}


def test_an_error_that_does_not_pass_after_all_is_told(broker: TellableBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "PASSING_S", 1.0)
    monkeypatch.setattr(ranges, "SILENCE_S", 1.0)
    fill(broker.bootstrap, "topic", [50])
    broker.answer_fetches(*[KafkaError.UNKNOWN] * 100)
    with Reader(broker.bootstrap, [], static=StaticMember(["topic"], 0, 1), starts=0) as reader:
        reader.until(lambda: any(isinstance(one, PartitionError) and not one.passes for one in reader.events))
    assert reader.records == {}
    # of an idle partition nothing comes between two errors that pass, hours apart
    monkeypatch.setattr(consumer, "PAUSE_S", 0.0)
    with Reader(broker.bootstrap, [], static=StaticMember(["topic"], 0, 1), starts=0) as reader:
        reader.run(3)
        errors = [one for one in reader.events if isinstance(one, PartitionError)]
    assert errors
    assert all(one.passes for one in errors)
    with pytest.raises(Unreachable, match=r"nothing came in 1 s, but .*[Uu]nknown"):
        read_range(broker)


@pytest.mark.parametrize("kind", ["auto", "python"])
def test_rights_that_are_missing_are_told_after_each_start(broker: TellableBroker, kind: str) -> None:
    """librdkafka says it once, and a stopped partition is started again each half minute."""
    fill(broker.bootstrap, "topic", [50])
    denied = ("topic", 0), "TOPIC_AUTHORIZATION_FAILED", False

    def told(reader: Reader) -> int:
        errors = [((e.topic, e.partition), e.code, e.passes) for e in reader.events if isinstance(e, PartitionError)]
        return errors.count(denied)

    def more(reader: Reader, before: int) -> bool:
        return told(reader) > before

    broker.answer_fetches(*[KafkaError.TOPIC_AUTHORIZATION_FAILED] * 100)
    with Reader(broker.bootstrap, [], static=StaticMember(["topic"], 0, 1), kind=kind) as reader:
        reader.until(lambda: reader.owned)
        for _ in range(3):
            reader.source.start("topic", 0, 0)
            before = told(reader)
            reader.until(functools.partial(more, reader, before))
            reader.source.stop("topic", 0)


def test_a_range_is_read_to_its_end_through_errors_that_pass_and_not_through_others(broker: TellableBroker) -> None:
    fill(broker.bootstrap, "topic", [50])
    broker.answer_fetches(*[getattr(KafkaError, code) for code in PASSING])
    assert read_range(broker) == list(range(50))
    broker.answer_fetches(KafkaError.INVALID_MSG)
    with pytest.raises(Refused):
        read_range(broker)
