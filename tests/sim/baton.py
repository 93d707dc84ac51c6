"""Threads of which exactly one runs, and only when told to: interleavings are chosen, never met by chance."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def on_one_core() -> Iterator[None]:
    """For threads of which one runs at a time: to hand over from core to core takes three times as long."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = sorted(os.sched_getaffinity(0))
    # those that are started one after the other have numbers that follow each other
    os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


class Killed(BaseException):
    """The process is gone: no handler of the product may catch this."""


class Actor:
    """``body`` in a thread that goes on from one ``wait`` to the next each time ``step`` is called."""

    def __init__(self, name: str, body: Callable[[], None]) -> None:
        self.name = name
        self.done = False
        self.doomed = False
        self._body = body
        self._go, self._back = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._back.acquire()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self.doomed:
                self._body()
        except Killed:
            pass
        except BaseException as failure:  # the caller's thread raises it
            self._failure = failure
        self.done = True
        self._back.release()

    def step(self) -> None:
        """Let it run until it waits or ends. Raises what the body raised."""
        if self.done:
            return
        if self._thread.ident is None:
            self._thread.start()
        self._go.release()
        self._back.acquire()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def wait(self) -> None:
        """From inside the body: hand over to the caller of ``step``. Raises Killed when it is the end."""
        self._back.release()
        self._go.acquire()
        if self.doomed:
            raise Killed

    def kill(self) -> None:
        """The end, wherever it is."""
        if self.done:
            return
        self.doomed = True
        if self._thread.ident is None:  # never begun
            self.done = True
            return
        self.step()
        while not self.done:  # a ``finally`` may wait once more
            self.step()
        self._thread.join()
