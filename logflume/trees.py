"""The directories of hours below a topic's tree."""

from __future__ import annotations

from collections.abc import Iterator

from logflume.core import layout
from logflume.model import DAY_MS
from logflume.store.base import Store


def hour_directories(store: Store, top: str, window_ms: int) -> Iterator[tuple[str, int]]:
    """Path and hour in ms of each, in order; paths, ``top`` too, are relative to the root.

    One list, and one for each day. What has another name is left out. Raises store errors.
    """
    for day in _below(store, top):
        names = [day] if window_ms >= DAY_MS else [f"{day}/{name}" for name in _below(store, f"{top}/{day}")]
        for name in names:
            try:
                yield f"{top}/{name}", layout.parse_hour_directory(name)
            except ValueError:
                continue


def _below(store: Store, path: str) -> list[str]:
    return [status.name for status in store.list(f"{store.root}/{path}") if status.is_dir]
