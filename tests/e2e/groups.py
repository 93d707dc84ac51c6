"""Two daemons share a topic: joining, leaving, and one that sleeps while its partitions move on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from tests.e2e.bench import Bench, Case, past, span
from tests.e2e.daemon import Daemon, wait_until
from tests.e2e.generate import Feed, Shape, make
from tests.e2e.watcher import Watcher

HOURS = 3
FEED_S = 60.0  # at most: what is left is sent at once when all has happened
PROTOCOLS: dict[str, dict[str, Any]] = {
    "classic": {},
    "consumer": {
        "group.protocol": "consumer",
        "session.timeout.ms": None,
        "heartbeat.interval.ms": None,
    },
}


def _pair(bench: Bench, name: str, root: str, case: Case) -> list[Daemon]:
    """Two daemons of one group and one root, as on two hosts."""
    return [
        bench.daemon(f"{name}-{host}", root, [case], group=case.topic, kafka=PROTOCOLS[name], workers=workers)
        for host, workers in (("a", 1), ("b", 2))
    ]


def _finish(base: int, case: Case, feed: Feed, daemons: list[Daemon]) -> None:
    case.wait_complete(span(base, HOURS), *daemons)
    case.wait_committed(*daemons, group=case.topic)
    for daemon in daemons:
        if daemon.running:
            daemon.stop()
        daemon.no_surprise()
    report = case.check()
    report.clean(crashed=True)
    assert set(span(base, HOURS)) <= set(report.complete)
    case.by_the_log(report, feed)
    assert report.committed == report.ends


def daemons_that_join_and_leave_share_the_work(bench: Bench) -> None:
    base = past(HOURS + 2)
    root = bench.root()
    cases = {name: bench.case(root, 6) for name in PROTOCOLS}
    pairs = {name: _pair(bench, name, root, case) for name, case in cases.items()}
    feeds = {
        name: case.feed(make(Shape(base, 6, HOURS, 8_000, chunks=300, seed=7)), FEED_S) for name, case in cases.items()
    }

    def shares(name: str) -> None:
        """a; a and b; b; a and b; a."""
        a, b = pairs[name]
        with _reads(a):
            a.start()
        with _reads(b):
            b.start()
        a.stop()
        with _reads(a):
            a.start()
        b.stop()
        feeds[name].hurry()
        feeds[name].wait()

    with Watcher(cases["classic"].tree, {case.topic: case.rules for case in cases.values()}, between_s=20):
        with ThreadPoolExecutor(2) as pool:
            for future in [pool.submit(shares, name) for name in PROTOCOLS]:
                future.result()
        for name, case in cases.items():
            _finish(base, case, feeds[name], pairs[name])
    for name, pair in pairs.items():
        assert all("reading" in daemon.logged() for daemon in pair), name


@contextmanager
def _reads(daemon: Daemon) -> Iterator[None]:
    """What is done has to give it a partition to read, which it then does for a while."""
    before = daemon.logged().count(" reading ")
    yield
    wait_until(lambda: daemon.logged().count(" reading ") > before, 100, f"{daemon.name} reads", daemon)
    time.sleep(2.0)


def a_daemon_that_wakes_after_its_partitions_moved_does_no_harm(bench: Bench) -> None:
    base = past(HOURS + 2)
    root = bench.root()
    cases = {name: bench.case(root, 4) for name in PROTOCOLS}
    pairs = {name: _pair(bench, name, root, case) for name, case in cases.items()}
    alone = bench.case(root, 2)
    hung = bench.daemon("hung", root, [alone], call_deadline="5s")
    feeds = {
        name: case.feed(make(Shape(base, 4, HOURS, 8_000, chunks=300, seed=9)), FEED_S) for name, case in cases.items()
    }
    feeds["hung"] = alone.feed(make(Shape(base, 2, HOURS, 4_000, chunks=300, seed=11)), FEED_S)

    def sleeps(name: str) -> None:
        """Each of the two sleeps once, in the middle of its work, until the other has all of it."""
        a, b = pairs[name]
        with _reads(a), _reads(b):
            a.start()
            b.start()
        for sleeper, other in ((a, b), (b, a)):
            # half a second of records are in its hands, an upload or a decision may be on its way
            with _reads(sleeper):
                with _reads(other):
                    workers = sleeper.freeze()
                    # longer than any session of the group: a rebalance that was under way does not count
                    time.sleep(9.0)
                sleeper.thaw(workers)
        feeds[name].hurry()
        feeds[name].wait()

    def hangs() -> None:
        """A worker that does nothing any more is found out and replaced by its parent."""
        with _reads(hung):
            hung.start()
        (worker,) = hung.workers()
        os.kill(worker, signal.SIGSTOP)
        wait_until(lambda: worker not in hung.workers(), 120, "the hung worker was replaced", hung)
        feeds["hung"].hurry()
        feeds["hung"].wait()

    with Watcher(alone.tree, {case.topic: case.rules for case in (*cases.values(), alone)}, between_s=60):
        with ThreadPoolExecutor(3) as pool:
            for future in [*(pool.submit(sleeps, name) for name in PROTOCOLS), pool.submit(hangs)]:
                future.result()
        for name, case in cases.items():
            _finish(base, case, feeds[name], pairs[name])
        _finish(base, alone, feeds["hung"], [hung])
