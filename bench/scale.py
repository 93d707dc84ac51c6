"""Many partitions: how soon all are read, at the first start and again, and what memory they take over time."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from confluent_kafka import Producer

from bench import machine, month
from bench.daemon import first_logged, namenode_calls, place, positions, topic_settings
from bench.results import FAILURES
from bench.topic import BASE_MS, HOUR_MS, send, value
from tests.e2e.daemon import Daemon, wait_until
from tests.stack import Stack
from tests.stack.kafka import create_topic, delete_topics

READING = re.compile(r"^(\S+Z) \[\w+ *\] reading\b", re.MULTILINE)
SAMPLE_S = 5.0
SIZE = 220
STARTS = 3
JMX_S = 11.0
#: records for a partition at once, as a producer's own batches are: one by one they are as many requests to the broker
RUN = 30


class Spread(threading.Thread):
    """Sends ``rate`` records a second; they go round ``hours`` hours, which move on by one every ``hour_s``."""

    def __init__(self, bootstrap: str, topic: str, partitions: int, hours: int, rate: int, hour_s: float) -> None:
        super().__init__(daemon=True)
        self.end = False
        self._topic, self._partitions, self._hours, self._rate = topic, partitions, hours, rate
        self._hour_s = hour_s
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50, "compression.type": "lz4"})

    def run(self) -> None:
        rng = random.Random(1)
        tails = [value(rng, BASE_MS, i, SIZE)[19:] for i in range(5000)]
        began, sent = time.time(), 0
        self.sent = 0
        while not self.end:
            passed = time.time() - began
            due = int(passed * self._rate)
            start_ms = BASE_MS + int(passed / self._hour_s) * HOUR_MS
            for i in range(sent, due):
                time_ms = start_ms + i % self._hours * HOUR_MS + i % HOUR_MS
                made = b'{"ts":%d' % time_ms + tails[i % 5000]
                send(self._producer, self._topic, made, i // RUN % self._partitions, time_ms)
            self.sent = sent = max(sent, due)
            self._producer.poll(0)
            time.sleep(0.05)
        self._producer.flush(60)


def measure(
    stack: Stack,
    *,
    partitions: int,
    hours: int,
    rate: int,
    minutes: float,
    entries: int,
    hour_s: float,
    roll_every: str,
    save: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """First a start with ``entries`` of ledger a partition, then memory under way. Either may be left out by a 0.

    ``hour_s``: real time of an hour of event time.
    """
    found: dict[str, Any] = {
        "machine": machine.describe(),
        "partitions": partitions,
        "open_hours": hours,
        "rate": rate,
        "roll_every": roll_every,
        "hour_s": hour_s,
        "scale": True,
        "memory": [],
        "failures": [],
        "runs": [],
        "complete": False,
    }
    parts = ((_month, entries), (_under_way, minutes))
    for part, size in parts:
        if size:
            found["runs"].append({"load_average": machine.load()})
            try:
                part(stack, found, size, lambda: save(found))
            except FAILURES as failure:
                found["failures"].append(str(failure))
                print(failure, flush=True)  # noqa: T201
            found["runs"].append({"load_average": machine.load()})
            save(found)
    found["complete"] = True
    return found


def _month(stack: Stack, found: dict[str, Any], size: float, save: Callable[[], None]) -> None:
    """Starts over ledgers that are ``size`` entries long; the topic is empty."""
    partitions, entries = found["partitions"], int(size)
    topic = create_topic(stack.bootstrap, f"bench-month-{time.time_ns()}", partitions)
    # nobody closes an hour meanwhile: what is measured is the start
    settings = topic_settings(topic, idle_grace="1h")
    try:
        with place(stack) as here:
            found["month"] = {
                "entries": entries,
                "made_in_s": month.write(here, topic, partitions, entries),
                "starts": [],
            }
            save()
            daemon = here.daemon([settings], stop_deadline="10m")
            try:
                for _ in range(STARTS):
                    calls = _calls(stack)
                    one = _started(daemon, partitions)
                    after = _calls(stack)
                    one["requests_a_partition"] = {
                        name: round((number - calls.get(name, 0)) / partitions, 2)
                        for name, number in after.items()
                        if number - calls.get(name, 0) > partitions / 10
                    }
                    found["month"]["starts"].append(one)
                    save()
                    daemon.stop(600)
                    daemon.log.rename(daemon.log.with_suffix(f".{len(found['month']['starts'])}"))
            finally:
                daemon.end()
    finally:
        delete_topics(stack.bootstrap, [topic])


def _calls(stack: Stack) -> dict[str, int]:
    """Requests so far; the NameNode makes its figures anew every ten seconds. The finisher's first look is in them."""
    time.sleep(JMX_S)
    return namenode_calls(stack)


def _under_way(stack: Stack, found: dict[str, Any], minutes: float, save: Callable[[], None]) -> None:
    """Memory over time with all parts open while hours end, then a stop that uploads them, and one more start."""
    partitions, hours = found["partitions"], found["open_hours"]
    topic = create_topic(stack.bootstrap, f"bench-scale-{time.time_ns()}", partitions)
    feed = Spread(stack.bootstrap, topic, partitions, hours, found["rate"], found["hour_s"])
    # An hour closes soon after the feed has moved on: what is remembered of it until then is in the picture, and goes.
    lateness = f"{(hours - 1) * 60 + 1}m"
    settings = topic_settings(topic, lateness=lateness, roll_every=found["roll_every"], idle_grace="1h")
    try:
        with place(stack) as here:
            # a stop uploads every open part: on the default deadline it would be cut short
            daemon = here.daemon([settings], stop_deadline="20m")
            try:
                found["first_start"] = _started(daemon, partitions)
                feed.start()
                _sample(daemon, minutes * 60, partitions * hours, found["memory"], save)
                feed.end = True
                feed.join()
                found["worker_mb"] = _settled(found["memory"], partitions * hours, found["hour_s"])
                found["hours_finished"] = daemon.logged().count("hour finished")
                found["stop_s"] = round(daemon.stop(1300), 1)
                daemon.log.unlink()
                found["again"] = _started(daemon, partitions)
            finally:
                daemon.end()
            found["ledger_size"] = here.summary(f"_logflume/{topic}")
    finally:
        feed.end = True
        delete_topics(stack.bootstrap, [topic])


def _settled(memory: list[dict[str, float]], parts: int, hour_s: float) -> dict[str, Any]:
    """The worker's memory once nearly all parts are open: the first minute, the last one, the peak of all, and the mean
    of each hour of event time.
    """
    there = [one for one in memory if one["open_parts"] >= parts * 0.9]
    minute = max(1, int(60 / SAMPLE_S))

    def mean(some: list[dict[str, float]]) -> float | None:
        return round(sum(one["worker_mb"] for one in some) / len(some), 1) if some else None

    return {
        "samples": len(there),
        "first_minute": mean(there[:minute]),
        "last_minute": mean(there[-minute:]),
        "peak": max((one["worker_mb"] for one in memory), default=None),
        "by_hour": [
            mean([one for one in memory if one["at_s"] // hour_s == hour])
            for hour in range(int(memory[-1]["at_s"] // hour_s) if memory else 0)
        ],
    }


def _started(daemon: Daemon, partitions: int) -> dict[str, Any]:
    """Seconds until the last partition is read: from the start of the command, and of the worker."""
    began = time.time()
    daemon.start()
    wait_until(lambda: len(READING.findall(daemon.logged())) >= partitions, 900, "all partitions are read", daemon)
    last = max(datetime.fromisoformat(at).timestamp() for at in READING.findall(daemon.logged()))
    found = {
        "seconds": round(last - began, 2),
        "of_the_worker": round(last - first_logged(daemon, "worker started"), 2),
    }
    return {**found, "worker_mb": machine.resident_mb(daemon.workers())}


def _sample(daemon: Daemon, seconds: float, parts: int, into: list[dict[str, float]], save: Callable[[], None]) -> None:
    began = time.time()
    while time.time() - began < seconds:
        time.sleep(SAMPLE_S)
        daemon.no_surprise()
        status = daemon.status()
        into.append(
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
        if len(into) % 12 == 0:
            save()
