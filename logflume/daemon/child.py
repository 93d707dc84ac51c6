"""One worker process as its parent sees it, from its start to its end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue

from logflume.config import Config
from logflume.daemon import process, spooldir
from logflume.daemon.report import Stop, WorkerReport
from logflume.log import get

log = get(__name__)

#: a worker that closed its pipe has nothing left to do; one that still runs then has a thread that hangs
EXIT_GRACE_S = 10.0


@dataclass(frozen=True, slots=True)
class Heard:
    """A worker reported."""

    child: Child
    report: WorkerReport


@dataclass(frozen=True, slots=True)
class Closed:
    """A worker closed its pipe: it ends, or has been killed."""

    child: Child


@dataclass(frozen=True, slots=True)
class Signalled:
    """The parent got a signal."""

    number: signal.Signals


Event = Heard | Closed | Signalled

#: what a worker process runs: configuration, number, spool directory, the pipe to the parent
Target = Callable[[Config, int, str, Connection], None]


def run_worker(config: Config, index: int, spool_dir: str, conn: Connection) -> None:
    """The target that the parent names: it has to import what it names, so this leads on to the worker only
    in the child, and the parent never loads a client of Kafka or HDFS.
    """
    from logflume.daemon import worker  # noqa: PLC0415

    worker.main(config, index, spool_dir, conn)


class Child:
    """What it reports goes to ``events``. Every method is for the parent's main thread."""

    def __init__(self, target: Target, config: Config, index: int, events: SimpleQueue[Event]) -> None:
        self.index = index
        self.report: WorkerReport | None = None
        self.killed = False
        self._closed: float | None = None
        self._events = events
        self._spool = spooldir.make(Path(config.daemon.spool), index)
        try:
            name = f"worker-{index}"
            self._process, self._conn = process.start(name, target, config, index, str(self._spool.path))
        except BaseException:  # Ctrl-C too: nobody else would give the directory back
            self._spool.release()
            raise
        self.started = self.heard = time.monotonic()
        # A thread of its own, since a worker that is frozen in the middle of a report would block its reader.
        self._listener = threading.Thread(target=self._listen, name=f"listen-{index}", daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        try:
            while True:
                self._events.put(Heard(self, self._conn.recv()))
        except (EOFError, OSError):
            self._events.put(Closed(self))

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number if one ended it."""
        return self._process.exitcode

    def take(self, report: WorkerReport) -> None:
        self.report, self.heard = report, time.monotonic()

    def take_closed(self) -> None:
        self._closed = time.monotonic()

    def hangs(self, now: float, *, call_s: float, silence_s: float) -> str:
        """Why this worker has to be taken for hung (P6); empty if it is not."""
        if self._closed is not None and now - self._closed > EXIT_GRACE_S:
            return "it said its last and does not end"
        if now - self.heard > silence_s:
            return f"it has reported nothing for {now - self.heard:.0f} s"
        if self.report is not None and self.report.oldest_call_s > call_s:
            return f"its call '{self.report.oldest_call}' has taken {self.report.oldest_call_s:.0f} s"
        return ""

    def stop(self, deadline_s: float) -> None:
        try:
            self._conn.send(Stop(deadline_s))
        except OSError:
            log.debug("worker was gone before it was told to stop", worker=self.index)

    def kill(self) -> None:
        if not self.killed:
            self.killed = True
            self._process.kill()

    def bury(self, wait_s: float = 5.0) -> None:
        """Wait for the end of a process that ended or was killed, and give up all that was kept for it."""
        self._process.join(wait_s)
        self._listener.join(wait_s)
        self._conn.close()
        self._spool.release()
