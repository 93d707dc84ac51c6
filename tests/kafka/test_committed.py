"""Questions for the group's committed offsets, which wait on the thread that polls."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from logflume.errors import LogflumeError, Unreachable
from logflume.kafka import consumer
from logflume.kafka.consumer import Source
from logflume.kafka.static import StaticMember

PARTS = [("app", partition) for partition in range(24)]


class Group:
    """A client's ``committed``: what each call is to come to."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = [*answers], 0

    def committed(self, parts: list[TopicPartition], timeout: float) -> Any:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, KafkaException):
            raise answer
        return [
            SimpleNamespace(
                topic=part.topic, partition=part.partition, offset=7, leader_epoch=0, metadata="", error=answer
            )
            for part in parts
        ]


SILENCE = KafkaException(KafkaError(KafkaError._TIMED_OUT))


@pytest.fixture
def source() -> Iterator[Source]:
    """Of brokers that are not there."""
    made = Source({"bootstrap.servers": "127.0.0.1:1", "group.id": "g"}, [], static=StaticMember(["app"], 0, 1))
    yield made
    made.close(10)


def test_a_group_that_does_not_answer_is_waited_for_once_and_not_for_each_partition(source: Source) -> None:
    """K16. With 5 s for each of 24 the worker was killed as if it hung."""
    begun = time.monotonic()
    for part in PARTS:
        with pytest.raises(Unreachable, match="read committed offsets"):
            source.committed([part], 0.5)
    assert time.monotonic() - begun < 2


def test_after_a_while_the_group_is_asked_again(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    group: Any = Group(SILENCE, None, None)
    monkeypatch.setattr(source, "_client", group)
    for _ in range(3):
        with pytest.raises(Unreachable):
            source.committed(PARTS[:1], 5)
    assert group.asked == 1
    monkeypatch.setattr(consumer, "UNANSWERED_S", 0.0)
    assert source.committed(PARTS[:1], 5) == {PARTS[0]: (7, 0, "")}
    # an answer is for the one who asked: what the ledger is held against must not be older than the question
    assert source.committed(PARTS[:1], 5) == {PARTS[0]: (7, 0, "")}
    assert group.asked == 3


def test_what_fails_for_one_partition_is_no_answer_for_another(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could keep the others from ever being claimed."""
    group: Any = Group(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART), None)
    monkeypatch.setattr(source, "_client", group)
    with pytest.raises(LogflumeError):
        source.committed(PARTS[:1], 5)
    assert source.committed(PARTS[1:2], 5) == {PARTS[1]: (7, 0, "")}


@pytest.fixture(autouse=True)
def _the_real_client_closes(source: Source) -> Iterator[None]:
    """The fixture's own client, not a test's stand-in."""
    client = source._client
    yield
    source._client = client
