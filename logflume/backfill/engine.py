"""The local engine: each split in a process of its own, some at once, watched and tried again.

A process that says nothing for too long hangs in a call that cannot be cancelled (P6): it is killed, and the
split begins anew, which is harmless whenever it happens.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any, Self, TypeVar

from logflume import log as logging
from logflume.backfill.model import Job
from logflume.backfill.replay import Tell
from logflume.daemon import process
from logflume.errors import ConfigError, LogflumeError, Unreachable, Unreadable

log = logging.get(__name__)

#: tries of one split, and the pause before the next in seconds
TRIES, PAUSE_S = 3, 2.0
#: seconds between two signs of life
TELL_EVERY_S = 0.25
#: a process may hang for so many call deadlines: one decision has several calls
DEADLINES = 5

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Job, Item, Tell], Result]


@dataclass(frozen=True, slots=True)
class _Progress:
    offsets: int


@dataclass(frozen=True, slots=True)
class _Done:
    value: Any


@dataclass(frozen=True, slots=True)
class _Failed:
    """A LogflumeError on its way from the child: exceptions do not survive pickling with all they say."""

    kind: type[Any]
    what: str | list[str]
    hint: str
    retry: bool

    def error(self) -> LogflumeError:
        found: LogflumeError = self.kind(self.what, hint=self.hint or None)
        return found


@dataclass(slots=True)
class _Child:
    """A process of the pool; ``number`` is the item it is at."""

    process: SpawnProcess
    conn: Connection
    number: int | None = None
    tries: int = 0
    heard: float = 0.0
    offsets: int = 0


class LocalPool:
    """Processes that take one item after the other; to be used from the main thread.

    ``with LocalPool(job, 4, tell) as pool: results = pool.run(work, items)``
    """

    def __init__(self, job: Job, processes: int, tell: Tell) -> None:
        self._job, self._processes, self._tell = job, processes, tell
        self._deadline_s = DEADLINES * job.config.daemon.call_deadline_ms / 1000
        self._idle: list[_Child] = []
        self._busy: list[_Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in [*self._idle, *self._busy]:
            self._end(child)

    def run(self, work: Work[Item, Result], items: Sequence[Item]) -> list[Result]:
        """Results in the order of the items. Raises the first error that stays after the tries; the other items are
        brought to their end before.
        """
        waiting = deque((number, 1, 0.0) for number in range(len(items)))
        results: dict[int, Result] = {}
        errors: list[LogflumeError] = []
        while waiting or self._busy:
            while waiting and len(self._busy) < self._processes and waiting[0][2] <= time.monotonic():
                at, tries, _ = waiting.popleft()
                self._give(work, items[at], at, tries)
            wait([child.conn for child in self._busy], 0.2)
            for child in list(self._busy):
                answer = self._listen(child)
                number = child.number
                if answer is None or number is None:
                    continue
                if isinstance(answer, _Done):
                    results[number] = answer.value
                elif answer.retry and child.tries < TRIES:
                    log.warning("a split is tried again", split=str(items[number]), error=str(answer.error()))
                    self._tell(-child.offsets)
                    waiting.append((number, child.tries + 1, time.monotonic() + PAUSE_S))
                else:
                    errors.append(answer.error())
        if errors:
            raise errors[0]
        return [results[number] for number in range(len(items))]

    def _give(self, work: Work[Item, Result], item: Item, number: int, tries: int) -> None:
        child = self._idle.pop() if self._idle else _Child(*process.start("logflume-backfill", _in_child, self._job))
        child.number, child.tries, child.heard, child.offsets = number, tries, time.monotonic(), 0
        self._busy.append(child)
        try:
            child.conn.send((work, item))
        except OSError:
            return  # it ended: reading from it says so, too

    def _listen(self, child: _Child) -> _Done | _Failed | None:
        """What the child's work came to; None while it is at it."""
        try:
            while child.conn.poll():
                message = child.conn.recv()
                child.heard = time.monotonic()
                if isinstance(message, _Progress):
                    child.offsets += message.offsets
                    self._tell(message.offsets)
                    continue
                self._busy.remove(child)
                self._idle.append(child)
                ended: _Done | _Failed = message
                return ended
        except (EOFError, ConnectionResetError):
            self._busy.remove(child)
            child.process.join()
            # whatever it was, the child's traceback is on standard error
            text = f"a process of the backfill ended with exit code {child.process.exitcode}"
            killed = child.process.exitcode is not None and child.process.exitcode < 0
            return _Failed(LogflumeError, text, "", retry=killed)
        if time.monotonic() - child.heard > self._deadline_s:
            self._busy.remove(child)
            self._end(child)
            return _Failed(Unreachable, f"no sign of life in {self._deadline_s:g} s", "", retry=True)
        return None

    def _end(self, child: _Child) -> None:
        child.process.kill()
        child.process.join()
        child.conn.close()


def _in_child(job: Job, conn: Connection) -> None:
    process.die_with_parent()
    logging.configure(job.config.daemon.log_level, job.config.daemon.log_format)
    gathered, last = 0, 0.0
    lock = threading.Lock()  # finishing tells from several threads

    def tell(offsets: int) -> None:
        nonlocal gathered, last
        with lock:
            gathered += offsets
            if time.monotonic() - last >= TELL_EVERY_S:
                conn.send(_Progress(gathered))
                gathered, last = 0, time.monotonic()

    while True:
        try:
            work, item = conn.recv()
        except EOFError:
            return
        try:
            value = work(job, item, tell)
        except LogflumeError as error:
            what = error.problems if isinstance(error, ConfigError) else str(error)
            # a split that is tried again writes its spool anew
            retry = error.retry or isinstance(error, Unreadable)
            conn.send(_Failed(type(error), what, error.hint, retry))
        else:
            conn.send(_Progress(gathered))
            conn.send(_Done(value))
        gathered = 0
