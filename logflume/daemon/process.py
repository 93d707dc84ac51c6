"""Worker processes: how the parent starts one, and how one ends with its parent.

Spawned, never forked (P5): a fork would copy librdkafka's and HDFS clients' locks without their threads.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from logflume.config import Config

Target = Callable[[Config, int, str, Connection], None]

_PR_SET_PDEATHSIG = 1


def run_worker(config: Config, index: int, spool_dir: str, conn: Connection) -> None:
    """The target that the parent names: it has to import what it names, so this leads on to the worker only
    in the child, and the parent never loads a client of Kafka or HDFS.
    """
    from logflume.daemon import worker  # noqa: PLC0415

    worker.main(config, index, spool_dir, conn)


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
