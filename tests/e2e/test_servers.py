"""Servers that die and come back while files are being uploaded, decided and finished."""

from __future__ import annotations

import time

import pytest

from tests.e2e.bench import Bench, past, span
from tests.e2e.daemon import wait_until
from tests.e2e.generate import Shape, make
from tests.e2e.watcher import Watcher
from tests.stack.hadoop import wait_live_datanodes

pytestmark = pytest.mark.e2e

HOURS = 4
#: an outage between reveal and mark lasts as long as it lasts
DOWN_S = 300.0
FEED_S = 90.0  # at most: what is left is sent at once when all servers are back


def test_datanodes_die_and_the_namenode_restarts_during_uploads(own_bench: Bench) -> None:
    bench, stack = own_bench, own_bench.stack
    base = past(HOURS + 2)
    cases = {
        "hdfs": bench.case(bench.root("hdfs", "hdfs"), 4),
        # uncompressed, so that the spool fills up while nothing can be uploaded
        "webhdfs": bench.case(bench.root("webhdfs", "webhdfs"), 4, compression="none"),
    }
    daemons = {
        scheme: bench.daemon(
            scheme, bench.root(scheme, scheme), [case], call_deadline="20s", spool_bytes="1MiB", buffer_bytes="16MiB"
        )
        for scheme, case in cases.items()
    }
    for daemon in daemons.values():
        daemon.start()
    with (
        Watcher(cases["hdfs"].tree, {cases["hdfs"].topic: cases["hdfs"].rules}, between_s=DOWN_S),
        Watcher(cases["webhdfs"].tree, {cases["webhdfs"].topic: cases["webhdfs"].rules}, between_s=DOWN_S),
    ):
        feeds = {
            scheme: case.feed(make(Shape(base, 4, HOURS, 10_000, chunks=300, pad=2_000)), FEED_S)
            for scheme, case in cases.items()
        }
        for daemon in daemons.values():
            wait_until(lambda daemon=daemon: "reading" in daemon.logged(), 90, "it reads", daemon)  # type: ignore[misc]
        time.sleep(3.0)
        first, second, *_ = stack.datanodes
        first.kill()
        time.sleep(6.0)
        second.pause()
        time.sleep(4.0)
        assert stack.namenode is not None
        stack.namenode.kill()
        time.sleep(4.0)
        stack.namenode.start()
        second.resume()
        stack.namenode.wait_ready()
        time.sleep(3.0)
        first.start()
        first.wait_ready()
        # in good order this time, and with everything alive again
        stack.namenode.restart()
        (broker,) = stack.kafka
        broker.restart()
        wait_live_datanodes(stack.namenode_http, len(stack.datanodes))
        for feed in feeds.values():
            feed.hurry()
            feed.wait()
        for scheme, case in cases.items():
            case.wait_complete(span(base, HOURS), daemons[scheme], timeout_s=200)
            case.wait_committed(daemons[scheme], group=case.topic)
    for scheme, case in cases.items():
        daemons[scheme].stop()
        daemons[scheme].no_surprise()
        report = case.check()
        report.clean(crashed=True)
        assert set(span(base, HOURS)) <= set(report.complete)
        case.by_the_log(report, feeds[scheme])
        assert report.committed == report.ends
    assert "spool is full" in daemons["webhdfs"].logged()
