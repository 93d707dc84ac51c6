"""Six hours on eight partitions with everything bad that a log can hold, in every form of output."""

from __future__ import annotations

import pytest

from tests.e2e.bench import Bench, Case, past, span
from tests.e2e.daemon import Daemon
from tests.e2e.generate import MINUTE_MS, Shape, make
from tests.e2e.oracle import Rules
from tests.e2e.watcher import Watcher

pytestmark = pytest.mark.e2e

HOURS = 6
FEED_S = 20.0


def test_each_hour_is_one_file_with_every_record_once(bench: Bench) -> None:
    base = past(HOURS + 2)
    hdfs, web, local = bench.root("hdfs"), bench.root("webhdfs", "web"), bench.root("file", "local")
    main = bench.case(hdfs, 8, Rules(max_record_bytes=900 * 1024), max_record_bytes="900KiB")
    forms = {
        "append": bench.case(hdfs, 2, Rules(late="append"), late="append", compression="zstd"),
        "early": bench.case(hdfs, 2, Rules(reveal="early"), reveal="early"),
        "text": bench.case(
            hdfs, 2, Rules(field=None, text=True), timestamp="create", format="text", compression="none"
        ),
        "quarters": bench.case(hdfs, 2, Rules(window_ms=15 * MINUTE_MS, late="drop"), window="15m", late="drop"),
    }
    others = {
        "webhdfs": bench.case(web, 2, target_bytes="8KiB", roll_bytes="2KiB"),
        "file": bench.case(local, 2),
    }
    cases: dict[str, Case] = {"main": main, **forms, **others}
    daemons = [
        bench.daemon("main", hdfs, [main, *forms.values()], workers=2),
        bench.daemon("web", web, [others["webhdfs"]], reader="python"),
        bench.daemon("local", local, [others["file"]]),
    ]
    for daemon in daemons:
        daemon.start()
    shapes = {
        name: Shape(base, 8, HOURS, 24_000, seed=1, large=12)
        if name == "main"
        else Shape(base, 2, HOURS if name in forms else 2, 3_000, seed=number, late=50, text=name == "text")
        for number, (name, case) in enumerate(cases.items())
    }
    with (
        Watcher(main.tree, {case.topic: case.rules for case in (main, *forms.values())}),
        Watcher(others["webhdfs"].tree, {others["webhdfs"].topic: Rules()}),
        Watcher(others["file"].tree, {others["file"].topic: Rules()}),
    ):
        feeds = {
            name: case.feed(make(shapes[name]), FEED_S, transactions=name in ("main", "quarters"))
            for name, case in cases.items()
        }
        for feed in feeds.values():
            feed.wait()
        for name, case in cases.items():
            case.wait_complete(span(base, shapes[name].hours, case.rules.window_ms), *daemons)
        for daemon, one in zip(daemons, (main, others["webhdfs"], others["file"]), strict=True):
            one.wait_committed(daemon, group=one.topic)
    _stop(daemons)
    for name, case in cases.items():
        report = case.check()
        report.clean(crashed=False)
        hours = set(span(base, shapes[name].hours, case.rules.window_ms))
        assert hours <= set(report.complete), name
        assert report.incomplete == []
        if name == "webhdfs":
            assert min(report.hour_files[hour] for hour in hours) > 1, report.hour_files
        elif name != "early":
            assert {report.hour_files[hour] for hour in hours} == {1}, (name, report.hour_files)
        assert report.late + report.dropped > 0
        assert report.quarantined
        case.by_the_log(report, feeds[name])
        assert report.committed == report.ends
        assert report.pieces > 20


def _stop(daemons: list[Daemon]) -> None:
    for daemon in daemons:
        daemon.stop()
        daemon.no_surprise()
