"""A stop in good order decides everything, and the next start reads nothing again."""

from __future__ import annotations

import socket
import time

from tests.e2e.bench import Bench, past
from tests.e2e.daemon import wait_until
from tests.e2e.generate import HOUR_MS, Shape, make
from tests.e2e.oracle import Rules

DEADLINE_S = 30.0


def sigterm_decides_what_is_held_and_a_restart_reads_nothing_again(bench: Bench) -> None:
    base = past(4)
    root = bench.root()
    # nothing closes and nothing rolls by itself: all is in the spool when the signal comes
    rules = Rules(lateness_ms=12 * HOUR_MS)
    case = bench.case(root, 6, rules, roll_every="1h", lateness="12h", idle_grace="1h")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    daemon = bench.daemon("stop", root, [case], http=address, stop_deadline=f"{DEADLINE_S:g}s").start()
    case.feed(make(Shape(base, 6, 2, 8_000, late=0))).wait()
    ends = case.log().ends

    def read() -> dict[int, int]:
        found = daemon.status() or {"partitions": []}
        return {one["partition"]: one["position"] for one in found["partitions"]}

    wait_until(lambda: read() == ends, 90, f"everything is read, up to {ends}", daemon)
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
    wait_until(lambda: read() == ends, 90, "the restarted daemon is at the end", daemon)
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
