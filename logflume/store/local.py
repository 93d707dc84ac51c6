"""A store on a local or mounted file system: ``file:///path``.

Durable means fsync of the file and of every directory whose entries changed: a name that was never
synced is lost with the power even when its file's bytes are not.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from logflume.errors import CannotConcat, Exists, Missing, Refused, ShortFile, StoreError
from logflume.store.base import CHUNK_BYTES, FileStatus, Store, local_chunks, local_length

_REFUSALS = {
    errno.ENOSPC: "free space on that file system; logflume goes on by itself",
    errno.EDQUOT: "raise the disk quota; logflume goes on by itself",
    errno.EACCES: "give logflume's user the right to write there; logflume goes on by itself",
    errno.EPERM: "give logflume's user the right to write there; logflume goes on by itself",
    errno.EROFS: "mount that file system writable; logflume goes on by itself",
}


class LocalStore(Store):
    """Paths are those of the operating system. There is no deadline: a hung mount hangs the call."""

    can_concat = False

    def __init__(self, root: str) -> None:
        self.root = root
        self.url = f"file://{root}"

    def upload(self, local: Path, tmp: str, *, progress: Callable[[], None] = lambda: None) -> int:
        length = local_length(local)
        with _errors("upload to", tmp), _new_file(tmp, length) as target:
            # a copy, not a hard link: the spool may be truncated or reused without touching the output
            for chunk in local_chunks(local, progress):
                target.write(chunk)
        return length

    def write(self, tmp: str, data: bytes) -> None:
        with _errors("write", tmp), _new_file(tmp, len(data)) as target:
            target.write(data)

    def publish(self, tmp: str, final: str) -> None:
        with _errors("publish", final):
            _make_dirs(os.path.dirname(final))
            try:
                # link and unlink, since rename() would replace the target
                os.link(tmp, final)
            except FileExistsError:
                # a crash between link and unlink leaves one file under both names: finish that rename
                if not _same_file(tmp, final):
                    raise
            except FileNotFoundError:
                # the system looks at the source first; the promise is Exists if the target is there
                if os.path.lexists(final):
                    raise Exists(f"publish {final}: already there") from None
                raise Missing(f"publish {final}: {tmp} is not there") from None
            _sync_dir(os.path.dirname(final))
            with suppress(FileNotFoundError):  # another publisher of the same file got here first
                os.unlink(tmp)
            _sync_dir(os.path.dirname(tmp))

    def concat(self, target: str, sources: Sequence[str]) -> None:
        raise CannotConcat(f"concat of {len(sources)} files into {target}: not to be had on file://; use join")

    def join(self, sources: Sequence[str], tmp: str, *, progress: Callable[[], None] = lambda: None) -> int:
        with _errors("join into", tmp):
            expected = sum(os.stat(path).st_size for path in sources)
            with _new_file(tmp, expected) as target:
                for path in sources:
                    with open(path, "rb") as source:
                        while chunk := source.read(CHUNK_BYTES):
                            target.write(chunk)
                            progress()
            return expected

    def stat(self, path: str) -> FileStatus | None:
        with _errors("stat", path):
            try:
                return _status(path, os.stat(path))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def list(self, path: str) -> list[FileStatus]:
        children = []
        with _errors("list", path):
            try:
                entries = os.scandir(path)
            except FileNotFoundError:
                return []
            with entries:
                for entry in entries:
                    with suppress(FileNotFoundError):  # gone since it was listed
                        children.append(_status(f"{path.rstrip('/')}/{entry.name}", entry.stat()))
        return sorted(children, key=lambda child: child.name)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        with _errors("read", path), open(path, "rb") as source:
            source.seek(offset)
            return source.read(-1 if length is None else length)

    def stream(self, path: str, chunk_bytes: int = 4 << 20) -> Iterator[bytes]:
        with _errors("read", path), open(path, "rb") as source:
            while chunk := source.read(chunk_bytes):
                yield chunk

    def delete(self, path: str) -> bool:
        with _errors("delete", path):
            try:
                if os.path.isdir(path) and not os.path.islink(path):
                    shutil.rmtree(path)
                else:
                    os.unlink(path)
                _sync_dir(os.path.dirname(path))
            except FileNotFoundError:
                return False
            return True

    def close(self) -> None:
        """Nothing is held open between calls."""


@contextmanager
def _errors(what: str, path: str) -> Iterator[None]:
    """Turn the system's errors into ours."""
    try:
        yield
    except FileExistsError as error:
        raise Exists(f"{what} {path}: already there") from error
    except FileNotFoundError as error:
        raise Missing(f"{what} {path}: {error.filename or path} is not there") from error
    except OSError as error:
        if error.errno in _REFUSALS:
            raise Refused(f"{what} {path}: {error.strerror}", hint=_REFUSALS[error.errno]) from error
        raise StoreError(f"{what} {path}: {error.strerror or error}") from error


@contextmanager
def _new_file(path: str, expected: int) -> Iterator[BinaryIO]:
    """A new file that has ``expected`` bytes and is durable when the block ends well."""
    _make_dirs(os.path.dirname(path))
    with open(path, "xb") as target:
        yield target
        target.flush()
        os.fsync(target.fileno())
    _sync_dir(os.path.dirname(path))
    found = os.stat(path).st_size
    if found != expected:
        raise ShortFile(f"{path} has {found} bytes instead of {expected}")


def _make_dirs(directory: str) -> None:
    """Like os.makedirs, and durable: each new name is synced in its parent."""
    missing = []
    while not os.path.isdir(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    for name in reversed(missing):
        try:
            os.mkdir(name)
        except FileExistsError:
            if not os.path.isdir(name):  # else another thread made it just now
                # not FileExistsError: that would say that the file to be made is there
                raise NotADirectoryError(errno.ENOTDIR, "a file is in the way of a directory", name) from None
        _sync_dir(os.path.dirname(name))


def _sync_dir(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samestat(os.lstat(one), os.lstat(other))
    except FileNotFoundError:
        return False


def _status(path: str, found: os.stat_result) -> FileStatus:
    is_dir = stat.S_ISDIR(found.st_mode)
    return FileStatus(path, 0 if is_dir else found.st_size, is_dir, found.st_mtime_ns // 1_000_000)
