"""Catching up beside live input: what a backlog does to the partitions that have none.

**What "live partitions beside a backlog" means here.** One topic, one worker. During an outage half of the partitions
got their records as always (their owner was away, as one host of two), the other half is read up to its end. Then the
daemon starts with all of them, and as soon as it reads, live input goes on over all. The figures: how far the *live*
half falls behind while the other one's backlog drains, and how long that takes.

An hour of event time passes in some seconds, and brings what the input brings in those seconds: a backlog of n hours
is n × seconds × rate records. ``lag`` is what was handed to the producer less what the daemon reports as read, which it
does once a second: so up to a second of input is in every lag, whatever logflume does. It is counted in records, and
in seconds of that partition's own input.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from statistics import median, quantiles
from typing import Any

from confluent_kafka import Producer

from bench import machine
from bench.daemon import first_logged, place, topic_settings
from bench.results import FAILURES
from bench.topic import BASE_MS, HOUR_MS, send, value
from tests.e2e.daemon import Daemon, wait_until
from tests.stack import Stack
from tests.stack.kafka import create_topic, delete_topics

SIZE = 220
TICK_S = 0.05
SAMPLE_S = 1.0
PRIME_S = 5.0
#: after the backlog is gone: what lag there is without one
QUIET_S = 15.0
#: behind by no more than this many seconds of its own input counts as caught up; the report alone is one
CAUGHT_UP_S = 2.0
DRAIN_TIMEOUT_S = 900.0


class Input:
    """Records over some partitions with event times that go on; counts what each one was sent."""

    def __init__(self, bootstrap: str, topic: str, partitions: int, rate: int, hour_s: float) -> None:
        self.sent = [0] * partitions
        self._topic, self._rate, self._hour_s = topic, rate, hour_s
        settings = {"linger.ms": 5, "compression.type": "lz4", "queue.buffering.max.messages": 500_000}
        self._producer = Producer({"bootstrap.servers": bootstrap, **settings})
        self._tails = [value(random.Random(1), BASE_MS, i, SIZE)[19:] for i in range(5000)]
        self._time_ms = float(BASE_MS)

    def hours(self, count: float, partitions: Sequence[int]) -> int:
        """All at once: the records of so many hours. Returns how many they are."""
        records = int(count * self._hour_s * self._rate)
        self._some(records, partitions, count * HOUR_MS / records)
        self._producer.flush(120)
        return records

    def live(self, partitions: Sequence[int], end: threading.Event) -> None:
        """At the rate, until ``end``."""
        began, done = time.monotonic(), 0
        while not end.is_set():
            due = int((time.monotonic() - began) * self._rate)
            self._some(due - done, partitions, HOUR_MS / self._hour_s / self._rate)
            done = due
            self._producer.poll(0)
            time.sleep(TICK_S)
        self._producer.flush(60)

    def _some(self, records: int, partitions: Sequence[int], step_ms: float) -> None:
        for i in range(records):
            self._time_ms += step_ms
            time_ms = int(self._time_ms)
            # runs of a hundred, as a producer's own batches are
            partition = partitions[i // 100 % len(partitions)] if records > 10_000 else partitions[i % len(partitions)]
            send(self._producer, self._topic, b'{"ts":%d' % time_ms + self._tails[i % 5000], partition, time_ms)
            self.sent[partition] += 1


def measure(
    stack: Stack,
    *,
    partitions: int,
    backlogs: list[float],
    hour_s: float,
    rate: int,
    save: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """One run for each backlog, in hours."""
    found: dict[str, Any] = {
        "machine": machine.describe(),
        "partitions": partitions,
        "rate": rate,
        "seconds_an_hour": hour_s,
        "catchup": [],
        "runs": [],
        "complete": False,
    }
    for hours in backlogs:
        found["runs"].append({"load_average": machine.load()})
        found["catchup"].append(one := {"backlog_hours": hours, "samples": []})
        try:
            _one(stack, partitions, hours, hour_s, rate, one, lambda: save(found))
        except FAILURES as failure:
            one["failure"] = str(failure)
        found["runs"].append({"load_average": machine.load()})
        save(found)
        print({name: figure for name, figure in one.items() if name != "samples"}, flush=True)  # noqa: T201
    found["complete"] = True
    return found


def _one(
    stack: Stack,
    partitions: int,
    hours: float,
    hour_s: float,
    rate: int,
    into: dict[str, Any],
    save: Callable[[], None],
) -> None:
    topic = create_topic(stack.bootstrap, f"bench-catchup-{time.time_ns()}", partitions)
    everyone, behind = range(partitions), range(partitions // 2)
    feed, end = Input(stack.bootstrap, topic, partitions, rate, hour_s), threading.Event()
    thread = threading.Thread(target=feed.live, args=(everyone, end), daemon=True)
    try:
        with place(stack) as here:
            daemon = here.daemon([topic_settings(topic)]).start()
            try:
                feed.hours(PRIME_S / hour_s, everyone)
                wait_until(lambda: _lags(daemon, feed) == [0] * partitions, 120, "the first records are read", daemon)
                daemon.stop(120)
                daemon.log.unlink()
                into["backlog_records"] = feed.hours(hours, behind)
                daemon.start()
                # not before: what comes while the program starts would be a backlog of the live ones, too
                wait_until(lambda: _lags(daemon, feed), 120, "all partitions are read", daemon)
                thread.start()
                _drained(daemon, feed, into, rate / partitions, save)
                end.set()
                thread.join()
                daemon.stop(120)
            finally:
                daemon.end()
    finally:
        end.set()
        delete_topics(stack.bootstrap, [topic])


def _lags(daemon: Daemon, feed: Input) -> list[int] | None:
    """Of each partition; None while one of them is not read. What was sent is looked at last: never too small."""
    status = daemon.status()
    read = {one["partition"]: one["position"] for one in status["partitions"]} if status else {}
    if len(read) < len(feed.sent) or None in read.values():
        return None
    return [sent - read[partition] for partition, sent in enumerate(feed.sent)]


def _drained(daemon: Daemon, feed: Input, into: dict[str, Any], each_rate: float, save: Callable[[], None]) -> None:
    """Samples once a second until the backlog is gone and some seconds more; figures into ``into``."""
    half = len(feed.sent) // 2
    began, deadline = first_logged(daemon, "reading"), time.time() + DRAIN_TIMEOUT_S
    done: float | None = None
    while done is None or time.time() < done + QUIET_S:
        if time.time() > deadline:
            raise SystemExit(f"the backlog did not drain in {DRAIN_TIMEOUT_S:g} s: {daemon.tail()}")
        daemon.no_surprise()
        lags = _lags(daemon, feed)
        now = time.time()
        if lags is not None:
            into["samples"].append({"at_s": round(now - began, 2), "drained": done is not None, "lags": lags})
            if done is None and max(lags[:half]) <= CAUGHT_UP_S * each_rate:
                done = now
        if len(into["samples"]) % 10 == 0:
            save()
        time.sleep(max(0.0, SAMPLE_S - (time.time() - now)))
    assert done is not None  # noqa: S101 (the loop ends no other way)
    into["drained_s"] = round(done - began, 2)
    into["drained_records_s"] = round(into["backlog_records"] / (done - began))
    into["worker_peak_mb"] = machine.peak_mb(daemon.workers())
    for name, drained in (("live_lag_while_draining", False), ("live_lag_afterwards", True)):
        worst = [max(one["lags"][half:]) for one in into["samples"] if one["drained"] is drained]
        into[name] = _figures(worst, each_rate)


def _figures(worst: list[int], each_rate: float) -> dict[str, float]:
    """Of the live partition that is furthest behind at each second: in records and in seconds of its input."""
    p99 = quantiles(worst, n=100, method="inclusive")[98] if len(worst) > 1 else worst[0]
    found: dict[str, float] = {"samples": len(worst)}
    for name, lag in (("p50", median(worst)), ("p99", p99), ("max", max(worst))):
        found |= {f"{name}_records": round(lag), f"{name}_s": round(lag / each_rate, 2)}
    return found
