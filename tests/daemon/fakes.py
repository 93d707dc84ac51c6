"""Workers that do nothing but behave, well or badly; real processes, started by the real supervisor."""

from __future__ import annotations

import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from logflume import config as configs
from logflume.config import Config
from logflume.daemon import process, spooldir
from logflume.daemon.report import Stop, WorkerReport
from logflume.daemon.supervisor import Limits, Supervisor

#: patience for what a test does not mean to happen; tests of one fault shorten what they are about
LIMITS = Limits(call_s=30.0, silence_s=30.0, stop_s=10.0, stop_margin_s=1.0, restart_first_s=0.1)


def config(directory: Path, workers: int = 1, http: str = "") -> Config:
    return configs.parse(
        {
            "kafka": {"bootstrap.servers": "127.0.0.1:1", "group.id": "none"},
            "output": {"root": f"file://{directory}/out"},
            "daemon": {"workers": workers, "spool": f"{directory}/spool", "http": http},
            "topic": [{"name": "app", "timestamp": "create"}],
        }
    )


def diary(directory: Path) -> list[list[str]]:
    """What the workers wrote down: lines of words, the first of which are what, index and pid."""
    path = directory / "diary"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def note(config: Config, what: str, index: int) -> None:
    with (Path(config.daemon.spool).parent / "diary").open("a") as file:
        file.write(f"{what} {index} {os.getpid()} {time.monotonic()}\n")


def report(index: int, **fields: Any) -> WorkerReport:
    figures: dict[str, Any] = {
        "consuming": True,
        "paused": False,
        "oldest_call_s": 0.0,
        "oldest_call": "",
        "spool_bytes": 0,
        "buffered_bytes": 0,
    }
    return WorkerReport(index, os.getpid(), **{**figures, **fields})


def obedient(config: Config, index: int, spool_dir: str, conn: Connection, **fields: Any) -> None:
    process.die_with_parent()
    with spooldir.hold(Path(spool_dir)):
        note(config, "start", index)
        while not conn.poll(0.05):
            conn.send(report(index, **fields))
        assert isinstance(conn.recv(), Stop)
        note(config, "stop", index)


def dies(config: Config, index: int, spool_dir: str, conn: Connection) -> None:
    note(config, "start", index)
    (Path(spool_dir) / "part").write_text("left behind")
    os.kill(os.getpid(), signal.SIGKILL)


def hangs_in_a_call(config: Config, index: int, spool_dir: str, conn: Connection) -> None:
    obedient(config, index, spool_dir, conn, oldest_call_s=40.0, oldest_call="upload")


def mute(config: Config, index: int, spool_dir: str, conn: Connection) -> None:
    note(config, "start", index)
    time.sleep(60)


def deaf(config: Config, index: int, spool_dir: str, conn: Connection) -> None:
    """Reports and never stops, like a worker that waits for a server in its last seconds."""
    process.die_with_parent()
    note(config, "start", index)
    while True:
        conn.send(report(index))
        time.sleep(0.05)


def the_second_cannot_use_the_configuration(config: Config, index: int, spool_dir: str, conn: Connection) -> None:
    if index == 1:
        raise SystemExit(2)
    obedient(config, index, spool_dir, conn)


def claims(config: Config, index: int, spool_dir: str, conn: Connection) -> None:
    """Worker 0 is not ready before the file ``claimed`` is there."""
    process.die_with_parent()
    note(config, "start", index)
    claimed = Path(config.daemon.spool).parent / "claimed"
    while not conn.poll(0.05):
        conn.send(report(index, consuming=index == 1 or claimed.exists()))


if __name__ == "__main__":
    # python -m tests.daemon.fakes TARGET DIRECTORY: a parent of its own, to be killed
    sys.exit(Supervisor(config(Path(sys.argv[2]), 2), target=globals()[sys.argv[1]], limits=LIMITS).run())
