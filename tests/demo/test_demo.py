"""The whole demo, once: what it says, what it leaves, and that nothing of it stays behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from logflume.demo import account, offsets, records, run, screen, summary
from logflume.demo.daemon import TOPIC, Daemon, configuration
from logflume.demo.records import HOUR_MS, HOURS, PARTITIONS, Sent
from logflume.demo.run import Result, Step
from logflume.errors import Incomplete, LogflumeError
from tests.demo import tree
from tests.demo.tree import hour_files, load, save

DEMO = [sys.executable, "-m", "logflume", "demo"]
#: it takes half a minute on an idle machine of two cores
PATIENCE_S = 240


class Done:
    """A demo that ran: what it printed as JSON, its directory, and what can be read from that again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process = subprocess.run(
            [*DEMO, "--json", "--seed", "5", "--dir", str(directory)],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        self.printed: dict[str, Any] = json.loads(self.process.stdout or "{}")
        self.log = (directory / "daemon.log").read_text()

    @property
    def hours(self) -> list[int]:
        first = datetime.fromisoformat(f"{self.printed['hours'][0]['hour']}:00:00+00:00")
        return [int(first.timestamp()) * 1000 + i * HOUR_MS for i in range(HOURS)]

    @cached_property
    def sent(self) -> list[Sent]:
        return records.make(self.hours[0], seed=5)

    def result(self, output: Path) -> Result:
        """The same result, put together anew from the seed and from the files below ``output``."""
        return Result(
            directory=output.parent,
            seed=5,
            elapsed_s=25.0,
            hours=self.hours,
            log_ends=[sum(record.partition == number for record in self.sent) for number in range(PARTITIONS)],
            steps=[Step(1.0, "kill -9", "worker 4711")],
            killed=[4711],
            ledgers=offsets.read(output, TOPIC, self.hours),
            account=account.count(output, TOPIC, self.sent),
        )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    return Done(tmp_path_factory.mktemp("demo") / "kept")


@pytest.fixture
def output(done: Done, tmp_path: Path) -> Path:
    """A copy of what the daemon wrote, to tamper with."""
    shutil.copytree(done.directory / "output", tmp_path / "output")
    return tmp_path / "output"


@pytest.mark.e2e
@pytest.mark.slow
class TestAWholeDemo:
    def test_every_record_is_accounted_for(self, done: Done) -> None:
        assert (done.process.returncode, done.process.stderr) == (0, "")
        assert done.printed["proven"] is True
        found = done.printed["account"]
        assert [found[name] for name in ("lost", "repeated", "misplaced", "altered")] == [0, 0, 0, 0]
        assert found["sent"] == found["in_hours"] + found["late"] + found["quarantined"] > 40_000
        assert sum(hour["records"] for hour in done.printed["hours"]) == found["in_hours"]
        assert set(found["quarantined_by_reason"]) == set(records.BAD)
        assert found["late"] > 100

    def test_every_hour_is_complete_in_one_file(self, done: Done) -> None:
        # at ten past, the clock may close one more, which is empty
        hours = done.printed["hours"][:HOURS]
        assert len(hours) == HOURS
        assert all(hour["complete"] and hour["files"] == 1 and hour["records"] > 8000 for hour in hours)

    def test_a_worker_was_killed_and_its_successor_read_on_from_c(self, done: Done) -> None:
        assert done.printed["workers_killed"] == 1
        events = [json.loads(line) for line in done.log.splitlines() if line.startswith("{")]
        assert [event["exit"] for event in events if event["event"] == "worker died"] == ["SIGKILL"]
        for partition in done.printed["partitions"]:
            first, *later = partition["claimed_at"]
            assert first == 0
            assert later
            assert partition["committed"] == partition["log_end"]

    def test_each_partition_closed_each_hour_by_the_records_or_by_the_clock(self, done: Done) -> None:
        for partition in done.printed["partitions"]:
            boundaries = [closed["boundary"] for closed in partition["closed"]]
            assert len(boundaries) == HOURS
            assert boundaries == sorted(boundaries)
            # nothing comes after the last hour, so only the clock can close it
            assert partition["closed"][-1]["reason"] == "idle"
        silent = done.printed["partitions"][-1]
        assert silent["closed"][-2]["reason"] == "idle"

    def test_the_json_is_a_contract(self, done: Done) -> None:
        top = "directory seed elapsed_s workers_killed proven account hours partitions"
        assert list(done.printed) == top.split()
        counts = "sent in_hours late quarantined quarantined_by_reason lost repeated misplaced altered"
        assert list(done.printed["account"]) == counts.split()
        assert list(done.printed["hours"][0]) == "hour complete records files bytes".split()
        partition = done.printed["partitions"][0]
        assert list(partition) == "partition committed log_end claimed_at closed".split()
        assert list(partition["closed"][0]) == "hour boundary committed reason".split()

    def test_the_same_is_found_when_it_is_counted_again(self, done: Done) -> None:
        again = summary.of(done.result(done.directory / "output"))
        assert again["account"] == done.printed["account"]
        assert again["hours"] == done.printed["hours"]
        assert again["partitions"] == done.printed["partitions"]

    def test_nothing_of_it_still_runs(self, done: Done) -> None:
        pids = [int(pid) for pid in re.findall(r'"pid": (\d+)', done.log)]
        assert len(pids) == 2
        assert not [pid for pid in pids if runs(pid)]

    def test_the_screen_fits_a_terminal_and_shows_tree_offsets_and_account(self, done: Done) -> None:
        result = done.result(done.directory / "output")
        shown = screen.report(result) + screen.next_steps(result, kept=False)
        lines = shown.replace(str(done.directory), "DIR").splitlines()
        assert [line for line in lines if len(line) > screen.WIDTH] == []
        for words in ("_SUCCESS", "The two offsets", "closed by the clock", "lost 0    repeated 0    misplaced 0"):
            assert words in shown
        assert "hours complete 3 of 3" in shown
        assert "conf/logflume.toml" in shown
        kept = screen.next_steps(result, kept=True)
        assert f"zcat {result.account.hours[-1].directory}/*.gz" in kept

    def test_an_empty_hour_that_the_clock_closed_besides_does_no_harm(self, done: Done, output: Path) -> None:
        after = output / tree.TOPIC / tree.directory(done.hours[-1] + HOUR_MS)
        after.mkdir(parents=True, exist_ok=True)
        (after / "_SUCCESS").write_text('{"records": 0}')
        result = done.result(output)
        assert summary.problems(result) == []
        assert "hours complete 3 of 3" in screen.report(result)

    def test_a_removed_line_is_lost_and_ends_with_exit_code_9(self, done: Done, output: Path) -> None:
        path = hour_files(output)[0]
        save(path, load(path)[1:])
        result = done.result(output)
        with pytest.raises(Incomplete, match=r"lost 1; hour .* has .* records, and its _SUCCESS says") as raised:
            summary.judge(result)
        assert raised.value.exit_code == 9
        assert "lost 1    repeated 0" in screen.report(result)

    def test_a_doubled_line_is_repeated(self, done: Done, output: Path) -> None:
        path = hour_files(output)[1]
        lines = load(path)
        save(path, [*lines, lines[-1]])
        assert "repeated 1" in summary.problems(done.result(output))

    def test_a_line_moved_into_another_hour_is_misplaced(self, done: Done, output: Path) -> None:
        one, other = hour_files(output)[:2]
        first, *rest = load(one)
        save(one, rest)
        save(other, [*load(other), first])
        assert summary.problems(done.result(output))[0] == "misplaced 1"

    def test_an_hour_without_a_marker_is_a_problem(self, done: Done, output: Path) -> None:
        marker = hour_files(output)[2].parent / "_SUCCESS"
        marker.unlink()
        (problem,) = summary.problems(done.result(output))
        assert problem.endswith("has no _SUCCESS")


def runs(pid: int) -> bool:
    """Whether a process is there and is not just waiting to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def children(pid: int) -> list[int]:
    """All processes below this one."""
    own = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return own + [below for one in own for below in children(one)]


@pytest.mark.e2e
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux which processes there are")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda one: one.name)
def test_however_it_ends_nothing_stays_behind(number: signal.Signals, tmp_path: Path) -> None:
    with subprocess.Popen(
        DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    ) as demo:
        try:
            deadline = time.monotonic() + PATIENCE_S / 2
            while not any("worker started" in log.read_text() for log in tmp_path.glob("*/daemon.log")):
                assert demo.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            below = children(demo.pid)
            assert len(below) >= 3  # broker, daemon, worker
            demo.send_signal(number)
            shown, errors = demo.communicate(timeout=30)
        finally:
            demo.kill()
    deadline = time.monotonic() + 10
    while any(runs(pid) for pid in below):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if number is not signal.SIGKILL:
        assert demo.returncode == 130
        assert shown.endswith("interrupted: the broker and the daemon are stopped\n")
        assert errors == ""
        assert list(tmp_path.iterdir()) == []


def test_a_daemon_that_ends_by_itself_is_an_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    with Daemon(tmp_path / "missing.toml", tmp_path / "daemon.log") as daemon:
        assert daemon._ended_within(60) == 2
        with pytest.raises(LogflumeError, match=r"ended by itself with code 2.*\n.*cannot read") as raised:
            daemon.check()
    assert str(tmp_path / "daemon.log") in raised.value.hint


def test_hours_that_do_not_come_are_an_error_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "COMPLETE_S", 0.2)
    config = tmp_path / "logflume.toml"
    config.write_text(configuration("127.0.0.1:1", tmp_path))  # nobody listens there
    with Daemon(config, tmp_path / "daemon.log") as daemon:
        watch = run._Watch(daemon, tmp_path / "output", 1_795_352_400_000, run._Log(run.Reporter()))
        with pytest.raises(LogflumeError, match=r"not complete .* after the last record: hour 13:00, 14:00, 15:00"):
            watch.until_complete()
        pid = daemon.pid
    assert not runs(pid)


def test_the_log_is_read_as_far_as_its_lines_are_whole(tmp_path: Path) -> None:
    log = tmp_path / "daemon.log"
    with Daemon(tmp_path / "missing.toml", tmp_path / "other.log") as daemon:
        daemon._log = log
        log.write_text('{"event":"worker started","pid":1}\nTraceback\n{"event":"worker sta')
        assert daemon.workers == [1]
        with log.open("a") as more:
            more.write('rted","pid":2}\n')
        assert daemon.workers == [1, 2]
