"""What each stage of the hot path costs alone, in µs of CPU a record: see bench/README.md.

The stages that run in librdkafka's and the HDFS client's own threads are in ``threads_us`` of a throughput
run; here is what the worker's thread and its pool do, called one after the other on polls of real records.
"""

from __future__ import annotations

import gc
import hashlib
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from confluent_kafka import Consumer, Message, TopicPartition

from bench import machine
from bench.topic import Load, fill
from logflume.config import TopicConfig, parse
from logflume.core.ledger import genesis
from logflume.core.router import Router
from logflume.daemon.slot import rules_of
from logflume.daemon.worker import GC_OBJECTS, POLL_RECORDS
from logflume.kafka import batches, native
from logflume.kafka.options import for_consumer
from logflume.model import HOUR_MS, Batch, PartitionId
from logflume.records import RecordReader, pieces_of
from logflume.spool.encoders import encoder
from logflume.spool.spool import CHUNK_BYTES, Spool
from tests.stack import Stack

POLLS = 12


class Never(Executor):
    """A pool that does nothing: what it would do is measured by itself."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ARG002
        return Future()


class Clock:
    """Thread time by stage, each poll by itself, since the median survives noise."""

    def __init__(self) -> None:
        self.found: dict[str, list[float]] = {}

    def run(self, name: str, records: int, work: Callable[[], Any]) -> Any:
        began = time.thread_time()
        made = work()
        self.found.setdefault(name, []).append((time.thread_time() - began) / records * 1e6)
        return made


def measure(stack: Stack, load: Load) -> dict[str, Any]:
    topic = fill(stack.bootstrap, load)
    clock = Clock()
    for name, objects in (("by default", 700), ("as logflume sets it", GC_OBJECTS)):
        gc.set_threshold(objects)
        consumer = _consumer(stack)
        _assign(consumer, load, topic)
        take = partial(consumer.consume, POLL_RECORDS, 0.2)
        for _ in range(POLLS):
            time.sleep(0.2)  # the queue fills: only taking from it is measured
            messages = clock.run(f"python reader: consume(), collector {name}", POLL_RECORDS, take)
            clock.run(f"python reader: letting the messages go, collector {name}", POLL_RECORDS, messages.clear)
        consumer.close()
    consumer = _consumer(stack)
    _assign(consumer, load, topic)
    for _ in range(POLLS):
        time.sleep(0.2)
        messages = consumer.consume(POLL_RECORDS, 0.2)
        clock.run("python reader: errors, runs and columns", len(messages), partial(_columns, messages))
    consumer.close()
    consumer = _consumer(stack, native.options())
    queue = native.Queue(consumer)
    for partition in range(load.partitions):
        queue.follow((topic, partition))
    _assign(consumer, load, topic)
    with tempfile.TemporaryDirectory(prefix="logflume-bench-") as folder:
        path = _Path(clock, topic, Path(folder))
        for _ in range(POLLS):
            time.sleep(0.2)
            consumer.consume(1, 0)
            path.take(clock.run("native reader: all of it", POLL_RECORDS, partial(queue.take, POLL_RECORDS, 0.2)))
    queue.close()
    consumer.close()
    stages = {name: round(median(values), 3) for name, values in clock.found.items()}
    return {"machine": machine.describe(), "load": load.__dict__, "stages_us": stages}


def _columns(messages: list[Message]) -> list[Batch]:
    return [batches.batch(part, some) for part, some in batches.groups(messages, one_topic=True)]


def _consumer(stack: Stack, more: Mapping[str, str] | None = None) -> Consumer:
    settings: dict[str, str | int | bool] = {"bootstrap.servers": stack.bootstrap, "group.id": "bench", "log_level": 0}
    return Consumer({**for_consumer(settings), **(more or {}), "enable.partition.eof": False})


def _assign(consumer: Consumer, load: Load, topic: str) -> None:
    consumer.assign([TopicPartition(topic, p, 0) for p in range(load.partitions)])


def _topic_config(topic: str) -> TopicConfig:
    timestamp = {"field": "ts", "unit": "ms"}
    return parse(
        {
            "kafka": {"bootstrap.servers": "127.0.0.1:9", "group.id": "bench"},
            "output": {"root": "file:///tmp/bench"},
            "topic": [{"name": topic, "timestamp": timestamp}],
        }
    ).topics[0]


class _Path:
    """One partition after the other through the stages, as a worker's slots do it."""

    def __init__(self, clock: Clock, topic: str, folder: Path) -> None:
        self._clock, self._folder = clock, folder
        self._config = _topic_config(topic)
        self._reader = RecordReader(self._config)
        self._routers: dict[int, Router] = {}
        self._spool = Spool(folder / "spool", Never(), buffer_bytes=1 << 40, limit_bytes=1 << 40)
        self._chunk: list[bytes] = []

    def take(self, found: list[Batch]) -> None:
        run, n = self._clock.run, sum(len(batch.offsets) for batch in found)
        read = run("read: check, decode, time", n, lambda: [self._reader.read(batch) for batch in found])
        for batch in found:
            if batch.partition not in self._routers:
                pid = PartitionId(batch.topic, "id", batch.partition)
                state = genesis(pid, window_ms=HOUR_MS, start=batch.offsets[0], owner="", at=0, config="").state
                self._routers[batch.partition] = Router(rules_of(self._config), state)
        kept = run(
            "route",
            n,
            lambda: [
                self._routers[batch.partition].route(rows, now=0, mono=0.0)
                for batch, (rows, _) in zip(found, read, strict=True)
            ],
        )
        run("hand to the spool", n, lambda: list(map(self._write, found, read, kept)))
        chunk = b"\n".join(b"\n".join(lines) for _, lines in read)
        packed = run("gzip", n, lambda: self._pack(chunk))
        run("sha256", n, lambda: hashlib.sha256(packed).digest())
        run("append to the spool's file", n, lambda: self._append(packed))

    def _write(self, batch: Any, read: Any, kept: Any) -> None:
        _, lines = read
        for keep in kept:
            self._spool.write(self._routers[batch.partition], keep.part, bytes, *pieces_of(batch, lines, keep))

    @staticmethod
    def _pack(lines: bytes) -> bytes:
        encode = encoder("gzip")
        return b"".join(encode(lines[i : i + CHUNK_BYTES]) for i in range(0, len(lines), CHUNK_BYTES))

    def _append(self, packed: bytes) -> None:
        with (self._folder / "part").open("ab") as file:
            file.write(packed)
