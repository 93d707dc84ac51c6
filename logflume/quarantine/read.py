"""Quarantined records as they lie in their tree, in files that the daemon or a compaction wrote."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass

from logflume.core import layout
from logflume.errors import LedgerError, Missing
from logflume.model import Kind
from logflume.reconcile.deep import DECODE_ERRORS, decoder
from logflume.store.base import Store
from logflume.trees import hour_directories

_HINT = "run 'logflume reconcile --full --deep': it says how to mend it"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One record with its reason; ``path`` of its file relative to the root, ``time`` its Kafka time in ms."""

    path: str
    hour: int
    partition: int
    offset: int
    time: int
    reason: str
    key: bytes | None
    value: bytes | None


def records(
    store: Store, topic: str, window_ms: int, *, since_ms: int | None = None, until_ms: int | None = None
) -> Iterator[Quarantined]:
    """Every record of the topic's quarantine, by hour of its Kafka time; one file in memory chunk by chunk.

    Raises LedgerError for a line that is none, and for a file that is damaged.
    """
    top = layout.tree(Kind.QUARANTINE, topic)
    for directory, hour in hour_directories(store, top, window_ms):
        if (since_ms is not None and hour < since_ms) or (until_ms is not None and hour >= until_ms):
            continue
        for status in store.list(f"{store.root}/{directory}"):
            if not status.is_dir and not status.name.startswith("_"):
                yield from _of_file(store, f"{directory}/{status.name}", hour)


def _of_file(store: Store, path: str, hour: int) -> Iterator[Quarantined]:
    decode, rest = decoder(path), b""
    try:
        for chunk in store.stream(f"{store.root}/{path}"):
            lines = (rest + decode(chunk)).split(b"\n")
            rest = lines.pop()
            for line in lines:
                yield _record(path, hour, line)
    except Missing:
        return  # merged into another one meanwhile, which is listed next time
    except DECODE_ERRORS as error:
        raise LedgerError(f"{path} is damaged: {error}", hint=_HINT) from error
    if rest:
        raise LedgerError(f"{path} ends in the middle of a line", hint=_HINT)


def _record(path: str, hour: int, line: bytes) -> Quarantined:
    try:
        body = json.loads(line)
        key, value = (None if body[name] is None else base64.b64decode(body[name]) for name in ("key", "value"))
        return Quarantined(path, hour, body["partition"], body["offset"], body["timestamp"], body["reason"], key, value)
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(f"{path}: a line is no quarantined record: {type(error).__name__}: {error}") from error


def for_people(data: bytes | None, limit: int = 120) -> str:
    """Bytes on one line: text as it is, everything else escaped, and cut."""
    if data is None:
        return "(none)"
    text = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in data[: limit * 4].decode(errors="backslashreplace")
    )
    return text if len(text) <= limit and len(data) <= limit * 4 else f"{text[:limit]}…"
