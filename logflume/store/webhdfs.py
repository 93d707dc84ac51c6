"""``webhdfs://`` over HTTP, by the ``hdfs`` package (HdfsCLI): the only module that imports it.

``hdfs://`` borrows its concat, which no other client has. What the package offers under a name is not always
what is needed: its ``rename`` moves *into* an existing directory, and ``strict=False`` takes every failure
for "not there". Hence its raw operations, below.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote_plus

import requests
from hdfs import HdfsError, InsecureClient  # type: ignore[import-untyped]  # it has no types
from hdfs.client import _Request, _to_error  # type: ignore[import-untyped]
from requests.adapters import HTTPAdapter

from logflume.errors import Exists, Missing, Refused, StoreError, Unreachable
from logflume.store.base import FileStatus
from logflume.store.hadoop import HadoopStore, remote_error

#: a request line beyond 64 KiB is refused (hadoop.http.max.request.header.size); the rest is for the target
MAX_SOURCES_BYTES = 48 << 10
#: the NameNode holds its lock for the whole of a concat
MAX_SOURCES = 500

#: what is shown of a page that somebody else sent
MAX_SAID = 200

_CONNECT_TIMEOUT_S = 10.0
_GATEWAY = "is the address the NameNode's, or that of a proxy, a gateway or another program?"


class _Strange(HdfsError):  # type: ignore[misc]  # untyped base class
    """A reply that WebHDFS would not give; what came of the request is unknown."""

    def __init__(self, reply: requests.Response, why: str) -> None:
        body = " ".join(reply.text.split())
        super().__init__(f"HTTP {reply.status_code} {reply.reason} {why}: {body[:MAX_SAID]}")


class _Client(InsecureClient):  # type: ignore[misc]  # untyped base class
    """The package's client with the operations that it lacks, or does otherwise."""

    _concat = _Request("POST")  # the metaclass makes a method of a request

    def create(self, path: str, chunks: Iterator[bytes]) -> None:
        # SYNC_BLOCK: on disk at every DataNode when the file is closed (H7); older servers ignore it.
        # Nothing is made yet by the first request, which only asks where to send the bytes.
        redirect = self._create(path, overwrite="false", createflag="CREATE,SYNC_BLOCK")
        where = redirect.headers.get("location")
        if where is None:
            raise _Strange(redirect, "does not say where to send the bytes")
        # Sent in chunks. If the connection drops, the DataNode closes the file as if it were complete.
        reply = self._request("PUT", where, data=chunks)
        if not reply.ok:
            raise _to_error(reply)

    def rename_new(self, source: str, target: str) -> None:
        # NONE: without it the old rename answers "false", or moves into a directory (H12).
        _expect_nothing(self._rename(source, destination=target, renameoptions="NONE"))

    def concat(self, target: str, sources: Sequence[str]) -> None:
        _expect_nothing(self._concat(target, sources=",".join(sources)))

    def _request(self, method: str, url: str, **options: Any) -> requests.Response:
        reply: requests.Response = super()._request(method, url, **options)
        # The package takes every error for one of WebHDFS's; a proxy or a gateway says what it likes.
        if not reply.ok and reply.status_code != requests.codes.unauthorized and not _names_exception(reply):
            raise _Strange(reply, "is no answer of WebHDFS's")
        return reply


def _names_exception(reply: requests.Response) -> bool:
    try:
        found = reply.json()["RemoteException"]
        return isinstance(found["message"], str) and isinstance(found["exception"], str)
    except (KeyError, TypeError, ValueError):
        return False


def _expect_nothing(reply: requests.Response) -> None:
    """Success has no body. Servers that know no renameoptions say {"boolean": false} where nothing was renamed, and
    a gateway shows a page: taken for success, two owners would both believe that their entry stands.
    """
    if reply.content:
        raise _Strange(reply, "is no answer of WebHDFS's")


class WebHdfsStore(HadoopStore):
    """``http`` is the NameNode's address, ``http://host:port``; with failover several, joined by ``;``.

    With several, a request whose reply is lost goes to the next one too. For each of ours that is harmless:
    done twice, the second fails as Exists or Missing, which callers take for an unknown outcome anyway.
    """

    can_concat = True

    def __init__(self, http: str, root: str, *, url: str, user: str | None, timeout_s: float, threads: int) -> None:
        self.url = url
        self.root = root
        session = requests.Session()
        # No proxies, no .netrc: both are for the way out of a data centre, and cost a look-up per request.
        session.trust_env = False
        session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True  # which trust_env would have read
        # Bytes as they are stored: nothing is to be unpacked on the way.
        session.headers["Accept-Encoding"] = "identity"
        # Not blocking: a stream that is read slowly must not stop a commit. The default is not to retry.
        adapter = HTTPAdapter(pool_maxsize=threads)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        self._session = session
        # Between two bytes, also of the request to the DataNode that a redirect names: it is the session's.
        timeout = (min(_CONNECT_TIMEOUT_S, timeout_s), timeout_s)
        user = user or os.environ.get("HADOOP_USER_NAME")  # as hdfs:// does; else the system's user
        self._client = _Client(http, user=user, session=session, timeout=timeout)

    def _create(self, path: str, chunks: Iterable[bytes]) -> None:
        with _errors("create", path):
            self._client.create(path, iter(chunks))

    def _rename(self, source: str, target: str) -> None:
        with _errors("publish", target):
            self._client.rename_new(source, target)

    def _make_dirs(self, directory: str) -> None:
        try:
            with _errors("mkdirs", directory):
                self._client.makedirs(directory)
        except Exists as error:  # which a caller would take for its file
            raise StoreError(f"mkdirs {directory}: a file has that name") from error

    def concat(self, target: str, sources: Sequence[str]) -> None:
        for part in _batches(sources):
            with _errors("concat", target):
                self._client.concat(target, part)

    def stat(self, path: str) -> FileStatus | None:
        try:
            with _errors("stat", path):
                return _status(path, self._client.status(path))
        except Missing:
            return None

    def list(self, path: str) -> list[FileStatus]:
        try:
            with _errors("list", path):
                found = self._client.list(path, status=True)
                prefix = path.rstrip("/")
                return sorted((_status(f"{prefix}/{name}", s) for name, s in found), key=lambda child: child.name)
        except Missing:
            return []

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        if offset > 0 or length is not None:
            status = self.stat(path)
            # An offset at or beyond the end is an error of the server's, and a length of 0 means all.
            if status is not None and (offset >= status.length or length == 0) and not status.is_dir:
                return b""
        return b"".join(self._open(path, 1 << 20, offset=offset, length=length))

    def stream(self, path: str, chunk_bytes: int = 4 << 20) -> Iterator[bytes]:
        return self._open(path, chunk_bytes)

    def _open(self, path: str, chunk_bytes: int, **wanted: int | None) -> Iterator[bytes]:
        with _errors("read", path), self._client.read(path, chunk_size=chunk_bytes, **wanted) as chunks:
            yield from chunks

    def delete(self, path: str) -> bool:
        with _errors("delete", path):
            return bool(self._client.delete(path, recursive=True))

    def close(self) -> None:
        self._session.close()


@contextmanager
def _errors(what: str, path: str) -> Iterator[None]:
    """Turn errors of the package and of the network into ours."""
    try:
        yield
    except _Strange as error:
        raise StoreError(f"{what} {path}: {error.message}", hint=_GATEWAY) from error
    except HdfsError as error:
        message = error.message.decode(errors="replace") if isinstance(error.message, bytes) else error.message
        if message.startswith("Authentication failure"):  # status 401, which carries no exception
            raise Refused(f"{what} {path}: {message}", hint="check the user; Kerberos needs hdfs://") from error
        raise remote_error(what, path, error.exception or "", message) from error
    except requests.JSONDecodeError as error:  # before the next one, of which it is a kind
        raise _not_in_it(what, path, error) from error
    except requests.RequestException as error:
        raise Unreachable(f"{what} {path}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise _not_in_it(what, path, error) from error


def _not_in_it(what: str, path: str, error: Exception) -> StoreError:
    """Success by its status, with another content than WebHDFS's: the package looks up what is not in it."""
    return StoreError(f"{what} {path}: the answer is not WebHDFS's ({type(error).__name__}: {error})", hint=_GATEWAY)


def _batches(paths: Sequence[str]) -> Iterator[list[str]]:
    """Split sources so that each request stays within what the server takes."""
    batch: list[str] = []
    size = 0
    for path in paths:
        added = len(quote_plus(path)) + len(quote_plus(","))
        if batch and (len(batch) == MAX_SOURCES or size + added > MAX_SOURCES_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += added
    if batch:
        yield batch


def _status(path: str, found: dict[str, Any]) -> FileStatus:
    return FileStatus(path, found["length"], found["type"] == "DIRECTORY", found["modificationTime"])
