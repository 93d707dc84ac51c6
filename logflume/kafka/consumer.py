"""``Source``: one Kafka consumer, owned by one thread, that reads only what it was told to start.

How a partition is held back until its ledger is claimed (measured on Kafka 4.1.0, both protocols, see
tests/kafka/test_groups.py): librdkafka keeps the group's assignment apart from the partitions it
fetches. ``incremental_assign([])`` inside the assign callback answers the coordinator without fetching
anything; the member owns the partition, heartbeats for it, and may start it minutes later, from outside
the callback, at an exact offset. No pause and no seek is needed, and nothing is fetched in vain.

librdkafka would also fetch a partition that is *not* owned, hence the check in ``start``.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from logflume.errors import ConfigError, Unreachable
from logflume.kafka import batches, native, options
from logflume.kafka.client_log import CLIENT_LOG, Seldom
from logflume.kafka.events import (
    Assigned,
    ClientError,
    CommitResult,
    EndOfPartition,
    Event,
    Lost,
    PartitionError,
    Revoked,
    TopicPart,
)
from logflume.kafka.failures import error_of, passes, translate
from logflume.kafka.static import StaticMember
from logflume.log import get
from logflume.model import Batch

log = get(__name__)

# consume() holds back every other call on the consumer, and waits all of it unless the batch is full.
MAX_WAIT_S = 0.2
# With the reader in C, what is read from the client beside it: errors, of which there are few.
ERRORS = 100
# A question for committed offsets that nobody answers holds up the owner's thread for its whole time-out. With two
# dozen partitions to be claimed again, one after the other, a worker was killed as if it hung; so the next must wait.
UNANSWERED_S = 10.0
# An error of a fetch that passes has passed by then, or a person has to hear of it. A fetch is tried again within
# seconds, and of an idle partition nothing else comes when it has passed: so a pause ends it, too.
PASSING_S = 300.0
PAUSE_S = 60.0
# How long an earlier assignment of the same partition may take to end; it normally has. And while a commit is not
# answered, librdkafka begins no partition at all (rd_kafka_assignment_serve): then the next starts do not wait again.
RELEASE_S = 2.0

# Kafka's limit is 4,096, but the binding sends the closing NUL of its C string too (other clients see it).
METADATA_BYTES = 4095

_BUSY = (KafkaError._STATE, KafkaError._PREV_IN_PROGRESS)
_TOPIC_MISSING = "Subscribed topic not available"

Handler = Callable[[list[TopicPart]], None]


def _ignore(parts: list[TopicPart]) -> None:
    """A handler for owners that hold nothing worth finishing."""


class Source:
    """Batches and events of the partitions that this member owns and has started.

    Every call comes from one thread. ``on_revoke`` and ``on_lost`` are called inside ``poll``, before the
    partitions are given up: ``on_revoke`` may take seconds to finish what was handed over, within
    ``max.poll.interval.ms``; neither may call ``poll`` or ``start``. What they raise, the next ``poll``
    raises, after the records of this one were handed over. ``reader`` is as in the configuration; what came of
    ``auto`` is the attribute ``reader``. Raises ConfigError for options that librdkafka refuses.
    """

    def __init__(
        self,
        settings: options.Options,
        topics: Sequence[str],
        *,
        static: StaticMember | None = None,
        on_revoke: Handler = _ignore,
        on_lost: Handler = _ignore,
        reader: str = "auto",
    ) -> None:
        self.reader = native.choose(reader)
        self._owned: set[TopicPart] = set()
        self._assigned: set[TopicPart] = set()  # what librdkafka has: started, and not given up yet
        self._positions: dict[TopicPart, int] = {}  # the live ones: assigned, and not stopped
        self._paused: set[TopicPart] = set()
        self._topics: set[str] = set()
        self._out: list[Batch | Event] = []
        self._raised: BaseException | None = None
        self._closing = False
        self._unanswered: tuple[float, KafkaError] | None = None  # when committed() failed last, and how
        self._unreleased = -math.inf  # when a start has waited in vain
        self._seldom = Seldom()
        self._erring: dict[TopicPart, tuple[float, float]] = {}  # since when, and when last
        self._on_revoke, self._on_lost = on_revoke, on_lost
        self._static = static
        try:
            self._client = Consumer(
                {
                    **options.for_consumer(settings),
                    **(native.options() if self.reader == "native" else {}),
                    "error_cb": self._client_failed,
                    "on_commit": self._commit_done,
                },
                logger=CLIENT_LOG,
            )
            self._queue = native.Queue(self._client) if self.reader == "native" else None
            if static is None:
                self._client.subscribe(
                    list(topics),
                    on_assign=self._assign_called,
                    on_revoke=self._revoke_called,
                    on_lost=self._lost_called,
                )
        except KafkaException as failure:
            raise ConfigError([f"[kafka]: {error_of(failure).str()}"]) from failure

    # Reading

    def poll(self, timeout_s: float, max_records: int) -> list[Batch | Event]:
        """What came within ``timeout_s`` (at most 0.2 s): batches and events, in order per partition.

        A batch's ``next_offset`` is its last offset + 1; markers behind it show in ``EndOfPartition``.
        """
        if self._raised is not None:
            raised, self._raised = self._raised, None
            raise raised
        if self._static is not None and (found := self._static.discover(self._client, self._out)):
            self._owned.update(found)
            self._out.append(Assigned(found))
        try:
            self._read(min(timeout_s, MAX_WAIT_S), max_records)
        except BaseException as failure:
            # librdkafka's position has moved past records that nobody got: take them again.
            self._rewind()
            if not isinstance(failure, KafkaException):
                raise
            self._client_failed(error_of(failure))
        out, self._out = self._out, []
        return out

    def _read(self, timeout_s: float, max_records: int) -> None:
        if self._queue is None:
            self._sort(self._client.consume(max_records, timeout_s))
            return
        # This serves the callbacks, and brings errors of no partition.
        self._sort(self._client.consume(ERRORS, 0))
        for item in self._queue.take(max_records, timeout_s):
            if isinstance(item, Batch):
                self._hand_over(item)
            else:
                self._error_read(*item)

    def _sort(self, messages: list[Message]) -> None:
        """Batches and error events out of one list of messages, in its order."""
        errors = list(map(Message.error, messages))
        if not any(errors):  # not errors.count(None): comparing a KafkaError with None raises
            self._split(messages)
            return
        start = 0
        for index, error in enumerate(errors):
            if error is not None:
                self._split(messages[start:index])
                self._error_read(batches.key(messages[index]), messages[index].offset() or 0, error)
                start = index + 1
        self._split(messages[start:])

    def _split(self, messages: list[Message]) -> None:
        if messages:
            for part, records in batches.groups(messages, one_topic=len(self._topics) == 1):
                for written in batches.by_leader(records):
                    self._hand_over(batches.batch(part, written))

    def _hand_over(self, read: Batch) -> None:
        part = read.topic, read.partition
        position = self._positions.get(part)
        if position is None:
            return  # read before a revoke in this same call, or stopped
        if self._erring:
            self._erring.pop(part, None)
        made = batches.fresh(read, position)
        if made is not read:  # the client delivered again what it had delivered (K14)
            repeated = len(read.offsets) - (0 if made is None else len(made.offsets))
            log.warning("repeated records dropped", topic=part[0], partition=part[1], records=repeated)
        if made is not None:
            self._positions[part] = made.next_offset
            self._out.append(made)

    def _error_read(self, part: TopicPart, offset: int, error: KafkaError) -> None:
        if not part[0]:
            self._client_failed(error)
        elif error.str().startswith(_TOPIC_MISSING):
            # Classic groups only, and with 0 for a partition; with KIP-848 nothing is said at all.
            self._out.append(PartitionError(part[0], -1, error.name(), error.str(), passes(error)))
        elif part not in self._positions:
            return  # of a partition that was given up or stopped
        elif error.code() == KafkaError._PARTITION_EOF:
            offset = max(self._positions[part], offset)
            self._positions[part] = offset
            self._erring.pop(part, None)
            self._out.append(EndOfPartition(*part, offset))
        else:
            now = time.monotonic()
            since, last = self._erring.get(part, (now, now))
            since = since if now - last < PAUSE_S else now
            self._erring[part] = since, now
            passing = passes(error) and now - since < PASSING_S
            if not passing or self._seldom.passes(f"{part[0]}/{part[1]} {error.name()}"):
                self._out.append(PartitionError(*part, error.name(), error.str(), passing))

    def _rewind(self) -> None:
        """Fetch every live partition again from the position of what was handed over."""
        live = [TopicPartition(*part, offset) for part, offset in self._positions.items()]
        self._client.incremental_unassign(live)
        self._follow(self._positions)
        self._client.incremental_assign(live)
        self._client.pause([TopicPartition(*part) for part in self._paused])

    # Partitions

    def start(self, topic: str, partition: int, offset: int, leader_epoch: int = -1) -> None:
        """Read an owned partition from ``offset``; again, if it was started before.

        With the leader epoch of the record before ``offset`` the broker is asked whether the log was
        truncated below it, and a ``PartitionError`` tells (K9).
        """
        part = (topic, partition)
        if part not in self._owned:
            raise ValueError(f"{topic}/{partition} is not assigned to this member")
        here = TopicPartition(topic, partition, offset, leader_epoch=leader_epoch)
        try:
            if part in self._assigned:
                # What stop() avoids may happen here: where the callback of a rebalance waits in the queue, this counts
                # as its answer, and the next owner may claim while ours still decides. The ledger fences one of them.
                self._forget([part])
                self._client.incremental_unassign([here])
            self._follow([part])
            self._client.incremental_assign([here])
            self._assigned.add(part)
            self._topics.add(topic)
            # A pause outlives the assignment, whether of stop() or from before a rebalance.
            self._client.resume([here])
            if leader_epoch >= 0:
                self._validate(here)
        except KafkaException as failure:
            error = error_of(failure)
            if part in self._assigned:
                # It may begin later, and nobody would be there to take its records.
                self._client.pause([here])
            if error.code() in _BUSY:
                raise Unreachable(
                    f"start reading {topic}/{partition}: the client does not begin it ({error.name()})",
                    hint="it waits for an answer to a commit; it is tried again by itself",
                ) from failure
            raise translate(error, f"start reading {topic}/{partition}") from failure
        self._positions[part] = offset

    def _validate(self, here: TopicPartition) -> None:
        """Have the broker compare the epoch, which librdkafka does for a seek and not for an assign.

        What was fetched between the two is dropped. A partition that is only just being let go from an
        earlier assignment cannot be sought for some milliseconds.
        """
        began = time.monotonic()
        patience_s = RELEASE_S if began - self._unreleased > UNANSWERED_S else 0.0
        while True:
            try:
                self._client.seek(here)
                return
            except KafkaException as failure:
                if error_of(failure).code() not in _BUSY:
                    raise
                if time.monotonic() - began >= patience_s:
                    self._unreleased = began
                    raise
            time.sleep(0.01)

    def _follow(self, parts: Iterable[TopicPart]) -> None:
        if self._queue is not None:
            for part in parts:
                self._queue.follow(part)

    def stop(self, topic: str, partition: int) -> None:
        """Read no more of a partition, and stay its owner. ``start`` begins anew.

        Paused, not unassigned: an unassign that meets a rebalance whose callback still waits in the queue
        would count as the answer to it, and give partitions away before ``on_revoke``.
        """
        part = (topic, partition)
        if self._positions.pop(part, None) is not None:
            self._client.pause([TopicPartition(topic, partition)])
            self._paused.discard(part)

    def pause(self, parts: Iterable[TopicPart]) -> None:
        """Hold partitions back. It throws away what was prefetched, so do it rarely, with hysteresis."""
        fresh = [part for part in parts if part in self._positions and part not in self._paused]
        if fresh:
            self._client.pause([TopicPartition(*part) for part in fresh])
            self._paused.update(fresh)

    def resume(self, parts: Iterable[TopicPart]) -> None:
        held = [part for part in parts if part in self._paused]
        if held:
            self._client.resume([TopicPartition(*part) for part in held])
            self._paused.difference_update(held)

    @property
    def owned(self) -> frozenset[TopicPart]:
        return frozenset(self._owned)

    @property
    def positions(self) -> Mapping[TopicPart, int]:
        """Per live partition the offset after all that was handed over."""
        return self._positions

    def high_watermark(self, topic: str, partition: int) -> int | None:
        """The end of the log as of the last fetch, without asking the broker; None if not yet known."""
        _, high = self._client.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
        return high if high >= 0 else None

    # Offsets at the broker: hints, never the truth

    def commit_async(self, offsets: Mapping[TopicPart, tuple[int, int, str]]) -> None:
        """Commit offset, leader epoch (-1 unknown) and metadata of each partition.

        Never raises for what the broker says: a later ``poll`` hands over a ``CommitResult``.
        """
        for part, (_, _, metadata) in offsets.items():
            if len(metadata.encode()) > METADATA_BYTES:
                raise ValueError(f"metadata of {part[0]}/{part[1]} is longer than {METADATA_BYTES} bytes")
        wanted = [TopicPartition(*part, offset, metadata, epoch) for part, (offset, epoch, metadata) in offsets.items()]
        try:
            self._client.commit(offsets=wanted, asynchronous=True)
        except KafkaException as failure:
            self._commit_done(error_of(failure), wanted)

    def committed(self, parts: Iterable[TopicPart], timeout_s: float) -> dict[TopicPart, tuple[int, int, str]]:
        """Committed offset, leader epoch and metadata of those partitions that have one.

        Where the group did not answer at all, the next ``UNANSWERED_S`` have that for an answer. Nothing else is kept:
        what is true was asked for after the question came, and what fails for one partition says nothing about others.
        """
        what = "read committed offsets"
        if self._unanswered is not None and time.monotonic() < self._unanswered[0] + UNANSWERED_S:
            raise translate(self._unanswered[1], what)
        try:
            asked = [TopicPartition(*part) for part in parts]
            answers = self._client.committed(asked, timeout=timeout_s)
        except KafkaException as failure:
            self._unanswered = time.monotonic(), error_of(failure)
            raise translate(error_of(failure), what) from failure
        self._unanswered = None
        found = {}
        for answer in answers:
            if answer.error is not None:
                raise translate(answer.error, f"{what} of {answer.topic}/{answer.partition}")
            if answer.offset >= 0:
                epoch = answer.leader_epoch
                found[answer.topic, answer.partition] = (
                    answer.offset,
                    -1 if epoch is None else epoch,
                    answer.metadata or "",
                )
        return found

    def close(self, timeout_s: float) -> bool:
        """Leave the group; False if that took longer, in which case the process should end.

        Gives everything up without calling ``on_revoke``: finish first. librdkafka's own close takes as
        long as a commit that is under way, measured with the brokers gone: 45 s with KIP-848, 5 to 7 s in
        classic groups, else none. So it runs in a thread that may be left behind.
        """
        self._closing = True
        if self._queue is not None:
            self._queue.close()
        closer = threading.Thread(target=self._client.close, name="kafka-close", daemon=True)
        closer.start()
        closer.join(timeout_s)
        return not closer.is_alive()

    # Callbacks, inside consume(). One that raises would destroy the records of that call.

    def _assign_called(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        parts = [(p.topic, p.partition) for p in partitions]
        client.incremental_assign([])
        self._owned.update(parts)
        # also an empty one: the group has answered, and there may be fewer partitions than members
        self._out.append(Assigned(parts))

    def _revoke_called(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        parts = self._give_up(client, partitions, self._on_revoke)
        self._out.append(Revoked(parts))

    def _lost_called(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        parts = self._give_up(client, partitions, self._on_lost)
        self._out.append(Lost(parts))

    def _give_up(self, client: Consumer, partitions: list[TopicPartition], handler: Handler) -> list[TopicPart]:
        parts = [(p.topic, p.partition) for p in partitions]
        try:
            if not self._closing:
                handler(parts)
        except BaseException as failure:  # raised in a callback it would destroy the batch that is being read
            log.exception("giving up partitions failed", partitions=parts)
            self._raised = failure
        # Only what was started is in librdkafka's assignment; an empty list still answers the group.
        client.incremental_unassign([TopicPartition(*part) for part in parts if part in self._assigned])
        self._forget(parts)
        self._owned.difference_update(parts)
        for part in parts:
            self._erring.pop(part, None)
        return parts

    def _forget(self, parts: Iterable[TopicPart]) -> None:
        for part in parts:
            if self._queue is not None:
                self._queue.forget(part)
            self._assigned.discard(part)
            self._paused.discard(part)
            self._positions.pop(part, None)
        self._topics = {topic for topic, _ in self._assigned}

    def _client_failed(self, error: KafkaError) -> None:
        if error.fatal() or self._seldom.passes(error.name()):
            self._out.append(ClientError(error.name(), error.str(), error.fatal()))

    def _commit_done(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        offsets = {(p.topic, p.partition): p.offset for p in partitions}
        self._out.append(CommitResult(offsets, "" if error is None else error.name()))
