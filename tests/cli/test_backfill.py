"""``logflume backfill`` as a command: what it refuses, what it says, what it leaves. The broker is an embedded one."""

from __future__ import annotations

import json
import os
import pty
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from logflume.backfill import repair
from logflume.backfill.look import Found
from logflume.cli import main
from logflume.daemon import process
from logflume.kafka.embedded import EmbeddedBroker, Outgoing, produce
from logflume.reconcile.lock import only_one
from tests.cli.conftest import Program

HOUR_MS = 3_600_000
BASE_MS = 1_795_000_000_000 // HOUR_MS * HOUR_MS
COUNT = 400


@pytest.fixture(scope="module")
def bootstrap() -> Iterator[str]:
    with EmbeddedBroker() as broker:
        sent = [
            Outgoing(i % 4, b'{"ts":%d,"n":%d}' % (BASE_MS + i * 30_000, i), BASE_MS + i * 30_000) for i in range(COUNT)
        ]
        produce(broker.bootstrap, "app", sent)
        yield broker.bootstrap


@pytest.fixture
def config(bootstrap: str, tmp_path: Path) -> str:
    path = tmp_path / "logflume.toml"
    path.write_text(
        f"""
        [kafka]
        "bootstrap.servers" = "{bootstrap}"
        assignment = "static"
        [output]
        root = "file://{tmp_path}/live"
        [daemon]
        spool = "{tmp_path}/spool"
        [[topic]]
        name = "app"
        timestamp = {{ field = "ts", unit = "ms" }}
        """
    )
    return str(path)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "exactly one of --into and --repair"),
        (["--into", "file:///a", "--repair"], "exactly one of --into and --repair"),
        (["--into", "nowhere"], "--into 'nowhere'"),
        (["--into", "file:///a/b", "--from", "2026-11-20T00"], "--from and --to belong together"),
        (["--into", "file:///a/b", "--from", "2026-11-20T05", "--to", "2026-11-20T05"], "is not after"),
        (["--into", "file:///a/b", "--from", "yesterday", "--to", "2026-11-20T05"], "'yesterday"),
        (["--into", "file:///a/b", "--hours", "2026-11-20T05,2026-11-20T07"], "must follow each other"),
        (["--into", "file:///a/b", "--offsets", "1-2"], "exactly one --partition"),
        (["--repair", "--partition", "1", "--offsets", "9-2"], "must be A-B"),
        (["--repair", "--engine", "spark"], "local engine"),
        (["--repair", "--topic", "other"], "no [[topic]]"),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_is_done(config: str, args: list[str], says: str) -> None:
    done = CliRunner().invoke(main, ["backfill", "-c", config, *args], catch_exceptions=False)
    assert done.exit_code == 2
    assert says in done.stderr


def test_a_replay_into_the_configured_root_is_refused(config: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["backfill", "-c", config, "--into", f"file://{tmp_path}/live/"])
    assert done.exit_code == 2
    assert "configured root" in done.stderr


def test_json_is_a_contract_and_the_log_says_when_it_began_and_ended(
    program: Program, config: str, tmp_path: Path
) -> None:
    into = ["backfill", "-c", config, "--into", f"file://{tmp_path}/replay", "--json"]
    dry = program(*into, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    plan = json.loads(dry.stdout)
    assert list(plan) == [
        *("target", "topic", "topic_id", "root", "dry_run", "records_expected", "bytes_expected", "ranges")
    ]
    assert (plan["target"], plan["dry_run"], plan["records_expected"]) == ("replay", True, COUNT)
    assert plan["ranges"] == [[number, 0, COUNT // 4 - 1] for number in range(4)]
    assert not (tmp_path / "replay").exists()
    done = program(*into)
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    assert list(body)[len(plan) :] == ["seconds", "already", "parts", "records", "bytes", "hours"]
    assert (body["records"], body["hours"]["incomplete"]) == (COUNT, 0)
    # no terminal, so no bar: every line is one of the log
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    events = {line["event"]: line for line in lines}
    assert events["backfill begins"]["records"] == COUNT
    assert events["backfill ends"]["seconds"] == body["seconds"]


def test_a_repair_of_a_root_where_all_is_well_says_so(program: Program, config: str, tmp_path: Path) -> None:
    root = f"file://{tmp_path}/replay"
    assert program("backfill", "-c", config, "--into", root).returncode == 0
    live = tmp_path / "live.toml"
    live.write_text(Path(config).read_text().replace(f"{tmp_path}/live", f"{tmp_path}/replay"))
    done = program("backfill", "-c", str(live), "--repair")
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stdout
    lost = min((tmp_path / "replay" / "app").rglob("app-*.gz"))
    before = lost.read_bytes()
    lost.unlink()
    done = program("backfill", "-c", str(live), "--repair", "--json")
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    assert list(body) == [
        *(
            "target",
            "topic",
            "root",
            "dry_run",
            "records_expected",
            "bytes_expected",
            "ranges",
            "files",
            "hours_to_mark",
            "skipped",
            "looked",
        ),
        *("seconds", "already", "parts", "records", "bytes", "amended", "unmarked"),
    ]
    assert (body["parts"], body["amended"]) == (4, 0)
    assert lost.read_bytes() == before


def on_a_terminal(*args: str) -> tuple[int, str]:
    """Exit code, and everything that a person would see; lines end with CR LF there."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "logflume", *args])
    seen = b""
    with suppress(OSError):  # what reading says when the other end is closed
        while data := os.read(terminal, 1 << 16):
            seen += data
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen.decode()


def test_on_a_terminal_there_is_a_bar_with_rate_and_time_left(config: str, tmp_path: Path) -> None:
    code, seen = on_a_terminal("backfill", "-c", config, "--into", f"file://{tmp_path}/replay")
    assert code == 0, seen
    bars = [one for one in re.split(r"[\r\n]+", seen) if "[" in one and f"/{COUNT}" in one]
    assert re.search(rf"  \[-+\] +0/{COUNT}$", bars[0]), bars
    # drawn over and over on its own line: what it has done, and how many a second
    assert re.search(rf"  \[#+\]  {COUNT}/{COUNT} +[0-9,]+/s *$", bars[-1]), bars
    # a line of the log takes its place, and does not stand behind it
    logged = [one for one in re.split(r"\r?\n", seen) if "backfill begins" in one]
    assert len(logged) == 1
    assert logged[0].rsplit("\r", 1)[1].startswith("\x1b[K"), logged
    assert f"{COUNT} records in" in seen


@pytest.mark.parametrize("more", [[], ["--dry-run"], ["--json"]], ids=["run", "dry run", "JSON"])
def test_what_was_left_out_is_told(config: str, more: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "apart", lambda *_: Found((), (), skipped=("_late/app/some-hour",)))
    done = CliRunner().invoke(main, ["backfill", "-c", config, "--repair", *more])
    assert "_late/app/some-hour" in done.stdout
    assert "nothing to do" not in done.stdout
    assert done.exit_code == 9


def test_an_hour_without_its_marker_is_told(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "apart", lambda *_: Found((), ()))
    monkeypatch.setattr(repair, "repair", lambda *_: repair.Outcome((), 0, ("app/some-hour",), 0.1))
    done = CliRunner().invoke(main, ["backfill", "-c", config, "--repair"])
    assert done.exit_code == 9
    assert "app/some-hour" in done.stderr


def test_a_repair_waits_for_nobody_and_runs_beside_nobody(config: str, tmp_path: Path) -> None:
    with only_one(tmp_path / "spool", f"file://{tmp_path}/live", ""):
        done = CliRunner().invoke(main, ["backfill", "-c", config, "--repair"])
    assert done.exit_code == 12
