"""Pool threads for store and broker calls, watched: the parent kills a worker whose call hangs (P6)."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

#: for the few calls that others' output waits for
AHEAD_THREADS = 4


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call came to: ``value`` for ``then``, or the exception that no handler expected."""

    then: Callable[[Any], None]
    value: Any
    failure: BaseException | None = None


class Calls:
    """``submit`` from the owner's thread; the answers are taken by the owner's thread with ``settle``."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="store")
        self._ahead = ThreadPoolExecutor(AHEAD_THREADS, thread_name_prefix="store-ahead")
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._running: dict[int, tuple[float, str]] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self.open = 0

    def submit(self, name: str, call: Callable[[], Any], then: Callable[[Any], None], *, ahead: bool = False) -> None:
        """Run ``call`` in a thread and ``then`` with its value in ``settle``. What ``call`` may fail with it
        has to turn into a value; any other exception is a bug, and ``settle`` raises it. ``ahead``: not behind the
        calls that wait for a thread.
        """
        self.open += 1
        pool = self._ahead if ahead else self._pool
        pool.submit(self._run, next(self._numbers), name, call, then)

    def _run(self, number: int, name: str, call: Callable[[], Any], then: Callable[[Any], None]) -> None:
        with self._lock:
            self._running[number] = (time.monotonic(), name)
        try:
            answer = Answer(then, call())
        except BaseException as failure:  # a thread would lose it; the owner's thread raises it again
            answer = Answer(then, None, failure)
        with self._lock:
            del self._running[number]
        self._answers.put(answer)

    def progress(self, name: str) -> None:
        """A running call of that name has got on, so it does not hang; from any thread."""
        with self._lock:
            for number, (_, running) in self._running.items():
                if running == name:
                    self._running[number] = (time.monotonic(), name)

    def settle(self, wait_s: float = 0.0) -> int:
        """Hand out the answers that are there, waiting up to ``wait_s`` for a first one; returns how many."""
        settled = 0
        while True:
            try:
                answer = self._answers.get(timeout=wait_s) if wait_s and not settled else self._answers.get_nowait()
            except queue.Empty:
                return settled
            self.open -= 1
            settled += 1
            if answer.failure is not None:
                raise answer.failure
            answer.then(answer.value)

    def oldest(self) -> tuple[float, str]:
        """Age in seconds and name of the call that has been running longest; (0, "") when none is."""
        with self._lock:
            started = min(self._running.values(), default=None)
        return (0.0, "") if started is None else (time.monotonic() - started[0], started[1])

    def close(self) -> None:
        """Give up what has not begun; what runs is not waited for."""
        for pool in (self._pool, self._ahead):
            pool.shutdown(wait=False, cancel_futures=True)
