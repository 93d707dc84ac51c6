"""cron and systemd know the exit codes, and say nothing when all is well."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from logflume.errors import Busy, Incomplete, Repairable, Repaired
from logflume.units import parse_duration

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
CRON = DEPLOY / "cron.d" / "logflume"


def test_systemd_takes_repaired_and_busy_for_success() -> None:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have upper case
    parser.read(DEPLOY / "logflume-reconcile.service", encoding="utf-8")
    service = parser["Service"]
    assert service["SuccessExitStatus"].split() == [str(Repaired.exit_code), str(Busy.exit_code)]
    assert parse_duration(service["TimeoutStartSec"]) > parse_duration("6h")


@pytest.mark.parametrize("code", [0, 3, Incomplete.exit_code, Repairable.exit_code, Repaired.exit_code, Busy.exit_code])
def test_cron_sends_mail_only_where_somebody_has_to_know(tmp_path: Path, code: int) -> None:
    program = tmp_path / "logflume"
    program.write_text(f"#!/bin/sh\necho some output\nexit {code}\n")
    program.chmod(0o755)
    lines = [line for line in CRON.read_text().splitlines() if re.match(r"[0-9*]", line)]
    assert len(lines) == 4
    for line in lines:
        command = line.split("logflume  ", 1)[1]
        assert "%" not in command  # cron takes it for a newline
        env = {"LOGFLUME": str(program), "CONFIG": "x", "PATH": "/usr/bin:/bin"}
        done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=True, text=True, env=env)
        quiet = {0, Busy.exit_code} | ({Repaired.exit_code} if "reconcile" in command else set())
        assert (done.stdout == "") == (code in quiet), command


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    for name in ("logflume-reconcile.service", "logflume-reconcile.timer"):
        text = (DEPLOY / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace("/opt/logflume/bin/logflume", shutil.which("true") or "true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "logflume-reconcile.timer")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_help_says_what_each_exit_code_means() -> None:
    text = (Path(__file__).parent.parent.parent / "logflume" / "cli" / "reconcile.py").read_text()
    for error in (Incomplete, Repairable, Repaired, Busy):
        assert re.search(rf"^      {error.exit_code} ", text, re.MULTILINE), error
