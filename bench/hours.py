"""From the record that closes an hour's last partition to ``_SUCCESS``: with live input, many hours in a row.

Event time runs faster than the clock, so that an hour passes in some seconds; nothing else is scaled.
"""

from __future__ import annotations

import random
import re
import threading
import time
from statistics import quantiles
from typing import Any

from confluent_kafka import Producer

from bench import machine
from bench.daemon import first_logged, place, positions, topic_settings
from bench.topic import BASE_MS, HOUR_MS, LATENESS_MS, send, value
from tests.e2e.daemon import wait_until
from tests.stack import Stack
from tests.stack.kafka import create_topic, delete_topics

JITTER_MS = 60_000
SIZE = 220
TICK_S = 0.05
READING = re.compile(r"\] reading\b")


class Live(threading.Thread):
    """Sends records at a rate, and keeps when each partition was sent the first record that closes each hour."""

    def __init__(self, bootstrap: str, topic: str, partitions: int, hours: int, seconds: float, rate: int) -> None:
        super().__init__(daemon=True)
        self.topic, self.partitions, self.hours, self.rate = topic, partitions, hours, rate
        self.speed = HOUR_MS / seconds  # ms of event time a second
        #: hour → when the last of its partitions was sent the record that closes it
        self.closed: dict[int, float] = {}
        self.behind_s = 0.0
        self.sent = 0
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "compression.type": "lz4"})
        self._rng = random.Random(1)
        # made beforehand: making records would take the time of sending them
        self._tails = [value(self._rng, BASE_MS, i, SIZE)[19:] for i in range(5000)]

    def run(self) -> None:
        began = time.time()
        next_close = [BASE_MS + HOUR_MS + LATENESS_MS] * self.partitions
        end = BASE_MS + self.hours * HOUR_MS + LATENESS_MS + 4 * JITTER_MS
        while True:
            now = time.time()
            due = int((now - began) * self.rate)
            for i in range(self.sent, due):
                arrival = BASE_MS + JITTER_MS + int(i / self.rate * self.speed)
                time_ms = arrival + self._rng.randint(-JITTER_MS, JITTER_MS)
                partition = i % self.partitions
                send(self._producer, self.topic, b'{"ts":%d' % time_ms + self._tails[i % 5000], partition, time_ms)
                while time_ms >= next_close[partition]:
                    hour = next_close[partition] - HOUR_MS - LATENESS_MS
                    self.closed[hour] = time.time()
                    next_close[partition] += HOUR_MS
            self.sent = max(self.sent, due)
            self._producer.poll(0)
            self.behind_s = max(self.behind_s, time.time() - now - TICK_S)
            if min(next_close) > end:
                break
            time.sleep(TICK_S)
        self._producer.flush(60)


def measure(
    stack: Stack, *, partitions: int, hours: int, seconds: float, rate: int, daemon: dict[str, Any]
) -> dict[str, Any]:
    topic = create_topic(stack.bootstrap, f"bench-hours-{time.time_ns()}", partitions)
    loads = [machine.load()]
    try:
        with place(stack) as here:
            program = here.daemon([topic_settings(topic)], **daemon).start()
            try:
                wait_until(lambda: len(READING.findall(program.logged())) >= partitions, 120, "it reads", program)
                live = Live(stack.bootstrap, topic, partitions, hours, seconds, rate)
                live.start()
                while live.is_alive():
                    live.join(10)
                    loads.append(machine.load())
                last = BASE_MS + (hours - 1) * HOUR_MS
                wait_until(lambda: here.manifest(topic, last), 120, "the last hour is marked", program)
                pids = [program.process.pid, *program.workers()]
                cpu = machine.cpu_s(pids) / (time.time() - first_logged(program, "reading"))
                peak = machine.peak_mb(pids)
                read = positions(program.status())
                program.stop()
            finally:
                program.end()
            # the first hour is left out: nothing is warm
            manifests = {hour: here.manifest(topic, hour) for hour in range(BASE_MS + HOUR_MS, last + 1, HOUR_MS)}
    finally:
        delete_topics(stack.bootstrap, [topic])
    sent, decided, finish = [], [], []
    for hour, one in manifests.items():
        if one is None:
            raise SystemExit(f"hour {hour} is not marked")
        marked = one["marked_ms"] / 1000
        closed = max(part["closed_ms"] for part in one["partitions"].values()) / 1000
        sent.append(marked - live.closed[hour])
        decided.append(closed - live.closed[hour])
        finish.append(marked - closed)
    return {
        "machine": machine.describe(),
        "load_averages": [min(loads), max(loads)],
        "partitions": partitions,
        "hours": hours,
        "seconds_an_hour": seconds,
        "rate": rate,
        "daemon": daemon,
        "sent": live.sent,
        "read": read,
        "producer_behind_s": round(live.behind_s, 2),
        "cpu_cores": round(cpu, 2),
        "peak_mb": peak,
        "files": sum(len(one["files"]) for one in manifests.values() if one),
        "seconds": {
            "the closing record is sent, to `_SUCCESS`": percentiles(sent),
            "the same, until logflume closes the last partition": percentiles(decided),
            "logflume closes the last partition, to `_SUCCESS`": percentiles(finish),
        },
        "each": [round(one, 3) for one in sent],
    }


def percentiles(values: list[float]) -> dict[str, float]:
    cuts = quantiles(values, n=100, method="inclusive")
    return {"hours": len(values), "p50": cuts[49], "p90": cuts[89], "p99": cuts[98], "max": max(values)}
