"""``logflume demo`` as a command: where it works, and what it says on which kind of output."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from logflume.cli import main
from logflume.demo import run, screen
from logflume.demo.run import Reporter, Result, Step
from logflume.demo.screen import Screen
from logflume.errors import LogflumeError


def test_a_directory_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    result = CliRunner().invoke(main, ["demo", "--dir", str(tmp_path)])
    assert result.exit_code == 2
    assert "not empty" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(("name", "words"), [("a b", "cannot hold the output"), ("file/x", "not a directory")])
def test_a_directory_that_cannot_be_is_refused(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main, ["demo", "--dir", str(tmp_path / name)])
    assert result.exit_code == 2
    assert words in result.output


def test_after_an_error_the_temporary_directory_is_left_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(directory: Path, reporter: Reporter, *, seed: int) -> Result:
        (directory / "daemon.log").touch()
        reporter.step(Step(1.5, "daemon", "is process 4711"))
        raise LogflumeError("it did not work")

    monkeypatch.setattr(run, "run", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 1
    (left,) = tmp_path.iterdir()
    assert f"what the demo wrote is left in {left}\nerror: it did not work" in result.output
    assert "1.5 s  daemon    is process 4711" in result.output


def test_what_to_try_next_can_be_typed_where_logflume_is_not_in_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / ".venv/bin/logflume"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.setattr("sys.executable", str(program.with_name("python")))
    monkeypatch.setenv("PATH", "")
    assert screen._program() == str(program)
    monkeypatch.chdir(tmp_path)
    assert screen._program() == ".venv/bin/logflume"
    monkeypatch.setenv("PATH", str(program.parent))
    assert screen._program() == "logflume"


def test_a_terminal_sees_steps_as_they_come_and_progress_between_them(capsys: pytest.CaptureFixture[str]) -> None:
    shows = Screen(live=True)
    shows.progress(0.1, "making records")
    assert "\r    0.1 s  … making records" in capsys.readouterr().out
    shows.step(Step(1.5, "records", "are made"))
    shown = capsys.readouterr().out
    assert shown.startswith("\r ")
    assert shown.endswith("\r    1.5 s  records   are made\n")


def test_anything_else_sees_the_same_lines_at_the_end_and_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    shows = Screen(live=False)
    shows.progress(0.1, "making records")
    shows.step(Step(1.5, "records", "are made"))
    assert capsys.readouterr().out == ""
    shows.flush()
    assert capsys.readouterr().out == "    1.5 s  records   are made\n"
