"""``[output]`` and ``[daemon]``: where files go, and how logflume runs on this host."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field

from logflume import units
from logflume.config.keys import Table, Text, duration, key, matching, size


class OutputConfig(Table):
    """Where the files go."""

    root: Annotated[str, Text("URL", units.normal_root)] = key(
        ..., "directory of all output: `hdfs://host:port/path`, `webhdfs://…` or `file:///path`"
    )
    namenode_http: Annotated[str, Text("URL", units.http_addresses)] | None = key(
        None,
        "web address of the NameNode (`;` between several): lets finishing on `hdfs://` merge, not copy",
    )
    user: Annotated[str, matching("text", r"[\w.@/-]{1,255}", "a user of HDFS, such as logflume")] | None = key(
        None, "user name to give to an HDFS that trusts names; unused with Kerberos"
    )
    options: dict[str, str] = Field(
        default={},
        repr=False,  # may hold a password
        description="Hadoop's options for `hdfs://`, as in hdfs-site.xml, names in quotes, all values text",
    )

    @property
    def scheme(self) -> str:
        """``hdfs``, ``webhdfs`` or ``file``."""
        return urlsplit(self.root).scheme

    @property
    def path(self) -> str:
        """The root inside the store: absolute, not ``/``, no trailing slash."""
        return urlsplit(self.root).path


def _host_port_or_none(text: str) -> str:
    if text:
        units.parse_host_port(text)
    return text


_ZOOKEEPER = r"([\w.-]+:[0-9]{1,5}(,[\w.-]+:[0-9]{1,5})*(/[\w./-]*)?)?"


class DaemonConfig(Table):
    """How logflume runs on this host."""

    workers: Annotated[int, Field(ge=1, le=64)] = key(1, "worker processes on this host")
    spool: Annotated[str, matching("path", r"/[^\0]*[^\0/][^\0]*", "an absolute path, not /")] = key(
        "/var/lib/logflume/spool", "local directory of open parts; what it holds can be lost without harm"
    )
    spool_bytes: Annotated[int, size("1MiB", "1024GiB")] = key(
        "20GiB", "most bytes in the spool, all workers together; when it is full, fetching pauses"
    )
    buffer_bytes: Annotated[int, size("1MiB", "64GiB")] = key(
        "256MiB", "most bytes of records in the memory of one worker, before compression"
    )
    store_threads: Annotated[int, Field(ge=1, le=256)] = key(
        64, "calls to the store at once in one worker: closing a file on HDFS takes long, and they overlap"
    )
    http: Annotated[str, Text("host:port", _host_port_or_none)] = key(
        "127.0.0.1:9470",
        'address of `/metrics`, `/status.json` and `/`; port 0 takes a free one, `""` is none',
    )
    stop_deadline_ms: Annotated[int, duration("1s", "1h")] = key(
        "30s",
        "longest time for a stop; what is not uploaded by then is read again from Kafka",
        "stop_deadline",
    )
    call_deadline_ms: Annotated[int, duration("1s", "1h")] = key(
        "2m",
        "a call to the store older than this means that the worker hangs: it is killed and replaced",
        "call_deadline",
    )
    reader: Literal["auto", "native", "python"] = key(
        "auto", "`native` reads with compiled code, at less CPU; `auto` takes it where it was built, else `python`"
    )
    zookeeper: Annotated[str, matching("text", _ZOOKEEPER, "host:port[,host:port…][/path]")] = key(
        "",
        "`host:port[,host:port…][/path]`: shows owners and offsets for monitoring, and holds the lock by which jobs on "
        "several hosts meet; nothing depends on it",
    )
    log_level: Literal["debug", "info", "warning", "error"] = key("info", "the least severe level that is logged")
    log_format: Literal["json", "text"] = key(
        "json", "JSON lines, or text for people; to standard error, on a terminal always text"
    )

    @property
    def http_address(self) -> tuple[str, int] | None:
        """Host and port of the status server, or None where there shall be none."""
        return units.parse_host_port(self.http) if self.http else None
