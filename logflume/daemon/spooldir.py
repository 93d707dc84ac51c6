"""A spool directory for each worker, and the removal of those whose worker is gone.

``<spool>/w<index>-<random>/lock`` is flock'ed, shared, by the parent from the moment it exists and by the
worker for as long as it runs; the kernel lets go of both, however they end. Whoever gets that lock
exclusively knows that nobody needs the directory. ``<spool>/lock`` is held while directories are made or
removed, so that one is never seen without its lock, not even by another daemon on the same spool.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from logflume.errors import Refused

LOCK = "lock"
_OURS = re.compile(r"w\d+-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class SpoolDir:
    """A worker's directory, kept from ``sweep`` until ``release`` even before the worker holds it."""

    path: Path
    lock: BinaryIO

    def release(self) -> None:
        self.lock.close()


def make(spool: Path, index: int) -> SpoolDir:
    """Make the directory of a new worker. Raises Refused where the spool cannot be written."""
    with _only_one(spool):
        path = spool / f"w{index}-{uuid.uuid4().hex[:12]}"
        try:
            path.mkdir(mode=0o700)
            (path / LOCK).touch()
        except OSError as error:
            raise _refused(path, error) from error
        return SpoolDir(path, hold(path))


def hold(path: Path) -> BinaryIO:
    """Keep a directory for as long as the returned file is open. Raises Refused."""
    try:
        lock = (path / LOCK).open("rb")
    except OSError as error:
        raise _refused(path / LOCK, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise _refused(path / LOCK, error) from error
    return lock


def sweep(spool: Path) -> list[Path]:
    """Remove the workers' directories that nobody holds; returns them. What else lies there is left alone."""
    with _only_one(spool):
        removed = _left(spool)
        for path in removed:
            try:
                shutil.rmtree(path)
            except OSError as error:
                raise _refused(path, error) from error
    return removed


def left(spool: Path) -> list[Path]:
    """The workers' directories that nobody holds; nothing is changed."""
    if not spool.is_dir():
        return []
    with _only_one(spool):
        return _left(spool)


def _left(spool: Path) -> list[Path]:
    found = sorted(spool.iterdir())
    return [path for path in found if _OURS.fullmatch(path.name) and path.is_dir() and not _held(path)]


def _held(path: Path) -> bool:
    try:
        with (path / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False  # its making or its removal was cut short
    except OSError as error:
        raise _refused(path / LOCK, error) from error
    return False


@contextmanager
def _only_one(spool: Path) -> Iterator[None]:
    try:
        spool.mkdir(parents=True, exist_ok=True)
        lock = (spool / LOCK).open("wb")
    except OSError as error:
        raise _refused(spool, error) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _refused(path: Path, error: OSError) -> Refused:
    reason = (error.strerror or str(error)).lower()
    return Refused(f"spool: {path}: {reason}", hint="give the user of logflume the directory daemon.spool")
