"""Logs as they are at their worst, the same ones for the same seed, and their way into a topic."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, Message, Producer

HOUR_MS = 3_600_000
MINUTE_MS = 60_000
#: of which the larger just fits below the broker's default of 1,048,588 with the batch's own bytes
LARGE_BYTES = (900_000, 1_000_000)


@dataclass(frozen=True)
class Made:
    """One record to be sent."""

    partition: int
    value: bytes | None
    kafka_ms: int
    key: bytes | None = None


@dataclass(frozen=True)
class Shape:
    """``records`` in all, arriving evenly over ``hours`` from ``base_ms`` on, in ``chunks`` of equal time.

    Of a thousand records ``odd`` are bad ones of every kind, and ``late`` come after lateness, up to hours.
    ``silent``: partitions, and the hours in which they get nothing. ``none_in``: hours without any record.
    """

    base_ms: int
    partitions: int = 8
    hours: int = 6
    records: int = 20_000
    chunks: int = 100
    seed: int = 1
    lateness_ms: int = 10 * MINUTE_MS
    odd: int = 30
    late: int = 10
    large: int = 0
    pad: int = 300
    text: bool = False
    silent: tuple[tuple[int, int], ...] = ()
    none_in: tuple[int, ...] = ()


def make(shape: Shape) -> list[list[Made]]:
    """The records, in the order in which they are sent."""
    rng = random.Random(shape.seed)
    numbers = [0] * shape.partitions
    span = shape.hours * HOUR_MS
    chunks: list[list[Made]] = [[] for _ in range(shape.chunks)]
    large = set(rng.sample(range(shape.records), shape.large))
    for i in range(shape.records):
        arrival = shape.base_ms + i * span // shape.records
        partition = rng.randrange(shape.partitions)
        number, numbers[partition] = numbers[partition], numbers[partition] + 1
        hour = (arrival - shape.base_ms) // HOUR_MS
        chunk = chunks[i * shape.chunks // shape.records]
        if (partition, hour) in shape.silent or hour in shape.none_in:
            continue
        event = _event_time(rng, arrival, shape)
        if (event - shape.base_ms) // HOUR_MS in shape.none_in:
            continue
        dice = rng.randrange(1000)
        if shape.text:
            # the Kafka time is the event time; a producer may set any
            chunk.append(Made(partition, _text(rng, partition, number), event, b"k%d" % (number % 7)))
        elif dice < shape.odd:
            kind = ODD[rng.randrange(len(ODD))]
            chunk.append(Made(partition, kind(event, partition, number), arrival, b"odd"))
        else:
            size = rng.choice(LARGE_BYTES) if i in large else rng.randrange(shape.pad)
            chunk.append(Made(partition, good(event, partition, number, size), arrival, _key(rng)))
    return chunks


def _event_time(rng: random.Random, arrival: int, shape: Shape) -> int:
    """Up to the lateness before the arrival, a little after it, or much too late."""
    skew = 5_000
    dice = rng.randrange(1000)
    if dice < shape.late:
        return arrival - shape.lateness_ms - rng.randrange(3 * HOUR_MS)
    if dice < 150:
        return arrival - rng.randrange(max(1, shape.lateness_ms - skew))
    return arrival + rng.randint(-20_000, skew)


def _key(rng: random.Random) -> bytes | None:
    return None if rng.random() < 0.5 else b"user-%d" % rng.randrange(50)


def good(event: int, partition: int, number: int, size: int = 0) -> bytes:
    body = {"ts": event, "p": partition, "n": number, "path": f"/page/{number % 97}", "pad": "x" * size}
    return json.dumps(body, separators=(",", ":")).encode()


def _text(rng: random.Random, partition: int, number: int) -> bytes:
    dice = rng.randrange(100)
    if dice == 0:
        return b""
    if dice == 1:
        return b"the same line again"  # identity is the offset, so each of them counts
    if dice == 2:
        return b"line %d of p%d\nwith a second one" % (number, partition)
    if dice == 3:
        return b"\xff\xfe latin-1 caf\xe9 %d/%d" % (partition, number)
    return b"%d/%d GET /page/%d" % (partition, number, number % 97)


def _body(text: str) -> Callable[[int, int, int], bytes]:
    """A value from a template with the event time, partition and number in it."""
    return lambda event, partition, number: (
        text.replace("TS", str(event)).replace("ID", f'"p":{partition},"n":{number}').encode()
    )


def _plain(value: bytes | None) -> Callable[[int, int, int], bytes | None]:
    return lambda event, partition, number: value


#: every kind of odd record; which of them are good in the end is for the oracle to say
ODD: tuple[Callable[[int, int, int], bytes | None], ...] = (
    _plain(None),
    _plain(b""),
    _plain(b" "),
    _plain(b"not json"),
    _plain(b"[]"),
    _plain(b"42"),
    _plain(b"null"),
    _plain(b'"text"'),
    _plain(b"[" * 100_000),
    _plain(b'{"ts":' * 50_000),
    _body('{"ts":TS,ID'),
    _body('{"ts":TS,ID}{"ts":TS,ID}'),
    _body('{"ts":TS,ID} {"ts":TS}'),
    _body('{"ts":TS,ID}\n{"ts":TS}'),
    _body("{'ts':TS,ID}"),
    _body('[{"ts":TS,ID}]'),
    lambda event, partition, number: good(event, partition, number)[:-2] + b'\xff"}',
    lambda event, partition, number: b"\xef\xbb\xbf" + good(event, partition, number),
    # times
    _body("{ID}"),
    _body('{"ts":null,ID}'),
    _body('{"ts":"TS",ID}'),
    _body('{"ts":true,ID}'),
    _body('{"ts":{"ms":TS},ID}'),
    _body('{"ts":[TS],ID}'),
    _body('{"ts":NaN,ID}'),
    _body('{"ts":Infinity,ID}'),
    _body('{"ts":1e999,ID}'),
    _body('{"ts":1e30,ID}'),
    _body('{"ts":' + "9" * 40 + ",ID}"),
    _body('{"ts":TS000,ID}'),
    _body('{"ts":-1,ID}'),
    _body('{"ts":0,ID}'),
    _body('{"Ts":TS,ID}'),
    lambda event, partition, number: good(event // 1000, partition, number),
    lambda event, partition, number: good(event * 1000, partition, number),
    lambda event, partition, number: good(event + 11 * MINUTE_MS + HOUR_MS, partition, number),
    lambda event, partition, number: good(event + 400 * 24 * HOUR_MS, partition, number),
    lambda event, partition, number: good(event - 400 * 24 * HOUR_MS, partition, number),
    # good ones that look odd
    _body('{"ts":TS.75,ID}'),
    _body('{"ts":TS.0,ID}'),
    _body('{\n  "ts": TS,\n  ID\n}'),
    _body('{\r\n  "ts": TS,\r\n  ID\r\n}\n'),
    _body('  {"ts":TS,ID}  '),
    _body('{"ts":TS,ID,"x":NaN}'),
    _body('{"ts":1,ID,"ts":TS}'),
    _body('{"ts":TS,"ts":TS,ID}'),
    _body('{"\\u0074s":TS,ID}'),
    _body('{"x":{"ts":1},"ts":TS,ID}'),
    _body('{"x":"{\\"ts\\":1}","ts":TS,ID}'),
    _body('{"ts":TS,ID,"x":"\\ud800"}'),
    _body('{"ts":TS,ID,"x":"żółć \U0001f600"}'),
    _body('{"ts":TS,ID,"x":"a\nb"}'),
    _body('{"ts":TS,ID,"x":"a\x00b"}'),
    _body('{"ts":TS,ID,"x":01}'),
)


# -- into the topic -------------------------------------------------------------------------------


class Feed:
    """Sends chunks to a topic, evenly over ``seconds``; 0 sends as fast as it goes.

    ``transactions``: each chunk is a transaction, and between them are others that are aborted.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        chunks: Sequence[Sequence[Made]],
        *,
        seconds: float = 0.0,
        transactions: bool = False,
    ) -> None:
        self.topic = topic
        self.sent = 0
        self._chunks, self._seconds, self._transactions = chunks, seconds, transactions
        settings: dict[str, str | int | float | bool] = {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "linger.ms": 5,
            "log_level": 3,
            "compression.type": "lz4",
            "message.max.bytes": 1_048_576,
        }
        if transactions:
            settings["transactional.id"] = f"e2e-{topic}"
        self._producer = Producer(settings)
        self._failed: list[str] = []
        self._thread = threading.Thread(target=self._run, name=f"feed-{topic}", daemon=True)
        self._broken: BaseException | None = None
        self._hurry = threading.Event()
        self._heard: float | None = None
        #: of what the broker acknowledged; one as long as idle_grace may close hours by the clock
        self.longest_pause_s = 0.0
        #: per partition the offset after what was acknowledged; empty with transactions
        self.ends: dict[int, int] = {}

    def start(self) -> Feed:
        self._thread.start()
        return self

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def wait(self, timeout_s: float = 120.0) -> int:
        """All is acknowledged; returns how many."""
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise TimeoutError(f"still feeding {self.topic} after {timeout_s:g} s")
        if self._broken is not None:
            raise self._broken
        assert not self._failed, self._failed[:5]
        return self.sent

    def hurry(self) -> None:
        """Send the rest as fast as it goes."""
        self._hurry.set()

    def send(self, records: Iterable[Made]) -> None:
        """Now, outside of any chunk and transaction."""
        count = self._produce(records)
        self._producer.flush(60)
        self.sent += count

    def _run(self) -> None:
        try:
            if self._transactions:
                self._producer.init_transactions(30)
            began = time.monotonic()
            for number, chunk in enumerate(self._chunks):
                self._transact(number, chunk) if self._transactions else self._plain(chunk)
                self.sent += len(chunk)
                due = began + self._seconds * (number + 1) / len(self._chunks)
                self._hurry.wait(max(0.0, due - time.monotonic()))
            self._producer.flush(60)
        except BaseException as failure:  # shown by wait()
            self._broken = failure

    def _plain(self, chunk: Iterable[Made]) -> None:
        self._produce(chunk)
        self._producer.poll(0)

    def _transact(self, number: int, chunk: Sequence[Made]) -> None:
        if number % 3 == 1:
            self._producer.begin_transaction()
            self._produce(
                Made(record.partition, b'{"aborted":true,' + (record.value or b"{}")[1:], record.kafka_ms)
                for record in chunk[:20]
            )
            self._producer.flush(30)
            self._producer.abort_transaction(30)
        self._producer.begin_transaction()
        self._produce(chunk)
        self._producer.commit_transaction(30)
        self._acknowledged()

    def _produce(self, records: Iterable[Made]) -> int:
        count = 0
        for record in records:
            while True:
                try:
                    self._producer.produce(
                        self.topic,
                        record.value,
                        record.key,
                        record.partition,
                        on_delivery=self._delivered,
                        timestamp=record.kafka_ms,
                    )
                    break
                except BufferError:
                    self._producer.poll(0.1)
            count += 1
        return count

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if self._transactions:
            return
        partition, offset = message.partition(), message.offset()
        if error is not None:
            self._failed.append(str(error))
        elif partition is not None and offset is not None:
            self.ends[partition] = max(offset + 1, self.ends.get(partition, 0))
        self._acknowledged()

    def _acknowledged(self) -> None:
        now = time.monotonic()
        if self._heard is not None:
            self.longest_pause_s = max(self.longest_pause_s, now - self._heard)
        self._heard = now
