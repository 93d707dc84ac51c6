"""The real daemon, ``logflume run``, as a process of its own: its configuration, its log, its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from logflume import units
from logflume.demo.records import LARGEST_BYTES, LATENESS_MS
from logflume.errors import LogflumeError
from logflume.kafka.embedded import GROUP_OPTIONS

TOPIC = "access"
#: how long a partition must be silent before the clock closes its hours; in production a minute. The demo's
#: hours are all past, so a pause of this length between two records would end them: not shorter
IDLE_GRACE_MS = 4000
STOP_DEADLINE_S = 10
#: lines of the daemon's log that an error shows
TAIL = 15

_CONFIG = """\
[kafka]
"bootstrap.servers" = "{bootstrap}"
"group.id" = "logflume-demo"
{options}

[output]
root = "file://{output}"

[daemon]
spool = "{spool}"
http = ""
stop_deadline = "{stop}s"

[[topic]]
name = "{topic}"
timestamp = {{ field = "ts", unit = "ms" }}
lateness = "{lateness}"
max_record_bytes = "{largest}"
# The demo is in a hurry: by default these are 1m and 10m.
idle_grace = "{grace}"
roll_every = "2s"
"""


def configuration(bootstrap: str, directory: Path) -> str:
    """The text of a configuration file for everything below ``directory``."""
    return _CONFIG.format(
        bootstrap=bootstrap,
        options="\n".join(f'"{name}" = {value}' for name, value in GROUP_OPTIONS.items()),
        output=directory / "output",
        spool=directory / "spool",
        stop=STOP_DEADLINE_S,
        topic=TOPIC,
        lateness=units.show_duration(LATENESS_MS),
        grace=units.show_duration(IDLE_GRACE_MS),
        largest=units.show_size(LARGEST_BYTES),
    )


class Daemon:
    """``with Daemon(config, log) as daemon: …``; nothing of it is left afterwards, however that ends."""

    def __init__(self, config: Path, log: Path) -> None:
        self._log = log
        self._read = 0
        self._events: list[dict[str, Any]] = []
        command = [sys.executable, "-m", "logflume", "run", "-c", str(config)]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "logflume.demo.tied", str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,  # Ctrl-C is for the demo, which then stops the daemon
                env={name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"},
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def workers(self) -> list[int]:
        """The worker's process, and those before it."""
        return [event["pid"] for event in self.events("worker started")]

    def events(self, name: str) -> list[dict[str, Any]]:
        """What it has logged so far under a name."""
        with self._log.open("rb") as text:
            text.seek(self._read)
            lines = text.readlines()
        for line in lines:
            if not line.endswith(b"\n"):
                break  # the rest of it comes later
            self._read += len(line)
            try:
                self._events.append(json.loads(line))
            except ValueError:
                continue  # a traceback, or a warning of a library
        return [event for event in self._events if event.get("event") == name]

    def check(self) -> None:
        """Raises LogflumeError if it has ended."""
        code = self._process.poll()
        if code is not None:
            raise self.trouble(f"the daemon ended by itself with code {code}")

    def trouble(self, what: str) -> LogflumeError:
        """An error with the end of the log."""
        lines = self._log.read_text(errors="replace").splitlines()
        tail = "\n".join(f"  {_readable(line)}" for line in lines[-TAIL:])
        return LogflumeError(
            f"{what}; the end of its log:\n{tail}",
            hint=f"the whole log is {self._log}; please report it",
        )

    def kill_worker(self) -> int:
        """SIGKILL for the worker, which cannot be caught: what it held in memory and spool is lost."""
        pid = self.workers[-1]
        os.kill(pid, signal.SIGKILL)
        return pid

    def stop(self) -> None:
        """SIGTERM, and wait. Raises LogflumeError unless it ends in order."""
        self._process.terminate()
        if self._ended_within(STOP_DEADLINE_S + 10) is None:
            raise self.trouble("the daemon did not stop in time")
        if self._process.returncode != 0:
            raise self.trouble(f"the daemon stopped with code {self._process.returncode}")

    def _ended_within(self, seconds: float) -> int | None:
        deadline = time.monotonic() + seconds
        # not wait(timeout), which a second Ctrl-C would leave the same way
        while (code := self._process.poll()) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The second SIGTERM makes it kill its workers at once, so none of them still writes when this returns."""
        for _ in range(2):
            if self._process.poll() is None:
                self._process.terminate()
                self._ended_within(0.5)
        if self._ended_within(5) is None:
            self._process.kill()
            self._process.wait()


def _readable(line: str) -> str:
    """A line of the log for people: ``warning  spool is full, reading pauses  bytes=…``."""
    try:
        event = json.loads(line)
        level, name = event.pop("level"), event.pop("event")
    except (ValueError, KeyError, TypeError, AttributeError):
        return line
    for less in ("timestamp", "logger"):
        event.pop(less, None)
    return f"{level:8} {name}  " + "  ".join(f"{key}={value}" for key, value in event.items())
