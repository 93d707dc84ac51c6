"""From the record that closes an hour's last partition to ``_SUCCESS``: with live input, many hours in a row.

Event time runs faster than the clock, so that an hour passes in some seconds; nothing else is scaled. What an hour's
critical path consists of is read from the daemon's debug lines: see ``steps``.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable
from statistics import quantiles
from typing import Any

from confluent_kafka import Producer

from bench import machine, steps
from bench.daemon import first_logged, place, positions, topic_settings
from bench.results import FAILURES
from bench.topic import BASE_MS, HOUR_MS, send, value
from tests.e2e.daemon import wait_until
from tests.stack import Stack
from tests.stack.kafka import create_topic, delete_topics

JITTER_MS = 60_000
#: three times the default: at 20 s an hour it is 10 s, with half of which between the two times that an hour is written
LATENESS_MS = 1_800_000
SIZE = 220
#: Each time the next so many partitions are sent what is due: 256 requests a second. With some records to each of them
#: twenty times a second, the broker alone took 0.8 of the two cores.
TICK_S, TURN = 0.25, 64
SAVE_S = 5.0
#: real time an hour, at least, for each partition, and at most: twice an hour, half of the lateness apart, each of them
#: writes files that cost the servers on this machine some 20 ms of processor time each
LEAST_S, EACH_S, MOST_S = 10.0, 0.3125, 40.0
LAST_TIMEOUT_S = 180.0
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
        self.end = False
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50, "compression.type": "lz4"})
        self._rng = random.Random(1)
        # made beforehand: making records would take the time of sending them
        self._tails = [value(self._rng, BASE_MS, i, SIZE)[19:] for i in range(5000)]

    def run(self) -> None:
        began = time.time()
        next_close = [BASE_MS + HOUR_MS + LATENESS_MS] * self.partitions
        end = BASE_MS + self.hours * HOUR_MS + LATENESS_MS + 4 * JITTER_MS
        first = 0
        while not self.end:
            now = time.time()
            due = int((now - began) * self.rate)
            for i in range(self.sent, due):
                arrival = BASE_MS + JITTER_MS + int(i / self.rate * self.speed)
                time_ms = arrival + self._rng.randint(-JITTER_MS, JITTER_MS)
                partition = (first + i % TURN) % self.partitions
                send(self._producer, self.topic, b'{"ts":%d' % time_ms + self._tails[i % 5000], partition, time_ms)
                while time_ms >= next_close[partition]:
                    hour = next_close[partition] - HOUR_MS - LATENESS_MS
                    self.closed[hour] = time.time()
                    next_close[partition] += HOUR_MS
            self.sent = max(self.sent, due)
            first += TURN
            self._producer.poll(0)
            self.behind_s = max(self.behind_s, time.time() - now - TICK_S)
            if min(next_close) > end:
                break
            time.sleep(TICK_S)
        self._producer.flush(60)


def measure(
    stack: Stack,
    *,
    partitions: list[int],
    hours: int,
    seconds: float | None,
    rate: int,
    daemon: dict[str, Any],
    save: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """One series for each number of partitions. ``seconds`` of real time are an hour; None: LEAST_S to MOST_S, by the
    partitions. What is known is saved all the time, and a series that breaks off is in the result with the hours that
    it came to, and with why.
    """
    found: dict[str, Any] = {
        "machine": machine.describe(),
        "hours": hours,
        "rate": rate,
        "daemon": daemon,
        "series": [],
        "runs": [],
        "complete": False,
    }
    for number in partitions:
        real_s = seconds or min(MOST_S, max(LEAST_S, number * EACH_S))
        one: dict[str, Any] = {"partitions": number, "seconds_an_hour": real_s}
        found["series"].append(one)
        topic = create_topic(stack.bootstrap, f"bench-hours-{time.time_ns()}", number)
        live = Live(stack.bootstrap, topic, number, hours, real_s, rate)
        try:
            _series(stack, topic, live, daemon, one, lambda: save(found), found["runs"])
        except FAILURES as failure:
            one["failure"] = str(failure)
            print(failure, flush=True)  # noqa: T201
        finally:
            live.end = True
            delete_topics(stack.bootstrap, [topic])
        save(found)
        print(f"{number} partitions: {one.get('seconds')}", flush=True)  # noqa: T201
    found["complete"] = True
    return found


def _series(
    stack: Stack,
    topic: str,
    live: Live,
    settings: dict[str, Any],
    into: dict[str, Any],
    save: Callable[[], None],
    loads: list[dict[str, float]],
) -> None:
    last = BASE_MS + (live.hours - 1) * HOUR_MS
    marked: dict[int, dict[str, Any]] = {}
    with place(stack) as here:
        # its lines say how long each step of a decision and of finishing took
        program = here.daemon(
            [topic_settings(topic, lateness=f"{LATENESS_MS}ms")], log_level="debug", **settings
        ).start()
        try:
            wait_until(lambda: len(READING.findall(program.logged())) >= live.partitions, 300, "it reads", program)
            live.start()
            ended = None
            while last not in marked:
                time.sleep(SAVE_S)
                if not live.is_alive():
                    ended = ended or time.time()
                    if time.time() > ended + LAST_TIMEOUT_S:
                        raise SystemExit(f"the last hour was not marked in {LAST_TIMEOUT_S:g} s: {program.tail()}")
                program.no_surprise()
                loads.append({"load_average": machine.load()})
                for hour in sorted(set(live.closed) - set(marked)):
                    manifest = here.manifest(topic, hour)
                    if manifest is not None:
                        marked[hour] = manifest
                pids = [program.process.pid, *program.workers()]
                into.update(
                    sent=live.sent,
                    read=positions(program.status()),
                    producer_behind_s=round(live.behind_s, 2),
                    cpu_cores=round(machine.cpu_s(pids) / (time.time() - first_logged(program, "reading")), 2),
                    peak_mb=machine.peak_mb(pids),
                    files=sum(len(one["files"]) for one in marked.values()),
                    **_figures(live, marked, program.logged()),
                )
                save()
            program.stop(120)
        finally:
            live.end = True
            program.end()


def _figures(live: Live, marked: dict[int, dict[str, Any]], logged: str) -> dict[str, Any]:
    """Of all hours so far but the first one, when nothing is warm."""
    sent, path = [], steps.Path(logged)
    each: dict[str, list[float]] = {}
    for hour, one in sorted(marked.items()):
        if hour == BASE_MS or hour not in live.closed:
            continue
        seconds = one["marked_ms"] / 1000 - live.closed[hour]
        sent.append(seconds)
        for name, part in path.of(hour, HOUR_MS, live.closed[hour]).items():
            each.setdefault(name, []).append(part)
    if len(sent) < 2:
        return {}
    return {
        "seconds": percentiles(sent),
        "critical_path": {name: percentiles(values) for name, values in each.items() if len(values) > 1},
        "each": [round(one, 3) for one in sent],
    }


def percentiles(values: list[float]) -> dict[str, float]:
    cuts = quantiles(values, n=100, method="inclusive")
    return {"hours": len(values), "p50": cuts[49], "p90": cuts[89], "p99": cuts[98], "max": max(values)}
