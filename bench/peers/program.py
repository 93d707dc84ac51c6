"""A peer as a process: started, watched from outside, and ended; what the programs have in common."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from bench import machine
from bench.daemon import Place, Watch
from bench.peers.account import data_files
from bench.topic import Load

SAMPLE_S = 0.2
LOOK_EVERY_S = 1.0
END_TIMEOUT_S = 60.0
LOG_LINES = 60


class Peer(Protocol):
    """How one peer is run, and how it is known to be done."""

    name: str

    def configured(self) -> dict[str, Any]:
        """Versions, and what was set, for the result."""

    def command(self, here: Place, topic: str) -> tuple[Sequence[str], Mapping[str, str]]:
        """Argument vector, and what is added to the environment. Output goes to files below ``here``."""

    def began(self, log: str) -> float | None:
        """When it began to read, in seconds since 1970; None before. ``log`` is all that it has printed."""

    def taken(self, load: Load) -> bool:
        """Whether all records were written; asked while it runs. A peer that ends by itself says False always."""

    def closed(self, here: Place) -> bool:
        """Whether, with all records taken, no file is open any more."""


class Failed(RuntimeError):
    """A peer did not come to the end; the text has what it said last."""


def run(peer: Peer, here: Place, topic: str, load: Load, timeout_s: float) -> dict[str, Any]:
    """One run over the whole topic: figures as those of ``daemon.drain``. Raises Failed.

    From the beginning of reading, ``records_s`` counts until all was written, ``wall_records_s`` until the last file of
    data was closed: Flume closes a file some time after its last record.
    """
    command, more = peer.command(here, topic)
    log = here.folder / f"{peer.name}.log"
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    started, watch, tree = time.time(), Watch(), Tree()
    with log.open("ab") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=here.folder,
            env={**os.environ, **more},
            start_new_session=True,
        )
    here.reaper.adopt(process.pid)
    next_look, began, taken = 0.0, None, None
    try:
        while process.poll() is None:
            watch.cpu.append((time.time(), tree.cpu_s(process.pid)))
            began = began or peer.began(_read(log))
            if time.time() >= next_look:
                next_look = time.time() + LOOK_EVERY_S
                if taken is None and peer.taken(load):
                    taken = time.time()
                if taken is not None and peer.closed(here):
                    break
            if time.time() > started + timeout_s:
                raise Failed(f"{peer.name} was not done in {timeout_s:g} s\n{_tail(log)}")
            time.sleep(SAMPLE_S)
    finally:
        code = _end(process)
        here.reaper.release(process.pid)
    if code not in {0, -signal.SIGTERM, 128 + signal.SIGTERM} or began is None:
        raise Failed(f"{peer.name} ended with {code}, began {began}\n{_tail(log)}")
    whole = resource.getrusage(resource.RUSAGE_CHILDREN)
    files = data_files(here, peer.name)
    last = max((one.closed_ms for one in files if one.records), default=0) / 1000
    return {
        "records_s": load.total / ((taken or last) - began),
        "wall_s": last - began,
        "wall_with_start_s": last - started,
        "wall_records_s": load.total / (last - began),
        "cpu_us": (watch.cpu_at(last) - watch.cpu_at(began)) / load.total * 1e6,
        "cpu_whole_us": (whole.ru_utime + whole.ru_stime - used.ru_utime - used.ru_stime) / load.total * 1e6,
        "peak_mb": tree.peak_mb,
        "bytes": sum(one.bytes for one in files if one.records),
        "files": sum(one.records for one in files),
    }


class Tree:
    """CPU and memory of a process with all its descendants, those that ended between two samples at their last one."""

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._cpu: dict[int, float] = {}

    def cpu_s(self, root: int) -> float:
        """Seconds so far. Takes down the memory, too: the sum of each one's peak, of those that live together."""
        pids = _descendants(root)
        for pid in pids:
            self._cpu[pid] = max(self._cpu.get(pid, 0.0), machine.cpu_s([pid]))
        self.peak_mb = max(self.peak_mb, machine.peak_mb(pids))
        return sum(self._cpu.values())


def _descendants(root: int) -> list[int]:
    found = [root]
    for pid in found:
        try:
            tasks = [*Path(f"/proc/{pid}/task").iterdir()]
        except OSError:
            continue
        for task in tasks:
            try:
                found += [int(word) for word in (task / "children").read_text().split()]
            except OSError:
                continue
    return found


def _end(process: subprocess.Popen[bytes]) -> int:
    """SIGTERM, and SIGKILL for the group of one that stays; the exit code."""
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait(END_TIMEOUT_S)


def _read(log: Path) -> str:
    return log.read_text(errors="replace")


def _tail(log: Path) -> str:
    return f"--- {log.name}\n" + "\n".join(_read(log).splitlines()[-LOG_LINES:])
