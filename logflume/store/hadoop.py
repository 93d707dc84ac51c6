"""What ``hdfs://`` and ``webhdfs://`` share: Hadoop's errors as ours, and the commit's steps over a NameNode.

The NameNode names its errors by Java class, over RPC and over HTTP alike, so they are told apart here once.
"""

from __future__ import annotations

import posixpath
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from logflume.errors import CannotConcat, Exists, LogflumeError, Missing, Refused, ShortFile, StoreError, Unreachable
from logflume.store.base import CHUNK_BYTES, Store, local_chunks, local_length

_QUOTA = "raise the quota or free space below it (hdfs dfsadmin -setQuota, -setSpaceQuota)"
_LOGIN = "renew the ticket or token, or check the user"
_REFUSALS = {
    "SafeModeException": "the NameNode is in safe mode: wait, or 'hdfs dfsadmin -safemode get'",
    "NSQuotaExceededException": _QUOTA,
    "DSQuotaExceededException": _QUOTA,
    "QuotaByStorageTypeExceededException": _QUOTA,
    "AccessControlException": "give logflume's user the right to write there",
    "AuthorizationException": _LOGIN,
    "AuthenticationException": _LOGIN,
    "SaslException": _LOGIN,
    "InvalidToken": _LOGIN,
    "SecretManager$InvalidToken": _LOGIN,
}
#: no DataNode has room, or none is left (H9): plain IOExceptions, over RPC and over HTTP
_NO_DATANODE = ("could only be written to", "could only be replicated to", "Failed to find datanode")
_EXISTS = {"FileAlreadyExistsException", "AlreadyBeingCreatedException"}
#: the server that answers is not the active one, or asks to come again: a failover is under way (H1, H2)
_UNREACHABLE = {
    "StandbyException",
    "RetriableException",
    "ObserverRetryOnActiveException",
    "ConnectException",
    "ConnectTimeoutException",
    "SocketTimeoutException",
    "NoRouteToHostException",
    "UnknownHostException",
}
#: A concat that the NameNode will not do, however often it is asked. Hadoop 3.5.0 says, over either scheme:
#:
#: - SnapshotException: "Concat: the source file … is in snapshot", and of one that was renamed since the snapshot
#:   "… is referred by some other reference in some snapshot." (A target in a snapshot is taken.)
#: - HadoopIllegalArgumentException: "concat: source file … has preferred block size 268435456 which is greater than
#:   the target file's preferred block size 134217728", "Source file … and target file … have different erasure coding
#:   policy", "concat: source file … is invalid or empty or underConstruction"; and, as its source has it, "concat can
#:   not be called for files in an encryption zone."
_NO_CONCAT = {"SnapshotException", "HadoopIllegalArgumentException", "IllegalArgumentException"}


def remote_error(what: str, path: str, java_class: str, message: str) -> LogflumeError:
    """The error of ours for one of the NameNode's or a DataNode's; ``what`` was tried on ``path``."""
    name = java_class.rsplit(".", 1)[-1]
    reason = message.split("\n", 1)[0]  # a Java stack trace follows over RPC, and from DataNodes
    text = f"{what} {path}: {reason}"
    # Whoever is no superuser gets AccessControlException for a path below a file: not a matter of rights.
    if "is not a directory" in reason:
        return StoreError(text)
    # With failover a NameNode in safe mode says RetriableException, with the cause in its text.
    if name == "RetriableException" and "SafeModeException" in reason:
        name = "SafeModeException"
    if any(sign in reason for sign in _NO_DATANODE):
        return Refused(text, hint="free space on the DataNodes, or bring them back")
    if name in _REFUSALS:
        return Refused(text, hint=_REFUSALS[name] + "; logflume goes on by itself")
    if name in _UNREACHABLE:
        return Unreachable(text)
    if name in _EXISTS:
        return Exists(text)
    # Opening a directory is FileNotFoundException too.
    if name == "FileNotFoundException" and not reason.startswith("Path is not a file"):
        return Missing(text)
    if what == "concat" and name in _NO_CONCAT:
        return CannotConcat(text)
    return StoreError(text)


class HadoopStore(Store):
    """The calls that both clients build from the same few requests."""

    @abstractmethod
    def _create(self, path: str, chunks: Iterable[bytes]) -> None:
        """Create a file with its parents, write, sync and close it. Raises Exists; proves no length."""

    @abstractmethod
    def _rename(self, source: str, target: str) -> None:
        """One rename request that never overwrites; Missing for the source or the target's parent."""

    @abstractmethod
    def _make_dirs(self, directory: str) -> None:
        """Make a directory and its parents; well where it is there."""

    def upload(self, local: Path, tmp: str, *, progress: Callable[[], None] = lambda: None) -> int:
        length = local_length(local)
        self._create(tmp, local_chunks(local, progress))
        self._verify(tmp, length)
        return length

    def write(self, tmp: str, data: bytes) -> None:
        chunks = (data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES))
        self._create(tmp, chunks)
        self._verify(tmp, len(data))

    def publish(self, tmp: str, final: str) -> None:
        # The parent is made when it is found missing: once an hour, not a request for each file.
        for _ in range(2):
            try:
                return self._rename(tmp, final)
            except Missing:
                self._explain_missing(tmp, final)
                self._make_dirs(posixpath.dirname(final))
            except Exists:
                raise
            except StoreError as error:
                # A directory as target, even an empty one: IOException "… must both be directories".
                if (there := self.stat(final)) is not None and there.is_dir:
                    raise Exists(f"publish {final}: a directory has that name") from error
                raise
        raise StoreError(f"publish {final}: its directory vanished as soon as it was made")

    def _explain_missing(self, tmp: str, final: str) -> None:
        """Raise what a rename that found something missing means, unless it was the target's parent."""
        # The source first: whoever else publishes it moves it to the target, so one of them is seen.
        source = self.stat(tmp)
        if self.stat(final) is not None:
            # The server looks for the source before the target; the promise is Exists.
            raise Exists(f"publish {final}: already there")
        if source is None:
            raise Missing(f"publish {final}: {tmp} is not there")

    def join(self, sources: Sequence[str], tmp: str, *, progress: Callable[[], None] = lambda: None) -> int:
        length = 0
        for path in sources:
            status = self.stat(path)
            if status is None:
                raise Missing(f"join into {tmp}: {path} is not there")
            length += status.length
        self._create(tmp, self._chunks_of(sources, progress))
        self._verify(tmp, length)
        return length

    def _chunks_of(self, paths: Sequence[str], progress: Callable[[], None]) -> Iterator[bytes]:
        for path in paths:
            for chunk in self.stream(path, CHUNK_BYTES):
                progress()
                yield chunk

    def _verify(self, path: str, length: int) -> None:
        """A file closed without an error may still be short: its length is the proof (H5, H13)."""
        status = self.stat(path)
        found = -1 if status is None else status.length
        if found != length:
            raise ShortFile(f"{path} has {found} bytes instead of {length}")
