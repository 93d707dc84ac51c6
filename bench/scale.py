"""Many partitions: how soon all are read, at the first start and again, and what memory they take over time."""

from __future__ import annotations

import random
import re
import threading
import time
from datetime import datetime
from typing import Any

from confluent_kafka import Producer

from bench import machine
from bench.daemon import first_logged, place, positions, topic_settings
from bench.topic import BASE_MS, HOUR_MS, send, value
from tests.e2e.daemon import Daemon, wait_until
from tests.stack import Stack
from tests.stack.kafka import create_topic, delete_topics

READING = re.compile(r"^(\S+Z) \[\w+ *\] reading\b", re.MULTILINE)
SAMPLE_S = 5.0
SIZE = 220


class Spread(threading.Thread):
    """Sends ``rate`` records a second; each partition's go round ``hours`` hours, so that all of them stay open."""

    def __init__(self, bootstrap: str, topic: str, partitions: int, hours: int, rate: int) -> None:
        super().__init__(daemon=True)
        self.end = False
        self._topic, self._partitions, self._hours, self._rate = topic, partitions, hours, rate
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50, "compression.type": "lz4"})

    def run(self) -> None:
        rng = random.Random(1)
        tails = [value(rng, BASE_MS, i, SIZE)[19:] for i in range(5000)]
        began, sent = time.time(), 0
        self.sent = 0
        while not self.end:
            due = int((time.time() - began) * self._rate)
            for i in range(sent, due):
                time_ms = BASE_MS + i // self._partitions % self._hours * HOUR_MS + i % HOUR_MS
                made = b'{"ts":%d' % time_ms + tails[i % 5000]
                send(self._producer, self._topic, made, i % self._partitions, time_ms)
            self.sent = sent = max(sent, due)
            self._producer.poll(0)
            time.sleep(0.05)
        self._producer.flush(60)


def measure(stack: Stack, *, partitions: int, hours: int, rate: int, minutes: float) -> dict[str, Any]:
    topic = create_topic(stack.bootstrap, f"bench-scale-{time.time_ns()}", partitions)
    feed = Spread(stack.bootstrap, topic, partitions, hours, rate)
    found: dict[str, Any] = {
        "machine": machine.describe(),
        "partitions": partitions,
        "open_hours": hours,
        "rate": rate,
        "roll_every": "2m",
    }
    # no hour closes; parts roll, so that uploads and decisions of all partitions are in the picture
    settings = topic_settings(topic, lateness=f"{hours + 1}h", roll_every="2m", idle_grace="1h")
    try:
        with place(stack) as here:
            # a stop uploads every open part: on the default deadline it would be cut short
            daemon = here.daemon([settings], stop_deadline="10m")
            found["first_start_s"] = _started(daemon, partitions)
            feed.start()
            found["memory"] = _sampled(daemon, minutes * 60, partitions * hours)
            feed.end = True
            feed.join()
            found["stop_s"] = round(daemon.stop(600), 1)
            daemon.log.unlink()
            found["again_s"] = _started(daemon, partitions)
            daemon.end()
            found["ledger"] = here.summary(f"_logflume/{topic}")
    finally:
        feed.end = True
        delete_topics(stack.bootstrap, [topic])
    settled = [one for one in found["memory"] if one["open_parts"] >= partitions * hours * 0.9]
    found["worker_mb"] = {
        "first": settled[0]["worker_mb"] if settled else None,
        "last": settled[-1]["worker_mb"] if settled else None,
        "peak": max(one["worker_mb"] for one in found["memory"]),
    }
    return found


def _started(daemon: Daemon, partitions: int) -> float:
    """Seconds from the worker's start until the last partition is read."""
    daemon.start()
    wait_until(lambda: len(READING.findall(daemon.logged())) >= partitions, 600, "all partitions are read", daemon)
    last = max(datetime.fromisoformat(at).timestamp() for at in READING.findall(daemon.logged()))
    return round(last - first_logged(daemon, "worker started"), 2)


def _sampled(daemon: Daemon, seconds: float, parts: int) -> list[dict[str, float]]:
    began, found = time.time(), []
    while time.time() - began < seconds:
        time.sleep(SAMPLE_S)
        status = daemon.status()
        found.append(
            {
                "at_s": round(time.time() - began, 1),
                "worker_mb": machine.resident_mb(daemon.workers()),
                "parent_mb": machine.resident_mb([daemon.process.pid]),
                "open_parts": sum(one["open_parts"] for one in status["partitions"]) if status else 0,
                "read": positions(status),
                "ends": sum(one["end"] or 0 for one in status["partitions"]) if status else 0,
                "wanted_parts": parts,
            }
        )
    return found
