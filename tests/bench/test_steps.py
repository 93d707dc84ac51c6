"""The critical path of an hour, from the lines that the daemon really writes."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from bench.steps import DECIDE, FINISH
from bench.steps import Path as CriticalPath
from logflume import log
from logflume.daemon.steps import Steps
from logflume.model import HOUR_MS

HOUR = 1_736_121_600_000
UNTIL = HOUR + HOUR_MS


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> str:
    """Two partitions close the hour, the second one last and by an entry that closes the next hour, too."""
    log.configure("debug", "text")
    logger = log.get("logflume.daemon.slot")
    logger.debug("decided", partition="app/0", until=None, thread=9.0)
    logger.debug("decided", partition="app/0", until=UNTIL, thread=5.0, upload=0.5)
    logger.debug("decided", partition="app/1", until=UNTIL + HOUR_MS, thread=0.25, upload=2.0, append=0.5)
    logger.debug("decided", partition="app/0", until=UNTIL + HOUR_MS, thread=7.0)
    logger.debug("hour steps", topic="app", hour=HOUR, plan=0.125, mark=0.25)
    log.configure("info", "text")
    return capfd.readouterr().err


def test_the_path_goes_through_the_partition_that_was_decided_last(said: str) -> None:
    decided = next(line for line in said.splitlines() if "app/1" in line).split(" ", 1)[0]
    sent_s = datetime.fromisoformat(decided).timestamp() - 4.0
    found = CriticalPath(said).of(HOUR, HOUR_MS, sent_s)
    steps = {name: round(seconds, 3) for name, seconds in found.items() if name != "until the finisher begins"}
    assert steps == {
        "the record is sent, read, and its partition closes": 1.25,
        "last decision: waits for a thread": 0.25,
        "last decision: its files are compressed to the end": 0.0,
        "last decision: the topic's id is asked for": 0.0,
        "last decision: upload": 2.0,
        "last decision: its entry": 0.5,
        "last decision: its parts are renamed": 0.0,
        "finish: marker looked for, plan put": 0.125,
        "finish: parts looked at": 0.0,
        "finish: concat and reveal": 0.0,
        "finish: directory swept": 0.0,
        "finish: marker": 0.25,
    }


def test_an_hour_that_the_log_does_not_have_has_no_path(said: str) -> None:
    assert CriticalPath(said).of(HOUR + HOUR_MS, HOUR_MS, 0.0) == {}


def test_steps_of_one_name_are_added_up() -> None:
    steps = Steps()
    for name in ("merge", "merge", "mark"):
        steps(name)
    assert list(steps.seconds) == ["merge", "mark"]


def test_every_step_that_the_benchmark_names_is_one_that_the_daemon_takes() -> None:
    root = Path(__file__).parents[2] / "logflume"
    decide = (root / "daemon" / "slot.py").read_text() + (root / "commit.py").read_text()
    assert all(f'steps("{name}")' in decide or f'progress("{name}")' in decide for name in DECIDE)
    finish = (root / "finish" / "run.py").read_text()
    assert all(f'progress("{name}")' in finish for name in FINISH)
