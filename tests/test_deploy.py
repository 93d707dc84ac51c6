"""The systemd unit: valid to systemd, and in step with the configuration's defaults."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from logflume.config import DaemonConfig
from logflume.errors import ConfigError
from logflume.units import parse_duration

UNIT = Path(__file__).parent.parent / "deploy" / "logflume.service"


def service() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have upper case
    parser.read(UNIT, encoding="utf-8")
    return parser["Service"]


def test_the_unit_stops_later_than_logflume_does() -> None:
    assert parse_duration(service()["TimeoutStopSec"]) > DaemonConfig().stop_deadline_ms


def test_the_spool_lies_in_the_state_directory() -> None:
    assert Path("/var/lib", service()["StateDirectory"]) in Path(DaemonConfig().spool).parents


def test_a_useless_configuration_is_not_retried() -> None:
    assert service()["RestartPreventExitStatus"] == str(ConfigError.exit_code)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    # it also looks for the program and its user, which only an installed logflume has
    text = UNIT.read_text(encoding="utf-8")
    program = service()["ExecStart"].split()[0]
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace(program, shutil.which("true") or program), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
