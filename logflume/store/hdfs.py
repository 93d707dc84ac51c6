"""``hdfs://`` over Hadoop RPC, by hdfs-native: the only module that imports it.

What the client does and does not, read in its source (0.14.7) and measured:

- Every call gives up the GIL and may come from any thread. All share one connection to the NameNode.
- A NameNode that does not answer is waited for without end, and so is the connect to it; the settings below
  bound everything else. The supervisor kills a worker that hangs (N2).
- A write whose reply is lost is not sent again; a read is, once. Refused connections are tried again with
  growing pauses, by default for minutes.
- The user is HADOOP_USER_NAME, read at every (re)connect; there is no argument for it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import ParamSpec, TypeVar

from hdfs_native import Client, FileReader, WriteOptions
from hdfs_native import FileStatus as ClientStatus

from logflume.errors import CannotConcat, ConfigError, Exists, LogflumeError, Missing, Refused, StoreError, Unreachable
from logflume.store.base import FileStatus
from logflume.store.hadoop import HadoopStore, remote_error
from logflume.store.webhdfs import WebHdfsStore

_P = ParamSpec("_P")
_T = TypeVar("_T")

_USER_VARIABLE = "HADOOP_USER_NAME"
#: a Rust error as Debug text: RPCError("java.class.Name", "message\\n\\tat …")
_RPC_ERROR = re.compile(r'(?:Fatal)?RPCError\("([\w.$]+)", "((?:[^"\\]|\\.)*)"\)', re.DOTALL)
#: in one directory the order of paths is that of names
_PATH = attrgetter("path")
_LOGIN_ERROR = re.compile(r"(?:GSSAPIError|SASLError|NoSASLMechanism)\b")


class HdfsStore(HadoopStore):
    """``web`` gives it concat, which hdfs-native does not have."""

    def __init__(
        self,
        authority: str,
        root: str,
        *,
        web: WebHdfsStore | None,
        user: str | None,
        options: Mapping[str, str],
        timeout_s: float,
    ) -> None:
        self.url = f"hdfs://{authority}{root}"
        self.root = root
        self.can_concat = web is not None
        self._web = web
        self._address = f"hdfs://{authority}"
        self._options = _defaults(authority, timeout_s) | dict(options)
        if user is not None:
            _be_user(user)
        self._client = self._connect()

    def _connect(self) -> Client:
        try:
            return Client(self._address, self._options)
        except RuntimeError as error:  # an unknown nameservice, a URL that is none, an unreadable keytab
            hint = "give host:port, or the nameservice's settings (dfs.ha.namenodes.…) or HADOOP_CONF_DIR"
            raise ConfigError([f"{self.url}: {error}"], hint=hint) from error

    def _create(self, path: str, chunks: Iterable[bytes]) -> None:
        # The inner, Rust writer: the Python one around it closes the file when it is collected as garbage,
        # so that a failed write would leave a file that looks complete. This one leaves it open, and the
        # lease keeps others from taking it for whole. For the same reason there is no `with` here.
        writer = self._call("create", path, self._client.inner.create, path, WriteOptions())
        empty = True
        for chunk in chunks:
            self._call("write", path, writer.write, chunk)  # bytes: a memoryview is 70 times slower
            empty = False
        if not empty:
            # On disk at every DataNode, for the block being written (H7); the ones before are long finished.
            try:
                self._call("sync", path, writer.hsync)
            except StoreError as error:
                # Refused before anything was sent: the one failure after which a writer may be closed.
                if "not supported for erasure-coded files" not in str(error):
                    raise
        # DataNodes report a finished block in their own time. Where our question comes first, the client waits 0.5 s
        # before the next one, then 1 s, and so on to 15 s in all: of 64 small files written at once on two busy cores
        # 2 to 17 met that. The servers' dfs.namenode.file.close.num-committed-allowed = 1 would spare it.
        self._call("close", path, writer.close)

    def _rename(self, source: str, target: str) -> None:
        self._call("publish", target, self._client.rename, source, target, overwrite=False)

    def _make_dirs(self, directory: str) -> None:
        try:
            self._call("mkdirs", directory, self._client.mkdirs, directory, create_parent=True)
        except Exists as error:  # which a caller would take for its file
            raise StoreError(f"mkdirs {directory}: a file has that name") from error

    def concat(self, target: str, sources: Sequence[str]) -> None:
        if self._web is None:
            raise CannotConcat(f"concat {target}: needs the NameNode's HTTP address; use join")
        self._web.concat(target, sources)

    def stat(self, path: str) -> FileStatus | None:
        try:
            return _status(self._call("stat", path, self._client.get_file_info, path))
        except Missing:
            return None

    def list(self, path: str) -> list[FileStatus]:
        try:
            # the request is sent by the iterator, not by list_status
            found = self._call("list", path, lambda: [*self._client.list_status(path)])
        except Missing:
            return []
        if len(found) == 1 and found[0].path == path:  # a file lists itself
            raise StoreError(f"list {path}: not a directory")
        return sorted(map(_status, found), key=_PATH)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        reader = self._open(path)
        offset = min(offset, reader.size)  # beyond the end, the client panics
        length = reader.size - offset if length is None else min(length, reader.size - offset)
        return self._call("read", path, reader.read_range, offset, length)

    def stream(self, path: str, chunk_bytes: int = 4 << 20) -> Iterator[bytes]:
        reader = self._open(path)
        packets = reader.read_range_stream(0, reader.size)
        while packet := self._call("read", path, next, packets, b""):
            for start in range(0, len(packet), chunk_bytes):
                yield packet[start : start + chunk_bytes]

    def _open(self, path: str) -> FileReader:
        return self._call("read", path, self._client.read, path)

    def delete(self, path: str) -> bool:
        return self._call("delete", path, self._client.delete, path, recursive=True)

    def close(self) -> None:
        """The client has no close: its connections end with the last reference to it."""
        if self._web is not None:
            self._web.close()

    def _call(self, what: str, path: str, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """One call of the client, its errors as ours. Errors of local files must not pass through here."""
        try:
            return call(*args, **kwargs)
        except (OSError, RuntimeError) as error:
            raise _translated(what, path, error) from error
        except BaseException as error:
            # A Rust panic is no Exception; KeyboardInterrupt and SystemExit are none either, and go on.
            if type(error).__module__ != "pyo3_runtime":
                raise
            self._client = self._connect()  # a panic may leave the old one's locks poisoned
            raise StoreError(f"{what} {path}: the HDFS client panicked: {error}") from error


def _defaults(authority: str, timeout_s: float) -> dict[str, str]:
    """Settings that stand above those of HADOOP_CONF_DIR, and below the user's options."""
    return {
        # With three DataNodes there is none to replace one that dies: go on with two (H4).
        "dfs.client.block.write.replace-datanode-on-failure.best-effort": "true",
        # Reads from DataNodes; a write waits 60 s for an acknowledgement, which nothing changes.
        "dfs.client.socket-timeout": str(int(timeout_s * 1000)),
        # At most about 3 s in all instead of minutes: the caller comes again, and others can be served.
        "dfs.client.failover.max.attempts": "3",
        "dfs.client.failover.sleep.max.millis": "1000",
        # Of a nameservice, the first NameNode asked is waited for without end. In a fixed order each worker would hang
        # again at one that hangs, or whose host is gone, although the other has taken over.
        f"dfs.client.failover.random.order.{authority}": "true",
    }


def _be_user(user: str) -> None:
    """Make the process this user for HDFS, before any client exists: Rust reads the variable unlocked."""
    global _chosen_user  # noqa: PLW0603 - the variable it guards is the process's, too
    if _chosen_user not in (None, user):
        raise ConfigError([f"one process cannot be {_chosen_user!r} and {user!r} on hdfs://"])
    _chosen_user = os.environ[_USER_VARIABLE] = user


_chosen_user: str | None = None


def _translated(what: str, path: str, error: Exception) -> LogflumeError:
    text = str(error)
    if isinstance(error, FileExistsError):
        return remote_error(what, path, "FileAlreadyExistsException", text)
    if isinstance(error, FileNotFoundError):
        return remote_error(what, path, "FileNotFoundException", text)
    if isinstance(error, OSError):
        # Of the network: refused, reset, timed out, no such host, "RPC listener disconnected".
        return Unreachable(f"{what} {path}: {text}")
    if remote := _RPC_ERROR.match(text):
        message = remote[2].replace("\\n", "\n").replace('\\"', '"')
        return remote_error(what, path, remote[1], message)
    if _LOGIN_ERROR.match(text):
        return Refused(f"{what} {path}: {text}", hint="renew the ticket, or check keytab and principal")
    return StoreError(f"{what} {path}: {text}")


def _status(found: ClientStatus) -> FileStatus:
    return FileStatus(found.path, 0 if found.isdir else found.length, found.isdir, found.modification_time)
