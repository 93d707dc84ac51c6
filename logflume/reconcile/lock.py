"""So that two runs from cron do not overlap: advisory, since a run is safe beside another one, only useless."""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from logflume import zookeeper
from logflume.errors import Busy, Refused

NAME = "reconcile.lock"


@contextmanager
def only_one(spool: Path, root: str, zookeeper_address: str) -> Iterator[None]:
    """Raises Busy where another run works on this root, on this host or, with ZooKeeper, on another one."""
    holder = f"{socket.gethostname()}:{os.getpid()}"
    with _on_this_host(spool, holder):
        if not zookeeper_address:
            yield
            return
        name = f"reconcile-{hashlib.sha256(root.encode()).hexdigest()[:16]}"
        with zookeeper.lock(zookeeper_address, name, holder):
            yield


@contextmanager
def _on_this_host(spool: Path, holder: str) -> Iterator[None]:
    path = spool / NAME
    try:
        spool.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise Refused(
            f"lock {path}: {(error.strerror or str(error)).lower()}",
            hint="run it as the user of the daemon, who has the directory daemon.spool",
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Busy(f"another run holds {path}: {file.read().decode(errors='replace').strip()}") from None
        file.truncate(0)
        file.write(f"{holder}\n".encode())
        file.flush()
        yield
