"""The program around its commands: help, errors, exit codes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from logflume import __version__, cli, errors
from logflume.cli import exits, main
from logflume.errors import ConfigError, LogflumeError, Unreachable
from tests.cli import files
from tests.cli.conftest import Program

COMMANDS = main.list_commands(click.Context(main))


def test_the_version_is_told(program: Program) -> None:
    done = program("--version")
    assert (done.returncode, done.stdout) == (0, f"logflume {__version__}\n")


def test_help_lists_every_command_and_loads_none() -> None:
    text = "import sys\nfrom logflume.cli import main\nmain(['--help'], standalone_mode=False)\n"
    text += "print([n for n in ('pydantic', 'structlog', 'confluent_kafka') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, check=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for name in COMMANDS:
        assert f"  {name} " in done.stdout


def test_every_file_of_the_package_is_a_command_or_a_helper() -> None:
    found = {path.stem for path in Path(str(cli.__file__)).parent.glob("*.py")}
    assert found - {"__init__", "exits", "jobs", "options"} <= cli.COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(name: str) -> None:
    done = CliRunner().invoke(main, [name, "--help"])
    assert done.exit_code == 0
    assert "Examples:" in done.output
    assert f"logflume {name}" in done.output


def test_a_command_that_is_none_is_exit_code_2(program: Program) -> None:
    done = program("seal")
    assert done.returncode == 2
    assert "No such command 'seal'" in done.stderr


@pytest.mark.parametrize("name", ["run", "check", "status"])
def test_without_a_configuration_the_option_is_named(program: Program, name: str) -> None:
    done = program(name)
    assert done.returncode == 2
    assert "Missing option '-c'" in done.stderr


def test_a_file_that_is_not_there_is_named_with_a_hint(program: Program, tmp_path: Path) -> None:
    done = program("run", "-c", str(tmp_path / "none.toml"))
    assert done.returncode == 2
    assert done.stdout == ""
    error, hint = done.stderr.splitlines()
    assert error == f"error: cannot read {tmp_path}/none.toml: no such file or directory"
    assert hint.startswith("hint: ")


def test_every_problem_of_a_file_is_a_line_of_its_own(program: Program, tmp_path: Path) -> None:
    topics = '[[topic]]\nname = "_late"\ntimestamp = "create"\nlateness = "10"\n'
    done = program("run", "-c", files.write(tmp_path, daemon='workrs = 2\nlog_level = "loud"', topics=topics))
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == ["error", "error", "error", "error", "hint"]
    for key in ("workrs", "log_level", "name", "lateness"):
        assert any(key in line for line in lines), key


@pytest.mark.parametrize("name", ["_late", "_quarantine", "_logflume"])
def test_a_topic_named_like_our_own_trees_is_refused(program: Program, tmp_path: Path, name: str) -> None:
    topics = f'[[topic]]\nname = "{name}"\ntimestamp = "create"\n'
    done = program("check", "-c", files.write(tmp_path, topics=topics))
    assert done.returncode == 2
    assert name in done.stderr


# -- errors ---------------------------------------------------------------------------------------


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command("status")
    def command() -> None:
        raise error

    monkeypatch.setattr("logflume.cli.status.command", command)


@pytest.mark.parametrize("kind", [one for one in exits._tree(LogflumeError) if one is not ConfigError])
def test_an_error_ends_with_its_own_exit_code(kind: type[LogflumeError], monkeypatch: pytest.MonkeyPatch) -> None:
    raising(kind("it broke", hint="mend it"), monkeypatch)
    done = CliRunner().invoke(main, ["status"])
    assert done.exit_code == kind.exit_code
    assert done.stderr == "error: it broke\nhint: mend it\n"


def test_an_unexpected_exception_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(ZeroDivisionError("a bug"), monkeypatch)
    with pytest.raises(ZeroDivisionError):
        CliRunner().invoke(main, ["status"], catch_exceptions=False)


def test_the_table_of_exit_codes_has_every_class_of_the_tree() -> None:
    codes = exits.exit_codes()
    assert list(codes) == sorted(codes)
    tree = {one.exit_code for one in vars(errors).values() if isinstance(one, type) and issubclass(one, LogflumeError)}
    assert codes.keys() == tree | {0, 130}
    assert all(meaning.endswith(".") for meaning in codes.values())
    rows = exits.table().splitlines()
    assert rows[0] == "| exit code | meaning |"
    assert [int(row.split("|")[1]) for row in rows[2:]] == list(codes)


def test_the_table_is_for_people_who_do_not_know_the_code() -> None:
    assert not re.search(r"``|\([A-Z]\d", exits.table())
    assert Unreachable.exit_code == 3  # what the README and units of systemd rely on


def test_ctrl_c_ends_a_command_that_waits_for_a_server_without_a_traceback(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        path = files.write(tmp_path, bootstrap=address, root=f"hdfs://{address}/logs")
        command = [sys.executable, "-m", "logflume", "check", "-c", path]
        with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True) as running:
            try:
                silent.settimeout(30)
                silent.accept()[0].close()  # it has begun to wait
                time.sleep(0.2)
                os.killpg(running.pid, signal.SIGINT)
                _, text = running.communicate(timeout=10)
            finally:
                running.kill()
    assert (running.returncode, text) == (130, "")


@pytest.mark.parametrize(
    "arguments",
    [["compact"], ["reconcile", "--no-kafka"], ["locate", "app", "0", "1"]],
    ids=["compact", "reconcile", "locate"],
)
def test_ctrl_c_ends_a_job_in_a_call_that_hangs(tmp_path: Path, arguments: list[str]) -> None:
    """A client in another language does not come back before its call does (N2)."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        path = files.write(tmp_path, root=f"hdfs://127.0.0.1:{silent.getsockname()[1]}/logs")
        command = [sys.executable, "-m", "logflume", *arguments, "-c", path]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
            try:
                silent.settimeout(30)
                waits = silent.accept()[0]
                time.sleep(0.2)
                running.send_signal(signal.SIGINT)
                _, text = running.communicate(timeout=10)
                waits.close()
            finally:
                running.kill()
    assert running.returncode == 130
    assert "Traceback" not in text


def test_locate_ends_at_its_deadline_in_a_call_that_hangs(program: Program, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        path = files.write(tmp_path, root=f"hdfs://127.0.0.1:{silent.getsockname()[1]}/logs")
        done = program("locate", "-c", path, "app", "0", "1", "--deadline", "1s")
    assert (done.returncode, "gives up" in done.stderr) == (Unreachable.exit_code, True)
