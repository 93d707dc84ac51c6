"""``backfill --repair``: files are removed and damaged, and come back; the independent checker sees no difference."""

from __future__ import annotations

import gzip
import json
import random
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from logflume import config
from logflume.backfill import replay, run
from logflume.backfill.model import Job, Request
from tests.backfill.conftest import Scene
from tests.backfill.test_replay import hour, run_until

pytestmark = pytest.mark.slow

KILLS = 22


@pytest.fixture
def tree(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished tree, made by a replay."""
    scene.daemon = {"buffer_bytes": "2MiB"}
    scene.settings = {"roll_bytes": "4MiB", "max_record_bytes": "1MiB"}
    live = scene.root("live")
    if scene.large:
        # records come in small batches, so that parts are many chunks
        monkeypatch.setattr(replay, "POLL_RECORDS", 40)
    settings = config.load(scene.configured(scene.root("elsewhere"), "elsewhere"))
    job = Job(settings, live, scene.topic, "tree", settings.daemon.spool)
    plan = run.fix_plan(job, run.make_plan(job, Request(scene.topic)), _silent)
    for split in plan.splits:
        replay.run_split(job, split, _silent)
    run.finish(job, plan, _silent)
    scene.check(live).clean(crashed=False)
    return scene.folder / "live"


def _silent(_offsets: int) -> None:
    """Nobody waits for it."""


#: with records of 1 MB the parts are many chunks, whose bytes come out otherwise
both = pytest.mark.parametrize("scene", [0, 40], indirect=True, ids=["small", "large"])


def files(tree: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(tree)): path.read_bytes()
        for path in sorted(tree.rglob("*"))
        if path.is_file() and "_logflume" not in path.parts
    }


def check(scene: Scene, tree: Path, *, crashed: bool) -> None:
    """Every record once and in its place; a marker differs from the ledger only where a repair is on record."""
    report = scene.check(scene.root("live"))
    records = (tree / "_logflume").rglob("repairs/*.json")
    amended = {json.loads(path.read_bytes())["part"]["path"] for path in records}
    report.early = [text for text in report.early if text.split(" ", 1)[0] not in amended]
    report.clean(crashed=crashed)


def damage(tree: Path, rng: random.Random) -> list[str]:
    """One file gone, one too short, one with another byte, and one of each other tree gone."""
    names = [name for name in files(tree) if "_SUCCESS" not in name]
    hours = [name for name in names if not name.startswith("_")]
    gone, short, flipped = rng.sample(hours, 3)
    late = rng.choice([name for name in names if name.startswith("_late/")])
    odd = rng.choice([name for name in names if name.startswith("_quarantine/")])
    for name in (gone, late, odd):
        (tree / name).unlink()
    data = (tree / short).read_bytes()
    (tree / short).write_bytes(data[: len(data) // 3])
    data = (tree / flipped).read_bytes()
    at = len(data) // 2
    (tree / flipped).write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
    return [gone, short, flipped, late, odd]


@both
def test_what_is_gone_or_damaged_comes_back_as_it_was(scene: Scene, tree: Path) -> None:
    before = files(tree)
    broken = damage(tree, random.Random(3))
    dry = scene.told("--repair", "--dry-run")
    assert sorted(dry["files"]) == sorted(broken)
    told = scene.told("--repair")
    assert len(told["files"]) == 5
    assert scene.told("--repair")["already"]
    check(scene, tree, crashed=False)
    after = files(tree)
    if scene.large:
        assert told["amended"] > 0
    else:
        assert told["amended"] == 0
        assert after == before
    assert set(after) == set(before)
    for name in before:
        assert len(after[name]) == len(before[name]), name
        if name.endswith(".gz"):
            assert gzip.decompress(after[name]) == gzip.decompress(before[name])


def test_offsets_of_a_partition_and_hours_bring_back_what_they_name_and_no_more(scene: Scene, tree: Path) -> None:
    before = files(tree)
    hours = [name for name in before if not name.startswith("_") and name.endswith(".gz")]
    for name in hours:
        (tree / name).unlink()
    told = scene.told("--repair", "--hours", f"{hour(scene, 1)},{hour(scene, 3)}")
    assert len(told["files"]) == 2
    # the first offsets of a log that is out of order lie in several hours; those of the rest stay away
    told = scene.told("--repair", "--partition", "0", "--offsets", "0-10")
    assert 1 <= len(told["files"]) < len(hours) - 2
    scene.told("--repair", "--partition", "1")
    assert files(tree) == before


@both
def test_the_commands_that_reconcile_prints_do_it(scene: Scene, tree: Path) -> None:
    damage(tree, random.Random(4))
    reconcile = [sys.executable, "-m", "logflume", "reconcile", "-c", str(scene.config), "--deep", "--full"]
    done = subprocess.run(reconcile, capture_output=True, check=False, text=True, timeout=120)
    assert done.returncode == 9, done.stdout + done.stderr
    commands = [line.strip() for line in done.stdout.splitlines() if line.strip().startswith("logflume backfill")]
    assert commands
    for command in commands:
        words = [sys.executable, "-m", *shlex.split(command)]
        ended = subprocess.run(words, capture_output=True, check=False, text=True, timeout=120)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    done = subprocess.run(reconcile, capture_output=True, check=False, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    check(scene, tree, crashed=False)


def test_killed_at_any_moment_and_run_again_it_completes(scene: Scene, tree: Path) -> None:
    rng = random.Random(11)
    before = files(tree)
    damage(tree, rng)
    began = time.monotonic()
    scene.run("--repair")
    takes = time.monotonic() - began
    killed = rounds = 0
    while killed < KILLS:
        rounds += 1
        damage(tree, rng)
        # half of it is the start of the processes, where there is nothing to be broken
        began = time.monotonic()
        while killed < KILLS and not run_until(scene.command("--repair"), rng.uniform(0.4 * takes, takes)):
            killed += 1
            began = time.monotonic()
        # one came through: on a machine whose load changes that is how long it takes now
        takes = time.monotonic() - began
    assert rounds < KILLS
    scene.run("--repair")
    check(scene, tree, crashed=True)
    after = files(tree)
    assert {name: len(data) for name, data in after.items()} == {name: len(data) for name, data in before.items()}
    if not scene.large:
        assert after == before
