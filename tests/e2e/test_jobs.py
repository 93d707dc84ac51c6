"""The jobs of an operator on what a real daemon wrote to a real HDFS: reveal, locate, quarantine, compact."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.bench import Bench, Case, past
from tests.e2e.daemon import Daemon, wait_until
from tests.e2e.generate import HOUR_MS, MINUTE_MS, Made, good

pytestmark = pytest.mark.e2e

#: of one hour and partition
RECORDS = 60


def job(config: Path, name: str, *arguments: str, code: int = 0) -> dict[str, Any]:
    command = [sys.executable, "-m", "logflume", name, *arguments, "-c", str(config), "--json"]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=120)
    assert done.returncode == code, (command, done.stdout, done.stderr)
    body: dict[str, Any] = json.loads(done.stdout)
    return body


def hour_of(base: int, partition: int, first: int = 0) -> list[Made]:
    step = 50 * MINUTE_MS // RECORDS
    times = [base + i * step for i in range(RECORDS)]
    return [Made(partition, good(at, partition, first + i), at) for i, at in enumerate(times)]


def name_of(hour: int) -> str:
    return time.strftime("%Y-%m-%dT%H", time.gmtime(hour // 1000))


def decided(daemon: Daemon, case: Case, ends: dict[int, int]) -> None:
    wait_until(
        lambda: case.bench.committed(case.topic, case.topic, list(ends)) == ends, 90, f"{ends} is decided", daemon
    )


def test_an_hour_that_one_partition_holds_back_is_shown_and_completed_later(bench: Bench) -> None:
    base = past(4)
    case = bench.case(bench.root("hdfs"), 2, idle_grace="1h")  # so that silence closes nothing
    daemon = bench.daemon("daemon", bench.root("hdfs"), [case])
    daemon.start()
    first = [
        *hour_of(base, 0),
        *hour_of(base, 1),
        *hour_of(base + HOUR_MS, 0, 100),
        *hour_of(base + 2 * HOUR_MS, 0, 200),
    ]
    case.feed([first]).wait()
    decided(daemon, case, {0: 3 * RECORDS, 1: RECORDS})
    assert not case.has(base, "_SUCCESS")
    shown = job(daemon.config_file, "reveal", case.topic, name_of(base))
    assert len(shown["missing"]) == 1
    assert "partition 1" in shown["missing"][0]
    assert case.has(base, "_INCOMPLETE")
    assert not case.has(base, "_SUCCESS")
    # what was missing comes: the hour's last records, and one that closes it
    rest = [Made(1, good(base + 55 * MINUTE_MS, 1, 300 + i), base + 55 * MINUTE_MS) for i in range(5)]
    case.feed([[*rest, *hour_of(base + 2 * HOUR_MS, 1, 400)]]).wait()
    case.wait_complete([base, base + HOUR_MS], daemon)
    wait_until(lambda: not case.has(base, "_INCOMPLETE"), 30, "the operator's marker is gone", daemon)
    decided(daemon, case, {0: 3 * RECORDS, 1: 2 * RECORDS + 5})
    daemon.stop()
    daemon.no_surprise()
    report = case.check()
    report.clean(crashed=False, pending=True)  # the last hour is open
    assert {base, base + HOUR_MS} <= set(report.complete)
    assert job(daemon.config_file, "reconcile", "--full", "--deep", "--patience", "0s")["findings"] == []


def test_records_are_found_run_again_from_quarantine_once_and_merged(bench: Bench) -> None:
    base = past(4)
    case = bench.case(bench.root("hdfs"), 1)
    daemon = bench.daemon("daemon", bench.root("hdfs"), [case])
    daemon.start()
    odd = [Made(0, b'{"when":%d,"n":%d}' % (base + i, i), base + i) for i in range(3)]
    late = [Made(0, good(base + i, 0, 500 + i), base + i) for i in range(4)]
    # the newest entry's parts are left alone by compact, so the last one has none of the late records
    at = base + 2 * HOUR_MS + 51 * MINUTE_MS
    last = [Made(0, good(at, 0, 600), at)]
    chunks = [[*hour_of(base, 0), *odd, *hour_of(base + 2 * HOUR_MS, 0, 100)], late[:2], late[2:], last]
    ends = 0
    for chunk in chunks:  # late ones in two parts
        case.feed([chunk]).wait()
        ends += len(chunk)
        decided(daemon, case, {0: ends})
    case.wait_complete([base], daemon)
    daemon.stop()
    report = case.check()
    report.clean(crashed=False, pending=True)  # the last hour is open
    assert (sum(report.quarantined.values()), report.late) == (len(odd), len(late))

    for offset, fate in ((0, "hour"), (RECORDS, "quarantine"), (ends - 2, "late")):
        found = job(daemon.config_file, "locate", case.topic, "0", str(offset))
        assert found["fate"] == fate
        directory, name = found["place"]["path"].rsplit("/", 1)
        assert name in {node.name for node in case.tree.list(directory)}
        again = job(daemon.config_file, "locate", "--file", found["place"]["path"])
        assert again["topic"] == case.topic

    merged = job(daemon.config_file, "compact", "--topic", case.topic, "--tree", "late", "--files", "1")
    assert [one["state"] for one in merged["directories"]] == ["compacted"]
    assert job(daemon.config_file, "locate", case.topic, "0", str(ends - 2))["fate"] == "late"

    listed = job(daemon.config_file, "quarantine", case.topic)
    assert [(one["reason"], one["records"]) for one in listed["reasons"]] == [("no_time", len(odd))]
    mended = daemon.config_file.with_name("mended.toml")
    mended.write_text(daemon.config_file.read_text().replace('"ts"', '"when"'))
    assert mended.read_text() != daemon.config_file.read_text()
    assert job(mended, "quarantine", case.topic, "--reinject")["reinjected"] == len(odd)
    again = job(mended, "quarantine", case.topic, "--reinject")
    assert (again["reinjected"], again["reinjected_before"]) == (0, len(odd))
    assert job(daemon.config_file, "reconcile", "--full", "--deep", "--patience", "0s")["findings"] == []
