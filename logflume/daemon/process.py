"""Child processes: how one is started, how it ends with its parent, and a call in one that has a bound.

Spawned, never forked (P5): a fork would copy librdkafka's and HDFS clients' locks without their threads.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

from logflume.errors import ConfigError, LogflumeError, Unreachable

_PR_SET_PDEATHSIG = 1

_T = TypeVar("_T")


def start(name: str, target: Callable[..., None], *args: object) -> tuple[SpawnProcess, Connection]:
    """Start ``target(*args, conn)``; returns the process and our end of its pipe. To be called from the main
    thread, see ``die_with_parent``.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=True)
    process = context.Process(target=target, args=(*args, theirs), name=name, daemon=True)
    # Its helper process is started by the first start otherwise, and unblocks what is blocked here.
    resource_tracker.ensure_running()
    # A terminal sends its signals to every process of the group, and only the parent is to answer them. The
    # child inherits the blocked ones, so that there is no moment in which Ctrl-C kills a worker that starts.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()  # else the end of the worker would not close the pipe
    return process, ours


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends, however that ends; for a spawned process.

    Linux tells when the parent's *thread* ends that started us, so that has to be its main thread.
    Elsewhere only the closed pipe tells, which a hung process does not see.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        # it ended before we asked: nobody would ever stop us
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class _Failed:
    """A LogflumeError on its way from the child: exceptions do not survive pickling with all they say."""

    kind: type[Any]
    what: str | list[str]
    hint: str


def apart(deadline_s: float, function: Callable[..., _T], *args: object) -> _T:
    """``function(*args)`` in a process of its own; returns what it returns, raises the LogflumeError it raises.

    For calls of clients that have no bound of their own (N2): after ``deadline_s`` the process is killed, and
    this raises Unreachable. And the caller has loaded no client, nor has threads of one.
    """
    child, conn = start(function.__name__, _in_child, function, args)
    try:
        answer = conn.recv() if conn.poll(deadline_s) else _Failed(Unreachable, f"no answer in {deadline_s:g} s", "")
    except EOFError:
        child.join()
        # whatever it was, the child's traceback is on standard error
        raise LogflumeError(f"{function.__name__} ended with exit code {child.exitcode}") from None
    finally:
        child.kill()
        child.join()
        conn.close()
    if isinstance(answer, _Failed):
        raise answer.kind(answer.what, hint=answer.hint or None)
    result: _T = answer
    return result


def _in_child(function: Callable[..., object], args: tuple[object, ...], conn: Connection) -> None:
    die_with_parent()
    logging.disable()  # the clients' lines would only repeat, in their words, what the error says
    try:
        conn.send(function(*args))
    except LogflumeError as error:
        what = error.problems if isinstance(error, ConfigError) else str(error)
        conn.send(_Failed(type(error), what, error.hint))
