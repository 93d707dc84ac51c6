"""A broker for demos and quick tests: librdkafka's mock cluster, in a process of its own.

No evidence about a real broker. Its limits (librdkafka 2.16): topics come into being when first named,
with 4 partitions; 5 MiB a partition are kept and older records dropped; no topic ids, no topic
configuration, no look-up by time, no transactions; classic groups only, with a session time-out of
3000 ms and a heartbeat of 500 ms, or a join looks hung (``GROUP_OPTIONS``).

``python -m logflume.kafka.embedded`` prints its address and lives until its standard input closes, so
it ends with its parent, however that ends.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaError, Message, Producer

from logflume.errors import Unreachable
from logflume.kafka.client_log import CLIENT_LOG

GROUP_OPTIONS: dict[str, str | int | bool] = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 500}
PARTITIONS = 4

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 5.0


class EmbeddedBroker:
    """``with EmbeddedBroker() as broker: … broker.bootstrap …``"""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "logflume.kafka.embedded"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        # Ends with an empty line if the process dies; it bounds its own start.
        self.bootstrap = self._process.stdout.readline().strip() if self._process.stdout else ""
        if not self.bootstrap:
            raise Unreachable(f"the embedded broker ended with code {self._process.wait()}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        try:
            self._process.communicate(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to produce; ``time_ms`` 0 means now."""

    partition: int
    value: bytes | None
    time_ms: int = 0
    key: bytes | None = None


def produce(bootstrap: str, topic: str, records: Iterable[Outgoing], *, timeout_s: float = 30.0) -> int:
    """Send records in order and return how many were acknowledged: all of them, or ``Unreachable``."""
    acknowledged = 0
    refused: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        nonlocal acknowledged
        if error is None:
            acknowledged += 1
        else:
            refused.append(error)

    settings: dict[str, str | int | bool] = {
        "bootstrap.servers": bootstrap,
        "enable.idempotence": True,
        "message.timeout.ms": int(timeout_s * 1000),
        "linger.ms": 5,
    }
    producer = Producer(settings, logger=CLIENT_LOG)
    sent = 0
    deadline = time.monotonic() + timeout_s
    for record in records:
        while True:
            try:
                producer.produce(
                    topic,
                    record.value,
                    record.key,
                    record.partition,
                    on_delivery=delivered,
                    timestamp=record.time_ms,
                )
                break
            except BufferError:  # the local queue is full: wait for acknowledgements
                if time.monotonic() > deadline:
                    raise Unreachable(f"produce to {topic}: no progress in {timeout_s:g} s") from None
                producer.poll(0.1)
        sent += 1
        producer.poll(0)
    producer.flush(timeout_s)
    if acknowledged != sent:
        reason = refused[0].str() if refused else "no answer"
        raise Unreachable(f"produce to {topic}: {acknowledged} of {sent} records acknowledged, {reason}")
    return acknowledged


def _serve() -> None:
    # Ctrl-C goes to the whole terminal group; the parent still needs its broker to end in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    mock = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    brokers = mock.list_topics(timeout=START_TIMEOUT_S).brokers.values()
    print(",".join(f"{broker.host}:{broker.port}" for broker in brokers), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _serve()
