"""The spool: lines of open parts are collected in memory, compressed in threads, appended to local files.

Owned by one thread; only ``_Part.work`` runs in the pool, one at a time for each part, so that chunks
stay in order. Memory is bounded by ``buffer_bytes``: when half of it is lines that wait, the fullest parts
are compressed, and ``crowded`` tells the owner to stop reading until the pool has caught up.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections import deque
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path

from logflume.errors import LogflumeError, Refused
from logflume.spool.encoders import Encoder

CHUNK_BYTES = 512 << 10
#: Lines that wait are joined to blocks of this size: as objects of their own, with thousands of parts open, they take a
#: quarter more memory (bench/README.md).
BLOCK_BYTES = 4 << 10


@dataclass(frozen=True, slots=True)
class SpoolFile:
    """A closed part on local disk. ``size`` as stored, ``raw`` as lines, both in bytes."""

    path: Path
    size: int
    raw: int
    count: int
    sha256: str


@dataclass(slots=True)
class _Part:
    path: Path
    encode: Encoder
    #: what waits for the next chunk: blocks, then lines that are not a block yet
    blocks: list[bytes] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    lines_bytes: int = 0
    pending_bytes: int = 0
    pending_count: int = 0
    #: chunks, and how many lines each has
    todo: deque[tuple[bytes, int]] = field(default_factory=deque)
    working: bool = False
    discarded: bool = False
    closing: Future[SpoolFile] | None = None
    #: of what is in the file
    size: int = 0
    raw: int = 0
    count: int = 0
    digest: object = field(default_factory=hashlib.sha256)
    error: LogflumeError | None = None


class Spool:
    """All open parts of one worker, each named by (owner, serial); ``owner`` is the caller's own object."""

    def __init__(self, directory: Path, pool: Executor, *, buffer_bytes: int, limit_bytes: int) -> None:
        self.directory = directory
        self.limit_bytes = limit_bytes
        self._buffer_bytes = buffer_bytes
        self._pool = pool
        self._parts: dict[tuple[object, int], _Part] = {}
        self._lock = threading.Lock()
        self._names = 0
        self._pending = 0
        self._buffered = 0
        self._on_disk = 0
        directory.mkdir(parents=True, exist_ok=True)

    # -- figures ----------------------------------------------------------------------------------

    @property
    def disk_bytes(self) -> int:
        return self._on_disk

    @property
    def buffered_bytes(self) -> int:
        return self._buffered

    @property
    def crowded(self) -> bool:
        """More is in memory than allowed: read no more until the pool has caught up."""
        return self._buffered > self._buffer_bytes

    @property
    def full(self) -> bool:
        return self._on_disk >= self.limit_bytes

    @property
    def roomy(self) -> bool:
        """Well below the limit again: fetching may go on (pausing throws prefetched data away, so not sooner)."""
        return self._on_disk < self.limit_bytes * 0.8

    # -- writing ----------------------------------------------------------------------------------

    def write(self, owner: object, serial: int, encode: Encoder, lines: list[bytes], count: int, size: int) -> None:
        """Append lines (each piece one line or several already joined, without the last newline)."""
        part = self._parts.get((owner, serial))
        if part is None:
            part = self._parts[owner, serial] = _Part(self.directory / f"{self._names:09d}.part", encode)
            self._names += 1
        part.lines.extend(lines)
        part.lines_bytes += size
        if part.lines_bytes >= BLOCK_BYTES:
            part.blocks.append(b"\n".join(part.lines))
            part.lines, part.lines_bytes = [], 0
        part.pending_bytes += size
        part.pending_count += count
        self._pending += size
        with self._lock:
            self._buffered += size
        if part.pending_bytes >= CHUNK_BYTES:
            self._flush(part)
        elif self._pending > self._buffer_bytes // 2:
            self._flush_fullest()

    def close(self, owner: object, serial: int) -> Future[SpoolFile]:
        """Finish a part; the future gives the file, or raises Refused when the disk did not take it, LogflumeError
        when its lines could not be compressed.
        """
        part = self._parts[owner, serial]
        closing: Future[SpoolFile] = Future()
        self._flush(part, closing)
        return closing

    def remove(self, owner: object, serial: int) -> None:
        """Forget a part and its file, closed or not; a part that is not there is no error."""
        part = self._parts.pop((owner, serial), None)
        if part is None:
            return
        self._pending -= part.pending_bytes
        with self._lock:
            part.discarded = True
            self._buffered -= part.pending_bytes + sum(len(chunk) for chunk, _ in part.todo)
            part.todo.clear()
            if not part.working:
                self._drop(part)

    def remove_all(self, owner: object) -> None:
        for known, serial in [key for key in self._parts if key[0] is owner]:
            self.remove(known, serial)

    def broken(self) -> list[tuple[object, LogflumeError]]:
        """Owners with a part that the disk did not take: what they hold is not whole any more."""
        return [(owner, part.error) for (owner, _), part in self._parts.items() if part.error is not None]

    def clear(self) -> None:
        """Remove the directory with everything in it."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _flush_fullest(self) -> None:
        """The largest chunks that there are, until a quarter of what may wait has gone."""
        for part in sorted(self._parts.values(), key=lambda part: part.pending_bytes, reverse=True):
            if self._pending <= self._buffer_bytes // 8 * 3:
                return
            self._flush(part)

    def _flush(self, part: _Part, closing: Future[SpoolFile] | None = None) -> None:
        with self._lock:
            # Together with the last chunk: a thread that saw it before would settle the part without that chunk.
            part.closing = closing or part.closing
            if part.pending_count:
                chunk = b"\n".join((*part.blocks, *part.lines, b""))
                self._buffered += len(chunk) - part.pending_bytes
                self._pending -= part.pending_bytes
                part.todo.append((chunk, part.pending_count))
                part.blocks, part.lines, part.lines_bytes = [], [], 0
                part.pending_bytes = part.pending_count = 0
            if not part.working and (part.todo or closing is not None):
                part.working = True
                self._pool.submit(self._work, part)

    # -- in the pool ------------------------------------------------------------------------------

    def _work(self, part: _Part) -> None:
        while True:
            with self._lock:
                if part.discarded or not part.todo:
                    part.working = False
                    if part.discarded:
                        self._drop(part)
                    elif part.closing is not None:
                        self._settle(part, part.error)
                    return
                chunk, count = part.todo.popleft()
            if part.error is None:
                self._append(part, chunk, count)
            with self._lock:
                self._buffered -= len(chunk)

    def _append(self, part: _Part, chunk: bytes, count: int) -> None:
        try:
            data = part.encode(chunk)
            # opened anew for each chunk: with thousands of open parts there are only as many files as threads
            with part.path.open("ab") as file:
                file.write(data)
        except OSError as error:
            part.error = Refused(
                f"the spool cannot be written: {error.strerror} ({part.path})",
                hint="free space in daemon.spool, or mend its disk; logflume goes on by itself",
            )
            return
        except Exception as error:
            # MemoryError, or the encoder's own: nobody asks a thread of the pool what it raised
            part.error = LogflumeError(f"a part cannot be spooled: {type(error).__name__}: {error} ({part.path})")
            return
        part.digest.update(data)  # type: ignore[attr-defined]  # hashlib has no public type for it
        part.size += len(data)
        part.raw += len(chunk)
        part.count += count
        with self._lock:
            self._on_disk += len(data)

    def _settle(self, part: _Part, error: LogflumeError | None) -> None:
        future = part.closing
        if future is None or future.done():
            return
        if error is not None:
            future.set_exception(error)
            return
        digest: str = part.digest.hexdigest()  # type: ignore[attr-defined]
        future.set_result(SpoolFile(part.path, part.size, part.raw, part.count, digest))

    def _drop(self, part: _Part) -> None:
        self._settle(part, Refused("the part was given up"))
        self._on_disk -= part.size
        part.size = 0
        if part.path.exists():
            os.unlink(part.path)
