"""HDFS refuses: no right to write, no quota left. The topic waits, says so, and goes on when it clears."""

from __future__ import annotations

import time
from collections.abc import Mapping

from tests.e2e.bench import Bench, Case, past, span
from tests.e2e.daemon import Daemon, wait_until
from tests.e2e.generate import Shape, make

HOURS = 3


def refusals_of_the_store_are_waited_out_and_nothing_is_dropped(bench: Bench) -> None:
    base = past(HOURS + 2)
    cases = {scheme: bench.case(bench.root(scheme, scheme), 3) for scheme in ("hdfs", "webhdfs")}
    # somebody without privileges
    daemons = {
        scheme: bench.daemon(scheme, bench.root(scheme, scheme), [case], user="e2e") for scheme, case in cases.items()
    }
    for daemon in daemons.values():
        daemon.start()
    feeds = {scheme: case.feed(make(Shape(base, 3, HOURS, 6_000, chunks=300)), 90.0) for scheme, case in cases.items()}
    for daemon in daemons.values():
        wait_until(lambda daemon=daemon: " reading " in daemon.logged(), 90, "it reads", daemon)  # type: ignore[misc]
    bench.hdfs("SETPERMISSION", permission="000")
    _say(daemons, "Permission denied")
    bench.hdfs("SETPERMISSION", permission="777")
    _go_on(bench, cases)
    bench.hdfs("SETQUOTA", namespacequota="1")
    _say(daemons, "quota")
    bench.hdfs("SETQUOTA", namespacequota="-1")
    _go_on(bench, cases)
    for feed in feeds.values():
        feed.hurry()
        feed.wait()
    for scheme, case in cases.items():
        case.wait_complete(span(base, HOURS), daemons[scheme])
        case.wait_committed(daemons[scheme], group=case.topic)
        daemons[scheme].stop()
        daemons[scheme].no_surprise()
        assert " died " not in daemons[scheme].logged()
        report = case.check()
        report.clean(crashed=True)
        case.by_the_log(report, feeds[scheme])
        assert report.committed == report.ends


def _say(daemons: dict[str, Daemon], cause: str) -> None:
    for daemon in daemons.values():
        wait_until(lambda daemon=daemon: cause in daemon.logged(), 60, f"it says: {cause}", daemon)  # type: ignore[misc]
    time.sleep(1.0)


def _go_on(bench: Bench, cases: Mapping[str, Case]) -> None:
    """Something is decided again of each topic; the longest pause between two tries is 30 s."""
    for case in cases.values():
        before = bench.committed(case.topic, case.topic, [0, 1, 2])
        wait_until(
            lambda case=case, before=before: bench.committed(case.topic, case.topic, [0, 1, 2]) != before,  # type: ignore[misc]
            60,
            f"{case.topic} goes on from {before}",
        )
