"""Reading an output tree without logflume: WebHDFS by plain HTTP, or the local file system."""

from __future__ import annotations

import getpass
import http.client
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urlencode, urlsplit

TIMEOUT_S = 30.0
THREADS = 8


@dataclass(frozen=True)
class Node:
    """One file or directory; ``path`` is relative to the root."""

    path: str
    size: int
    is_dir: bool

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


class Tree(Protocol):
    """An output root."""

    def list(self, path: str) -> list[Node]:
        """Children of a directory, none if it is not there; "" is the root."""

    def read(self, path: str) -> bytes:
        """A whole file; raises FileNotFoundError."""

    def close(self) -> None:
        """Give up connections."""


class LocalTree:
    """Below ``file://``."""

    def __init__(self, root: str) -> None:
        self._root = root

    def list(self, path: str) -> list[Node]:
        found = []
        try:
            with os.scandir(f"{self._root}/{path}") as entries:
                for entry in entries:
                    try:
                        size = entry.stat().st_size
                    except FileNotFoundError:  # removed or renamed since it was listed
                        continue
                    found.append(Node(_join(path, entry.name), size, entry.is_dir()))
        except FileNotFoundError:
            return []
        return found

    def read(self, path: str) -> bytes:
        with open(f"{self._root}/{path}", "rb") as file:
            return file.read()

    def close(self) -> None:
        """Nothing is held open."""


class WebTree:
    """Below ``root`` of the HDFS whose NameNode answers at ``address``; usable from several threads."""

    def __init__(self, address: str, root: str) -> None:
        self._host = urlsplit(address).netloc
        self._root = root
        self._local = threading.local()
        self._open: list[http.client.HTTPConnection] = []

    def close(self) -> None:
        """Close the connections of all threads, which must be done with it."""
        for connection in self._open:
            connection.close()
        self._open.clear()

    def list(self, path: str) -> list[Node]:
        status, body = self._get(path, "LISTSTATUS")
        if status == http.client.NOT_FOUND:
            return []
        found = json.loads(body)["FileStatuses"]["FileStatus"]
        return [Node(_join(path, f["pathSuffix"]), f["length"], f["type"] == "DIRECTORY") for f in found]

    def read(self, path: str) -> bytes:
        status, body = self._get(path, "OPEN")
        if status == http.client.NOT_FOUND:
            raise FileNotFoundError(path)
        return body

    def _get(self, path: str, operation: str) -> tuple[int, bytes]:
        query = urlencode({"op": operation, "user.name": getpass.getuser()})
        status, body, location = self._ask(f"/webhdfs/v1{quote(f'{self._root}/{path}'.rstrip('/'))}?{query}")
        if location:
            there = urlsplit(location)
            connection = http.client.HTTPConnection(there.netloc, timeout=TIMEOUT_S)
            try:
                connection.request("GET", f"{there.path}?{there.query}")
                reply = connection.getresponse()
                status, body = reply.status, reply.read()
            finally:
                connection.close()
        if status not in (http.client.OK, http.client.NOT_FOUND):
            raise OSError(f"{operation} {path}: {status} {body[:500]!r}")
        return status, body

    def _ask(self, target: str) -> tuple[int, bytes, str | None]:
        for attempt in (1, 2):
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = http.client.HTTPConnection(self._host, timeout=TIMEOUT_S)
                self._open.append(connection)
            try:
                connection.request("GET", target)
                reply = connection.getresponse()
                return reply.status, reply.read(), reply.headers.get("Location")
            except (http.client.HTTPException, ConnectionError):
                # the server closes a connection that was idle
                connection.close()
                self._local.connection = None
                if attempt == 2:
                    raise
        raise AssertionError


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def files(tree: Tree, path: str, pool: ThreadPoolExecutor) -> list[Node]:
    """All files below a directory."""
    found: list[Node] = []
    level = [path]
    while level:
        deeper: list[str] = []
        for children in pool.map(tree.list, level):
            for child in children:
                if child.is_dir:
                    deeper.append(child.path)
                else:
                    found.append(child)
        level = deeper
    return found


def hours(tree: Tree, topic: str) -> Iterator[str]:
    """The directories of a topic that hold an hour, ``<topic>/dt=…/hour=…``."""
    for day in tree.list(topic):
        for hour in tree.list(day.path):
            if hour.is_dir:
                yield hour.path
