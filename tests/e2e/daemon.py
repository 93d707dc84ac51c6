"""The real ``logflume run``, as a process that a test may kill, stop and continue."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.stack.server import Reaper

STOP_TIMEOUT_S = 45.0
#: how long a broker keeps a fetch that finds nothing: fetch.wait.max.ms, librdkafka's default
FETCH_WAIT_S = 0.5
LOG_LINES = 80


class Daemon:
    """``name`` is for the log's file; ``config`` becomes its TOML, where ``topic`` is a list of tables."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any], reaper: Reaper) -> None:
        self.name = name
        self.config_file = folder / f"{name}.toml"
        self.log = folder / f"{name}.log"
        self.starts = 0
        self.stopped = False
        self.may_stop = False  # a partition is meant to need a person
        self.program = ["-m", "logflume", "run", "-c", str(self.config_file)]
        self._reaper = reaper
        self._process: subprocess.Popen[bytes] | None = None
        self.spool = folder / "spool"
        settings = {**config, "daemon": {"spool": str(self.spool), **config.get("daemon", {})}}
        self.config_file.write_text(toml(settings))

    def start(self) -> Daemon:
        assert self._process is None or self._process.poll() is not None
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self.program],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._reaper.adopt(self._process.pid)
        self.starts += 1
        self.stopped = False
        return self

    # -- who it is --------------------------------------------------------------------------------

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def workers(self) -> list[int]:
        """Process ids of the workers that live now; none while the parent is gone."""
        try:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        except OSError:
            return []
        # the checks before a start have a process of their own, too
        started = set(re.findall(r"worker started .*pid=(\d+)", self.logged()))
        return [int(child) for child in children if child in started and _is_worker(int(child))]

    def wait_workers(self, count: int = 1, timeout_s: float = 60.0) -> list[int]:
        wait_until(lambda: len(self.workers()) >= count, timeout_s, f"{self.name} has {count} workers", self)
        return self.workers()

    def status(self) -> dict[str, Any] | None:
        """``/status.json``, None while there is no answer; the daemon must have been given an address."""
        found = re.search(r'^http = "([^"]+)"', self.config_file.read_text(), re.MULTILINE)
        assert found is not None
        try:
            with urllib.request.urlopen(f"http://{found[1]}/status.json", timeout=5) as reply:
                answer: dict[str, Any] = json.load(reply)
                return answer
        except (OSError, ValueError):
            return None

    # -- what is done to it -----------------------------------------------------------------------

    def kill(self) -> None:
        """SIGKILL to the parent; its workers die with it."""
        workers = self.workers()
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)
        wait_until(lambda: not any(map(_is_worker, workers)), 10, "workers died with their parent", self)
        self._reaper.release(self.process.pid)

    def kill_worker(self, number: int = 0) -> bool:
        """SIGKILL to one worker; False if there is none at the moment."""
        workers = self.workers()
        if not workers:
            return False
        os.kill(workers[number % len(workers)], signal.SIGKILL)
        return True

    def freeze(self) -> list[int]:
        """SIGSTOP to the parent and all workers: as a host that hangs; returns the workers.

        Afterwards no fetch of theirs waits at a broker: one would be answered with what is produced next, and the
        thawed consumer would find those records in its socket, even when the log has lost them meanwhile.
        """
        workers = self.workers()
        for pid in (self.process.pid, *workers):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(2 * FETCH_WAIT_S)
        return workers

    def thaw(self, workers: list[int]) -> None:
        for pid in (*workers, self.process.pid):
            os.kill(pid, signal.SIGCONT)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> float:
        """SIGTERM, and wait; returns how long it took. It has to end in good order."""
        began = time.monotonic()
        self.stopped = True
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} does not stop\n{self.tail()}") from None
        self._reaper.release(self.process.pid)
        assert code == 0, f"{self.name} ended with {code}\n{self.tail()}"
        return time.monotonic() - began

    def end(self) -> None:
        """Whatever it does: no process is left."""
        if self._process is not None and self._process.poll() is None:
            for pid in (*self.workers(), self._process.pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self._process.wait(STOP_TIMEOUT_S)
            self._reaper.release(self._process.pid)

    # -- what it says -----------------------------------------------------------------------------

    def logged(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self, lines: int = LOG_LINES) -> str:
        return f"--- {self.log.name}\n" + "\n".join(self.logged().splitlines()[-lines:])

    def no_surprise(self) -> None:
        """No bug showed itself: a traceback is always one, a partition that stops unless it is meant to."""
        text = self.logged()
        at = max(text.find("Traceback"), -1 if self.may_stop else text.find("partition stopped"))
        assert at < 0, f"{self.name} logged\n{text[max(0, at - 500) : at + 4000]}"


def _is_worker(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return b"spawn_main" in command and state not in "ZX"


def wait_until(done: Callable[[], object], timeout_s: float, what: str, *daemons: Daemon) -> None:
    """Poll until ``done()`` is true; AssertionError with the daemons' logs after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while not done():
        for daemon in daemons:
            if daemon.starts and not daemon.stopped and daemon.process.poll() not in (None, -signal.SIGKILL):
                raise AssertionError(f"{daemon.name} ended by itself while waiting for: {what}\n{daemon.tail()}")
            daemon.no_surprise()
        if time.monotonic() > deadline:
            logs = "\n".join(daemon.tail() for daemon in daemons)
            raise AssertionError(f"not in {timeout_s:g} s: {what}\n{logs}")
        time.sleep(0.1)


def toml(config: Mapping[str, Any]) -> str:
    """TOML of tables of plain values, and ``topic`` as an array of tables."""
    lines = []
    for section, table in config.items():
        for one in table if isinstance(table, list) else [table]:
            lines.append(f"[[{section}]]" if isinstance(table, list) else f"[{section}]")
            lines += [f"{json.dumps(key)} = {_value(value)}" for key, value in one.items()]
    # keys without dots need no quotes, and none are easier to read
    return re.sub(r'^"(\w+)" = ', r"\1 = ", "\n".join(lines), flags=re.MULTILINE) + "\n"


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_value(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)
