"""Partitions without records, an hour without any, and records that come when their hour is complete."""

from __future__ import annotations

from tests.e2e.bench import Bench, past, span
from tests.e2e.generate import HOUR_MS, MINUTE_MS, Made, Shape, good, make
from tests.e2e.watcher import Watcher

HOURS = 5
EMPTY, SILENT = 2, 3


def idle_partitions_and_empty_hours_hold_nothing_up(bench: Bench) -> None:
    """Partition 3 never gets a record, partition 2 none after its second hour, and nobody any in the third.

    Afterwards partition 2 gets records of hours that the clock has closed, and new ones.
    """
    base = past(HOURS + 2)
    root = bench.root()
    case = bench.case(root, 4)
    never = tuple((SILENT, hour) for hour in range(HOURS))
    shape = Shape(base, 4, HOURS, 6_000, silent=(*never, *((2, hour) for hour in range(2, HOURS))), none_in=(EMPTY,))
    daemon = bench.daemon("idle", root, [case], workers=2).start()
    with Watcher(case.tree, {case.topic: case.rules}):
        feed = case.feed(make(shape), 10.0)
        feed.wait()
        case.wait_complete(span(base, HOURS), daemon)
        log = case.wait_committed(daemon, group=case.topic)
        assert not any(record.partition == SILENT for record in log.records.values())
        before = case.check(log)
        before.clean(crashed=False)
        case.by_the_log(before, feed)
        assert base + EMPTY * HOUR_MS in before.complete
        assert before.hour_files[base + EMPTY * HOUR_MS] == 0

        # what comes now is late: its hours are closed, and stay as they are
        times = [base + hour * HOUR_MS + 30 * MINUTE_MS for hour in range(2, HOURS) for _ in range(20)]
        feed = case.feed([[Made(2, good(at, 2, 100_000 + i), at) for i, at in enumerate(times)]])
        feed.wait()
        case.wait_committed(daemon, group=case.topic)
    daemon.stop()
    daemon.no_surprise()
    report = case.check()
    report.clean(crashed=False)
    assert report.late_by_clock == before.late_by_clock + len(times)
    assert report.late == before.late + len(times)
    assert report.hour == before.hour
    assert report.committed == report.ends | {SILENT: 0}
