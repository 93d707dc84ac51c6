"""What is held and not due: a stop in good order decides it, and so does a spool that is full."""

from __future__ import annotations

import shutil
import socket
import time

from tests.e2e.bench import Bench, past
from tests.e2e.daemon import Daemon, wait_until
from tests.e2e.generate import HOUR_MS, Shape, make
from tests.e2e.oracle import Rules

DEADLINE_S = 30.0


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def read(daemon: Daemon) -> dict[int, int]:
    """Partition → position."""
    found = daemon.status() or {"partitions": []}
    return {one["partition"]: one["position"] for one in found["partitions"]}


def sigterm_decides_what_is_held_and_a_restart_reads_nothing_again(bench: Bench) -> None:
    base = past(4)
    root = bench.root()
    # nothing closes and nothing rolls by itself: all is in the spool when the signal comes
    rules = Rules(lateness_ms=12 * HOUR_MS)
    case = bench.case(root, 6, rules, roll_every="1h", lateness="12h", idle_grace="1h")
    daemon = bench.daemon("stop", root, [case], http=free_address(), stop_deadline=f"{DEADLINE_S:g}s").start()
    case.feed(make(Shape(base, 6, 2, 8_000, late=0))).wait()
    ends = case.log().ends
    wait_until(lambda: read(daemon) == ends, 90, f"everything is read, up to {ends}", daemon)
    assert not any(bench.committed(case.topic, case.topic, list(ends)).values())
    took_s = daemon.stop()
    assert took_s < DEADLINE_S, took_s
    log = case.log()
    report = case.check(log)
    assert bench.committed(case.topic, case.topic, list(ends)) == ends == report.committed
    # decided, and hidden until their hours are complete
    report.clean(crashed=False, pending=True)
    assert report.pending + report.late + sum(report.quarantined.values()) == report.acknowledged

    daemon.start()
    wait_until(lambda: read(daemon) == ends, 90, "the restarted daemon is at the end", daemon)
    time.sleep(2.0)
    status = daemon.status()
    daemon.stop()
    daemon.no_surprise()
    assert status is not None
    read_again = [one for one in status["counters"] if one["name"] == "records" and one["count"]]
    assert read_again == []
    after = case.check(log)
    assert after.pieces == report.pieces
    after.clean(crashed=False, pending=True)


def a_spool_full_of_parts_that_are_not_due_makes_room(bench: Bench) -> None:
    """Nothing was read until ``roll_every``, with HDFS in good order."""
    root, rules = bench.root(), Rules(lateness_ms=12 * HOUR_MS)
    case = bench.case(root, 6, rules, roll_every="1h", lateness="12h", idle_grace="1h", compression="none")
    small = bench.daemon("full", root, [case], http=free_address(), spool_bytes="4MiB", buffer_bytes="16MiB")
    daemon = small.start()
    case.feed(make(Shape(past(4), 6, 2, 20_000, late=0, pad=3_000))).wait()
    ends = case.log().ends
    wait_until(lambda: read(daemon) == ends, 90, f"everything is read, up to {ends}", daemon)
    daemon.stop()
    daemon.no_surprise()
    assert "spool is full" in daemon.logged()
    case.check().clean(crashed=False, pending=True)


def a_spool_that_is_removed_under_a_worker_is_made_again(bench: Bench) -> None:
    """Each partition was claimed, read and given up again, without end."""
    root, rules = bench.root(), Rules(lateness_ms=12 * HOUR_MS)
    case = bench.case(root, 2, rules, roll_every="1h", lateness="12h", idle_grace="1h")
    daemon = bench.daemon("removed", root, [case], http=free_address())
    # what it logs on its way is a partition that waits, or stops for a moment
    daemon.may_stop = True
    daemon.start()
    base = past(4)
    case.feed(make(Shape(base, 2, 1, 5_000, late=0))).wait()
    wait_until(lambda: read(daemon) == case.log().ends, 60, "the first records are read", daemon)
    shutil.rmtree(next(daemon.spool.glob("w0-*")))
    case.feed(make(Shape(base + HOUR_MS, 2, 1, 5_000, late=0))).wait()
    wait_until(lambda: "the spool was removed" in daemon.logged(), 60, "the worker sees it", daemon)
    wait_until(lambda: read(daemon) == case.log().ends, 60, "another worker reads all of it", daemon)
    daemon.stop()
    daemon.no_surprise()
    case.check().clean(crashed=True, pending=True)
