"""A bounded stretch of one partition, read by assignment: no group is joined, and nothing is committed."""

from __future__ import annotations

import time
from bisect import bisect_left
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from logflume.errors import Stopped, Unreachable
from logflume.kafka import batches, options
from logflume.kafka.client_log import CLIENT_LOG
from logflume.kafka.consumer import MAX_WAIT_S
from logflume.kafka.failures import error_of, passes_alone, translate
from logflume.model import Batch

#: seconds without a record, an end or an answer after which the brokers are given up
SILENCE_S = 60.0
_LOST = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION}


class RangeReader:
    """The records of [start, end), as batches. ``position`` is past all that was handed over, and past markers.

    ``with RangeReader(…) as reader: while not reader.done: batch = reader.poll(…)``
    """

    def __init__(self, settings: options.Options, topic: str, partition: int, start: int, end: int) -> None:
        self.topic, self.partition, self.end = topic, partition, end
        self.position = start
        self._heard, self._said = time.monotonic(), ""
        try:
            self._client = Consumer(options.alone(settings), logger=CLIENT_LOG)
            if not self.done:
                self._client.assign([TopicPartition(topic, partition, start)])
        except KafkaException as failure:
            raise translate(error_of(failure), f"read {self}") from failure

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition} from offset {self.position} to {self.end}"

    @property
    def done(self) -> bool:
        return self.position >= self.end

    def poll(self, max_records: int, timeout_s: float = MAX_WAIT_S) -> Batch | None:
        """The next records below ``end``; None when there are none yet.

        Raises Stopped where offsets of the range are gone, Unreachable after a minute of silence.
        """
        try:
            messages = self._client.consume(max_records, timeout_s)
        except KafkaException as failure:
            raise translate(error_of(failure), f"read {self}") from failure
        errors = [error for message in messages if (error := message.error()) is not None]
        passing = [error for error in errors if passes_alone(error)]
        if passing:
            self._said = f", but {passing[-1].str()}"
        if len(passing) < len(messages):
            self._heard, self._said = time.monotonic(), ""
        elif time.monotonic() - self._heard > SILENCE_S:
            raise Unreachable(
                f"read {self}: nothing came in {SILENCE_S:g} s{self._said}",
                hint="do the brokers answer? where the log ends before the range, it was truncated after the plan",
            )
        # Records first: the end of the log, which often comes in the same list, moves the position past them.
        made = self._batch([message for message in messages if message.error() is None])
        for message in messages:
            error = message.error()
            if error is not None:
                self._failed(error, message.offset())
        return made

    def _batch(self, records: list[Message]) -> Batch | None:
        if not records:
            return None
        made = batches.fresh(batches.batch((self.topic, self.partition), records), self.position)  # K14
        if made is not None and made.offsets[-1] >= self.end:
            # a record behind the end: what is missing before it are gaps
            self.position = self.end
            inside = bisect_left(made.offsets, self.end)
            made = made.pick(range(inside)) if inside else None
        if made is not None:
            made.leader_epoch = -1  # a batch here may be of several
            made.next_offset = self.position = max(self.position, made.next_offset)
        return made

    def _failed(self, error: KafkaError, offset: int | None) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            self.position = max(self.position, min(offset or 0, self.end))
        elif error.code() in _LOST:
            raise Stopped(
                f"read {self}: offsets are not in Kafka any more: {error.str()}",
                hint="retention has removed them, or the log was truncated: begin the range later",
            )
        elif not passes_alone(error):
            raise translate(error, f"read {self}")

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
