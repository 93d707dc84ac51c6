"""What logflume asks of a place that keeps files, and what each call promises.

Paths are absolute and use ``/``: ``<root>/…`` with the URL's scheme and authority taken off, so
``hdfs://127.0.0.1:8020/logs`` has the root ``/logs``. Every implementation passes
``tests/store/test_contract.py``; nothing outside this package imports a storage client.

Rules that hold for every call:

- **Bounded.** A call ends within ``timeout_s`` or raises Unreachable. A client whose call cannot be
  cancelled (hdfs-native) relies on the supervisor, which kills a worker that makes no progress.
- **Unknown outcome.** A lost reply raises StoreError or Unreachable although the server may have
  done it (N3). The callers' protocol reads back; a store does not retry a mutation by itself.
- **No overwriting.** No call replaces an existing file.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from logflume.errors import Exists, StoreError, Unreadable

#: clients copy what they are given: large enough to be few calls, small enough for many threads
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FileStatus:
    """One file or directory: its absolute path, length in bytes (0 for a directory), kind, mtime in ms."""

    path: str
    length: int
    is_dir: bool
    modified_ms: int

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


class Store(Protocol):
    """A file tree with atomic rename without overwrite.

    Safe to use from several threads at once. The two methods with a body follow from the others;
    an implementation that subclasses this protocol inherits them.
    """

    #: the URL this store was opened with, secrets masked; for messages
    url: str
    #: absolute path of the output root inside the store
    root: str
    #: whether ``concat`` is to be had (WebHDFS address known, not ``file://``)
    can_concat: bool

    def upload(self, local: Path, tmp: str, *, progress: Callable[[], None] = lambda: None) -> int:
        """Copy the local file to the new path ``tmp``, durable when it returns; parents are made.

        ``progress`` is called now and then while it goes on: a file may be gigabytes, and the line slow.
        The length on the server is compared with the local one, and returned.
        Raises ShortFile if they differ, Exists if ``tmp`` is taken, Refused, Unreachable, StoreError;
        Unreadable when it is the local file that cannot be read.
        After any error the name ``tmp`` must not be used again (H10).
        """

    def write(self, tmp: str, data: bytes) -> None:
        """Like ``upload``, from memory: for ledger entries, plans and markers."""

    def put_if_absent(self, path: str, data: bytes, tmp: str) -> bool:
        """Write ``data`` aside at ``tmp`` (a new name), verify, and rename to ``path`` without overwrite.

        Both parents are made. True: ``path`` now holds ``data`` and this call put it there.
        False: ``path`` was taken; ``tmp`` is removed. Raises like ``write`` and ``publish``;
        then the outcome is unknown, and the caller reads ``path``. Exists means that ``tmp`` was taken.
        """
        self.write(tmp, data)
        try:
            self.publish(tmp, path)
        except Exists:
            self.delete(tmp)
            return False
        return True

    def publish(self, tmp: str, final: str) -> None:
        """Rename without overwrite, one transaction; makes the parent of ``final``.

        Raises Exists when ``final`` is there (whether or not ``tmp`` is), Missing when ``tmp`` is not
        there and ``final`` is not either; Refused, Unreachable, StoreError with unknown outcome.
        Never moves *into* a directory called ``final`` (H12): that is Exists.
        """

    def concat(self, target: str, sources: Sequence[str]) -> None:
        """Append ``sources`` to ``target`` in order and remove them: no byte copied.

        All in one directory, none empty, no duplicates. Only where ``can_concat``. One transaction for
        as many sources as fit into a request (some 300), the next for those after them: broken off
        in between, a prefix of the sources is merged and gone, and the length of ``target`` tells how
        many. Raises Missing if one is not there (its transaction changed nothing; so does a repeated
        call), CannotConcat where the store refuses it for good (a snapshot, an encryption zone, files of
        unlike kinds; that transaction changed nothing either), StoreError with unknown outcome.
        """

    def join(self, sources: Sequence[str], tmp: str, *, progress: Callable[[], None] = lambda: None) -> int:
        """Copy the bytes of ``sources`` in order into the new file ``tmp``; returns its verified length.

        ``progress`` is called for each chunk: a large file takes minutes.
        """

    def stat(self, path: str) -> FileStatus | None:
        """The status of a path, or None where nothing is there (its parent may be missing too).

        None is never a guess: safe mode, a standby or missing rights raise (H3). What is asked below
        a *file* is None or StoreError, as the server has it.
        """

    def list(self, path: str) -> list[FileStatus]:
        """Children of a directory, sorted by name, not recursive; a missing directory has none.

        Raises StoreError for a file.
        """

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of a file, all or a range; what lies beyond the end is left out.

        Raises Missing, Unreachable, StoreError.
        """

    def stream(self, path: str, chunk_bytes: int = 4 << 20) -> Iterator[bytes]:
        """The bytes of a file in chunks of at most ``chunk_bytes``, in order, for large files."""

    def delete(self, path: str) -> bool:
        """Remove one file, or a directory with everything below; False where nothing was there."""

    def write_probe(self, directory: str) -> None:
        """Prove that the server may write, and so that what it says afterwards is of now: raises as ``write`` does."""
        path = f"{directory}/probe-{uuid.uuid4().hex}"
        self.write(path, b"")
        self.delete(path)

    def rename_probe(self, directory: str) -> None:
        """Prove below ``directory`` that rename refuses to overwrite; raises StoreError where it does not."""
        first, second = (f"{directory}/probe-{uuid.uuid4().hex}" for _ in range(2))
        self.write(first, b"first")
        self.write(second, b"second")
        try:
            self.publish(second, first)
        except Exists:
            if self.read(first) == b"first":
                return
        finally:
            self.delete(first)
            self.delete(second)
        raise StoreError(
            f"a rename below {directory} replaced an existing file",
            hint="this storage cannot keep the ledger: choose another output root",
        )

    def close(self) -> None:
        """Give up connections. The store must not be used afterwards."""


def local_length(local: Path) -> int:
    """The bytes of a file that is to be uploaded. Raises Unreadable."""
    try:
        return local.stat().st_size
    except OSError as error:
        raise Unreadable(f"upload {local}: {error.strerror}") from error


def local_chunks(local: Path, progress: Callable[[], None]) -> Iterator[bytes]:
    """What is in it, ``progress`` called before each chunk. Raises Unreadable: an error here is not the store's."""
    try:
        with local.open("rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                progress()
                yield chunk
    except OSError as error:
        raise Unreadable(f"upload {local}: {error.strerror}") from error
