"""``Topics``: questions about topics, answered within a deadline; usable from any thread."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import TypeVar

from confluent_kafka import IsolationLevel, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # imported there, not declared as exported
    AdminClient,
    ConfigResource,
    OffsetSpec,
)

from logflume.errors import ConfigError, LogflumeError, Unreachable
from logflume.kafka import options
from logflume.kafka.client_log import CLIENT_LOG
from logflume.kafka.events import TopicPart
from logflume.kafka.failures import UnknownTopic, error_of, translate
from logflume.kafka.names import Wanted

Answer = TypeVar("Answer")

_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # not annotated there
_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]

# librdkafka's mock broker (see ``embedded``) has no topic ids and says so by a time-out. It alone names
# its cluster this way; a real cluster id is a base64 UUID of 22 characters.
MOCK_CLUSTER = "mockCluster"
MOCK_TOPIC_ID = "mock"


_NO_LATER = -1  # the answer to a look-up by time that finds no record

# librdkafka ends a request by itself; this much later the future is given up as well.
GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the brokers know it now; a re-created one has another ``topic_id``, safe in paths (K10)."""

    name: str
    topic_id: str
    partitions: list[int]


class Topics:
    """Every call raises ``Unreachable``, ``Refused`` or ``UnknownTopic`` within about ``timeout_s``; making it raises
    ConfigError for options that the client does not take.
    """

    def __init__(self, settings: options.Options, *, timeout_s: float = 10.0) -> None:
        try:
            self._client = AdminClient(options.for_admin(settings), logger=CLIENT_LOG)
        except KafkaException as failure:
            # such as a file of certificates that cannot be read
            raise ConfigError([f"[kafka]: {error_of(failure).str()}"]) from failure
        self._timeout_s = timeout_s

    def topic(self, name: str) -> Topic:
        found = self.topics([name])
        if name not in found:
            raise UnknownTopic(f"look up topic {name}: the brokers do not know it")
        return found[name]

    def topics(self, names: Iterable[str]) -> dict[str, Topic]:
        """Those of ``names`` that exist, in one request.

        librdkafka reads on in a re-created topic as if it were the old one (measured: static assignment,
        and classic groups that do not notice the moment without it). So whoever decides what was read
        asks for the topic id again, after reading and before deciding (K10).
        """
        wanted = list(names)
        if self._is_mock():
            return {name: self._mock_topic(name) for name in wanted}
        if not wanted:
            return {}
        asked = self._now(
            "look up topics",
            lambda: self._client.describe_topics(TopicCollection(wanted), request_timeout=self._timeout_s),
        )
        found = {}
        for name, future in asked.items():
            try:
                known = self._result(f"look up topic {name}", future)
            except UnknownTopic:
                continue
            except Unreachable:
                self._forget_controller()
                raise
            found[name] = Topic(name, _path_safe(str(known.topic_id)), sorted(p.id for p in known.partitions))
        return found

    def _forget_controller(self) -> None:
        """Have the client ask any broker who is there; the next question finds its way (K16).

        librdkafka sends this one to what the last metadata named as controller, waits for that broker alone, and
        refreshes metadata every five minutes. With the broker down, nothing could be decided until then.
        """
        with contextlib.suppress(KafkaException):  # nobody answers at all: the caller raises that
            self._client.list_topics(timeout=self._timeout_s / 2)

    def _mock_topic(self, name: str) -> Topic:
        known = self._now(f"look up topic {name}", lambda: self._client.list_topics(name, timeout=self._timeout_s))
        return Topic(name, MOCK_TOPIC_ID, sorted(known.topics[name].partitions))

    def list_topics(self, patterns: Sequence[str]) -> list[str]:
        """Existing topics that are named, or match a pattern ("^…"); Kafka's own only by name."""
        known = self._now("list topics", lambda: self._client.list_topics(timeout=self._timeout_s))
        wanted = Wanted(patterns)
        return sorted(topic for topic in known.topics if topic in wanted)

    def has_append_time(self, name: str) -> bool:
        """Whether the broker stamps the topic's records (``message.timestamp.type=LogAppendTime``)."""
        what = f"read the configuration of topic {name}"
        resource = ConfigResource(ConfigResource.Type.TOPIC, name)
        asked = self._now(
            what,
            lambda: self._client.describe_configs([resource], request_timeout=self._timeout_s),
        )
        entries = self._result(what, asked[resource])
        return bool(entries["message.timestamp.type"].value == "LogAppendTime")

    def start_offsets(self, parts: Iterable[TopicPart]) -> dict[TopicPart, int]:
        return _whole(self.each_start_offset(parts))

    def end_offsets(self, parts: Iterable[TopicPart], *, read_committed: bool = True) -> dict[TopicPart, int]:
        """The offset after the last record; with ``read_committed``, before the first open transaction."""
        return _whole(self.each_end_offset(parts, read_committed=read_committed))

    def each_start_offset(self, parts: Iterable[TopicPart]) -> dict[TopicPart, int | LogflumeError]:
        """In one request; one that has no leader does not keep the others' answers back."""
        return self._offsets("read start offsets", parts, _EARLIEST, committed=True)

    def each_end_offset(
        self, parts: Iterable[TopicPart], *, read_committed: bool = True
    ) -> dict[TopicPart, int | LogflumeError]:
        """The same for the ends."""
        return self._offsets("read end offsets", parts, _LATEST, committed=read_committed)

    def bounds(
        self, parts: Iterable[TopicPart], *, read_committed: bool = True
    ) -> tuple[dict[TopicPart, tuple[int, int]], dict[TopicPart, LogflumeError]]:
        """First offset and end of each partition; and of those for which Kafka does not tell both, why."""
        starts = self.each_start_offset(parts := list(parts))
        ends = self.each_end_offset(parts, read_committed=read_committed)
        known, silent = dict[TopicPart, tuple[int, int]](), dict[TopicPart, LogflumeError]()
        for part in parts:
            start, end = starts[part], ends[part]
            if isinstance(start, LogflumeError):
                silent[part] = start
            elif isinstance(end, LogflumeError):
                silent[part] = end
            else:
                known[part] = start, end
        return known, silent

    def offsets_for_time(self, parts: Iterable[TopicPart], time_ms: int) -> dict[TopicPart, int | None]:
        """The first offset with a Kafka time of ``time_ms`` or later; None where there is none."""
        spec = OffsetSpec.for_timestamp(time_ms)
        found = _whole(self._offsets("read offsets by time", parts, spec, committed=True, lowest=_NO_LATER))
        return {part: None if offset == _NO_LATER else offset for part, offset in found.items()}

    def _offsets(
        self, what: str, parts: Iterable[TopicPart], spec: OffsetSpec, *, committed: bool, lowest: int = 0
    ) -> dict[TopicPart, int | LogflumeError]:
        level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        wanted = {TopicPartition(*part): spec for part in parts}
        if not wanted:
            return {}
        asked = self._now(
            what,
            lambda: self._client.list_offsets(wanted, isolation_level=level, request_timeout=self._timeout_s),
        )
        found: dict[TopicPart, int | LogflumeError] = {}
        for part, future in asked.items():
            one = f"{what} of {part.topic}/{part.partition}"
            try:
                offset = self._result(one, future).offset
            except LogflumeError as error:
                found[part.topic, part.partition] = error
                continue
            # librdkafka answers a time-out with -1001 and no error (measured).
            answer = Unreachable(f"{one}: no answer") if offset < lowest else offset
            found[part.topic, part.partition] = answer
        return found

    def _is_mock(self) -> bool:
        cluster = self._now("read the cluster's id", lambda: self._client.cluster_id(timeout=self._timeout_s))
        return cluster.startswith(MOCK_CLUSTER)

    def _now(self, what: str, call: Callable[[], Answer]) -> Answer:
        try:
            return call()
        except KafkaException as failure:
            raise translate(error_of(failure), what) from failure

    def _result(self, what: str, future: Future[Answer]) -> Answer:
        try:
            return future.result(self._timeout_s + GRACE_S)
        except KafkaException as failure:
            raise translate(error_of(failure), what) from failure
        except FutureTimeout as failure:
            raise Unreachable(f"{what}: no answer in {self._timeout_s:g} s") from failure


def _whole(found: dict[TopicPart, int | LogflumeError]) -> dict[TopicPart, int]:
    """Raises the first error there is."""
    good = {}
    for part, answer in found.items():
        if isinstance(answer, LogflumeError):
            raise answer
        good[part] = answer
    return good


def _path_safe(topic_id: str) -> str:
    """The id as Kafka's own tools print it; the client's base64 has "+" and "/", and ids become folders."""
    return topic_id.replace("+", "-").replace("/", "_")
