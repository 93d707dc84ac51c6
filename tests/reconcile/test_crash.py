"""SIGKILL of ``reconcile --repair`` at random moments: the next run ends where an undisturbed one does."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from logflume import cli
from logflume.core import layout
from tests.cli import files
from tests.reconcile.test_repair import LONG_AGO, undecided_publish
from tests.reconcile.tree import TOPIC, Tree

pytestmark = pytest.mark.slow

KILLS = 24
TOPIC_TABLE = f"""[[topic]]
name = "{TOPIC}"
timestamp = {{ field = "ts", unit = "ms" }}
lateness = "1m"
"""


def damaged(base: Path) -> Tree:
    """Six hours that nobody finished, a decision that was not published, and what crashes leave."""
    tree = Tree(base).fill(6, finish=False)
    undecided_publish(tree)
    for number in range(5):
        left = tree.path(layout.tmp_path(tree.pid(1), f"{number:019d}-dead"))
        left.parent.mkdir(parents=True, exist_ok=True)
        left.write_bytes(b"x")
        os.utime(left, (LONG_AGO, LONG_AGO))
    return tree


def arguments(base: Path) -> list[str]:
    settings = files.write(base, root=f"file://{base}/root", topics=TOPIC_TABLE)
    return ["reconcile", "-c", settings, "--repair", "--no-kafka", "--patience", "0s", "--grace", "0s"]


def run(base: Path) -> int:
    """Undisturbed, and so in this process: a new one would take longer than the work."""
    return CliRunner().invoke(cli.main, arguments(base)).exit_code


def kill_at(base: Path, lines: int, rng: random.Random) -> bool:
    """Kill it a moment after it has logged so many lines; False when it was through before."""
    process = subprocess.Popen(
        [sys.executable, "-m", "logflume", *arguments(base)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    for _ in range(lines):
        if not process.stderr.readline():
            break
    time.sleep(rng.uniform(0, 0.02))
    running = process.poll() is None
    process.kill()
    process.communicate()
    return running


def snapshot(base: Path) -> dict[str, bytes]:
    root = base / "root"
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "_reconcile" not in path.parts
    }


def test_killed_at_any_moment_the_next_run_ends_the_same(tmp_path: Path) -> None:
    original = tmp_path / "original"
    damaged(original)
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(original, undisturbed)
    assert run(undisturbed) == 11
    assert run(undisturbed) == 0
    expected = snapshot(undisturbed)
    rng = random.Random(1)
    seen: Counter[str] = Counter()
    for number in range(KILLS):
        base = tmp_path / f"kill{number}"
        shutil.copytree(original, base)
        seen["killed"] += kill_at(base, 1 + number % 16, rng)
        between = snapshot(base)
        seen["untouched" if between == snapshot(original) else "done" if between == expected else "half"] += 1
        code = run(base)
        assert code in (0, 11)
        if code == 11:
            # what the killed run left in tmp is too young for the next one by some ms at most
            assert run(base) in (0, 11)
        assert snapshot(base) == expected, number
        shutil.rmtree(base)
    print(dict(seen))  # noqa: T201
    assert seen["killed"] >= 20, seen
    assert seen["half"] >= 8, seen
