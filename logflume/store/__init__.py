"""Where files are kept: one protocol (``base.Store``), and an implementation for each kind of storage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from logflume.errors import ConfigError
from logflume.store.base import FileStatus, Store

__all__ = ["FileStatus", "Root", "Store", "open_store", "parse_root"]

SCHEMES = ("hdfs", "webhdfs", "file")


@dataclass(frozen=True, slots=True)
class Root:
    """A root URL taken apart: ``hdfs://127.0.0.1:8020/logs`` is hdfs, 127.0.0.1:8020, /logs."""

    scheme: str
    authority: str
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def parse_root(url: str) -> Root:
    """Take a root URL apart; raises ConfigError where it cannot be one."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    problems = []
    if parts.scheme not in SCHEMES:
        problems.append(f"output root {url!r}: the scheme must be one of hdfs://, webhdfs://, file://")
    elif parts.scheme == "file" and parts.netloc:
        problems.append(f"output root {url!r}: file:// takes no host; write file:///path")
    elif parts.scheme != "file" and not parts.netloc:
        problems.append(f"output root {url!r}: no host; write {parts.scheme}://host:port/path")
    if "@" in parts.netloc:
        problems.append("output root: no user or password in the URL; give the user by its own key")
    if not path.startswith("/") or any(name in ("", ".", "..") for name in path.split("/")[1:]):
        problems.append(f"output root {url!r}: needs an absolute path below /, without '//', '.' or '..'")
    if parts.query or parts.fragment:
        problems.append(f"output root {url!r}: no '?' or '#'")
    if problems:
        raise ConfigError(problems)
    return Root(parts.scheme, parts.netloc, path)


def open_store(
    root_url: str,
    *,
    namenode_http: str | None = None,
    user: str | None = None,
    options: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
    threads: int = 16,
) -> Store:
    """The store for a root URL. ``namenode_http`` (http://host:port) gives ``hdfs://`` its concat; with
    failover both NameNodes' addresses, joined by ``;``.

    ``options`` are Hadoop client settings for ``hdfs://``; ``threads`` bounds the connections of
    ``webhdfs://``. Nothing is connected before the first call.
    """
    root = parse_root(root_url)
    # clients are imported where chosen: a process that never uses one does not load it
    if root.scheme == "file":
        from logflume.store.local import LocalStore  # noqa: PLC0415

        return LocalStore(root.path)

    from logflume.store.webhdfs import WebHdfsStore  # noqa: PLC0415

    if root.scheme == "webhdfs":
        address = f"http://{root.authority}"
        return WebHdfsStore(address, root.path, url=str(root), user=user, timeout_s=timeout_s, threads=threads)

    from logflume.store.hdfs import HdfsStore  # noqa: PLC0415

    web = None
    if namenode_http is not None:
        web = WebHdfsStore(namenode_http, root.path, url=namenode_http, user=user, timeout_s=timeout_s, threads=threads)
    return HdfsStore(root.authority, root.path, web=web, user=user, options=options or {}, timeout_s=timeout_s)
