"""Durations, sizes, instants and addresses as people write them in the configuration.

Each function takes text and returns the value logflume computes with, or raises ValueError saying
what would be right. ``show_…`` is the inverse of ``parse_…``.
"""

from __future__ import annotations

import datetime as dt
import re
from urllib.parse import urlsplit

DURATION_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
SIZE_UNITS_BYTES = {
    "B": 1,
    "KB": 1_000,
    "KiB": 1 << 10,
    "MB": 1_000_000,
    "MiB": 1 << 20,
    "GB": 1_000_000_000,
    "GiB": 1 << 30,
}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
# what is safe in a path on HDFS and in its URL alike: no colon (HDFS), no % ? # (URL), no comma (it separates the
# sources of a concat over WebHDFS), no blank
_PATH_SEGMENT = re.compile(r"[\w.=+@~-]+")
_HOST_PORT = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")


def parse_duration(text: str) -> int:
    """Milliseconds of a text such as ``10m``."""
    return _parse(text, DURATION_UNITS_MS)


def parse_size(text: str) -> int:
    """Bytes of a text such as ``128MiB``."""
    return _parse(text, SIZE_UNITS_BYTES)


def show_duration(milliseconds: int) -> str:
    """The shortest text that ``parse_duration`` reads back as the same number."""
    return _show(milliseconds, DURATION_UNITS_MS, zero="0s")


def show_size(size_bytes: int) -> str:
    """The shortest text that ``parse_size`` reads back as the same number."""
    return _show(size_bytes, SIZE_UNITS_BYTES, zero="0B")


def _parse(text: str, units: dict[str, int]) -> int:
    # ASCII digits only: \d would take the digits of other scripts; 18 of them are past any bound
    found = re.fullmatch(r"([0-9]{1,18}) ?([A-Za-z]+)", text)
    if found is None or found[2] not in units:
        raise ValueError(f"a whole number and a unit, one of {', '.join(units)}")
    return int(found[1]) * units[found[2]]


def _show(number: int, units: dict[str, int], zero: str) -> str:
    if number == 0:
        return zero
    return min((f"{number // n}{unit}" for unit, n in units.items() if number % n == 0), key=len)


def parse_instant(value: str | dt.date | dt.datetime) -> int:
    """Milliseconds since 1970 UTC of a date (its midnight) or an RFC 3339 time, which must name a zone."""
    wanted = "a date such as 2000-01-01, or a time with a zone such as 2000-01-01T00:00:00Z, from 1970 on"
    if isinstance(value, str):
        try:
            value = dt.datetime.fromisoformat(value) if len(value) > 10 else dt.date.fromisoformat(value)
        except ValueError:
            raise ValueError(wanted) from None
    if not isinstance(value, dt.datetime):
        value = dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    if value.tzinfo is None or value < _EPOCH:
        raise ValueError(wanted)
    return (value - _EPOCH) // dt.timedelta(milliseconds=1)


def show_instant(milliseconds: int) -> str:
    """The instant as RFC 3339 in UTC."""
    instant = _EPOCH + dt.timedelta(milliseconds=milliseconds)
    return instant.isoformat(timespec="milliseconds" if milliseconds % 1000 else "seconds").replace("+00:00", "Z")


def parse_host_port(text: str) -> tuple[str, int]:
    """Host and port of ``host:port``; an IPv6 address stands in brackets, which are taken off."""
    found = _HOST_PORT.fullmatch(text)
    if found is None or int(found["port"]) > 65_535:
        raise ValueError("host:port, such as 127.0.0.1:9470")
    return found["host"].strip("[]"), int(found["port"])


def normal_root(text: str) -> str:
    """The URL of an output root without a trailing or doubled slash."""
    wanted = "hdfs://host:port/path, webhdfs://host:port/path or file:///path, the path not /"
    url = urlsplit(text)
    segments = [segment for segment in url.path.split("/") if segment]
    if url.scheme not in ("hdfs", "webhdfs", "file") or not url.path.startswith("/") or not segments:
        raise ValueError(wanted)
    if url.query or url.fragment or "@" in url.netloc:
        raise ValueError(f"{wanted}, without user, ? or # (the user has a key of its own)")
    if url.scheme == "file" and url.netloc:
        raise ValueError("file:///path: three slashes, since a local file has no host")
    # a name service of HDFS has no port, so hdfs://logs/path is right
    if url.scheme != "file" and not re.fullmatch(r"[A-Za-z0-9._-]+(:[0-9]{1,5})?", url.netloc):
        raise ValueError(wanted)
    for segment in segments:
        if segment in (".", "..") or not _PATH_SEGMENT.fullmatch(segment):
            raise ValueError(f"{wanted}, of letters, digits and _ . = + @ ~ - (not {segment!r})")
    return f"{url.scheme}://{url.netloc}/{'/'.join(segments)}"


def http_addresses(text: str) -> str:
    """An http or https address without path; several, of a NameNode's standbys, are joined by ``;``."""
    for one in text.split(";"):
        if not re.fullmatch(r"https?://[A-Za-z0-9._-]+(:[0-9]{1,5})?/?", one):
            raise ValueError("http://host:port, several joined by ; for a NameNode with standbys")
    return ";".join(one.rstrip("/") for one in text.split(";"))
