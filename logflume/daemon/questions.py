"""What slots ask the brokers, from many threads at once, with few requests.

librdkafka asks for the topic's metadata before it asks for offsets, and both it and a description of the topic are as
long as the topic has partitions: with a thousand of them, one question each is a million lines. Measured: 200 claims
of one topic took 2.2 to 2.5 s of processor time that way, and take 1.3 to 1.4 s with shared questions.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from logflume.errors import LogflumeError, Stopped
from logflume.kafka.events import TopicPart
from logflume.kafka.topics import Topic, Topics

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(slots=True)
class _Round(Generic[Key, Value]):
    keys: dict[Key, None] = field(default_factory=dict)
    found: Mapping[Key, Value | LogflumeError] | LogflumeError | None = None


class Together(Generic[Key, Value]):
    """Questions that come while a request is on its way wait, and go together in the next one.

    So every answer was asked for after its question came, as if each had been asked alone.
    """

    def __init__(self, ask: Callable[[list[Key]], Mapping[Key, Value | LogflumeError]]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # held while a request is on its way
        self._next: _Round[Key, Value] | None = None

    def one(self, key: Key) -> Value:
        """The answer for one key; raises the LogflumeError that is its answer, or that the whole request came to."""
        with self._lock:
            if self._next is None:
                self._next = _Round()
            mine = self._next
            mine.keys[key] = None
        with self._turn:
            if mine.found is None:
                with self._lock:
                    self._next = None
                try:
                    mine.found = self._ask(list(mine.keys))
                except LogflumeError as error:
                    mine.found = error
        answer = mine.found if isinstance(mine.found, LogflumeError) else mine.found[key]
        if isinstance(answer, LogflumeError):
            raise answer
        return answer


class Questions:
    """Every call raises LogflumeError as ``Topics`` does, within about twice its time."""

    def __init__(self, topics: Topics, *, read_committed: bool = True) -> None:
        self._topics = topics
        self._locks: dict[str, threading.Lock] = {}
        self._known: dict[str, tuple[float, Topic | LogflumeError]] = {}
        self._starts: Together[TopicPart, int] = Together(topics.each_start_offset)
        self._ends: Together[TopicPart, int] = Together(
            lambda parts: topics.each_end_offset(parts, read_committed=read_committed)
        )
        self._last: Together[TopicPart, int] = Together(
            lambda parts: topics.each_end_offset(parts, read_committed=False)
        )

    def topic(self, name: str, since: float) -> Topic:
        """The topic as the brokers knew it after ``since`` (monotonic)."""
        with self._locks.setdefault(name, threading.Lock()):
            asked, found = self._known.get(name, (-1.0, None))
            if found is None or asked < since:
                asked = time.monotonic()
                try:
                    found = self._topics.topic(name)
                except LogflumeError as error:
                    # For all that wait: each asking brokers that are away in its turn, the last of them would be
                    # taken for a call that hangs.
                    found = error
                self._known[name] = (asked, found)
        if isinstance(found, LogflumeError):
            raise found
        return found

    def confirm(self, topic: str, topic_id: str, since: float) -> None:
        """Raises Stopped when the topic has another id than that of the records that were read (K10)."""
        found = self.topic(topic, since).topic_id
        if found != topic_id:
            raise Stopped(
                f"topic {topic} was deleted and re-created: its id was {topic_id} and is {found}",
                hint="records that were not yet decided are gone with the old topic; "
                f"to go on with the new one: logflume reconcile --accept-topic {topic} --reason TEXT -c CONFIG",
            )

    def start(self, part: TopicPart) -> int:
        """The partition's first offset."""
        return self._starts.one(part)

    def end(self, part: TopicPart) -> int:
        """The offset after the last record that is to be read: with read_committed, before an open transaction."""
        return self._ends.one(part)

    def last(self, part: TopicPart) -> int:
        """The offset after the last record, open transactions included."""
        return self._last.one(part)
