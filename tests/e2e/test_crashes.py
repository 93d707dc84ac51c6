"""SIGKILL at random moments: whatever was being done is done again by whoever comes next, and once only."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.e2e.bench import Bench, Case, past, span
from tests.e2e.daemon import Daemon, wait_until
from tests.e2e.generate import Feed, Shape, make
from tests.e2e.watcher import Watcher

pytestmark = pytest.mark.e2e

HOURS = 4
KILLS = 8  # of each of three daemons
FEED_S = 90.0  # at most: what is left is sent at once after the last kill


@dataclass
class Kills:
    parents: int = 0
    workers: int = 0

    @property
    def all(self) -> int:
        return self.parents + self.workers


def test_killed_at_any_moment_nothing_is_lost_or_repeated(bench: Bench) -> None:
    base = past(HOURS + 2)
    hdfs, local = bench.root("hdfs"), bench.root("file")
    group = bench.case(hdfs, 6)
    static = bench.case(hdfs, 4, late="append", roll_every="500ms")
    files = bench.case(local, 3, reveal="early", roll_every="300ms")
    alone = {"assignment": "static", "group.id": None, "session.timeout.ms": None, "heartbeat.interval.ms": None}
    runs: list[tuple[Case, Daemon]] = [
        (group, bench.daemon("group", hdfs, [group], workers=2)),
        (static, bench.daemon("static", bench.root("hdfs"), [static], kafka=alone, workers=2)),
        (files, bench.daemon("files", local, [files], kafka=alone)),
    ]
    shapes = [Shape(base, partitions, HOURS, 10_000, chunks=400, seed=partitions) for partitions in (6, 4, 3)]
    feeds = [
        case.feed(make(shape), FEED_S, transactions=case is static)
        for (case, _), shape in zip(runs, shapes, strict=True)
    ]
    with Watcher(group.tree, {group.topic: group.rules}, between_s=40), ThreadPoolExecutor(3) as pool:
        futures = [
            pool.submit(_kill_and_restart, daemon, feed, seed)
            for seed, ((_, daemon), feed) in enumerate(zip(runs, feeds, strict=True))
        ]
        kills = [future.result() for future in futures]
        for case, daemon in runs:
            case.wait_complete(span(base, HOURS), daemon)
        group.wait_committed(runs[0][1], group=group.topic)
    print(kills)  # noqa: T201
    for (case, daemon), feed in zip(runs, feeds, strict=True):
        daemon.stop()
        daemon.no_surprise()
        report = case.check()
        report.clean(crashed=True)
        assert set(span(base, HOURS)) <= set(report.complete)
        case.by_the_log(report, feed)
        assert report.committed == report.ends
    assert sum(one.all for one in kills) >= 20, kills
    assert sum(one.parents for one in kills) >= 3, kills
    assert sum(one.workers for one in kills) >= 3, kills


def _kill_and_restart(daemon: Daemon, feed: Feed, seed: int) -> Kills:
    """Kill the parent or a worker while records come in, and leave it running."""
    rng = random.Random(seed)
    kills, in_a_row = Kills(), 0
    daemon.start()
    while feed.running and kills.all < KILLS:
        # a worker that dies again and again is started again later and later
        worker = in_a_row < 2 and rng.random() < 0.75
        if rng.random() < 0.7:
            # while it works; otherwise also while it starts
            before = daemon.logged().count(" reading ")
            _wait(lambda before=before: daemon.logged().count(" reading ") > before, feed)  # type: ignore[misc]
        elif worker:
            _wait(daemon.workers, feed)
        time.sleep(rng.uniform(0.0, 2.0))
        if not feed.running:
            break
        if worker and daemon.kill_worker(rng.randrange(4)):
            kills.workers += 1
            in_a_row += 1
        else:
            daemon.kill()
            daemon.start()
            kills.parents += 1
            in_a_row = 0
    feed.hurry()
    feed.wait()
    wait_until(lambda: daemon.running, 1, "the daemon runs", daemon)
    return kills


def _wait(done: Callable[[], object], feed: Feed) -> None:
    deadline = time.monotonic() + 12.0
    while not done() and feed.running and time.monotonic() < deadline:
        time.sleep(0.02)
