"""Directories of workers, and which of them may go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from logflume.daemon import spooldir
from logflume.errors import Refused

HOLD = """
import sys
from pathlib import Path
from logflume.daemon import spooldir
held = spooldir.hold(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def leave(made: spooldir.SpoolDir, name: str = "part") -> None:
    (made.path / name).write_text("lines")


def test_a_directory_just_made_is_not_swept_before_its_worker_holds_it(tmp_path: Path) -> None:
    made = spooldir.make(tmp_path, 0)
    assert spooldir.sweep(tmp_path) == []
    made.release()
    assert spooldir.sweep(tmp_path) == [made.path]
    assert not made.path.exists()


def test_a_directory_stays_while_its_worker_lives_and_goes_when_that_is_killed(tmp_path: Path) -> None:
    """P2"""
    made = spooldir.make(tmp_path, 3)
    leave(made)
    command = [sys.executable, "-c", HOLD, str(made.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"held\n"
        made.release()  # as when the parent is killed
        assert spooldir.sweep(tmp_path) == []
        assert (made.path / "part").exists()
        worker.kill()
        worker.wait()
        assert spooldir.sweep(tmp_path) == [made.path]


def test_parent_and_worker_hold_the_same_directory(tmp_path: Path) -> None:
    made = spooldir.make(tmp_path, 0)
    with spooldir.hold(made.path):
        made.release()
        assert spooldir.sweep(tmp_path) == []


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    for name in ("data", "w0", "w0-backup", "wx-0123456789ab"):
        (tmp_path / name).mkdir()
    (tmp_path / "w0-0123456789ab").write_text("a file")
    assert spooldir.sweep(tmp_path) == []


def test_a_directory_whose_making_was_cut_short_is_swept(tmp_path: Path) -> None:
    (tmp_path / "w0-0123456789ab").mkdir()
    assert spooldir.sweep(tmp_path) == [tmp_path / "w0-0123456789ab"]


def test_a_directory_that_is_gone_cannot_be_held(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no such file"):
        spooldir.hold(tmp_path / "w0-0123456789ab")


def test_a_spool_that_cannot_be_made_is_a_named_error(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")
    for call in (lambda: spooldir.make(tmp_path / "spool", 0), lambda: spooldir.sweep(tmp_path / "spool")):
        with pytest.raises(Refused, match=r"spool: .*file exists") as caught:
            call()
        assert "daemon.spool" in caught.value.hint
