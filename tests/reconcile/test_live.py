"""Beside a daemon that works, is killed and finishes hours: no false alarm, and repairs do no harm."""

from __future__ import annotations

import json
import random
import shlex
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from logflume.store import FileStatus, Store, open_store
from tests.e2e.bench import Bench, past, span
from tests.e2e.conftest import bench, reaper  # noqa: F401  # fixtures
from tests.e2e.daemon import Daemon
from tests.e2e.generate import Shape, make

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

HOURS = 4
FEED_S = 25.0

#: as cron runs it, and as nobody should: without patience, so that it does what the daemon is just doing
MODES = [[], ["--full"], ["--full", "--deep"], ["--deep", "--no-kafka"]]
EAGER = [["--repair", "--patience", "0s", "--grace", "0s"], ["--full", "--repair", "--patience", "0s", "--grace", "0s"]]


def reconcile(daemon: Daemon, *options: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "logflume", "reconcile", "-c", str(daemon.config_file), "--json", *options]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@dataclass
class Loop(threading.Thread):
    """Runs one after the other, until told to stop."""

    daemon_run: Daemon
    modes: list[list[str]]
    codes: Counter[int] = field(default_factory=Counter)
    found: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.done = threading.Event()

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        number = 0
        while not self.done.is_set():
            code, body = reconcile(self.daemon_run, *self.modes[number % len(self.modes)])
            self.codes[code] += 1
            self.found += body["findings"]
            number += 1

    def end(self) -> None:
        self.done.set()
        self.join()


@pytest.mark.parametrize(("scheme", "eager"), [("file", False), ("hdfs", True)], ids=["watching", "repairing"])
def test_beside_a_daemon_that_is_killed_again_and_again(bench: Bench, scheme: str, eager: bool) -> None:  # noqa: F811
    base, root = past(HOURS + 2), bench.root(scheme)
    first = bench.case(root, 4, roll_every="500ms")
    second = bench.case(root, 2, late="append", target_bytes="1KiB", roll_bytes="1KiB", roll_every="500ms")
    daemon = bench.daemon("daemon", root, [first, second], workers=2)
    daemon.start()
    daemon.wait_workers(2)
    loop = Loop(daemon, EAGER if eager else MODES)
    feeds = [
        case.feed(make(Shape(base, partitions, HOURS, 6_000, chunks=200, seed=partitions)), FEED_S)
        for case, partitions in ((first, 4), (second, 2))
    ]
    loop.start()
    rng = random.Random(1)
    while any(feed.running for feed in feeds):
        time.sleep(rng.uniform(3, 6))
        daemon.kill_worker(rng.randrange(2))
    for feed in feeds:
        feed.wait()
    for case in (first, second):
        case.wait_complete(span(base, HOURS), daemon)
    loop.end()
    daemon.stop()
    print(dict(loop.codes), *loop.found, sep="\n")  # noqa: T201  # a false alarm is read in the report of the run
    assert sum(loop.codes.values()) >= 4
    assert loop.found == [] if not eager else {one["mend"] for one in loop.found} <= {"repair"}
    assert set(loop.codes) <= ({0, 10, 11} if eager else {0})
    for case in (first, second):
        case.check().clean(crashed=True)
    code, body = reconcile(daemon, "--full", "--deep", "--patience", "0s")
    assert (code, body["findings"]) == (0, [])
    assert all(topic["complete"] >= HOURS for topic in body["topics"].values())


def below(store: Store, tree: str) -> list[FileStatus]:
    """The files of a tree of days and hours."""
    days = store.list(f"{store.root}/{tree}")
    return [file for day in days for hour in store.list(day.path) for file in store.list(hour.path)]


@pytest.mark.parametrize("scheme", ["hdfs", "file"])
def test_the_commands_that_it_prints_bring_everything_back(bench: Bench, scheme: str) -> None:  # noqa: F811
    """Delete, run the printed commands as they are, and all is as it was decided."""
    base, root = past(4), bench.root(scheme)
    case = bench.case(root, 2, roll_every="500ms")
    daemon = bench.daemon("daemon", root, [case])
    daemon.start()
    case.feed(make(Shape(base, 2, 2, 2_000, chunks=50, late=40)), 5.0).wait()
    case.wait_complete(span(base, 2), daemon)
    daemon.stop()
    store = open_store(root, namenode_http=bench.stack.namenode_http)
    finished = [one for one in below(store, case.topic) if one.name.startswith(case.topic)]
    late = below(store, f"_late/{case.topic}")
    for status in (finished[0], late[0]):
        store.delete(status.path)
    code, body = reconcile(daemon, "--full")
    assert (code, sorted(one["what"] for one in body["findings"])) == (9, ["file_missing", "file_missing"])
    for command in body["commands"]:
        words = shlex.split(command)
        done = subprocess.run([sys.executable, "-m", *words], capture_output=True, check=False, text=True, timeout=120)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    code, body = reconcile(daemon, "--full", "--deep", "--repair", "--patience", "0s")
    assert (code, body["findings"]) in ((0, []), (11, []))
    code, body = reconcile(daemon, "--full", "--deep", "--patience", "0s")
    assert (code, body["findings"]) == (0, [])
    case.check().clean(crashed=False)
