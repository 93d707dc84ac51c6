"""Units and cron lines: valid to systemd and cron, and in step with defaults and exit codes."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from logflume.cli import main
from logflume.config import DaemonConfig
from logflume.errors import Busy, ConfigError, Incomplete, LogflumeError, Repairable, Repaired
from logflume.status import metrics
from logflume.status.figures import Figures
from logflume.units import parse_duration

DEPLOY = Path(__file__).parent.parent / "deploy"
UNIT = DEPLOY / "logflume.service"
CRON = DEPLOY / "cron.d" / "logflume"
JOBS = ("reconcile", "compact")


def section(unit: Path, name: str) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have upper case
    parser.read(unit, encoding="utf-8")
    return parser[name]


def command_of(job: str) -> click.Command:
    command = main.get_command(click.Context(main), job)
    assert command is not None
    return command


def service() -> configparser.SectionProxy:
    return section(UNIT, "Service")


def test_the_unit_stops_later_than_logflume_does() -> None:
    assert parse_duration(service()["TimeoutStopSec"]) > DaemonConfig().stop_deadline_ms


def test_the_spool_lies_in_the_state_directory() -> None:
    assert Path("/var/lib", service()["StateDirectory"]) in Path(DaemonConfig().spool).parents


def test_a_useless_configuration_is_not_retried() -> None:
    assert service()["RestartPreventExitStatus"] == str(ConfigError.exit_code)


UNITS = sorted(path.name for path in DEPLOY.iterdir() if path.suffix in {".service", ".timer"})


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_nothing_wrong_with_the_unit(name: str, tmp_path: Path) -> None:
    # it also looks for the program and its user, which only an installed logflume has
    program = service()["ExecStart"].split()[0]
    for unit in UNITS:
        text = (DEPLOY / unit).read_text(encoding="utf-8")
        (tmp_path / unit).write_text(text.replace(program, shutil.which("true") or program), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("job", JOBS)
def test_a_job_is_given_up_by_itself_before_systemd_does(job: str) -> None:
    unit = section(DEPLOY / f"logflume-{job}.service", "Service")
    (deadline,) = [one for one in command_of(job).params if one.name == "deadline"]
    assert parse_duration(unit["TimeoutStartSec"]) > parse_duration(str(deadline.default))


@pytest.mark.parametrize(("job", "fine"), [("reconcile", {Repaired, Busy}), ("compact", {Busy})])
def test_exit_codes_that_need_nobody_are_no_failure(job: str, fine: set[type[LogflumeError]]) -> None:
    unit = section(DEPLOY / f"logflume-{job}.service", "Service")
    assert {int(code) for code in unit["SuccessExitStatus"].split()} == {one.exit_code for one in fine}


def cron_lines() -> list[str]:
    """The commands, without the five fields of time and the user."""
    lines = CRON.read_text(encoding="utf-8").splitlines()
    return [line.split(maxsplit=6)[6] for line in lines if line[:1].isdigit()]


@pytest.mark.parametrize("number", range(len(cron_lines())))
def test_cron_is_told_only_what_a_person_has_to_see(number: int, tmp_path: Path) -> None:
    command = cron_lines()[number]
    assert "%" not in command  # cron takes it for a newline
    quiet = {0, 11, 12} if "reconcile" in command else {0, 12}
    for code in (0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 130):
        program = tmp_path / "logflume"
        program.write_text(f'#!/bin/sh\necho "$1 says"; exit {code}\n')
        program.chmod(0o755)
        # as cron does: the environment is what the file sets
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            env={"LOGFLUME": str(program), "CONFIG": "/etc/logflume.toml", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout == "") is (code in quiet), (command, code, done.stdout)
        assert done.stderr == ""


@pytest.mark.parametrize("job", JOBS)
def test_every_command_of_the_examples_is_one(job: str) -> None:
    """Options that do not exist would show at the first night only."""
    units = section(DEPLOY / f"logflume-{job}.service", "Service")["ExecStart"]
    crons = [line.split("$(")[1].split(" 2>&1")[0] for line in cron_lines() if f"$LOGFLUME {job}" in line]
    assert crons
    for command in [units, *crons]:
        words = command.split()[2:]
        command_of(job).make_context(job, words, resilient_parsing=False)


@pytest.mark.parametrize("job", JOBS)
def test_the_help_says_what_each_exit_code_means(job: str) -> None:
    text = command_of(job).help or ""
    codes = (Incomplete, Repairable, Repaired, Busy) if job == "reconcile" else (Incomplete, Busy)
    for error in codes:
        assert re.search(rf"^ +{error.exit_code} ", text, re.MULTILINE), error


def test_the_alert_rules_ask_for_metrics_that_exist() -> None:
    page = metrics.render(Figures(1, silence_s=30).view(), 0.0)
    reconcile = (Path(__file__).parent / "cli" / "golden" / "reconcile.prom").read_text()
    exposed = set(re.findall(r"^# HELP (\w+)", page + reconcile, re.MULTILINE))
    asked = set(re.findall(r"\blogflume_\w+", (DEPLOY / "prometheus-rules.yml").read_text()))
    assert len(asked) >= 10
    assert asked <= exposed


def test_each_alert_has_a_row_that_says_what_to_do() -> None:
    alerts = re.findall(r"alert: Logflume(\w+)", (DEPLOY / "prometheus-rules.yml").read_text())
    text = (DEPLOY.parent / "docs" / "operations.md").read_text()
    named = [
        name for row in re.findall(r"^\| ([A-Z]\w+(?:, [A-Z]\w+)*) \|", text, re.MULTILINE) for name in row.split(", ")
    ]
    assert sorted(named) == sorted(alerts)
