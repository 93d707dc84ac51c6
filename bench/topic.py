"""Topics full of access-log records, made once and used by every run."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from confluent_kafka import Consumer, Producer, TopicPartition

from tests.stack.kafka import admin, create_topic

HOUR_MS = 3_600_000
#: Monday, 6 January 2025, 00:00 UTC: the same hours in every run
BASE_MS = 1_736_121_600_000
#: what is off by more than it is late
LATENESS_MS = 600_000
AGENTS = [
    f"{engine} ({system})" for system in ("Linux", "Windows", "iPhone") for engine in ("Firefox/126", "Chrome/125")
]


@dataclass(frozen=True)
class Load:
    """``records`` of about ``size`` bytes over ``hours`` from BASE_MS on, event times off by up to ``jitter_ms``.

    After them every partition gets one record that closes the last hour by the watermark.
    """

    records: int
    partitions: int = 4
    size: int = 220
    hours: int = 6
    jitter_ms: int = 60_000

    @property
    def name(self) -> str:
        return f"bench3-{self.records}x{self.size}-p{self.partitions}-h{self.hours}-j{self.jitter_ms}"

    @property
    def total(self) -> int:
        return self.records + self.partitions


def value(rng: random.Random, time_ms: int, number: int, size: int) -> bytes:
    """One record: a JSON object whose length is ``size`` within some bytes, about as random as an access log."""
    line = (
        f'{{"ts":{time_ms},"id":"{rng.getrandbits(128):032x}","ip":"10.{number % 7}.{rng.randrange(256)}.'
        f'{rng.randrange(256)}","trace":"{rng.getrandbits(128):032x}","method":"GET","path":"/shop/item/{rng.randrange(100_000)}","status":'
        f'{200 if rng.random() < 0.95 else 404},"bytes":{rng.randrange(50_000)},"agent":"{rng.choice(AGENTS)}"'
    )
    left = size - len(line) - 8
    if left > 0:
        # numbers between words, so that gzip makes a third of it, as of an access log
        text = ""
        while len(text) < left:
            text += f"item {rng.getrandbits(24):06x} "
        line += ',"q":"' + text[:left] + '"'
    return (line[:-1] + '"}' if left <= 0 and not line.endswith('"') else line + "}").encode()


def tiny(rng: random.Random, time_ms: int, number: int, size: int) -> bytes:
    """A record with hardly more than its time; its number makes it different from all others."""
    bare = b'{"ts":%d,"n":%d,"q":""}' % (time_ms, number)
    return bare[:-2] + rng.randbytes(40).hex().encode()[: max(0, size - len(bare))] + b'"}'


def fill(bootstrap: str, load: Load) -> str:
    """Make the topic unless it is there and whole; returns its name."""
    name = load.name
    if name in admin(bootstrap).list_topics(timeout=20).topics:
        if sum(ends(bootstrap, name).values()) == load.total:
            return name
        raise SystemExit(f"topic {name} is there and not whole: delete it")
    create_topic(bootstrap, name, load.partitions)
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 50,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 500_000,
            "message.max.bytes": 2_000_000,
            "log_level": 0,
        }
    )
    rng = random.Random(1)
    span = load.hours * HOUR_MS
    small = load.size <= 64
    for i in range(load.records):
        arrival = BASE_MS + load.jitter_ms + i * (span - 2 * load.jitter_ms) // load.records
        time_ms = arrival + rng.randint(-load.jitter_ms, load.jitter_ms)
        made = tiny(rng, time_ms, i, load.size) if small else value(rng, time_ms, i, load.size)
        # runs of a hundred, as a producer's own batches are
        send(producer, name, made, i // 100 % load.partitions, time_ms)
    end = BASE_MS + span + max(LATENESS_MS, 2 * load.jitter_ms) + HOUR_MS // 60
    for partition in range(load.partitions):
        send(producer, name, json.dumps({"ts": end, "closing": True}).encode(), partition, end)
    if producer.flush(120):
        raise SystemExit(f"topic {name} was not filled")
    return name


def send(producer: Producer, topic: str, made: bytes, partition: int, time_ms: int) -> None:
    while True:
        try:
            producer.produce(topic, made, partition=partition, timestamp=time_ms)
            return
        except BufferError:
            producer.poll(0.1)


def ends(bootstrap: str, topic: str) -> dict[int, int]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench", "log_level": 0})
    try:
        known = consumer.list_topics(topic, timeout=20).topics[topic].partitions
        return {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=20)[1] for p in known}
    finally:
        consumer.close()
